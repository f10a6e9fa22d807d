//! What a file or a link is called while somebody comes for it.

#![expect(clippy::disallowed_methods, reason = "tests that try for some time")]

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::{fd::AsRawFd, unix::fs::symlink},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use attestfs_fs::Fact;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};

use crate::{common::can_mount, gate::Lab};

/// Guards `*.pt` and what lies in `guarded`, in vain: nothing of it is attested.
fn lab(files: &[(&str, &[u8])]) -> Lab {
    let rule = "[[rule]]\npaths = [\"*.pt\", \"guarded/**\"]\nlevel = \"rehash\"\n";
    Lab::with("enforce", rule, files)
}

/// How often this is read while that is done over and over.
fn reads_while(path: &Path, meanwhile: impl Fn() + Sync) -> usize {
    let ended = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                meanwhile();
            }
        });
        let began = Instant::now();
        let mut reads = 0;
        while began.elapsed() < Duration::from_secs(1) {
            reads += usize::from(fs::read(path).is_ok());
        }
        ended.store(true, Ordering::Relaxed);
        reads
    })
}

#[test]
fn who_opens_a_guarded_name_does_not_read_the_file_because_it_is_renamed_meanwhile() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("q.pt", b"evil"), ("guarded/sub/w", b"evil")]);
    for (guarded, free, opened) in
        [("q.pt", "q.raw", "q.pt"), ("guarded/sub", "free", "guarded/sub/w")]
    {
        let (one, other) = (lab.scratch.path(guarded), lab.scratch.path(free));
        let reads = reads_while(&lab.scratch.path(opened), || {
            fs::rename(&one, &other).unwrap();
            fs::rename(&other, &one).unwrap();
        });
        assert_eq!(reads, 0, "{opened}");
    }
}

#[test]
fn who_follows_a_guarded_link_does_not_read_the_file_because_it_leads_elsewhere_by_now() {
    if !can_mount() {
        return;
    }
    let lab =
        lab(&[("bad", b"evil"), ("okay", b"evil, too"), ("v1/w", b"evil"), ("v2/w", b"evil")]);
    for (link, targets, opened) in
        [("s.pt", ["bad", "okay"], "s.pt"), ("guarded", ["v1", "v2"], "guarded/w")]
    {
        let (link, next) = (lab.scratch.stored(link), lab.scratch.stored("next"));
        fs::remove_dir_all(&link).ok();
        symlink(targets[0], &link).unwrap();
        let reads = reads_while(&lab.scratch.path(opened), || {
            for target in targets {
                symlink(target, &next).unwrap();
                fs::rename(&next, &link).unwrap();
            }
        });
        assert_eq!(reads, 0, "{opened}");
    }
}

#[test]
fn who_follows_a_guarded_link_does_not_read_the_file_because_a_link_on_the_way_leads_elsewhere() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("v1/w", b"evil"), ("v2/w", b"evil")]);
    symlink("d/w", lab.scratch.stored("w.pt")).unwrap();
    symlink("v1", lab.scratch.stored("d")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("w"), b"evil").unwrap();
    let (link, next) = (lab.scratch.path("d"), lab.scratch.path("next"));
    let reads = reads_while(&lab.scratch.path("w.pt"), || {
        for target in [Path::new("v1"), Path::new("v2"), outside.path()] {
            symlink(target, &next).unwrap();
            fs::rename(&next, &link).unwrap();
        }
    });
    assert_eq!(reads, 0);
}

#[test]
fn a_guarded_file_that_was_found_is_not_read_because_it_lost_its_name() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("a.pt", b"evil"), ("b.pt", b"evil")]);
    let find =
        |name| rustix::fs::open(lab.scratch.path(name), OFlags::PATH, Mode::empty()).unwrap();
    let (renamed, removed) = (find("a.pt"), find("b.pt"));
    fs::rename(lab.scratch.path("a.pt"), lab.scratch.path("a.raw")).unwrap();
    fs::hard_link(lab.scratch.path("b.pt"), lab.scratch.path("b.raw")).unwrap();
    fs::remove_file(lab.scratch.path("b.pt")).unwrap();
    for found in [renamed, removed] {
        let read = fs::read(format!("/proc/self/fd/{}", found.as_raw_fd()));
        assert_eq!(read.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_file_that_is_hashed_is_guarded_by_the_names_that_it_was_opened_by() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("raw", b"evil, too")]);
    let path = |name: &str| lab.scratch.path(name);
    let rename = || fs::rename(path("1.pt"), path("1.raw")).unwrap();
    let link_and_remove = || {
        fs::hard_link(path("2.pt"), path("2.raw")).unwrap();
        fs::remove_file(path("2.pt")).unwrap();
    };
    let lead_elsewhere = || {
        symlink("raw", path("next")).unwrap();
        fs::rename(path("next"), path("3.pt")).unwrap();
    };
    symlink("3.raw", path("3.pt")).unwrap();
    let changes: [(_, _, &dyn Fn()); 3] = [
        ("1.pt", "1.pt", &rename),
        ("2.pt", "2.pt", &link_and_remove),
        ("3.pt", "3.raw", &lead_elsewhere),
    ];
    for (name, stored, change) in changes {
        File::create(lab.scratch.stored(stored)).unwrap().set_len(1 << 30).unwrap();
        let opened = path(name);
        let open = thread::spawn(move || File::open(opened)?.read(&mut [0]));
        thread::sleep(Duration::from_millis(150));
        assert!(!open.is_finished(), "it was hashed too fast to say anything");
        change();
        let refused = open.join().unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied, "{name}");
    }
}

