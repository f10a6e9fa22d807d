//! Numbers of several rounds.

use std::array;

/// What several rounds gave of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

/// Measures all sides once in each round, so that what disturbs the machine disturbs all of them.
pub(crate) fn rounds<const SIDES: usize>(
    rounds: usize,
    mut measure: impl FnMut() -> [f64; SIDES],
) -> [Samples; SIDES] {
    let mut sides = array::from_fn(|_| Samples::default());
    for _ in 0..rounds {
        sides.iter_mut().zip(measure()).for_each(|(side, value)| side.push(value));
    }
    sides
}

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}
