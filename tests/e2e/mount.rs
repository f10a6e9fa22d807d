//! Directories that are mounted for whoever comes.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, pipe, read_to_string},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit},
};

use crate::{
    evidence::{INCOMPLETE_RUN, PROVENANCE, attestations, check_digests, only_attestation},
    lab::{ATTESTFS, Finish, Lab, Running, eventually},
    mounted::{Mounted, is_mounted, is_running, mount, unmount_all_at, write_sealed},
    needs,
};

#[test]
fn a_mount_shows_what_lies_behind_until_it_is_unmounted() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.directory("tree").join("there"), "was there").unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    assert_eq!(fs::read_to_string(mounted.path.join("there")).unwrap(), "was there");
    fs::write(mounted.path.join("new"), "through the mount").unwrap();
    assert_eq!(fs::read_to_string(lab.path("tree/new")).unwrap(), "through the mount");
    assert!(is_running(mounted.pid()));
    mounted.umount(&[]).succeed();
    assert!(!is_mounted(&mounted.path));
    mounted.wait_for_end();
    let left = fs::read_dir(lab.state().join("mounts")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| Path::new(name).extension().unwrap() == "log"), "{left:?}");
    assert!(attestations(&lab.state()).is_empty(), "nobody opened a stage");
}

#[test]
fn who_opens_more_files_than_the_mount_may_is_not_told_that_they_are_his() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    fs::write(mounted.path.join("file"), "content").unwrap();
    let own = getrlimit(Resource::Nofile);
    let allow = |files| {
        let server = Pid::from_raw(mounted.pid().cast_signed());
        prlimit(server, Resource::Nofile, Rlimit { current: files, ..own }).unwrap();
    };
    allow(Some(3));
    let refused = File::open(mounted.path.join("file")).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::NFILE));
    allow(own.maximum);
    assert_eq!(fs::read_to_string(mounted.path.join("file")).unwrap(), "content");
    mounted.umount(&[]).succeed();
}

#[test]
fn a_directory_is_not_mounted_below_itself() {
    let Some(lab) = Lab::new() else { return };
    fs::create_dir(lab.directory("tree").join("mnt")).unwrap();
    let ended = mount(&lab, "tree", "tree/mnt", &[]).finish();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("mount beside it, or over it"), "{ended:?}");
    assert!(!is_mounted(&lab.path("tree/mnt")));
}

#[test]
fn a_tree_can_be_served_again_as_soon_as_it_is_unmounted() {
    let Some(lab) = Lab::new() else { return };
    for _ in 0..3 {
        let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
        fs::write(mounted.path.join("file"), "content").unwrap();
        mounted.umount(&[]).succeed();
        lab.run("train").args(["--dir", "tree", "--", "true"]).succeed();
    }
}

#[test]
fn a_mount_over_itself_that_is_a_stage_is_attested_as_a_success_when_it_is_unmounted() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.directory("tree").join("raw"), "raw data").unwrap();
    let mounted = Mounted::new(&lab, "tree", "tree", &["--stage", "train", "--out", "model"]);
    fs::create_dir(lab.path("tree/model")).unwrap();
    fs::copy(lab.path("tree/raw"), lab.path("tree/model/weights")).unwrap();
    let printed = mounted.umount(&[]).succeed();
    assert!(printed.contains("1 file"), "{printed}");
    let attestation = only_attestation(&lab.state());
    assert_eq!((attestation.predicate_type(), attestation.stage()), (PROVENANCE, "train"));
    let subjects = attestation.subjects(&lab.state());
    check_digests(&subjects);
    assert!(subjects.contains_key(&mounted.path.join("model/weights")));
    assert!(attestation.materials().contains_key(&mounted.path.join("raw")));
    lab.verify("tree/model").succeed();
}

#[test]
fn a_mount_that_is_a_stage_and_is_told_to_end_has_an_unknown_outcome() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(lab) = Lab::new() else { return };
        let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train", "--out", "model"]);
        fs::create_dir(mounted.path.join("model")).unwrap();
        fs::write(mounted.path.join("model/weights"), "weights").unwrap();
        kill(mounted.pid(), signal);
        mounted.wait_for_end();
        assert!(!is_mounted(&mounted.path));
        assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
        assert_ne!(lab.verify("tree/model").finish().code, Some(0));
    }
}

