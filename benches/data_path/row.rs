//! A row of the table: a promise, and what was measured of it.

use std::fmt;

use crate::measure::Samples;

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// As issues number them: `P1`.
    pub(crate) number: &'static str,
    /// What is done.
    pub(crate) work: String,
    pub(crate) result: Result<Comparison, Nothing>,
}

/// Why a row has no numbers.
#[derive(Debug)]
pub(crate) enum Nothing {
    /// The other side is not on this machine; this is how it gets there.
    Lacking { program: &'static str, remedy: &'static str },
    /// Somebody else measures it; this is how.
    Elsewhere { command: &'static str },
    /// It stopped with these words.
    Failed { reason: String },
}

/// Ours beside another's.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) ours: Figure,
    /// None where ours is judged by itself.
    pub(crate) other: Option<Figure>,
    pub(crate) goal: Goal,
    /// More to see, which decides nothing.
    pub(crate) beside: Vec<Figure>,
}

/// A number with what it is of.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) samples: Samples,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    BytesPerSecond,
    PerSecond,
    Seconds,
    Bytes,
    /// Seconds of processors for 10^9 bytes.
    SecondsPerGigabyte,
}

/// What was promised of the ratio, or of our number where there is no other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing; it is to be seen.
    Shown,
}

impl Row {
    pub(crate) fn measured(
        number: &'static str,
        work: impl Into<String>,
        comparison: Comparison,
    ) -> Self {
        Self { number, work: work.into(), result: Ok(comparison) }
    }

    pub(crate) fn nothing(number: &'static str, work: impl Into<String>, reason: Nothing) -> Self {
        Self { number, work: work.into(), result: Err(reason) }
    }

    pub(crate) fn is_failure(&self) -> bool {
        matches!(self.result, Err(Nothing::Failed { .. }))
    }
}

impl Comparison {
    pub(crate) fn new(ours: Figure, other: Figure, goal: Goal) -> Self {
        Self { ours, other: Some(other), goal, beside: Vec::new() }
    }

    pub(crate) fn alone(ours: Figure, goal: Goal) -> Self {
        Self { ours, other: None, goal, beside: Vec::new() }
    }

    pub(crate) fn beside(mut self, figures: impl IntoIterator<Item = Figure>) -> Self {
        self.beside.extend(figures);
        self
    }

    /// Ours as a part of the other's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.other.as_ref().map(|other| self.ours.samples.median() / other.samples.median())
    }

    /// None where nothing was promised.
    pub(crate) fn is_reached(&self) -> Option<bool> {
        let value = self.ratio().unwrap_or_else(|| self.ours.samples.median());
        match self.goal {
            Goal::AtLeast(bound) => Some(value >= bound),
            Goal::AtMost(bound) => Some(value <= bound),
            Goal::Shown => None,
        }
    }
}

impl Figure {
    /// In bytes a second.
    pub(crate) fn speed(name: impl Into<String>, samples: Samples) -> Self {
        Self::new(name, Unit::BytesPerSecond, samples)
    }

    /// In seconds.
    pub(crate) fn time(name: impl Into<String>, samples: Samples) -> Self {
        Self::new(name, Unit::Seconds, samples)
    }

    pub(crate) fn new(name: impl Into<String>, unit: Unit, samples: Samples) -> Self {
        Self { name: name.into(), unit, samples }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, samples, .. } = self;
        let (scale, unit) = unit.shown(samples.median());
        let [median, least, most] =
            [samples.median(), samples.least(), samples.most()].map(|value| Short(value * scale));
        write!(formatter, "{median} {unit} ({least}..{most})")
    }
}

impl Unit {
    /// By how much a number of this size is multiplied, and what then stands after it.
    pub(crate) fn shown(self, value: f64) -> (f64, &'static str) {
        match self {
            Self::BytesPerSecond => (1e-9, "GB/s"),
            Self::PerSecond => (1.0, "/s"),
            Self::Seconds if value < 1e-3 => (1e6, "us"),
            Self::Seconds if value < 1.0 => (1e3, "ms"),
            Self::Seconds => (1.0, "s"),
            Self::Bytes => (1.0 / f64::from(1 << 20), "MiB"),
            Self::SecondsPerGigabyte => (1.0, "s/GB"),
        }
    }
}

/// A number with three digits that matter.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value < 10.0 => write!(formatter, "{value:.2}"),
            value if value < 100.0 => write!(formatter, "{value:.1}"),
            value => write!(formatter, "{value:.0}"),
        }
    }
}
