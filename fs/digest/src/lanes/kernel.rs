#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "calls of code for instructions that were detected")]
mod x86_64;

use super::Lane;

/// A way to compress several lanes at a time, on a CPU that was found to have it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    /// One after the other, as the `sha2` crate does it.
    Alone,
    #[cfg(target_arch = "x86_64")]
    Pair(x86_64::ShaNi),
    #[cfg(target_arch = "x86_64")]
    Eight(x86_64::Avx2),
    #[cfg(target_arch = "x86_64")]
    Sixteen(x86_64::Avx512),
}

impl Kernel {
    /// For so many streams.
    ///
    /// In GB/s of one Zen 5 core: alone 2.1, a pair 3.0, eight 1.7, sixteen 5.8, each when its lanes are full;
    /// an idle lane takes as long as a busy one. So sixteen lanes are worth it from nine streams on. Without
    /// the SHA extensions a stream alone makes 0.5, two are worth sixteen lanes, and three are worth eight.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn fastest(streams: usize) -> Self {
        use x86_64::{Avx2, Avx512, ShaNi};
        let pair = ShaNi::detected().map(Self::Pair);
        let eight = Avx2::detected().map(Self::Eight);
        let sixteen = Avx512::detected().map(Self::Sixteen);
        let found = match streams {
            0..2 => None,
            2 => pair.or(sixteen),
            3..9 => pair.or(sixteen).or(eight),
            _ => sixteen.or(pair).or(eight),
        };
        found.unwrap_or(Self::Alone)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn fastest(_streams: usize) -> Self {
        Self::Alone
    }

    /// Compresses some blocks of the first lanes. There is at least one, those with most blocks come first, and
    /// all have some.
    pub(super) fn advance(self, lanes: &mut [Lane<'_>]) {
        match self {
            Self::Alone => lanes[0].finish(),
            #[cfg(target_arch = "x86_64")]
            Self::Pair(cpu) => cpu.advance(lanes),
            #[cfg(target_arch = "x86_64")]
            Self::Eight(cpu) => cpu.advance(lanes),
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen(cpu) => cpu.advance(lanes),
        }
    }

    /// Those of this CPU, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let vectors = [
            x86_64::ShaNi::detected().map(Self::Pair),
            x86_64::Avx2::detected().map(Self::Eight),
            x86_64::Avx512::detected().map(Self::Sixteen),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = [];
        [Some(Self::Alone)].into_iter().chain(vectors).flatten().collect()
    }
}
