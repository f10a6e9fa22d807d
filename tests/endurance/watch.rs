//! What must stay flat, measured again and again.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::process::{Process, metrics};

/// A number that has no reason to grow under a load that does not.
#[derive(Debug)]
pub(crate) struct Quantity {
    pub(crate) name: &'static str,
    /// By how much it may be larger in the end, besides a tenth.
    slack: f64,
    measure: fn(&Watched, &HashMap<String, f64>) -> f64,
}

/// What is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) server: Process,
    pub(crate) daemon: Process,
    pub(crate) socket: PathBuf,
}

pub(crate) const QUANTITIES: [Quantity; 13] = [
    Quantity { name: "server MiB", slack: 8.0, measure: |it, _| mebibytes(it.server) },
    Quantity { name: "daemon MiB", slack: 8.0, measure: |it, _| mebibytes(it.daemon) },
    Quantity { name: "server fds", slack: 32.0, measure: |it, _| it.server.descriptors() as f64 },
    Quantity { name: "daemon fds", slack: 16.0, measure: |it, _| it.daemon.descriptors() as f64 },
    Quantity { name: "server threads", slack: 16.0, measure: |it, _| it.server.threads() as f64 },
    Quantity { name: "daemon threads", slack: 8.0, measure: |it, _| it.daemon.threads() as f64 },
    Quantity { name: "inodes", slack: 100.0, measure: |_, shown| shown["attestfs_inodes"] },
    Quantity { name: "handles", slack: 30.0, measure: |_, shown| shown["attestfs_open_handles"] },
    Quantity { name: "to seal", slack: 20.0, measure: |_, all| all["attestfs_seal_queue_files"] },
    Quantity {
        name: "to hash",
        slack: 20.0,
        measure: |_, all| all["attestfs_material_queue_files"],
    },
    Quantity {
        name: "waiting",
        slack: 10.0,
        measure: |_, all| all.get("attestfs_gate_waiting").copied().unwrap_or_default(),
    },
    Quantity {
        name: "under way",
        slack: 10.0,
        measure: |_, all| all["attestfs_fuse_requests_under_way"],
    },
    Quantity { name: "stuck", slack: 0.0, measure: |_, all| all["attestfs_fuse_requests_stuck"] },
];

fn mebibytes(process: Process) -> f64 {
    process.memory() as f64 / f64::from(1 << 20)
}

/// Everything that was measured, in the order of [`QUANTITIES`].
#[derive(Debug)]
pub(crate) struct Samples {
    begin: Instant,
    pub(crate) taken: Vec<(Duration, [f64; QUANTITIES.len()])>,
}

impl Samples {
    #[expect(clippy::disallowed_methods, reason = "a test says when something was measured")]
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), taken: Vec::new() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn take(&mut self, watched: &Watched) {
        let shown = metrics(&watched.socket);
        let values = QUANTITIES.each_ref().map(|quantity| (quantity.measure)(watched, &shown));
        self.taken.push((self.elapsed(), values));
    }

    /// The medians of each twelfth of the time, one line each.
    pub(crate) fn print(&self) {
        let names = QUANTITIES.each_ref().map(|quantity| format!("{:>15}", quantity.name));
        println!("{:>8}{}", "seconds", names.concat());
        for part in self.taken.chunks(self.taken.len().div_ceil(12)) {
            let medians =
                (0..QUANTITIES.len()).map(|index| format!("{:15.1}", median(part, index)));
            println!("{:8.0}{}", part[0].0.as_secs_f64(), medians.collect::<String>());
        }
    }

    /// What was larger in the last quarter of the time than in the second one, in sentences.
    pub(crate) fn grown(&self) -> Vec<String> {
        let quarter = self.taken.len() / 4;
        let (second, last) = (&self.taken[quarter..2 * quarter], &self.taken[3 * quarter..]);
        let compare = |(index, quantity): (usize, &Quantity)| {
            let (before, after) = (median(second, index), median(last, index));
            let is_flat = after <= before * 1.1 + quantity.slack;
            (!is_flat).then(|| format!("{}: {before:.1}, then {after:.1}", quantity.name))
        };
        QUANTITIES.iter().enumerate().filter_map(compare).collect()
    }
}

fn median(samples: &[(Duration, [f64; QUANTITIES.len()])], index: usize) -> f64 {
    let mut values: Vec<_> = samples.iter().map(|(_, values)| values[index]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