#[test]
fn a_mount_that_is_told_to_end_leaves_inputs_without_digest_that_take_long() {
    let Some(lab) = Lab::new() else { return };
    let huge = File::create(lab.directory("tree").join("huge")).unwrap();
    huge.set_len(15 << 30).unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train"]);
    let mut huge = File::open(mounted.path.join("huge")).unwrap();
    huge.read_exact(&mut [0; 1]).unwrap();
    drop(huge);
    write_sealed(&mounted.path.join("file"), "content");
    kill(mounted.pid(), Signal::TERM);
    mounted.wait_for_end();
    let materials = only_attestation(&lab.state()).materials();
    assert_eq!(materials.into_values().collect::<Vec<_>>(), [None]);
}

#[test]
fn a_mount_whose_process_was_killed_is_taken_away_by_the_next_one() {
    let Some(lab) = Lab::new() else { return };
    let first = Mounted::new(&lab, "tree", "tree", &["--stage", "train"]);
    write_sealed(&first.path.join("weights"), "half");
    kill(first.pid(), Signal::KILL);
    first.wait_for_end();
    eventually("nobody answers", || {
        fs::metadata(&first.path).is_err_and(|error| error.kind() == ErrorKind::NotConnected)
    });
    let second = Mounted::new(&lab, "tree", "tree", &["--read-only"]);
    assert_eq!(fs::read_to_string(second.path.join("weights")).unwrap(), "half");
    eventually("what it wrote is recorded", || attestations(&lab.state()).len() == 1);
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
}

#[test]
fn a_dead_mount_is_unmounted_without_its_process() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    kill(mounted.pid(), Signal::KILL);
    mounted.wait_for_end();
    let printed = mounted.umount(&[]).succeed();
    assert!(printed.contains("its process was gone"), "{printed}");
    assert!(!is_mounted(&mounted.path));
}

#[test]
fn a_mount_that_does_not_answer_is_broken_off() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.directory("tree").join("file"), "content").unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train"]);
    write_sealed(&mounted.path.join("weights"), "half");
    kill(mounted.pid(), Signal::STOP);
    let path = mounted.path.join("file");
    let reader = thread::spawn(move || fs::read(path));
    thread::sleep(Duration::from_millis(100));
    assert!(!reader.is_finished());
    let ended = mounted.umount(&["--abort"]).finish();
    kill(mounted.pid(), Signal::CONT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("told an error"), "{ended:?}");
    assert!(reader.join().unwrap().is_err());
    assert!(!is_mounted(&mounted.path));
    mounted.wait_for_end();
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
}

#[test]
fn a_read_only_mount_refuses_changes_and_stands_beside_a_writable_one() {
    let Some(lab) = Lab::new() else { return };
    let writable = Mounted::new(&lab, "tree", "writable", &[]);
    let readable = Mounted::new(&lab, "tree", "readable", &["--read-only"]);
    fs::write(writable.path.join("file"), "content").unwrap();
    assert_eq!(fs::read_to_string(readable.path.join("file")).unwrap(), "content");
    for change in
        [fs::write(readable.path.join("file"), ""), fs::create_dir(readable.path.join("x"))]
    {
        assert_eq!(change.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    let mut open = lab.attestfs(["stage", "open", "--stage", "train"]);
    let refused = open.arg(&readable.path).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("read-only"), "{refused:?}");
}

#[test]
fn a_second_writable_mount_of_a_directory_is_refused_and_the_first_is_named() {
    let Some(lab) = Lab::new() else { return };
    let first = Mounted::new(&lab, "tree", "first", &[]);
    fs::create_dir_all(lab.path("tree/part")).unwrap();
    lab.directory("second");
    for tree in ["tree", "tree/part"] {
        let refused = mount(&lab, tree, "second", &[]).finish();
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.contains(&format!("process {}", first.pid())), "{refused:?}");
        let cure = format!("\n  next: attestfs umount {}", first.path.display());
        assert!(refused.stderr.contains(&cure), "{refused:?}");
        assert!(!refused.stderr.contains("--answer"), "{refused:?}");
    }
    let mut run = lab.run("train");
    let refused = run.args(["--dir", "tree", "--", "true"]).finish();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(!is_mounted(&lab.path("second")));
}

