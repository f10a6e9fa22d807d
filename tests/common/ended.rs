//! Running programs to their end.

use std::{process::Command, thread, time::Duration};

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Running programs to their end.
pub(crate) trait Finish {
    fn finish(&mut self) -> Ended;

    /// What it printed, once it has ended with 0.
    fn succeed(&mut self) -> String;
}

impl Finish for Command {
    fn finish(&mut self) -> Ended {
        let output = self.output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn succeed(&mut self) -> String {
        let ended = self.finish();
        assert_eq!(ended.code, Some(0), "{self:?}\n{}{}", ended.stdout, ended.stderr);
        ended.stdout
    }
}

/// Waits, at most half a minute, until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(25));
    }
    panic!("not within half a minute: {what}");
}
