//! What all rows share: the options, the sizes, and places to work in.

use crate::{machine, measure::Samples, options::Options, peers::ModelSigning, place::Place};

/// What all rows share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
}

impl Bench {
    pub(crate) fn new(options: Options) -> Self {
        Self { options }
    }

    /// The processor, the kernel and the versions of all that takes part.
    pub(crate) fn machine(&self) -> String {
        machine::describe(&self.options)
    }

    /// A place of its own in memory.
    pub(crate) fn memory(&self) -> Place {
        Place::new(&self.options.tmpfs, &self.options.capture)
    }

    /// A place of its own on the disk.
    pub(crate) fn disk(&self) -> Place {
        Place::new(&self.options.disk, &self.options.capture)
    }

    pub(crate) fn model_signing(&self) -> Option<ModelSigning> {
        ModelSigning::find(&self.options.model_signing)
    }

    /// So many bytes, or as many times fewer as the options say, in whole mebibytes.
    pub(crate) fn bytes(&self, promised: u64) -> u64 {
        ((promised / self.options.shrink) >> 20).max(1) << 20
    }

    /// So many files or calls, or fewer.
    pub(crate) fn count(&self, promised: u64) -> u64 {
        (promised / self.options.shrink).max(promised.min(16))
    }

    /// What `measure` gives of each side, round by round: what disturbs the machine then disturbs
    /// all of them.
    pub(crate) fn rounds<const SIDES: usize>(
        &self,
        mut measure: impl FnMut() -> [f64; SIDES],
    ) -> [Samples; SIDES] {
        self.rounds_of(|| measure().to_vec()).try_into().unwrap()
    }

    /// As [`rounds`](Self::rounds), of as many sides as `measure` gives.
    pub(crate) fn rounds_of(&self, mut measure: impl FnMut() -> Vec<f64>) -> Vec<Samples> {
        let mut sides: Vec<Samples> = Vec::new();
        for _ in 0..self.options.rounds {
            let round = measure();
            sides.resize_with(round.len(), Samples::default);
            sides.iter_mut().zip(round).for_each(|(side, value)| side.push(value));
        }
        sides
    }
}
