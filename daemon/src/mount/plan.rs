//! What is to be served, checked before anything is touched.

use std::{
    ffi::OsString,
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{escaped, unescaped};
use attestfs_fs::{Attachment, Capture, Gate, TreePath};

use super::{
    attach::{attach, mount_point},
    device,
    failure::ServeError,
    hand_over::{self, HandedOver},
    mounts::Mounted,
    options::{Options, Places},
};
use crate::{
    config::{Environment, StateDir},
    gate::gate,
    passthrough,
    session::{
        SessionError, Tree, TreeLock, Trees, normal, open_key, refuse_left_behind,
        refuse_misplaced, refuse_mounted, state_for,
    },
};

/// A mount that may begin.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where its users see it; none when it was mounted elsewhere.
    pub(super) mount_point: Option<PathBuf>,
    pub(super) device: Device,
    pub(super) read_only: bool,
    /// The backing directory, as the only one of its trees.
    pub(super) backing: Backing,
    pub(super) state: StateDir,
    pub(super) key: Option<File>,
    pub(super) policy: Option<PathBuf>,
    pub(super) gate: Arc<Gate>,
    pub(super) passthrough: bool,
    pub(super) capture: Capture,
    /// Held as long as the mount can be written to.
    pub(super) lock: Option<TreeLock>,
}

/// Through what the mount is served.
#[derive(Debug)]
pub(super) enum Device {
    /// It is still to be mounted.
    ToMount(Attachment),
    /// Somebody has mounted it.
    Given(OwnedFd),
    /// Somebody has mounted it and waits for the answer.
    HandedOver(HandedOver),
}

/// The backing directory, by what statements call it.
#[derive(Debug)]
pub(super) struct Backing(Tree);

impl Plan {
    /// # Errors
    /// Whatever is wrong with the options, or in the way.
    pub(super) fn new(options: &Options, environment: &Environment) -> Result<Self, ServeError> {
        if options.stage.is_some() && options.read_only {
            return Err(ServeError::StageOfReadOnly);
        }
        passthrough::check(options.capture, environment)?;
        match (&options.places, &options.receive) {
            (Some(places), _) => Self::of_places(options, places, environment),
            (None, Some(socket)) => Self::handed_over(options, socket, environment),
            (None, None) => Err(ServeError::NoPlaces),
        }
    }

    fn of_places(
        options: &Options,
        places: &Places,
        environment: &Environment,
    ) -> Result<Self, ServeError> {
        let given = device::number(&places.mount_point);
        // Before the backing directory: over itself, they are the same.
        let target = match given {
            None => Some(mount_point(&places.mount_point)?),
            Some(_) => None,
        };
        let backing = Backing::open(&places.backing, options.origin.as_deref())?;
        target.as_deref().map_or(Ok(()), |target| backing.refuse_within(target))?;
        let here = std::env::current_dir().map_err(ServeError::system("the working directory"))?;
        let is_below = |path: &Path| path.starts_with(backing.origin());
        refuse_misplaced(&options.outputs, backing.origin(), &here, is_below)?;
        let device = match given {
            None => Device::ToMount(Attachment {
                source: backing.origin().into(),
                read_only: options.read_only,
                no_exec: options.no_exec,
            }),
            Some(number) => Device::Given(fuse_device(number)?),
        };
        Self::of(options, environment, backing, device, target)
    }

    fn handed_over(
        options: &Options,
        socket: &Path,
        environment: &Environment,
    ) -> Result<Self, ServeError> {
        let mut handed = hand_over::receive(socket)?;
        let origin = normal(options.origin.as_ref().unwrap_or(&handed.origin));
        let backing = Backing(Tree { path: origin, root: handed.take_backing()? });
        let options =
            Options { read_only: options.read_only || handed.read_only, ..options.clone() };
        if options.stage.is_some() && options.read_only {
            return Err(ServeError::StageOfReadOnly);
        }
        Self::of(&options, environment, backing, Device::HandedOver(handed), None)
    }

    fn of(
        options: &Options,
        environment: &Environment,
        backing: Backing,
        device: Device,
        mount_point: Option<PathBuf>,
    ) -> Result<Self, ServeError> {
        let trees = backing.trees()?;
        let state = state_for(&trees, options.state.as_deref(), environment)?;
        let key = options.key.as_deref().map(|key| open_key(key, &trees)).transpose()?;
        let gate =
            gate(options.policy.as_deref(), None, &state, &trees).map_err(SessionError::Policy)?;
        let lock = if options.read_only { None } else { Some(TreeLock::take(&backing.0)?) };
        refuse_left_behind(&backing.0)?;
        Ok(Self {
            mount_point,
            device,
            read_only: options.read_only,
            backing,
            state,
            key,
            policy: options.policy.clone(),
            gate,
            passthrough: !environment.no_passthrough,
            capture: options.capture,
            lock,
        })
    }
}