#[test]
fn a_mount_in_use_is_not_unmounted_and_who_uses_it_is_named() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train"]);
    let mut user = Command::new("sleep");
    let user = Running::start(user.arg("60").current_dir(&mounted.path));
    let refused = mounted.umount(&[]).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let named = format!("({})", user.pid().as_raw_pid());
    assert!(refused.stderr.contains(&named), "{refused:?}");
    let within = mounted.umount(&[]).current_dir(&mounted.path).finish();
    assert!(within.stderr.contains(&named), "{within:?}");
    assert!(!within.stderr.contains("attestfs ("), "it names itself: {within:?}");
    fs::write(mounted.path.join("file"), "it goes on").unwrap();
    drop(user);
    mounted.umount(&[]).succeed();
    assert_eq!(only_attestation(&lab.state()).predicate_type(), PROVENANCE);
}

#[test]
fn a_mount_that_is_left_lazily_is_attested_when_its_last_user_is_gone() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train"]);
    let script = "exec 9> mnt/late; touch begun; \
        while ! test -e enough; do sleep 0.02; done; echo late >&9";
    let mut user = lab.configured("sh");
    let mut user = Running::start(user.args(["-ec", script]));
    eventually("it has begun", || lab.path("begun").exists());
    mounted.umount(&["--lazy"]).succeed();
    assert!(!is_mounted(&mounted.path));
    assert!(attestations(&lab.state()).is_empty());
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(user.code(), Some(0));
    mounted.wait_for_end();
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), PROVENANCE);
    check_digests(&attestation.subjects(&lab.state()));
}

#[test]
fn a_foreground_mount_serves_until_it_is_told_to_end() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let path = fs::canonicalize(lab.directory("mnt")).unwrap();
    let mut served = mount(&lab, "tree", "mnt", &["--foreground"]);
    let mut served = Running::start(served.stderr(Stdio::null()));
    eventually("it is mounted", || is_mounted(&path));
    fs::write(path.join("file"), "content").unwrap();
    assert!(!served.has_ended());
    kill_process(served.pid(), Signal::TERM).unwrap();
    assert_eq!(served.code(), Some(0));
    assert!(!is_mounted(&path));
}

/// Has the kernel break off the mount at `$1`, of which nobody else is to see the directory for that.
const BREAK_OFF: &str = r#"
    number=$(mountpoint -d "$1" | cut -d: -f2)
    mount -t fusectl none /sys/fs/fuse/connections
    echo 1 > "/sys/fs/fuse/connections/$number/abort""#;

