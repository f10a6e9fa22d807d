//! Files that are emptied by being opened, while others ask for them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the clock to see that somebody was waited for"
)]

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::common::{Scratch, can_mount};

/// Nothing else shows that the one who emptied it has heard of that.
#[test]
fn who_asks_for_a_file_that_is_being_emptied_is_told_when_it_is() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("f");
    for _ in 0..5 {
        fs::write(&path, "content").unwrap();
        let since = Instant::now();
        let emptied = File::create(&path).unwrap();
        let asked = thread::scope(|threads| threads.spawn(|| size_of(&path)).join().unwrap());
        assert_eq!(asked, 0);
        assert!(since.elapsed() >= Duration::from_millis(5), "{:?}", since.elapsed());
        drop(emptied);
    }
}

/// As the server says, whatever the kernel remembers.
fn size_of(path: &Path) -> u64 {
    statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::SIZE).unwrap().stx_size
}
