//! Huffman decoding (RFC 7541 §5.2, appendix B). The code is canonical, so the lengths alone say everything.

use super::Undecodable;

/// Bits of the code of every byte, and of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
const END: u16 = 256;
/// Bits looked up at once: every code of up to this length, which is every letter and digit.
const QUICK: usize = 8;

struct Code {
    /// Symbols in the order of their codes.
    order: [u16; 257],
    /// Of each length, the first code aligned to the left of 32 bits, and where its symbol is in `order`.
    first: [u32; LONGEST + 2],
    start: [u16; LONGEST + 2],
    /// Symbol and length, by the next bits; length 0 when the code is longer.
    quick: [(u8, u8); 1 << QUICK],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code =
        Code { order: [0; 257], first: [0; LONGEST + 2], start: [0; LONGEST + 2], quick: [(0, 0); 1 << QUICK] };
    let (mut next, mut placed, mut len) = (0u64, 0, 1);
    while len <= LONGEST {
        code.first[len] = (next << (32 - len)) as u32;
        code.start[len] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                code.order[placed] = symbol as u16;
                if len <= QUICK {
                    let from = (next as usize) << (QUICK - len);
                    let mut at = from;
                    while at < from + (1 << (QUICK - len)) {
                        code.quick[at] = (symbol as u8, len as u8);
                        at += 1;
                    }
                }
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        len += 1;
    }
    code.first[LONGEST + 1] = u32::MAX;
    code.start[LONGEST + 1] = 257;
    code
}

/// Appends what `input` means.
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
    // At the left of `bits`, `held` of them, are those not yet decoded.
    let (mut bits, mut held, mut rest) = (0u64, 0usize, input);
    loop {
        while held <= 56
            && let Some((byte, others)) = rest.split_first()
        {
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
            rest = others;
        }
        let (symbol, len) = match CODE.quick[(bits >> (64 - QUICK)) as usize] {
            (_, 0) => long((bits >> 32) as u32),
            (symbol, len) => (u16::from(symbol), usize::from(len)),
        };
        if len > held {
            return padding(bits, held);
        }
        if symbol == END {
            return Err(Undecodable);
        }
        out.push(symbol as u8);
        bits <<= len;
        held -= len;
    }
}

/// The symbol of a code longer than the quick table's.
fn long(window: u32) -> (u16, usize) {
    let mut len = QUICK + 1;
    while len < LONGEST && (CODE.start[len] == CODE.start[len + 1] || window >= CODE.first[len + 1]) {
        len += 1;
    }
    let nth = (window - CODE.first[len]) >> (32 - len);
    (CODE.order[usize::from(CODE.start[len]) + nth as usize], len)
}

/// What is left must be the beginning of the end-of-string symbol (all ones), and shorter than a byte.
fn padding(bits: u64, held: usize) -> Result<(), Undecodable> {
    let ones = held == 0 || bits >> (64 - held) == (1 << held) - 1;
    if held < 8 && ones { Ok(()) } else { Err(Undecodable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 §5.2 written down directly: the oracle of the decoder.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut codes = [(0u32, 0u8); 257];
        for len in 1..=LONGEST {
            for at in CODE.start[len]..CODE.start[len + 1] {
                let code = (CODE.first[len] >> (32 - len)) + u32::from(at - CODE.start[len]);
                codes[usize::from(CODE.order[usize::from(at)])] = (code, len as u8);
            }
        }
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let (code, len) = codes[usize::from(*byte)];
            bits.extend((0..len).rev().map(|n| code >> n & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|c| c.iter().fold(0, |n, b| n << 1 | u8::from(*b))).collect()
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for text in [&all[..], b"", b"a", b"www.example.com", &[255; 40]] {
            let mut out = Vec::new();
            decode(&encode(text), &mut out).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn appendix_c_values() {
        let encoded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(encode(b"www.example.com"), encoded);
    }

    #[test]
    fn bad_padding_is_refused() {
        // A whole byte of padding, padding that is not ones, and the end-of-string symbol itself.
        for bad in [&[0x1f, 0xff][..], &[0x18], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decode(bad, &mut Vec::new()), Err(Undecodable), "{bad:x?}");
        }
        assert_eq!(decode(&[0x1f], &mut Vec::new()), Ok(()));
    }
}
