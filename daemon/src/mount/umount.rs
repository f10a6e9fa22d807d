//! `attestfs umount`: has the process that serves a mount end it.

use std::{io, path::Path, thread, time::Duration};

use attestfs_attestation::escaped;
use rustix::io::Errno;

use super::{
    attach::{self, is_dead, location, location_unasked, unmount},
    entry::served,
    mounts::{self, Mounted},
    users::users_of,
};
use crate::{
    client::{Client, ClientError},
    config::StateDir,
    control::{Code, CommitReport, Failure},
};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Unmounted {
    /// By the process that served it, which has attested its stage.
    Ended(Option<CommitReport>),
    /// Those who use it may go on until they leave.
    Left,
    /// Nobody answered there any more.
    Dead,
    /// Nobody of this state directory served it: it was only unmounted.
    Foreign,
    /// Whoever used it was told an error, whether or not it was answered before.
    BrokenOff,
}

/// Unmounts what is mounted at `path`. `daemon` is that of the state directory; none when there is
/// no such state. When it has ended, the tree can be served again.
///
/// # Errors
/// Nothing of this program is mounted there, it is in use, or a stage is open there.
pub(crate) fn umount(
    state: &StateDir,
    path: &Path,
    lazily: bool,
    daemon: impl FnOnce() -> Option<Result<Client, ClientError>>,
) -> Result<Unmounted, Failure> {
    let target = location(path).map_err(|error| unknown(path, &error))?;
    let mounted = mounts::at(&target).filter(Mounted::is_ours);
    let mounted = mounted.ok_or_else(|| not_seen(&target))?;
    if is_dead(&mounted) {
        take_away(&mounted, true)?;
        return Ok(Unmounted::Dead);
    }
    let name = escaped(target.as_os_str().as_encoded_bytes());
    match daemon().map(|daemon| daemon?.unmount(&name, lazily)) {
        Some(Ok(_)) if lazily => Ok(Unmounted::Left),
        Some(Ok(report)) => {
            wait_for_release(state, &name);
            Ok(Unmounted::Ended(report))
        }
        None | Some(Err(ClientError::Refused(Failure { code: Code::UnknownMount, .. }))) => {
            take_away(&mounted, lazily)?;
            Ok(Unmounted::Foreign)
        }
        Some(Err(error)) => Err(error.into()),
    }
}

/// Breaks off what is mounted at `path`, and asks nobody: neither who serves it nor the daemon may answer. What is an open
/// stage there ends with an unknown outcome.
///
/// # Errors
/// Nothing of this program is mounted there, or this user may not unmount it.
pub(crate) fn break_off(path: &Path) -> Result<Unmounted, Failure> {
    let target = location_unasked(path).map_err(|error| unknown(path, &error))?;
    let mounted = mounts::at(&target).filter(Mounted::is_ours);
    let mounted = mounted.ok_or_else(|| not_seen(&target))?;
    attach::break_off(&mounted).map_err(|errno| refused(&mounted, errno))?;
    Ok(Unmounted::BrokenOff)
}

fn unknown(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::UnknownMount, format!("{}: {error}", path.display()))
}

/// Waits until the process that served the mount has let go of its tree: it has nothing left to do.
fn wait_for_release(state: &StateDir, mount_point: &str) {
    let is_served =
        || served(state).iter().any(|mount| mount.mount_point.as_deref() == Some(mount_point));
    for _ in 0..RELEASE_ATTEMPTS {
        if !is_served() {
            return;
        }
        thread::sleep(RELEASE_PAUSE);
    }
    tracing::debug!(mount_point, "the process that served it takes its time");
}

/// Ten seconds in all.
const RELEASE_ATTEMPTS: u32 = 1000;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

fn take_away(mounted: &Mounted, lazily: bool) -> Result<(), Failure> {
    unmount(mounted, lazily).map_err(|errno| refused(mounted, errno))
}

/// Nothing of this program is the uppermost there.
fn not_seen(target: &Path) -> Failure {
    let mut all = mounts::all().into_iter();
    let below = all.find(|mount| mount.target == target && mount.is_ours());
    if let (Some(below), Some(upper)) = (below, mounts::at(target)) {
        return covered(&below, &upper);
    }
    let message = format!("nothing of attestfs is mounted at {}", target.display());
    Failure::new(Code::UnknownMount, message)
        .with_next_step("'attestfs status' shows the mounts; give the mount point itself")
}

/// What stands on it goes first.
fn covered(mounted: &Mounted, upper: &Mounted) -> Failure {
    let (path, above) = (mounted.target.display(), upper.target.display());
    let command = if upper.is_ours() { "attestfs umount" } else { "umount" };
    Failure::new(Code::Busy, format!("{path} is in use: another mount stands there, at {above}"))
        .with_next_step(format!("{command} {above}"))
}

/// Why a mount is not taken away, and who keeps it.
pub(super) fn refused(mounted: &Mounted, errno: Errno) -> Failure {
    let path = mounted.target.display();
    match errno {
        Errno::BUSY => {
            if let Some(upper) = mounts::all().into_iter().find(|it| it.stands_on(mounted)) {
                return covered(mounted, &upper);
            }
            let message = match users_of(mounted).as_str() {
                "" => format!("{path} is in use"),
                users => format!("{path} is in use by {users}"),
            };
            Failure::new(Code::Busy, message)
                .with_next_step("end them, or let them go on with 'attestfs umount --lazy'")
        }
        Errno::PERM => Failure::new(Code::Forbidden, format!("{path}: only root can unmount it")),
        errno => {
            let error = io::Error::from(errno);
            Failure::new(Code::State, format!("{path} cannot be unmounted: {error}"))
        }
    }
}