#[test]
fn a_mount_that_broke_off_is_told_and_vouches_for_nothing() {
    if !needs::programs(&["mount", "mountpoint", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let path = fs::canonicalize(lab.directory("mnt")).unwrap();
    let (log, stderr) = pipe().unwrap();
    let options = ["--foreground", "--stage", "train", "--out", "model"];
    let mut served = Running::start(mount(&lab, "tree", "mnt", &options).stderr(stderr));
    let is_open = || lab.attestfs(["status"]).finish().stdout.contains("train");
    eventually("its stage is open", is_open);
    fs::create_dir(path.join("model")).unwrap();
    write_sealed(&path.join("model/weights"), "half");
    let mut break_off = lab.configured("unshare");
    break_off.args(["--mount", "sh", "-ec", BREAK_OFF, "sh"]).arg(&path).succeed();
    assert_eq!(served.code(), Some(3));
    let told = read_to_string(log).unwrap();
    assert!(told.contains(&format!("the mount of {} broke off", path.display())), "{told}");
    assert!(told.contains("\n  next: ") && told.contains("attestfs umount"), "{told}");
    assert!(is_mounted(&path), "nobody sees what lies below it unguarded");
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
    lab.attestfs(["umount", "mnt"]).succeed();
}

#[test]
fn a_run_whose_mount_broke_off_is_no_success() {
    if !needs::programs(&["mount", "mountpoint"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/model");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec"]);
    let script = format!("echo half > tree/model/weights\n{BREAK_OFF}");
    let ended = run.args([&script, "sh", "tree"]).finish();
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("broke off"), "{ended:?}");
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
}

#[test]
fn nothing_is_mounted_when_something_is_wrong() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/.hidden");
    let mnt = fs::canonicalize(lab.directory("mnt")).unwrap();
    fs::write(lab.path("bad.toml"), "version = 2\n").unwrap();
    fs::copy(lab.key(), lab.path("tree/key")).unwrap();
    for (options, told) in [
        (&["--state", "tree/state"][..], "lies below"),
        (&["--key", "tree/key"], "lies below"),
        (&["--policy", "bad.toml"], "version"),
        (&["--policy", "none.toml"], "none.toml"),
    ] {
        let mut mount = lab.attestfs(["mount"]);
        let refused = mount.args(options).args(["tree", "mnt"]).finish();
        assert_eq!(refused.code, Some(3), "{options:?} {refused:?}");
        assert!(refused.stderr.contains(told), "{options:?} {refused:?}");
    }
    fs::create_dir(lab.path("tree/.attestfs")).unwrap();
    let refused = mount(&lab, "tree", "mnt", &[]).finish();
    assert!(refused.stderr.contains(".attestfs"), "{refused:?}");
    for (backing, mount_point) in [("none", "mnt"), ("tree", "none"), ("keys/attestfs.pub", "mnt")]
    {
        let refused = mount(&lab, backing, mount_point, &[]).finish();
        assert_eq!(refused.code, Some(3), "{refused:?}");
    }
    let usage = mount(&lab, "tree", "mnt", &["--stage", "x", "--read-only"]).finish();
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert!(!is_mounted(&mnt));
}

#[test]
fn without_the_rights_to_mount_the_other_ways_are_named() {
    if !needs::programs(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.directory("mnt");
    let mut without = lab.configured("setpriv");
    without.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    let refused = without.arg(ATTESTFS).args(["mount", "tree", "mnt"]).finish();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    for way in ["attestfs run", "/dev/fd/N"] {
        assert!(refused.stderr.contains(way), "{refused:?}");
    }
}

#[test]
fn the_helper_of_mount_8_mounts_and_unmounts() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let path = fs::canonicalize(lab.directory("mnt")).unwrap();
    for name in ["mount.attestfs", "umount.attestfs"] {
        symlink(ATTESTFS, lab.path(name)).unwrap();
    }
    let helper = |name: &str| lab.configured(lab.path(name));
    let options = "rw,noauto,nofail,x-systemd.automount,stage=train,out=model";
    helper("mount.attestfs").args(["tree", "mnt", "-s", "-v", "-o", options]).succeed();
    assert!(is_mounted(&path));
    fs::create_dir(path.join("model")).unwrap();
    fs::write(path.join("model/weights"), "weights").unwrap();
    helper("umount.attestfs").arg("mnt").succeed();
    assert!(!is_mounted(&path));
    assert_eq!(only_attestation(&lab.state()).stage(), "train");
    let usage = helper("mount.attestfs").args(["tree", "mnt", "-o", "suid"]).finish();
    assert_eq!(usage.code, Some(1), "{usage:?}");
    let failed = helper("mount.attestfs").args(["tree", "none"]).finish();
    assert_eq!(failed.code, Some(32), "{failed:?}");
    unmount_all_at(&path);
}

