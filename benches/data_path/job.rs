//! This program as a process of its own: the job that a run observes, or one of several readers.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::work;

/// First argument of this program when it is a job.
const JOB: &str = "job";

/// What it is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Writes files of one length, and prints [`Moments`].
    Write { directory: PathBuf, files: u64, length: u64 },
    /// Reads every `step`-th of the files, from `first` on.
    Read { directory: PathBuf, first: u64, files: u64, step: u64 },
}

/// When something happened, since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    /// The job was about to write.
    pub(crate) first_byte: Duration,
    /// Its last `close` had returned.
    pub(crate) last_close: Duration,
}

impl Job {
    pub(crate) fn asked_for(arguments: &[String]) -> Option<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let [JOB, work, directory, numbers @ ..] = words.as_slice() else { return None };
        let directory = PathBuf::from(directory);
        let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        match (*work, numbers.as_slice()) {
            ("write", &[files, length]) => Some(Self::Write { directory, files, length }),
            ("read", &[first, files, step]) => Some(Self::Read { directory, first, files, step }),
            other => panic!("{other:?} is no job"),
        }
    }

    pub(crate) fn run(self) {
        match self {
            Self::Write { directory, files, length } => {
                let first_byte = now();
                work::write_files(&directory, files, length);
                println!("{}", Moments { first_byte, last_close: now() }.to_json());
            }
            Self::Read { directory, first, files, step } => {
                let step = usize::try_from(step).unwrap();
                work::read_files(&directory, (first..files).step_by(step));
            }
        }
    }

    /// This program as that job.
    pub(crate) fn command(&self) -> Command {
        self.after(Command::new(std::env::current_exe().unwrap()))
    }

    /// The job as the command of a program that runs one.
    pub(crate) fn command_of(&self, mut command: Command) -> Command {
        command.arg("--").arg(std::env::current_exe().unwrap());
        self.after(command)
    }

    fn after(&self, mut command: Command) -> Command {
        let (work, directory, numbers): (_, &Path, Vec<u64>) = match self {
            Self::Write { directory, files, length } => ("write", directory, vec![*files, *length]),
            Self::Read { directory, first, files, step } => {
                ("read", directory, vec![*first, *files, *step])
            }
        };
        command.arg(JOB).arg(work).arg(directory);
        command.args(numbers.iter().map(u64::to_string));
        command
    }
}

impl Moments {
    /// What a job printed.
    pub(crate) fn parse(printed: &str) -> Self {
        let moments: Value = serde_json::from_str(printed).unwrap();
        let moment = |name: &str| Duration::from_nanos(moments[name].as_u64().unwrap());
        Self { first_byte: moment("firstByte"), last_close: moment("lastClose") }
    }

    fn to_json(self) -> Value {
        let nanoseconds = |moment: Duration| u64::try_from(moment.as_nanos()).unwrap();
        json!({
            "firstByte": nanoseconds(self.first_byte),
            "lastClose": nanoseconds(self.last_close),
        })
    }
}

/// The time, as files have it.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
