use std::array;

use crate::{
    lanes::{Lane, avx2, avx512, sha_ni},
    midstate::{Block, Words},
};

/// Makes the evidence that this CPU has some instructions, and lets the kernel be called that needs them.
macro_rules! evidence {
    ($(#[$what:meta])* $name:ident, $module:ident, $first:tt $(, $feature:tt)*) => {
        $(#[$what])*
        #[derive(Clone, Copy, Debug)]
        pub(in crate::lanes) struct $name(());

        impl $name {
            pub(super) fn detected() -> Option<Self> {
                let found = is_x86_feature_detected!($first)
                    $(&& is_x86_feature_detected!($feature))*;
                found.then_some(Self(()))
            }

            /// As [`Kernel::advance`](super::Kernel::advance).
            pub(super) fn advance(self, lanes: &mut [Lane<'_>]) {
                // SAFETY: only `detected` makes this evidence, and it looks for every feature that the
                // kernel is compiled for.
                advance(lanes, |words, blocks| unsafe { $module::compress(words, blocks) });
            }
        }
    };
}

evidence!(
    /// Two lanes.
    ShaNi, sha_ni, "sha", "sse4.1", "ssse3"
);
evidence!(
    /// Eight lanes.
    Avx2, avx2, "avx2"
);
evidence!(
    /// Sixteen lanes.
    Avx512, avx512, "avx512f", "avx512bw"
);

/// Compresses some blocks of the first lanes, as many of them as `kernel` takes. Where it takes more than there
/// are, it computes the first one several times, which costs nothing.
fn advance<const WIDTH: usize>(
    lanes: &mut [Lane<'_>],
    kernel: impl FnOnce(&mut [Words; WIDTH], &[&[Block]; WIDTH]),
) {
    let taken = lanes.len().min(WIDTH);
    let lanes = &mut lanes[..taken];
    let count = lanes[taken - 1].blocks.len().min(BURST_BLOCKS);
    let place = |index| if index < taken { index } else { 0 };
    let mut words = array::from_fn(|index| *lanes[place(index)].words);
    kernel(&mut words, &array::from_fn(|index| &lanes[place(index)].blocks[..count]));
    for (lane, words) in lanes.iter_mut().zip(words) {
        *lane.words = words;
        lane.blocks = &lane.blocks[count..];
    }
}

/// 16 KiB of each lane, then it is decided anew which go together. A hundred times as long as the decision
/// takes.
const BURST_BLOCKS: usize = 256;
