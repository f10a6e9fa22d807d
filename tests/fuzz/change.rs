//! Bytes as they are in the corpus, and with a few changes.

use std::fmt;

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestError, TestRunner},
};

use crate::{corpus, setting::number};

/// What changes make of the bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip {
        at: Index,
        bit: u8,
    },
    Remove {
        at: Index,
        bytes: usize,
    },
    Insert {
        at: Index,
        word: &'static str,
    },
    /// Bytes of another seed take the place of as many here.
    Graft {
        at: Index,
        of: Index,
        from: Index,
        bytes: usize,
    },
    /// The same once more.
    Repeat {
        at: Index,
        bytes: usize,
    },
    CutOff {
        at: Index,
    },
}

/// What means something to one of the formats.
const WORDS: [&str; 32] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{202e}",
    "é",
    "/",
    "..",
    "-",
    "=",
    "0",
    "18446744073709551616",
    "-1",
    "1e999",
    "null",
    "true",
    "\"\":",
    "\\u0000",
    "\\ud800",
    "[dir 2]\n",
    "[[rule]]\n",
    "tree:",
    "-----BEGIN ",
];

const CHANGES: u64 = 200;

/// What a target is given in place of what it was, for people.
struct Bytes<'a>(&'a [u8]);

/// `holds` must hold of the corpus of a target, and of its changes.
///
/// # Panics
/// With bytes of which it does not hold.
pub(crate) fn try_changes(target: &str, holds: fn(&[u8])) {
    let seeds = corpus::of(target);
    for seed in &seeds {
        holds(seed);
    }
    let cases = number("ATTESTFS_FUZZ_CHANGES").unwrap_or(CHANGES);
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        failure_persistence: None,
        ..Config::default()
    };
    let changed =
        (any::<Index>(), prop::collection::vec(change(), 1..6)).prop_map(|(seed, changes)| {
            changes.iter().fold(seed.get(&seeds).clone(), |bytes, change| change.of(bytes, &seeds))
        });
    let tried = TestRunner::new(config).run(&changed, |bytes| {
        let held = std::panic::catch_unwind(|| holds(&bytes));
        held.map_err(|_told_by_the_panic| TestCaseError::fail("it does not hold"))
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(_, bytes)) => {
            panic!("of these bytes it does not hold: {}", Bytes(&bytes))
        }
        Err(error) => panic!("{error}"),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (index(), 1..64_usize).prop_map(|(at, bytes)| Change::Remove { at, bytes }),
        (index(), select(&WORDS[..])).prop_map(|(at, word)| Change::Insert { at, word }),
        (index(), index(), index(), 1..256_usize).prop_map(|(at, of, from, bytes)| Change::Graft {
            at,
            of,
            from,
            bytes
        }),
        (index(), 1..256_usize).prop_map(|(at, bytes)| Change::Repeat { at, bytes }),
        index().prop_map(|at| Change::CutOff { at }),
    ]
}

impl Change {
    fn of(&self, mut bytes: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Self::Flip { at, bit } => {
                if !bytes.is_empty() {
                    *at.get_mut(&mut bytes) ^= 1 << bit;
                }
            }
            Self::Remove { at, bytes: count } => {
                let from = place(at, &bytes);
                bytes.drain(from..bytes.len().min(from + count));
            }
            Self::Insert { at, word } => {
                let at = place(at, &bytes);
                bytes.splice(at..at, word.bytes());
            }
            Self::Graft { at, of, from, bytes: count } => {
                let graft = part(&seeds[of.index(seeds.len())], *from, *count);
                let at = place(at, &bytes);
                let until = bytes.len().min(at + graft.len());
                bytes.splice(at..until, graft);
            }
            Self::Repeat { at, bytes: count } => {
                let again = part(&bytes, *at, *count);
                let at = place(at, &bytes);
                bytes.splice(at..at, again);
            }
            Self::CutOff { at } => bytes.truncate(place(at, &bytes)),
        }
        bytes
    }
}

fn part(bytes: &[u8], from: Index, count: usize) -> Vec<u8> {
    let from = from.index(bytes.len() + 1);
    bytes[from..bytes.len().min(from + count)].to_vec()
}

/// As a byte string of Rust.
impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
