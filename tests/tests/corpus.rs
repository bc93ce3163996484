//! The fuzz targets, without a fuzzer: every file of the committed corpus, and random changes of it.
//!
//! `PTN_FUZZ_CHANGES` is how many changes of the corpus each target gets (default 2000), and
//! `PTN_FUZZ_SEED` where they start; a failure names both. `fuzz/` has the same targets for libFuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed expectation is how a test fails"
)]

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use ptn_tests::fuzz::{TARGETS, chain_seeds, request_seeds};

/// Longer inputs teach nothing that shorter ones do not, and take their time.
const LONGEST: usize = 4096;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A place in a text, its end included.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"NaN",
    b"-0",
    b"1e999",
    b"99999999999999999999",
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"../",
    b"=",
    b":",
    b",",
    b"-170141183460469231731687303715884105727",
    b"\x1b[31m",
    "\u{202e}é🚀".as_bytes(),
];

/// One to four small changes; sometimes a piece of another file.
fn changed(random: &mut Random, corpus: &[(String, Vec<u8>)], start: &[u8]) -> Vec<u8> {
    let mut bytes = start.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.place(&bytes);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            3 => {
                let end = at + random.below(bytes.len() - at + 1);
                bytes.drain(at..end);
            }
            4 => {
                let end = at + random.below((bytes.len() - at + 1).min(64));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let (_, other) = &corpus[random.below(corpus.len())];
                let from = random.place(other);
                let end = from + random.below((other.len() - from + 1).min(256));
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST.max(start.len()));
    bytes
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    // What is good only today: requests signed now, answers under today's metadata.
    let made = match target {
        "requests" => request_seeds(),
        "chain" => chain_seeds(),
        _ => Vec::new(),
    };
    files.extend(made.into_iter().enumerate().map(|(n, bytes)| (format!("made-{n}"), bytes)));
    assert!(files.len() >= 5, "{target}: {} files are no corpus", files.len());
    files
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text:?}: {e}")),
        Err(_) => default,
    }
}

fn run(target: &str, function: fn(&[u8]), what: &str, input: &[u8]) {
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| function(input)));
    if done.is_err() {
        // What broke is above; this is how to have it again.
        panic!("{target} fails on {what}: {}", input.escape_ascii());
    }
}

fn check(target: &str) {
    let (_, function) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let corpus = corpus(target);
    for (name, input) in &corpus {
        run(target, function, &format!("fuzz/corpus/{target}/{name}"), input);
    }
    let (changes, seed) = (number("PTN_FUZZ_CHANGES", 2000), number("PTN_FUZZ_SEED", 1));
    let mut random = Random(seed);
    for n in 0..changes {
        let (name, start) = &corpus[random.below(corpus.len())];
        let input = changed(&mut random, &corpus, start);
        run(target, function, &format!("change {n} (of {name}) from seed {seed}"), &input);
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

targets!(signals, webhook, spool, requests, replies, chain, keys, settings);

#[test]
fn every_target_is_run_here_and_by_the_fuzzer() {
    let targets = TARGETS.map(|(name, _)| name);
    assert_eq!(TESTED, targets);
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target} has no wrapper");
    }
}