#[test]
fn a_line_of_fstab_is_mounted_by_mount_8() {
    if !needs::programs(&["mount", "umount", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.directory("mnt");
    symlink(ATTESTFS, lab.directory("sbin").join("mount.attestfs")).unwrap();
    // The directory in which mount(8) looks for helpers, as the distribution would fill it.
    let script = r#"
        mount --bind sbin "$(readlink -f /sbin)"
        echo "$PWD/tree $PWD/mnt attestfs ro,nofail,x-y=z 0 0" > fstab
        mount -T fstab "$PWD/mnt"
        grep " $PWD/mnt .* fuse.attestfs $PWD/tree ro" /proc/self/mountinfo
        cat mnt/file
        if echo new > mnt/new; then exit 1; fi
        "$ATTESTFS" umount mnt"#;
    fs::write(lab.path("tree/file"), "content\n").unwrap();
    let mut shell = lab.configured("unshare");
    shell.env("ATTESTFS", ATTESTFS).args(["--mount", "sh", "-ec", script]);
    let ended = shell.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("content"), "{ended:?}");
}

#[test]
fn a_filesystem_that_was_put_over_a_mount_stays() {
    if !needs::programs(&["mount", "umount"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let mut over = Command::new("mount");
    over.args(["-t", "tmpfs", "none"]).arg(&mounted.path).succeed();
    fs::write(mounted.path.join("precious"), "").unwrap();
    let refused = mounted.umount(&[]).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let cure = format!("\n  next: umount {}", mounted.path.display());
    assert!(refused.stderr.contains(&cure), "{refused:?}");
    kill(mounted.pid(), Signal::TERM);
    mounted.wait_for_end();
    assert!(mounted.path.join("precious").exists());
    Command::new("umount").arg(&mounted.path).succeed();
}

#[test]
fn a_mount_of_another_state_directory_is_unmounted_all_the_same() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "train"]);
    fs::write(mounted.path.join("file"), "content").unwrap();
    let printed = mounted.umount(&["--state", "elsewhere"]).succeed();
    assert!(printed.contains("no process of this state served it"), "{printed}");
    assert!(!is_mounted(&mounted.path) && !lab.path("elsewhere").exists());
    mounted.wait_for_end();
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
}

#[test]
fn a_mount_comes_back_to_a_daemon_that_is_new() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    for stage in ["first", "second"] {
        let daemon = lab.daemon().unwrap();
        kill_process(daemon, Signal::KILL).unwrap();
        eventually("the daemon is gone", || lab.daemon() != Some(daemon));
        lab.attestfs(["stage", "open", "mnt", "--stage", stage]).succeed();
        fs::write(mounted.path.join(stage), stage).unwrap();
        lab.attestfs(["stage", "close", "mnt"]).succeed();
    }
    assert_eq!(attestations(&lab.state()).len(), 2);
}

#[test]
fn a_mount_is_not_observed_once_more_and_what_lies_behind_is_named() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/part");
    let _mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    lab.directory("other");
    let mut run = lab.run("train");
    run.args(["--dir", "mnt", "--", "true"]);
    let again = ["mnt", "mnt/part"].map(|it| mount(&lab, it, "other", &["--read-only"]));
    for mut again in again.into_iter().chain([run]) {
        let refused = again.finish();
        assert_eq!(refused.code, Some(3), "{refused:?}");
        let behind = lab.path("tree").display().to_string();
        assert!(refused.stderr.contains(&behind), "{refused:?}");
        assert!(refused.stderr.contains("stage open"), "{refused:?}");
    }
}

#[test]
fn a_mount_over_another_one_is_told_and_ends_first() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("other");
    let lower = Mounted::new(&lab, "tree", "mnt", &[]);
    let told = mount(&lab, "other", "mnt", &["--read-only"]).succeed();
    assert!(told.contains("covers another mount of attestfs"), "{told}");
    assert!(told.contains(lab.path("tree").to_str().unwrap()), "{told}");
    lower.umount(&[]).succeed();
    assert!(is_mounted(&lower.path), "the upper one is gone, and only that");
    lower.umount(&[]).succeed();
    assert!(!is_mounted(&lower.path));
}

#[test]
fn what_is_wrong_with_a_place_is_told_with_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.directory("mnt");
    fs::write(lab.path("file"), "").unwrap();
    for (mut command, told) in [
        (mount(&lab, "tree", "none", &[]), "mkdir"),
        (mount(&lab, "tree", "file", &[]), "mkdir"),
        (mount(&lab, "none", "mnt", &[]), "BACKING"),
        (mount(&lab, "tree", "mnt", &["--policy", "none.toml"]), "the file of the policy"),
        (lab.attestfs(["policy", "check", "none.toml"]), "the file of the policy"),
        (mount(&lab, "tree", "mnt", &["--state", "/proc/none/state"]), "--state DIR"),
    ] {
        let refused = command.finish();
        assert_eq!(refused.code, Some(3), "{refused:?}");
        let (_, next_step) = refused.stderr.split_once("\n  next: ").expect(&refused.stderr);
        assert!(next_step.contains(told), "{refused:?}");
    }
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
