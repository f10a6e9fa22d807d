//! What is read once, at start: the environment, and where the state directory lies.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::cure::cure;

/// How long a daemon without connections and without work stays, unless told otherwise.
const IDLE_END_DEFAULT: Duration = Duration::from_secs(30);

/// The variables of the environment that this program looks at. Nothing else reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `ATTESTFS_STATE`: the state directory.
    pub state: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `ATTESTFS_LOG`: which log lines are written, as `tracing` filters them.
    pub log: Option<String>,
    /// `ATTESTFS_LOG_FORMAT`: `json` for one object a line; text otherwise.
    pub log_format: Option<String>,
    /// `ATTESTFS_METRICS`: where a process that serves shows what it counts, as `--metrics`.
    pub metrics: Option<String>,
    /// `ATTESTFS_PASSTHROUGH` is `off`: the kernel reads nothing past the process that serves a mount.
    pub no_passthrough: bool,
    /// `ATTESTFS_IDLE_SECONDS`: how long a daemon that nobody needs stays.
    pub idle_end: Option<Duration>,
    /// `ATTESTFS_RUN`: set for the command of a run, to its id.
    pub run: Option<String>,
    /// `ATTESTFS_STOP_AT`, in debug builds only: where in a commit the daemon kills itself.
    pub stop_at: Option<StopAt>,
}

/// An arrow of the commit chain. A debug build can be told to die there, so that a test can show
/// what the next daemon makes of it; a release build never looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// The statements are frozen and flushed.
    Frozen,
    /// The platform was asked for evidence.
    Quoted,
    /// The envelopes are signed, in memory only.
    Signed,
    /// The bundles lie in the state directory.
    Bundles,
    /// `claims.jsonl` and `model.sig` lie beside the content.
    Claims,
    /// The store knows the publication; nobody was told yet.
    Published,
}

/// The directory that holds everything attestfs remembers, and the names inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

/// Why there is no usable state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nothing says where it should be.
    #[error(
        "no place for the state: give --state DIR, or set ATTESTFS_STATE, XDG_STATE_HOME or HOME"
    )]
    Nowhere,
    /// It cannot be made or looked at.
    #[error("the state directory {} cannot be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else of that name.
    #[error("{} is not a directory: give another --state DIR", path.display())]
    NotADirectory {
        /// What was found.
        path: PathBuf,
    },
    /// Somebody else could change what we remember.
    #[error(
        "the state directory {} belongs to user {owner}, not to user {user}: give another --state DIR",
        path.display()
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Others could write there.
    #[error(
        "the state directory {} may be written by others (mode {mode:03o}): chmod 700 it",
        path.display()
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl StateError {
    /// What to do about it, where the sentence does not say so.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => {
                let step = cure(source).unwrap_or("give a directory that you may write to");
                Some(format!("{step}, or name another one with --state DIR"))
            }
            _ => None,
        }
    }
}

impl Environment {
    /// Reads the environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub fn read() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Reads variables through `variable`. Empty ones count as absent, as in the XDG rules.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let present = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| present(name).map(PathBuf::from);
        let text = |name| present(name).and_then(|value| value.into_string().ok());
        Self {
            state: path("ATTESTFS_STATE"),
            state_home: path("XDG_STATE_HOME").filter(|home| home.is_absolute()),
            home: path("HOME").filter(|home| home.is_absolute()),
            log: text("ATTESTFS_LOG"),
            log_format: text("ATTESTFS_LOG_FORMAT"),
            metrics: text("ATTESTFS_METRICS"),
            no_passthrough: text("ATTESTFS_PASSTHROUGH").as_deref() == Some("off"),
            idle_end: text("ATTESTFS_IDLE_SECONDS")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
            run: text("ATTESTFS_RUN"),
            stop_at: text("ATTESTFS_STOP_AT").and_then(|arrow| StopAt::of_this_build(&arrow)),
        }
    }

    /// How long a daemon that nobody needs stays.
    pub fn idle_end(&self) -> Duration {
        self.idle_end.unwrap_or(IDLE_END_DEFAULT)
    }
}

