use std::{fmt, path::PathBuf, process::ExitCode};

use attestfs_attestation::escaped;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
    run::{CaptureWord, label, stage},
};
use crate::{
    config::Environment,
    metrics::Address,
    mount::{self, HandOver, Options, Places, ServeError},
};

/// Mount a directory, so that what is written there is hashed and what is opened is judged
///
/// Returns when the mount answers; it is served in the background until it is unmounted. A mount of
/// a directory over itself hides the directory below.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs mount /data/models /mnt/models --read-only --policy serving.toml
  attestfs mount /data /data --stage train --out model
  attestfs stage open /data --stage train --out model     on a mount without --stage

With --stage the mount is one run: 'attestfs umount' ends it as a success. When it ends otherwise its \
outcome is unknown, and nobody vouches for what it wrote.

BACKING and MOUNTPOINT may be descriptors, /dev/fd/N: a directory, and /dev/fuse mounted by a process \
that may mount. --receive and --hand-over pass both over a Unix socket; MOUNTPOINT cannot be looked at \
until the receiver serves it, and only whoever mounted it can unmount it.

Exit code: 0 when the mount answers, with --foreground when it has ended well; 2 usage; 3 when it \
cannot be mounted or broke off, or the directory is served already.")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct MountCommand {
    /// The directory that is served
    #[arg(value_name = "BACKING", required_unless_present = "receive")]
    backing: Option<PathBuf>,

    /// Where it is seen
    #[arg(value_name = "MOUNTPOINT", required_unless_present = "receive")]
    mount_point: Option<PathBuf>,

    /// The mount is one run of this stage
    #[arg(long, value_name = "NAME", value_parser = stage, conflicts_with = "read_only")]
    stage: Option<String>,

    /// An input of the stage, relative to BACKING or absolute
    #[arg(long = "in", value_name = "P", requires = "stage")]
    inputs: Vec<PathBuf>,

    /// An output of the stage, likewise; without any, everything that is written
    #[arg(long = "out", value_name = "P", requires = "stage")]
    outputs: Vec<PathBuf>,

    /// Something to remember of the stage
    #[arg(long = "label", value_name = "K=V", value_parser = label, requires = "stage")]
    labels: Vec<(String, String)>,

    /// The policy that says what may be opened
    #[arg(long, value_name = "F")]
    policy: Option<PathBuf>,

    /// The private key that signs; without it that of the state directory
    #[arg(long, value_name = "F")]
    key: Option<PathBuf>,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Show metrics for Prometheus at unix:PATH, HOST:PORT or, on the loopback interface, PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Address>,

    /// Serve in this process, and log to stderr
    #[arg(long)]
    foreground: bool,

    /// Refuse all changes
    #[arg(long)]
    read_only: bool,

    /// Refuse to execute what lies there
    #[arg(long)]
    no_exec: bool,

    /// Let containers with a user namespace have it with their user ids (Kubernetes: hostUsers: false);
    /// then the user is recorded only of those who create a file
    #[arg(long)]
    idmap: bool,

    /// How what is written comes to be known
    #[arg(long, value_enum, default_value_t, conflicts_with = "read_only")]
    capture: CaptureWord,

    /// What statements call BACKING, when it is a descriptor or known by another path elsewhere
    #[arg(long, value_name = "PATH")]
    origin: Option<PathBuf>,

    /// Wait on this Unix socket for a mount to serve
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["backing", "mount_point", "hand_over"])]
    receive: Option<PathBuf>,

    /// Mount, and have the receiver on this Unix socket serve it
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["stage", "policy", "key", "state", "foreground", "origin"])]
    hand_over: Option<PathBuf>,

    /// Give it to this user only; otherwise to root, to your own, and to the owner of the directory that
    /// the socket lies in
    #[arg(long, value_name = "UID", requires = "hand_over")]
    receiver_user: Option<u32>,

    /// Options as in fstab: ro, noexec, idmap
    #[arg(short = 'o', value_name = "OPTIONS", hide = true)]
    fstab_options: Option<String>,

    /// This is the process in the background
    #[arg(long, hide = true, requires = "foreground")]
    answer: bool,
}

/// The answer of a mount that is served.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Serving {
    /// None when it was mounted elsewhere.
    mount_point: Option<String>,
    /// None when another process serves it.
    pid: Option<u32>,
    /// What the mount shows over which it lies, if one of attestfs was there already.
    covers: Option<String>,
}

