use attestfs_fs::meter;
use prometheus_client::{
    collector::Collector,
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::counts::counts;
use crate::clock::{Clock, SystemClock};

/// What a process shows.
#[derive(Debug)]
pub(crate) struct Page(Registry);

impl Page {
    /// Of a process that serves a run or a mount.
    pub(crate) fn of_mounts() -> Self {
        let mut registry = common();
        meter().register(&mut registry);
        counts().register_journal(&mut registry);
        Self(registry)
    }

    /// Of the store daemon, which is looked at when somebody asks.
    pub(crate) fn of_daemon(condition: Box<dyn Collector>) -> Self {
        let mut registry = common();
        counts().register_commits(&mut registry);
        registry.register_collector(condition);
        Self(registry)
    }

    /// As it is now, in the text format of `OpenMetrics`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.0) {
            tracing::warn!(%error, "metrics could not be written down");
        }
        text
    }
}

fn common() -> Registry {
    let mut registry = Registry::with_prefix("attestfs");
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "The program", Info::new(version));
    let started = Gauge::<i64>::default();
    started.set(SystemClock.now().as_second());
    let help = "When the process began to be watched, in seconds of the Unix epoch";
    registry.register_with_unit("start_time", help, Unit::Seconds, started);
    registry
}