impl StopAt {
    fn of_this_build(name: &str) -> Option<Self> {
        if !cfg!(debug_assertions) {
            return None;
        }
        Some(match name {
            "frozen" => Self::Frozen,
            "quoted" => Self::Quoted,
            "signed" => Self::Signed,
            "bundles" => Self::Bundles,
            "claims" => Self::Claims,
            "published" => Self::Published,
            _ => return None,
        })
    }
}

impl StateDir {
    /// The name of the control socket in it.
    pub const SOCKET: &str = "control.sock";

    /// Finds where the state lies: `option` (`--state`), else `ATTESTFS_STATE`, else
    /// `/var/lib/attestfs` for root, else below `XDG_STATE_HOME` (or its default below `HOME`) a
    /// directory of this machine's own, because homes are shared between machines and sockets are
    /// not. Looks at nothing and makes nothing.
    ///
    /// # Errors
    /// [`StateError::Nowhere`] when none of these is known, [`StateError::Io`] when a relative
    /// `--state` has no working directory to start from.
    pub fn resolve(option: Option<&Path>, environment: &Environment) -> Result<Self, StateError> {
        let named = option.or(environment.state.as_deref());
        let root = match named {
            Some(path) => std::path::absolute(path)
                .map_err(|source| StateError::Io { path: path.to_path_buf(), source })?,
            None if is_root() => PathBuf::from("/var/lib/attestfs"),
            None => state_home(environment)?.join("attestfs").join(machine()),
        };
        Ok(Self { root })
    }

    /// Makes the directory (0700) and those inside it where they are missing, and refuses one
    /// that somebody else can write to.
    ///
    /// # Errors
    /// Each variant of [`StateError`] but the first.
    pub fn prepare(&self) -> Result<(), StateError> {
        create_private(&self.root)?;
        self.check()?;
        [self.attestations(), self.runs(), self.mounts()]
            .iter()
            .try_for_each(|directory| create_private(directory))
    }

    /// Refuses a directory whose content somebody else could have made.
    ///
    /// # Errors
    /// Each variant of [`StateError`] but the first.
    pub fn check(&self) -> Result<(), StateError> {
        let path = || self.root.clone();
        let metadata =
            fs::metadata(&self.root).map_err(|source| StateError::Io { path: path(), source })?;
        let (mode, owner, user) = (metadata.mode() & 0o777, metadata.uid(), effective_user());
        if !metadata.is_dir() {
            return Err(StateError::NotADirectory { path: path() });
        }
        if owner != user {
            return Err(StateError::ForeignOwner { path: path(), owner, user });
        }
        if mode & 0o022 != 0 {
            return Err(StateError::WritableByOthers { path: path(), mode });
        }
        Ok(())
    }

    /// The directory itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.root.join(Self::SOCKET)
    }

    /// Locked by the one daemon of this state.
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// What the daemon says when nobody listens.
    pub fn daemon_log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// The lineage store.
    pub fn lineage(&self) -> PathBuf {
        self.root.join("lineage")
    }

    /// The default signing key.
    pub fn key(&self) -> PathBuf {
        self.root.join("attestfs.key")
    }

    /// The public half of the default signing key.
    pub fn public_key(&self) -> PathBuf {
        self.root.join("attestfs.pub")
    }

    /// Bundles, manifests and the index of subjects.
    pub fn attestations(&self) -> PathBuf {
        self.root.join("attestations")
    }

    /// One directory per run.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// What belongs to the run of this id, which must be a plain name.
    pub fn run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// One file per mount that is served.
    pub fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }
}

/// Makes one directory that only its owner can enter, with the parents it needs, all of them durable.
fn create_private(path: &Path) -> Result<(), StateError> {
    let missing: Vec<_> = path.ancestors().take_while(|it| !it.exists()).collect();
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let parents = missing.iter().filter_map(|it| it.parent());
    created
        .and_then(|()| parents.map(File::open).try_for_each(|parent| parent?.sync_all()))
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                StateError::NotADirectory { path: path.to_path_buf() }
            }
            _ => StateError::Io { path: path.to_path_buf(), source },
        })
}