impl Device {
    /// Whether process ids in requests mean the same to this process as to the one that mounted. Who
    /// mounted a descriptor that is given by its number is not known.
    pub(super) fn sees_callers(&self) -> bool {
        match self {
            Self::ToMount(_) => true,
            Self::Given(_) => false,
            Self::HandedOver(handed) => handed.sees_callers,
        }
    }

    /// The descriptor, once the filesystem is mounted; the mount, when this process made it; and who
    /// waits for the answer.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub(super) fn open(
        self,
        target: Option<&Path>,
    ) -> Result<(OwnedFd, Option<Mounted>, Option<HandedOver>), ServeError> {
        match (self, target) {
            (Self::ToMount(attachment), Some(target)) => {
                let (device, mount) = attach(target, &attachment)?;
                Ok((device, Some(mount), None))
            }
            (Self::Given(device), _) => Ok((device, None, None)),
            (Self::HandedOver(mut handed), _) => Ok((handed.take_device()?, None, Some(handed))),
            (Self::ToMount(_), None) => Err(ServeError::NoPlaces),
        }
    }
}

impl Backing {
    /// Opened before anything is mounted on it.
    ///
    /// # Errors
    /// It is no directory, or attestfs serves it already.
    pub(super) fn open(path: &Path, origin: Option<&Path>) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Backing { path: path.to_owned(), source };
        let real = std::fs::canonicalize(path).map_err(failed)?;
        if device::number(path).is_none() {
            refuse_mounted(&real)?;
        }
        // Of a descriptor the path may be another one here, or none: it is opened as it was given.
        let opened = if device::number(path).is_some() { path } else { &real };
        let root = Tree::open(opened.to_owned()).map_err(failed)?.root;
        let origin = origin.map_or(real, normal);
        Ok(Self(Tree { path: origin, root }))
    }

    /// Refuses a mount point below the directory: whoever serves it would wait for himself. Over it
    /// is another thing.
    pub(super) fn refuse_within(&self, mount_point: &Path) -> Result<(), ServeError> {
        let trees = self.trees()?;
        match mount_point.parent().and_then(|above| trees.containing(above)) {
            None => Ok(()),
            Some(tree) => Err(ServeError::WithinItself {
                mount_point: mount_point.to_owned(),
                backing: tree.path.clone(),
            }),
        }
    }

    /// What statements call it: absolute, without symbolic links.
    pub(super) fn origin(&self) -> &Path {
        &self.0.path
    }

    /// The same, as they spell it.
    pub(super) fn name(&self) -> String {
        escaped(self.origin().as_os_str().as_encoded_bytes())
    }

    /// A second descriptor of it.
    pub(super) fn open_again(&self) -> Result<OwnedFd, ServeError> {
        self.0.open_again().map_err(ServeError::system("the backing directory"))
    }

    /// As the trees of a run.
    pub(super) fn trees(&self) -> Result<Trees, ServeError> {
        let tree = Tree { path: self.origin().to_owned(), root: self.open_again()? };
        Ok(Trees::new(vec![tree]))
    }

    /// Where a path lies that is relative to the backing directory, or absolute there or below the
    /// mount point.
    pub(super) fn place(&self, path: &Path, mount_point: Option<&Path>) -> Option<TreePath> {
        let path = normal(path);
        let tops = [mount_point, Some(self.origin())];
        let below = if path.is_absolute() {
            tops.into_iter().flatten().find_map(|top| path.strip_prefix(top).ok())
        } else {
            Some(path.as_path())
        };
        below.map(|below| TreePath { tree: 0, path: escaped(below.as_os_str().as_encoded_bytes()) })
    }
}

/// A path of a message, as the system has it.
pub(super) fn system_path(path: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescaped(path)))
}

fn fuse_device(number: i32) -> Result<OwnedFd, ServeError> {
    let device = device::inherited(number)?;
    if !device::is_fuse(&device) {
        return Err(ServeError::NotFuse { number, found: device::shown(&device) });
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backing(origin: &str) -> Backing {
        let root = Tree::open(PathBuf::from("/")).unwrap().root;
        Backing(Tree { path: PathBuf::from(origin), root })
    }

    #[test]
    fn a_place_is_relative_or_below_the_mount_point_or_the_backing_directory() {
        let backing = backing("/data");
        let place = |path: &str| {
            let place = backing.place(Path::new(path), Some(Path::new("/mnt")));
            place.map(|place| place.path)
        };
        assert_eq!(place("model/a").as_deref(), Some("model/a"));
        assert_eq!(place("./model/../out").as_deref(), Some("out"));
        assert_eq!(place(".").as_deref(), Some(""));
        assert_eq!(place("/mnt/model").as_deref(), Some("model"));
        assert_eq!(place("/data/model").as_deref(), Some("model"));
        assert_eq!(place("/mnt").as_deref(), Some(""));
        assert_eq!(place("/mnt/../etc"), None);
        assert_eq!(place("/database"), None);
    }

    #[test]
    fn a_relative_place_does_not_leave_the_backing_directory() {
        let backing = backing("/data");
        let place = backing.place(Path::new("../../etc"), None).unwrap();
        assert_eq!(place.path, "etc");
    }
}
