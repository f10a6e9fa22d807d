//! The command line of `attestfs mount`, and how it is written down again for the process in the
//! background.

use std::{ffi::OsString, io, path::PathBuf};

use attestfs_fs::Capture;

use crate::metrics::Address;

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `BACKING` and `MOUNTPOINT`; absent with `--receive`.
    pub(crate) places: Option<Places>,
    /// `--receive`: the socket over which the descriptors come.
    pub(crate) receive: Option<PathBuf>,
    /// `--origin`: what statements call the backing directory.
    pub(crate) origin: Option<PathBuf>,
    /// `--stage`: the mount is one run.
    pub(crate) stage: Option<String>,
    /// `--in`, relative to the backing directory or absolute.
    pub(crate) inputs: Vec<PathBuf>,
    /// `--out`, likewise.
    pub(crate) outputs: Vec<PathBuf>,
    /// `--label KEY=VALUE`.
    pub(crate) labels: Vec<(String, String)>,
    /// `--policy`.
    pub(crate) policy: Option<PathBuf>,
    /// `--key`.
    pub(crate) key: Option<PathBuf>,
    /// `--state`.
    pub(crate) state: Option<PathBuf>,
    /// `--metrics`.
    pub(crate) metrics: Option<Address>,
    /// `--read-only`.
    pub(crate) read_only: bool,
    /// `-o noexec`.
    pub(crate) no_exec: bool,
    /// `--idmap`.
    pub(crate) idmap: bool,
    /// `--capture`.
    pub(crate) capture: Capture,
}

/// Between what and where a mount stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The directory, or `/dev/fd/M`.
    pub(crate) backing: PathBuf,
    /// The directory, or `/dev/fd/N`.
    pub(crate) mount_point: PathBuf,
}

impl Options {
    /// The same, for a process with another working directory.
    ///
    /// # Errors
    /// There is no working directory.
    pub(super) fn absolute(self) -> io::Result<Self> {
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        let places = self.places.map(|Places { backing, mount_point }| {
            let backing = std::path::absolute(backing)?;
            io::Result::Ok(Places { backing, mount_point: std::path::absolute(mount_point)? })
        });
        Ok(Self {
            places: places.transpose()?,
            receive: absolute(self.receive)?,
            origin: absolute(self.origin)?,
            policy: absolute(self.policy)?,
            key: absolute(self.key)?,
            state: absolute(self.state)?,
            ..self
        })
    }

    /// As words of a command line, after the name of the command.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let Self {
            places,
            receive,
            origin,
            stage,
            inputs,
            outputs,
            labels,
            policy,
            key,
            state,
            metrics,
            read_only,
            no_exec,
            idmap,
            capture,
        } = self;
        let mut words = Words::default();
        let path = |path: &Option<PathBuf>| path.clone().map(OsString::from);
        words.option("--receive", path(receive));
        words.option("--origin", path(origin));
        words.option("--stage", stage.clone().map(OsString::from));
        words.option("--in", inputs.iter().map(OsString::from));
        words.option("--out", outputs.iter().map(OsString::from));
        words
            .option("--label", labels.iter().map(|(name, value)| format!("{name}={value}").into()));
        words.option("--policy", path(policy));
        words.option("--key", path(key));
        words.option("--state", path(state));
        words.option("--metrics", metrics.as_ref().map(|address| address.to_string().into()));
        words.flag("--read-only", *read_only);
        words.flag("--no-exec", *no_exec);
        words.flag("--idmap", *idmap);
        words.flag("--capture=reread", *capture == Capture::Reread);
        if let Some(Places { backing, mount_point }) = places {
            words.0.extend(["--".into(), backing.into(), mount_point.into()]);
        }
        words.0
    }
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    /// As one word, so that a value may begin with a dash.
    fn option(&mut self, name: &str, values: impl IntoIterator<Item = OsString>) {
        self.0.extend(values.into_iter().map(|value| {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            word
        }));
    }

    fn flag(&mut self, name: &str, given: bool) {
        self.0.extend(given.then(|| OsString::from(name)));
    }
}
