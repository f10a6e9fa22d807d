//! A bar on stderr while much is hashed. Silent when stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::artifact::Watch;

/// Below so many bytes nobody waits.
const SHOWN_FROM_BYTES: u64 = 256 << 20;

/// Shows how far hashing is. Goes away when dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Makes room for a line of output.
    pub(super) fn hidden_while<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Watch for Progress {
    fn expect(&self, bytes: u64) {
        let total = self.0.length().unwrap_or_default() + bytes;
        self.0.set_length(total);
        if total >= SHOWN_FROM_BYTES && self.0.is_hidden() {
            let style = ProgressStyle::with_template(
                "hashing {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
