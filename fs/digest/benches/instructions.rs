//! Fixed work of which the instructions are counted, one scenario per start: `.ci/instructions` runs each in
//! valgrind and compares. Times are not comparable from day to day, counts are.

#![expect(clippy::print_stdout, reason = "a program that tells what it offers")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::{env, hint::black_box, ops::ControlFlow};

use attestfs_digest::{FileHasher, blake3_of, feed_all};

/// A name, and what is done with some megabytes.
type Scenario = (&'static str, fn(&[u8]));

/// Each keeps one path of the tree or the hasher from growing unnoticed. SHA-256 is left out where it can
/// be: without the instructions that valgrind lacks it would hide everything else.
const SCENARIOS: [Scenario; 6] = [
    ("start", |_| ()),
    ("append_1_mib", |bytes| drop(trailing(bytes, 1 << 20))),
    ("append_4_kib", |bytes| drop(trailing(bytes, 4 << 10))),
    ("patch_one_byte", patch_one_byte),
    ("verify_64_kib", verify_64_kib),
    ("lend_and_feed", lend_and_feed),
];

fn main() {
    let scenario = env::args()
        .nth(1)
        .and_then(|name| SCENARIOS.into_iter().find(|(offered, _)| *offered == name));
    match scenario {
        Some((_, work)) => work(&vec![7; 8 << 20]),
        None => SCENARIOS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn trailing(bytes: &[u8], size: usize) -> FileHasher {
    let mut hasher = FileHasher::trailing(0);
    for (offset, piece) in (0..).step_by(size).zip(bytes.chunks(size)) {
        hasher.write(offset, piece);
    }
    black_box(hasher)
}

/// Makes every chunk group unknown, one after the other, and asks each time what is to be read.
fn patch_one_byte(bytes: &[u8]) {
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, bytes);
    for offset in (0..bytes.len()).step_by(1 << 16) {
        hasher.write(offset as u64, &bytes[offset..=offset]);
        black_box(hasher.bytes_to_read());
    }
}

fn verify_64_kib(bytes: &[u8]) {
    let watch = &mut |_| ControlFlow::Continue(());
    let outboard = blake3_of(bytes, bytes.len() as u64, 1, watch).unwrap().1;
    for (offset, piece) in (0..).step_by(64 << 10).zip(bytes.chunks(64 << 10)) {
        assert!(outboard.verify(offset, piece));
    }
}

/// As a reader does who goes from file to file behind its writers.
fn lend_and_feed(bytes: &[u8]) {
    let mut hashers: Vec<_> =
        (0..4).map(|_| FileHasher::unread_trailing(bytes.len() as u64 / 4, 0)).collect();
    for start in (0..bytes.len() / 4).step_by(128 << 10) {
        let mut chains: Vec<_> = hashers.iter_mut().map(|hasher| hasher.lend(1).unwrap()).collect();
        let piece = &bytes[start..start + (128 << 10)];
        feed_all(&mut chains.iter_mut().map(|chain| (chain, piece)).collect::<Vec<_>>());
        for (hasher, chain) in hashers.iter_mut().zip(chains) {
            assert!(hasher.give_back(chain));
        }
    }
}
