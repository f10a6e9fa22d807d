//! What time it is: asked in one place, so that a test can say.

use std::fmt::Debug;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(feature = "mount")]
impl attestfs_fs::Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Clock::now(self)
    }
}
