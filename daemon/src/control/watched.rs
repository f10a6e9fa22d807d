use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Unit,
};

use super::service::Service;

/// How far the store is behind what happens, for whoever looks at metrics.
#[derive(Debug)]
pub(crate) struct Watched(pub(crate) Weak<Service>);

impl Collector for Watched {
    /// A store that does not answer shows nothing: that is how it is noticed.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(service) = self.0.upgrade() else { return Ok(()) };
        let overview = match service.overview() {
            Ok(overview) => overview,
            Err(error) => {
                tracing::warn!(%error, "the store cannot be asked how it is");
                return Ok(());
            }
        };
        let now = service.now();
        let oldest = |since: Option<jiff::Timestamp>| {
            since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0))
        };
        let help = "Runs that are served now";
        show(&mut encoder, ("live_runs", help, None), overview.runs.len() as u64)?;
        let help = "Mounts that are served now";
        show(&mut encoder, ("mounts", help, None), overview.mounts.len() as u64)?;
        let pending = overview.daemon.pending;
        let help = "Commits that are frozen and not published";
        show(&mut encoder, ("pending_commits", help, None), pending.len() as u64)?;
        let bytes = overview.runs.iter().map(|run| run.bytes_behind).sum::<u64>();
        let help = "What live runs have recorded and the store has not taken in";
        show(&mut encoder, ("journal_behind", help, Some(&Unit::Bytes)), bytes)?;
        let since = overview.runs.iter().filter_map(|run| run.behind_since).min();
        let help = "For how long at most something recorded was not taken in by the store";
        show(&mut encoder, ("store_behind", help, Some(&Unit::Seconds)), oldest(since))?;
        let since = pending.iter().map(|commit| commit.since).min();
        let help = "How old the oldest commit is that is not published";
        show(&mut encoder, ("commit_behind", help, Some(&Unit::Seconds)), oldest(since))
    }
}

/// Shows one gauge by its name, help and unit.
fn show<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    value: N,
) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}
