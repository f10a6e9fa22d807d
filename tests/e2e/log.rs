//! The log of a process that serves, when nobody reads it.

use std::{
    fs::{self, File},
    io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Signal, kill_process},
};

use crate::{
    guarded::{is_refused, policy},
    lab::{Lab, Running, eventually},
    mounted::{is_mounted, mount, unmount_all_at},
};

/// More lines than wait for a reader.
const REFUSED: usize = 5000;

/// How long as many opens may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_log_that_nobody_reads_keeps_no_open_waiting_and_tells_what_it_left_out() {
    for form in ["text", "json"] {
        let Some(lab) = Lab::new() else { return };
        let (log, full) = full_pipe();
        let mut gated = Gated::serve(&lab, form, full);
        assert!(gated.refuses_all_in_time(), "{form}: opens wait for the log");
        let reader = thread::spawn(|| lines(log));
        gated.end();
        let lines = reader.join().unwrap();
        let refused = lines.iter().filter(|line| line.contains(".pkl")).count();
        let left_out: usize = lines.iter().filter_map(|line| left_out(line)).sum();
        assert!(left_out > 0, "{form}: nothing was left out");
        assert_eq!(refused + left_out, REFUSED, "{form}: {:?}", lines.last());
    }
}

#[test]
fn a_process_whose_log_nobody_reads_ends_when_it_is_told_to() {
    let Some(lab) = Lab::new() else { return };
    let (_log, full) = full_pipe();
    let mut gated = Gated::serve(&lab, "text", full);
    gated.end();
    lab.end_daemon();
    let (_log, full) = full_pipe();
    let mut daemon = lab.attestfs(["daemon", "--foreground"]);
    let mut daemon = Running::start(daemon.stderr(full));
    eventually("the daemon answers", || lab.daemon().is_some());
    kill_process(daemon.pid(), Signal::TERM).unwrap();
    eventually("the daemon has ended", || daemon.has_ended());
    assert_eq!(daemon.code(), Some(0));
}

/// A mount that serves in the foreground and refuses every file that it has.
struct Gated {
    path: PathBuf,
    served: Running,
}

impl Gated {
    fn serve(lab: &Lab, form: &str, log: OwnedFd) -> Self {
        policy(lab, "rehash");
        let tree = lab.directory("tree");
        (0..REFUSED).for_each(|number| drop(File::create(tree.join(name(number))).unwrap()));
        let path = fs::canonicalize(lab.directory("mnt")).unwrap();
        let options = ["--foreground", "--read-only", "--policy", "policy.toml"];
        let mut serve = mount(lab, "tree", "mnt", &options);
        // Of refusals, and of nothing else that may be left out.
        serve.env("ATTESTFS_LOG", "warn").env("ATTESTFS_LOG_FORMAT", form);
        let served = Running::start(serve.stderr(log));
        let gated = Self { path, served };
        eventually("it is mounted", || is_mounted(&gated.path));
        gated
    }

    /// Whether all files are refused while nobody reads the log.
    fn refuses_all_in_time(&self) -> bool {
        let (sender, refused) = mpsc::channel();
        let path = self.path.clone();
        thread::spawn(move || {
            let is_refused = |number| is_refused(&path.join(name(number)));
            sender.send((0..REFUSED).all(is_refused)).unwrap_or_default();
        });
        refused.recv_timeout(PATIENCE) == Ok(true)
    }

    fn end(&mut self) {
        kill_process(self.served.pid(), Signal::TERM).unwrap();
        eventually("the mount has ended", || self.served.has_ended());
        assert_eq!(self.served.code(), Some(0));
        assert!(!is_mounted(&self.path));
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        unmount_all_at(&self.path);
    }
}

fn name(number: usize) -> String {
    format!("{number}.pkl")
}

/// A pipe that takes no byte more.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, mut writer) = pipe().unwrap();
    block(&writer, false);
    let full = loop {
        if let Err(error) = writer.write(&[b'\n'; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    block(&writer, true);
    (reader, writer.into())
}

fn block(writer: &PipeWriter, blocks: bool) {
    let mut flags = fcntl_getfl(writer.as_fd()).unwrap();
    flags.set(OFlags::NONBLOCK, !blocks);
    fcntl_setfl(writer.as_fd(), flags).unwrap();
}

/// What is written until the last writer is gone.
fn lines(mut log: PipeReader) -> Vec<String> {
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Of how many lines this one says that they are missing.
fn left_out(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" lines of this log are left out")?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