fn state_home(environment: &Environment) -> Result<PathBuf, StateError> {
    environment
        .state_home
        .clone()
        .or_else(|| Some(environment.home.as_ref()?.join(".local/state")))
        .ok_or(StateError::Nowhere)
}

/// A name for this machine: `/etc/machine-id`, or, in containers that have none, its host name.
fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    [id.trim(), &host_name()]
        .into_iter()
        .find(|name| is_plain_name(name))
        .unwrap_or("unnamed-machine")
        .to_owned()
}

/// Whether `name` can be one component of a path, and is of sensible length.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// The directories of `PATH`, in which a command without a slash is looked for.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect()
}

/// What this machine calls itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A variable for a child process, unless the user has set it already.
#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
pub fn unless_set<'a>(variable: (&'a str, &'a str)) -> Option<(&'a str, &'a str)> {
    std::env::var_os(variable.0).is_none().then_some(variable)
}

/// The user whose rights this process has.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_root() -> bool {
    effective_user() == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_state_directory_that_others_can_write_to_is_refused_with_the_cure() {
        for mode in [0o720, 0o702, 0o777] {
            let directory = tempfile::tempdir().unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
            let refusal = state.prepare().unwrap_err();
            assert!(matches!(refusal, StateError::WritableByOthers { .. }));
            assert!(refusal.to_string().contains("chmod 700"), "{refusal}");
        }
    }

    #[test]
    fn a_state_directory_of_somebody_else_is_refused() {
        if !is_root() {
            eprintln!("skipped: only root can give a directory away");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(12345), None).unwrap();
        let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
        let refusal = state.prepare().unwrap_err();
        assert!(matches!(refusal, StateError::ForeignOwner { owner: 12345, .. }));
    }

    #[test]
    fn a_file_in_place_of_the_state_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let state = StateDir::resolve(Some(&path), &Environment::default()).unwrap();
            let refusal = state.prepare().unwrap_err();
            assert!(matches!(refusal, StateError::NotADirectory { .. }), "{refusal}");
        }
    }

    #[test]
    fn a_new_state_directory_is_closed_to_everybody_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let state = StateDir::resolve(Some(&root), &Environment::default()).unwrap();
        state.prepare().unwrap();
        state.prepare().unwrap();
        for path in [root, state.attestations(), state.runs(), state.mounts()] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn the_option_wins_over_the_environment() {
        let set = environment(&[("ATTESTFS_STATE", "/from/environment")]);
        let named = StateDir::resolve(Some(Path::new("/from/option")), &set).unwrap();
        assert_eq!(named.root(), Path::new("/from/option"));
        let unnamed = StateDir::resolve(None, &set).unwrap();
        assert_eq!(unnamed.root(), Path::new("/from/environment"));
    }

    #[test]
    fn a_user_without_any_home_is_told_what_to_give() {
        let home = state_home(&environment(&[("HOME", ""), ("XDG_STATE_HOME", "relative")]));
        assert!(home.unwrap_err().to_string().contains("--state"));
    }

    #[test]
    fn the_state_home_has_its_default_below_home() {
        let set = environment(&[("HOME", "/home/somebody")]);
        let home = state_home(&set).unwrap();
        assert_eq!(home, Path::new("/home/somebody/.local/state"));
    }

    #[test]
    fn names_that_could_leave_a_directory_are_not_plain() {
        for hostile in ["", ".", "..", "a/b", ".hidden", "a\0b", "ä", &"a".repeat(129)] {
            assert!(!is_plain_name(hostile), "{hostile:?}");
        }
        assert!(is_plain_name("0190c0de-0000-7000-8000-000000000000"));
    }

    #[test]
    fn only_arrows_of_the_chain_can_be_stopped_at() {
        let told = |arrow| environment(&[("ATTESTFS_STOP_AT", arrow)]).stop_at;
        assert_eq!(told("nowhere"), None);
        assert_eq!(told("claims").is_some(), cfg!(debug_assertions));
    }
}