#[test]
fn an_absolute_link_into_the_backing_directory_leads_around_the_mount() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("raw", b"evil")]);
    symlink(lab.scratch.stored("raw"), lab.scratch.path("m.pt")).unwrap();
    lab.assert_refused("m.pt");
}

#[test]
fn where_a_guarded_link_leads_is_asked_whatever_the_kernel_knew_of_it() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[]);
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&outside, b"evil").unwrap();
    symlink(outside.path(), lab.scratch.path("x")).unwrap();
    assert_eq!(lab.read("x").unwrap(), b"evil");
    fs::rename(lab.scratch.path("x"), lab.scratch.path("q.pt")).unwrap();
    lab.assert_refused("q.pt");
}

#[test]
fn every_name_of_a_link_that_leads_out_counts() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[]);
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&outside, b"evil").unwrap();
    symlink(outside.path(), lab.scratch.path("o.pt")).unwrap();
    let (one, other) = (lab.scratch.path("o.pt"), lab.scratch.path("zz"));
    linkat(CWD, &one, CWD, &other, AtFlags::empty()).unwrap();
    fs::symlink_metadata(one).unwrap();
    fs::symlink_metadata(other).unwrap();
    lab.assert_refused("o.pt");
    // One that leads out by a link to the directory that it is in.
    fs::create_dir(lab.scratch.path("v2")).unwrap();
    symlink(outside.path(), lab.scratch.path("v2/x")).unwrap();
    symlink("v2", lab.scratch.path("guarded")).unwrap();
    lab.assert_refused("guarded/x");
}

#[test]
fn a_guarded_link_that_goes_up_on_its_way_leads_nobody_knows_where() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("a/w", b"text"), ("w", b"text")]);
    symlink("a/../w", lab.scratch.path("up.pt")).unwrap();
    symlink("missing/../../w", lab.scratch.path("missing.pt")).unwrap();
    symlink("missing/w", lab.scratch.path("later.pt")).unwrap();
    lab.assert_refused("up.pt");
    lab.assert_refused("missing.pt");
    assert_eq!(lab.read("later.pt").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(lab.refusals().iter().all(|(_, _, reason)| reason.contains("nobody knows where")));
}

#[test]
fn who_refuses_a_link_out_of_the_tree_says_to_let_it_lead_inside() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[]);
    symlink("/etc/passwd", lab.scratch.stored("p.pt")).unwrap();
    lab.assert_refused("p.pt");
    let told = lab.scratch.facts.all().into_iter().find_map(|fact| match fact {
        Fact::Refused { check, next_step, .. } => Some((check, next_step)),
        _ => None,
    });
    let (check, next_step) = told.unwrap();
    assert!(check == 11 && next_step.contains("inside the tree"), "{check}: {next_step}");
}

#[test]
fn a_file_is_guarded_through_any_number_of_links() {
    if !can_mount() {
        return;
    }
    let lab = lab(&[("blobs/1", b"evil"), ("root", b"evil")]);
    fs::create_dir(lab.scratch.path("shared")).unwrap();
    fs::create_dir(lab.scratch.path("v2")).unwrap();
    symlink("../blobs/1", lab.scratch.path("shared/best")).unwrap();
    symlink("../shared", lab.scratch.path("v2/weights")).unwrap();
    symlink("v2", lab.scratch.path("guarded")).unwrap();
    lab.assert_refused("guarded/weights/best");
    fs::remove_file(lab.scratch.path("guarded")).unwrap();
    symlink(".", lab.scratch.path("guarded")).unwrap();
    lab.assert_refused("guarded/root");
}
