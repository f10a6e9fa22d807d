//! Which mounts are served now, as files that need no daemon: one per mount, locked by the process
//! that serves it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{config::StateDir, control::MountDescription};

/// The largest entry that is read, in bytes: two paths of the longest kind fit.
const ENTRY_BYTES_MAX: u64 = 64 << 10;

/// The entry of a mount, as long as it is served.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    _locked: File,
}

impl Entry {
    /// # Errors
    /// The file cannot be made.
    pub(super) fn make(state: &StateDir, mount: &MountDescription) -> io::Result<Self> {
        let path = state.mounts().join(format!("{}.{EXTENSION}", mount.id));
        // Under a name that nobody looks at until it is locked and whole.
        let making = path.with_extension("making");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&serde_json::to_vec(mount)?)?;
        fs::rename(&making, &path)?;
        Ok(Self { path, _locked: file })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the entry of a mount stays");
        }
    }
}

/// The mounts of this state that are served now. Entries that processes left which were killed are
/// taken away.
pub(crate) fn served(state: &StateDir) -> Vec<MountDescription> {
    let entries = fs::read_dir(state.mounts()).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let entries = paths.filter(|path| path.extension().is_some_and(|it| it == EXTENSION));
    let mut served: Vec<_> = entries.filter_map(|path| read(&path)).collect();
    served.sort_by(|one, other| one.id.cmp(&other.id));
    served
}

const EXTENSION: &str = "json";

fn read(path: &Path) -> Option<MountDescription> {
    let file = File::open(path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        // Nobody serves it.
        fs::remove_file(path).unwrap_or_default();
        return None;
    }
    let mut text = Vec::new();
    file.take(ENTRY_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn state() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        let state = StateDir::resolve(Some(&root), &Environment::default()).unwrap();
        state.prepare().unwrap();
        (directory, state)
    }

    fn mount(id: &str) -> MountDescription {
        MountDescription {
            id: id.to_owned(),
            mount_point: Some("/mnt".to_owned()),
            origin: "/data".to_owned(),
            read_only: false,
            policy: None,
            pid: 1,
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_mount_has_an_entry_as_long_as_it_is_served() {
        let (_directory, state) = state();
        assert_eq!(served(&state), []);
        let two = Entry::make(&state, &mount("2")).unwrap();
        let one = Entry::make(&state, &mount("1")).unwrap();
        assert_eq!(served(&state), [mount("1"), mount("2")]);
        drop(one);
        assert_eq!(served(&state), [mount("2")]);
        drop(two);
        assert_eq!(fs::read_dir(state.mounts()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_no_mount_and_goes() {
        let (_directory, state) = state();
        let left = state.mounts().join("1.json");
        fs::write(&left, serde_json::to_vec(&mount("1")).unwrap()).unwrap();
        fs::write(state.mounts().join("mnt.log"), "said").unwrap();
        assert_eq!(served(&state), []);
        assert!(!left.exists());
        assert!(state.mounts().join("mnt.log").exists());
    }

    #[test]
    fn an_entry_that_is_no_entry_is_passed_over() {
        let (_directory, state) = state();
        let path = state.mounts().join("1.json");
        let file = File::create(&path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        for text in ["", "{}", "nonsense"] {
            fs::write(&path, text).unwrap();
            assert_eq!(served(&state), [], "{text:?}");
        }
    }
}
