//! How values are written into a line: numbers, addresses, and outside text made harmless.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Room for any number, and for any IPv4 address with its port.
const ROOM: usize = 24;

/// Decimal digits, without the formatting machinery.
pub fn number(value: u64, out: &mut Vec<u8>) {
    let mut room = [0; ROOM];
    let len = digits(value, &mut room, 0);
    put(&room, len, out);
}

pub fn ip(ip: &IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            let mut room = [0; ROOM];
            let len = octets(*v4, &mut room);
            put(&room, len, out);
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(v6) => write!(out, "{v6}").expect("writing to memory"),
    }
}

pub fn socket(socket: &SocketAddr, out: &mut Vec<u8>) {
    match socket {
        SocketAddr::V4(v4) => {
            let mut room = [0; ROOM];
            let at = octets(*v4.ip(), &mut room);
            room[at] = b':';
            let len = digits(u64::from(v4.port()), &mut room, at + 1);
            put(&room, len, out);
        }
        SocketAddr::V6(v6) => write!(out, "{v6}").expect("writing to memory"),
    }
}

/// Appends the first `len` bytes; the copy is of a fixed size, which takes no call.
#[inline]
fn put(room: &[u8; ROOM], len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    out.extend_from_slice(room);
    out.truncate(end);
}

/// Writes a number at `at`; where it ends.
#[inline]
fn digits(mut value: u64, room: &mut [u8; ROOM], at: usize) -> usize {
    let end = at + value.checked_ilog10().map_or(1, |power| power as usize + 1);
    for place in room[at..end].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
    end
}

fn octets(ip: Ipv4Addr, room: &mut [u8; ROOM]) -> usize {
    let mut end = 0;
    for (position, octet) in ip.octets().into_iter().enumerate() {
        if position > 0 {
            room[end] = b'.';
            end += 1;
        }
        end = digits(u64::from(octet), room, end);
    }
    end
}

/// Whether text may stand in a line as it is: printable ASCII without quotes and backslashes, as nearly every value is.
pub fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let of_words = words.iter().fold(0, |found, word| found | odd(u64::from_le_bytes(*word)));
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    of_words | odd(u64::from_le_bytes(last)) == 0
}

/// Not 0 when one of eight bytes is a control character, a quote, a backslash or beyond ASCII.
#[inline]
fn odd(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    /// In the high bits, with false ones only above a true one: which bytes are zero (of those below 0x80).
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES)
    }
    let low = word & !HIGH;
    let control = low.wrapping_sub(0x20 * ONES);
    let delete = zero(low ^ (0x7f * ONES));
    let quote = zero(low ^ (0x22 * ONES));
    let backslash = zero(low ^ (0x5c * ONES));
    (word | control | delete | quote | backslash) & HIGH
}

/// Outside bytes in a text line: control characters, quotes, backslashes and what is not UTF-8 become `\xHH`.
pub fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        escape_odd(bytes, out);
    }
}

#[cold]
fn escape_odd(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hex = |byte: u8, out: &mut Vec<u8>| {
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0u8; 4];
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            // U+0085, U+2028 and U+2029 end lines too, for some readers.
            if character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}') {
                encoded.iter().for_each(|byte| hex(*byte, out));
            } else {
                out.extend_from_slice(encoded);
            }
        }
        chunk.invalid().iter().for_each(|byte| hex(*byte, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_what_a_byte_by_byte_look_calls_plain() {
        let plain = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, 0x20..0x7f) && !matches!(b, b'"' | b'\\'));
        for byte in 0..=255u8 {
            for neighbour in [b'a', 0x00, 0x1f, 0x21, 0x23, 0x7e, 0xff] {
                for (len, at) in [(1, 0), (7, 3), (8, 0), (8, 7), (9, 8), (20, 13)] {
                    let mut text = vec![neighbour; len];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), plain(&text), "{text:?}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn numbers_and_addresses_are_written_as_the_standard_library_writes_them() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = b">".to_vec();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        for value in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(written(&|out| number(value, out)), format!(">{value}"));
        }
        for text in ["0.0.0.0:0", "127.0.0.1:80", "255.255.255.255:65535", "[::1]:8080", "[2001:db8::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(written(&|out| socket(&address, out)), format!(">{text}"));
            assert_eq!(written(&|out| ip(&address.ip(), out)), format!(">{}", address.ip()));
        }
    }
}
