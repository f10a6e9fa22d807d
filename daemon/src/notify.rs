//! What a service manager is told (`Type=notify`). Nothing where no manager asks, which is where
//! `NOTIFY_SOCKET` is not set.

use sd_notify::NotifyState;

/// The variable by which a manager asks. Processes that outlive a service, or are another one, must
/// not inherit it.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";

/// Whoever waits for the service may come now.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// The service ends because it was told to.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // A manager that cannot be told finds out when its patience ends, and says so in its log.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
