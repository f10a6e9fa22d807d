//! SHA-256 of several independent streams at a time. One stream is a chain of operations that wait for
//! each other, and leaves most of a core idle; the lanes of a vector are as many chains.
//!
//! This is the one room with `unsafe`: for calls of code that not every CPU can run, and for moves
//! between memory and vectors. The `sha2` crate judges every kernel.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "moves between memory and vectors")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "moves between memory and vectors")]
mod avx512;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod rounds;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "moves between memory and vectors")]
mod sha_ni;

use std::{cmp::Reverse, mem};

use kernel::Kernel;
use sha2::block_api::compress256;

use crate::midstate::{Block, Words};

/// The blocks of one stream that are to be compressed into its words.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) words: &'a mut Words,
    pub(crate) blocks: &'a [Block],
}

impl Lane<'_> {
    /// Compresses what is left.
    pub(crate) fn finish(&mut self) {
        compress256(self.words, mem::take(&mut self.blocks));
    }
}

/// Compresses all blocks of all lanes.
pub(crate) fn compress(lanes: Vec<Lane<'_>>) {
    compress_by(lanes, Kernel::fastest);
}

fn compress_by(mut lanes: Vec<Lane<'_>>, kernel: impl Fn(usize) -> Kernel) {
    loop {
        lanes.retain(|lane| !lane.blocks.is_empty());
        // Those with most left go first, so that none is alone at the end without need.
        lanes.sort_by_key(|lane| Reverse(lane.blocks.len()));
        if lanes.is_empty() {
            return;
        }
        kernel(lanes.len()).advance(&mut lanes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::testing::pattern;

    #[test]
    fn every_kernel_of_this_cpu_agrees_with_the_library() {
        for kernel in Kernel::all() {
            for count in [1, 2, 3, 8, 9, 16, 17] {
                let blocks: Vec<_> = (0..count).map(|lane| 1 + lane * 97 % 600).collect();
                check(&blocks, |lanes| compress_by(lanes, |_| kernel));
            }
        }
    }

    #[test]
    fn nothing_to_compress_is_no_work() {
        check(&[], compress);
        check(&[0, 0, 0], compress);
    }

    proptest! {
        #[test]
        fn any_number_of_streams_of_any_length_agrees_with_the_library(
            blocks in vec(prop_oneof![0..4_usize, 250..260_usize, 0..700_usize], 0..40),
        ) {
            check(&blocks, compress);
        }
    }

    /// Streams of so many blocks, each beginning with words of its own.
    fn check(blocks: &[usize], compress: impl FnOnce(Vec<Lane<'_>>)) {
        let bytes = pattern(64 * blocks.iter().sum::<usize>());
        let mut rest = bytes.as_chunks().0;
        let mut streams: Vec<(Words, &[Block])> = Vec::new();
        for (seed, &count) in (0..).zip(blocks) {
            let (first, after) = rest.split_at(count);
            streams.push(([seed; 8], first));
            rest = after;
        }
        let mut judged = streams.clone();
        for (words, blocks) in &mut judged {
            compress256(words, blocks);
        }
        let lanes = streams.iter_mut().map(|(words, blocks)| Lane { words, blocks }).collect();
        compress(lanes);
        assert_eq!(streams, judged);
    }
}
