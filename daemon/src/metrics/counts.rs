//! What the control plane counts, besides the data plane's [`meter`](attestfs_fs::meter).

use std::{sync::LazyLock, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The counters of this process.
pub(crate) fn counts() -> &'static Counts {
    static COUNTS: LazyLock<Counts> = LazyLock::new(Counts::default);
    &COUNTS
}

/// Counters of a process that serves a run, a mount or a state directory.
#[derive(Debug)]
pub(crate) struct Counts {
    facts: Counter,
    journal: Counter,
    journal_failures: Counter,
    commits: Family<CommitLabels, Counter>,
    commit_durations: Family<KindLabel, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            facts: Counter::default(),
            journal: Counter::default(),
            journal_failures: Counter::default(),
            commits: Family::default(),
            commit_durations: Family::new_with_constructor(duration),
        }
    }
}

impl Counts {
    /// What a process counts that serves a run or a mount.
    pub(super) fn register_journal(&self, registry: &mut Registry) {
        let help = "Facts that were written to journals";
        registry.register("journal_facts", help, self.facts.clone());
        let help = "What facts take in journals";
        registry.register_with_unit("journal_written", help, Unit::Bytes, self.journal.clone());
        let help = "Journals that could not be written on: their runs are no success";
        registry.register("journal_failures", help, self.journal_failures.clone());
    }

    /// What the store daemon counts.
    pub(super) fn register_commits(&self, registry: &mut Registry) {
        let help = "Commits that were carried out, or failed for now";
        registry.register("commits", help, self.commits.clone());
        let help = "From the order of a commit to its report";
        let durations = self.commit_durations.clone();
        registry.register_with_unit("commit_duration", help, Unit::Seconds, durations);
    }

    pub(crate) fn fact(&self, bytes: u64) {
        self.facts.inc();
        self.journal.inc_by(bytes);
    }

    pub(crate) fn journal_failed(&self) {
        self.journal_failures.inc();
    }
}

/// Runs while a commit is carried out.
#[derive(Debug)]
pub(crate) struct CommitTimer {
    kind: &'static str,
    since: Instant,
}

impl CommitTimer {
    /// `kind` is a word that stands in statements.
    #[expect(clippy::disallowed_methods, reason = "it measures how long, and says nothing of when")]
    pub(crate) fn start(kind: &'static str) -> Self {
        Self { kind, since: Instant::now() }
    }

    pub(crate) fn stop<T, E>(self, result: &Result<T, E>) {
        let Self { kind, since } = self;
        let labels =
            CommitLabels { kind, result: if result.is_ok() { "published" } else { "failed" } };
        counts().commits.get_or_create(&labels).inc();
        let durations = &counts().commit_durations;
        durations.get_or_create(&KindLabel { kind }).observe(since.elapsed().as_secs_f64());
    }
}

/// From 10 milliseconds to more than half an hour, which is what a client waits for.
fn duration() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 10))
}
