//! Replaying a corpus with deterministic mutations, for where there is no coverage to be guided by.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tulle_core::{Rng, xxh64};

use crate::Target;

/// The longest input that mutation makes.
const LONGEST: usize = 4096;
/// Bytes and short texts on which parsers turn.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"/",
    b"//",
    b"\\",
    b"..",
    b"/../",
    b"%2e",
    b"%2f",
    b"%5c",
    b"%25",
    b"%",
    b"?",
    b"#",
    b"&",
    b"=",
    b"-",
    b".",
    b"*",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"0",
    b"1",
    b"9",
    b"18446744073709551615",
    b"ffffffffffffffff",
    b"chunked",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x01",
];

/// Runs `target` over every file of its corpus and over `rounds` mutations of them.
///
/// # Panics
/// When the corpus is empty, or when an input makes the target panic; the text then holds the input.
pub fn replay(target: Target) {
    let seeds = seeds(target.name);
    for (name, seed) in &seeds {
        check(target, seed, name);
    }
    let mut rng = Rng::seeded(xxh64(target.name.as_bytes(), 0));
    for round in 0..target.rounds {
        let mut input = pick(&mut rng, &seeds).1.clone();
        for _ in 0..=rng.next_u64() % 4 {
            mutate(&mut input, &pick(&mut rng, &seeds).1, &mut rng);
        }
        check(target, &input, &format!("round {round}"));
    }
}

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = files
        .map(|file| {
            let path = file.expect("a readable folder").path();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

fn check(target: Target, input: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        panic!("{} fails on {origin}: b\"{}\"", target.name, input.escape_ascii());
    }
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    (rng.next_u64() % limit.max(1) as u64) as usize
}

fn pick<'t, T>(rng: &mut Rng, from: &'t [T]) -> &'t T {
    &from[below(rng, from.len())]
}

fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = below(rng, input.len() + 1);
    let end = at + below(rng, (input.len() - at + 1).min(64));
    match rng.next_u64() % 7 {
        0 if at < input.len() => input[at] ^= 1 << (rng.next_u64() % 8),
        1 if at < input.len() => input[at] = rng.next_u64() as u8,
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].to_vec();
            drop(input.splice(at..at, again));
        }
        4 => drop(input.splice(at..end, pick(rng, TOKENS).iter().copied())),
        5 => {
            let from = below(rng, other.len());
            drop(input.splice(at.., other[from..].iter().copied()));
        }
        _ => drop(input.splice(at..at, pick(rng, TOKENS).iter().copied())),
    }
    input.truncate(LONGEST);
}
