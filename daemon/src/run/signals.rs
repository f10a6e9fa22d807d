//! Signals while a command runs: it gets them, `run` outlives it and finishes the work.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};

/// Passes signals on to the command while there is one; afterwards remembers that the user wants an
/// end.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    command_runs: Arc<AtomicBool>,
    wants_end: Arc<AtomicBool>,
}

impl Forwarding {
    /// SIGTERM and SIGHUP are passed on. SIGINT and SIGQUIT are not: the terminal sends them to the
    /// command as well.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub(super) fn start(command: u32) -> io::Result<Self> {
        let forwarding =
            Self { command_runs: Arc::new(AtomicBool::new(true)), wants_end: Arc::default() };
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
        let this = forwarding.clone();
        thread::spawn(move || {
            for signal in &mut signals {
                this.take(signal, command);
            }
        });
        Ok(forwarding)
    }

    fn take(&self, signal: i32, command: u32) {
        if !self.command_runs.load(Ordering::SeqCst) {
            self.wants_end.store(true, Ordering::SeqCst);
            return;
        }
        let pid = i32::try_from(command).ok().and_then(Pid::from_raw);
        let signal = Signal::from_named_raw(signal)
            .filter(|signal| matches!(*signal, Signal::TERM | Signal::HUP));
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
