//! Every parser of bytes that others wrote, given bytes that nobody should write: what is read can be written and
//! read again, what is refused is told in a sentence, nobody is believed who did not sign, and what is kept is no
//! larger than what was given.
//!
//! `corpus/<target>` has what each target begins with: what this program wrote, signed by keys that nobody has any
//! more. `cargo test --test fuzz` takes these, changes of them and bytes without any sense;
//! `ATTESTFS_FUZZ_CHANGES` says how many changes of each target, 200 without it. `.ci/fuzz SECONDS TARGET..` looks
//! for new paths with the help of libFuzzer, on stable. What it finds stays in the corpus.
//!
//! A target is a test of bolero and no package of its own for `cargo-fuzz`: so it is compiled and runs wherever the
//! other tests do.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

#[path = "../common/setting.rs"]
mod setting;

mod change;
mod corpus;
mod told;
mod trusted;
mod writing;

/// Longest input without sense, in bytes. libFuzzer is given the same bound.
const INPUT_BYTES_MAX: usize = 16 << 10;

/// The tests of a target, named as its file and its folder in `corpus`: `holds` must hold of any bytes.
macro_rules! target {
    ($name:literal, $holds:path) => {
        #[test]
        fn bytes_without_sense() {
            bolero::check!()
                .with_iterations(500)
                .with_max_len(crate::INPUT_BYTES_MAX)
                .for_each($holds);
        }

        #[test]
        fn the_corpus_and_its_changes() {
            crate::change::try_changes($name, $holds);
        }
    };
}

mod bundle;
mod certificate;
mod claims;
mod control;
mod index;
mod journal;
mod lock;
mod manifest;
mod model;
mod policy;
mod statement;
