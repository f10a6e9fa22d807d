//! Signals while a command runs: it gets them, `run` outlives it and finishes the work.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{
        SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM,
        SIGWINCH, SIGXCPU, SIGXFSZ,
    },
    iterator::{
        SignalsInfo,
        exfiltrator::{WithOrigin, origin::Origin},
    },
    low_level::siginfo::Cause,
};

/// What users, batch systems and timers send to a job. SIGTSTP and SIGCONT keep their meaning: a
/// stopped `run` stops whoever waits for a file.
const FOR_THE_COMMAND: [i32; 12] = [
    SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGURG, SIGXCPU, SIGVTALRM,
    SIGPROF, SIGWINCH,
];

/// What a terminal sends to all processes in front of it: when it was the terminal, the command has
/// got it already.
const FROM_TERMINALS: [i32; 3] = [SIGINT, SIGQUIT, SIGWINCH];

/// By which somebody says, after the command has ended, that the rest takes too long.
const ENDS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Signals that do not end this process any more. They wait for a command to be passed on to.
#[derive(Debug)]
pub(super) struct Caught(SignalsInfo<WithOrigin>);

impl Caught {
    /// Begins to catch signals. Those that the user had ignored, as `nohup` does, stay ignored, here
    /// and by the command. SIGXFSZ is caught and goes nowhere: a write that the limit of file sizes
    /// forbids then fails, and the command is told so.
    ///
    /// # Errors
    /// The handlers cannot be set.
    pub(super) fn start() -> io::Result<Self> {
        let caught = FOR_THE_COMMAND.into_iter().filter(|&signal| !is_ignored(signal));
        SignalsInfo::new(caught.chain([SIGXFSZ])).map(Self)
    }

    /// Passes signals on to the command, from the first one that was caught.
    pub(super) fn forward_to(mut self, command: u32) -> Forwarding {
        let forwarding =
            Forwarding { command_runs: Arc::new(AtomicBool::new(true)), wants_end: Arc::default() };
        let this = forwarding.clone();
        thread::spawn(move || {
            for origin in &mut self.0 {
                this.take(&origin, command);
            }
        });
        forwarding
    }
}

/// Passes signals on to the command while there is one; afterwards remembers that the user wants an
/// end.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    command_runs: Arc<AtomicBool>,
    wants_end: Arc<AtomicBool>,
}

impl Forwarding {
    fn take(&self, origin: &Origin, command: u32) {
        if !self.command_runs.load(Ordering::SeqCst) {
            self.wants_end.fetch_or(ENDS.contains(&origin.signal), Ordering::SeqCst);
            return;
        }
        let pid = i32::try_from(command).ok().and_then(Pid::from_raw);
        let signal = Signal::from_named_raw(origin.signal).filter(|_| is_passed_on(origin));
        if let (Some(pid), Some(signal)) = (pid, signal) {
            // It may have ended this moment.
            kill_process(pid, signal).unwrap_or_default();
        }
    }

    pub(super) fn command_ended(&self) {
        self.command_runs.store(false, Ordering::SeqCst);
    }

    /// Whether somebody pressed Ctrl-C, or the like, after the command had ended.
    pub(super) fn wants_end(&self) -> bool {
        self.wants_end.load(Ordering::SeqCst)
    }
}

fn is_passed_on(origin: &Origin) -> bool {
    let by_terminal = origin.cause == Cause::Kernel && FROM_TERMINALS.contains(&origin.signal);
    FOR_THE_COMMAND.contains(&origin.signal) && !by_terminal
}

/// Whether this process was started with a signal ignored, as `nohup` does.
pub(crate) fn is_ignored(signal: i32) -> bool {
    ignored() >> (signal - 1) & 1 == 1
}

/// The signals that this process ignores, a bit for each, the lowest for signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default()
}
