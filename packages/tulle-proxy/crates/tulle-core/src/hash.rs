//! xxHash64, the hash that Envoy's ring hash, Maglev and hash policies use, so that mappings agree with Envoy's; and maps
//! for the data path, whose keys come from configuration.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn lane64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn bulk(bytes: &[u8], seed: u64) -> u64 {
    let mut acc = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
    for stripe in bytes.chunks_exact(32) {
        for (lane, value) in acc.iter_mut().enumerate() {
            *value = round(*value, lane64(&stripe[lane * 8..]));
        }
    }
    let mut hash = acc[0]
        .rotate_left(1)
        .wrapping_add(acc[1].rotate_left(7))
        .wrapping_add(acc[2].rotate_left(12))
        .wrapping_add(acc[3].rotate_left(18));
    for value in acc {
        hash = (hash ^ round(0, value)).wrapping_mul(P1).wrapping_add(P4);
    }
    hash
}

/// xxHash64 of `bytes` with `seed` (specification: github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = if bytes.len() >= 32 { bulk(bytes, seed) } else { seed.wrapping_add(P5) };
    hash = hash.wrapping_add(bytes.len() as u64);
    let mut rest = &bytes[bytes.len() / 32 * 32..];
    while rest.len() >= 8 {
        hash = (hash ^ round(0, lane64(rest))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        let lane = u64::from(u32::from_le_bytes(rest[..4].try_into().expect("four bytes")));
        hash = (hash ^ lane.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = &rest[4..];
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// A map whose keys are configuration's: who sends requests cannot choose them, so they need no defence against chosen
/// collisions, which costs more than the rest of a look-up.
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies eight bytes at a time, after FxHash.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        // The table takes its position from the low bits, which a product leaves least mixed.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        let chunks = bytes.chunks_exact(8);
        let rest = chunks.remainder();
        chunks.for_each(|chunk| self.write_u64(lane64(chunk)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn agrees_with_the_published_vectors() {
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        // Envoy's own test vectors (test/common/common/hash_test.cc).
        assert_eq!(xxh64(b"foo", 0), 3_728_699_739_546_630_719);
        assert_eq!(xxh64(b"bar", 0), 5_234_164_152_756_840_025);
        assert_eq!(xxh64(b"foo\nbar", 0), 8_917_841_378_505_826_757);
        assert_eq!(xxh64(b"lyft", 0), 4_400_747_396_090_729_504);
    }

    #[test]
    fn a_fast_map_tells_near_keys_apart() {
        let names = || (0..1000).map(|n| format!("outbound|80||service-{n}.default.svc.cluster.local"));
        let map: FastMap<String, usize> = names().enumerate().map(|(at, name)| (name, at)).collect();
        assert!(names().enumerate().all(|(at, name)| map.get(&name) == Some(&at)));
        let mut low: Vec<u64> =
            names().map(|name| BuildHasherDefault::<FastHasher>::default().hash_one(&name) % 4096).collect();
        low.sort_unstable();
        low.dedup();
        // 1,000 balls into 4,096 bins hit about 888 of them.
        assert!(low.len() > 800, "{}", low.len());
    }

    #[test]
    fn long_inputs_use_the_striped_path() {
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xfbce_a83c_8a37_8bf1);
    }
}