impl MountCommand {
    /// Whether this process serves, rather than ask another one to.
    pub(super) fn serves(&self) -> bool {
        self.foreground
    }

    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<ExitCode, Failure> {
        let (foreground, answer) = (self.foreground, self.answer);
        let (hand_over, receiver) = (self.hand_over.clone(), self.receiver_user);
        let options = self.options()?;
        let mount_point = options.places.as_ref().map(|places| places.mount_point.clone());
        let covers = mount_point.as_deref().and_then(mount::covered).map(spelt);
        if let (Some(socket), Some(Places { backing, mount_point })) = (hand_over, &options.places)
        {
            let hand_over = HandOver {
                socket,
                backing: backing.clone(),
                mount_point: mount_point.clone(),
                read_only: options.read_only,
                no_exec: options.no_exec,
                receiver,
            };
            let mount_point = hand_over.carry_out().map_err(failure)?;
            output.show(&Serving { mount_point: Some(spelt(mount_point)), pid: None, covers })?;
        } else if answer {
            // Whoever started this process has told the user.
            return Ok(match mount::answer(&options, environment) {
                Ok(()) => Exit::Yes.into(),
                Err(error) => failure(error).exit_code.into(),
            });
        } else if foreground {
            mount::foreground(options, environment).map_err(failure)?;
        } else {
            let pid = mount::background(options, environment).map_err(failure)?;
            let mount_point = mount_point.map(spelt);
            output.show(&Serving { mount_point, pid: Some(pid), covers })?;
        }
        Ok(Exit::Yes.into())
    }

    fn options(self) -> Result<Options, Failure> {
        let mut read_only = self.read_only;
        let mut no_exec = self.no_exec;
        let mut idmap = self.idmap;
        let fstab_options = self.fstab_options.unwrap_or_default();
        let words = mount::fstab_words(fstab_options.as_bytes(), false).map_err(Failure::usage)?;
        for word in words {
            match word.to_str() {
                Some("--read-only") => read_only = true,
                Some("--no-exec") => no_exec = true,
                Some("--idmap") => idmap = true,
                _ => {
                    let message = "-o has flags only here: what has a value is a word of its own";
                    return Err(
                        Failure::usage(message).with_next_step(format!("write {}", word.display()))
                    );
                }
            }
        }
        let places = self.backing.zip(self.mount_point);
        Ok(Options {
            places: places.map(|(backing, mount_point)| Places { backing, mount_point }),
            receive: self.receive,
            origin: self.origin,
            stage: self.stage,
            inputs: self.inputs,
            outputs: self.outputs,
            labels: self.labels,
            policy: self.policy,
            key: self.key,
            state: self.state,
            metrics: self.metrics,
            read_only,
            no_exec,
            idmap,
            capture: self.capture.into(),
        })
    }
}

fn spelt(path: PathBuf) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::Stage(failure) => failure.into(),
        error => {
            let next_step = error.next_step();
            let is_usage = error.is_usage();
            let failure = if is_usage { Failure::usage } else { Failure::environment };
            Failure { next_step, ..failure(&error) }
        }
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.mount_point.as_deref().unwrap_or("a mount that was handed over");
        let place = shown(place.as_ref());
        match self.pid {
            Some(pid) => writeln!(f, "process {pid} serves {place}"),
            None => writeln!(f, "{place} is served by the receiver"),
        }?;
        match &self.covers {
            Some(below) => writeln!(
                f,
                "it covers another mount of attestfs there, of {}: 'attestfs umount' shows that again",
                shown(below.as_ref())
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{Args, FromArgMatches};

    use super::*;

    fn options(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Options {
        let words = words.into_iter().map(Into::into);
        let command = MountCommand::augment_args(clap::Command::new("mount").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        MountCommand::from_arg_matches(&matches).unwrap().options().unwrap()
    }

    #[test]
    fn flags_of_fstab_are_flags_here_and_the_rest_is_refused() {
        let given = options(["-o", "rw,ro,noexec,idmap,nosuid", "b", "m"]);
        assert!(given.read_only && given.no_exec && given.idmap);
        let command = MountCommand::augment_args(clap::Command::new("mount").no_binary_name(true));
        for (option, told) in [("stage=x", "--stage=x"), ("polcy", ""), ("suid", "")] {
            let matches = command.clone().try_get_matches_from(["-o", option, "b", "m"]).unwrap();
            let refused = MountCommand::from_arg_matches(&matches).unwrap().options().unwrap_err();
            assert_eq!(refused.exit_code, Exit::Usage, "{option}");
            assert!(refused.next_step.unwrap_or_default().contains(told), "{option}");
        }
    }

    #[test]
    fn the_process_in_the_background_is_asked_for_the_same() {
        let all = [
            "--stage=train",
            "--in=raw",
            "--in=/data/x",
            "--out=-model",
            "--label",
            "a=b=c",
            "--policy",
            "p",
            "--key",
            "k",
            "--state",
            "s",
            "--metrics",
            "[::1]:9",
            "--origin",
            "/o",
            "--no-exec",
            "--idmap",
            "--capture=reread",
            "b",
            "m",
        ];
        for words in [&all[..], &["b", "m", "--read-only"], &["--receive", "socket", "--read-only"]]
        {
            let given = options(words.iter().copied());
            assert_ne!(given, Options::default());
            assert_eq!(options(given.words()), given, "{words:?}");
        }
    }
}
