//! Other names for a file, and names that lead elsewhere.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::Path,
};

use crate::{
    guarded::{is_refused, policy},
    lab::{Finish, Lab},
    mounted::Mounted,
    scene::{assert_holds, assert_refused, serve, train, with_model},
};

// Stands on `Wanted::look` (fs/src/gate/wanted.rs): of several links every name counts.
#[test]
fn a_hard_link_out_of_the_guarded_names_is_refused() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.directory("tree").join("evil.bin"), "evil").unwrap();
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let (guarded, free) = (mounted.path.join("evil.bin"), mounted.path.join("notes.txt"));
    fs::hard_link(&guarded, &free).unwrap();
    assert!(is_refused(&free));
    // One that was made below is known as soon as both names were seen.
    fs::write(lab.path("tree/other.bin"), "evil").unwrap();
    fs::hard_link(lab.path("tree/other.bin"), lab.path("tree/other.txt")).unwrap();
    fs::metadata(mounted.path.join("other.bin")).unwrap();
    assert!(is_refused(&mounted.path.join("other.txt")));
}

// Stands on `Gate::let_out` (fs/src/gate/gate.rs), asked when a link is read.
#[test]
fn a_link_out_of_the_tree_is_not_followed_by_a_guarded_name() {
    let Some(lab) = with_model() else { return };
    fs::write(lab.path("outside"), "evil").unwrap();
    let outside = lab.path("outside");
    let held = File::open(&outside).unwrap();
    symlink("../../outside", lab.path("tree/model/aside")).unwrap();
    let targets = [
        ("absolute.bin", outside.to_str().unwrap().to_owned()),
        ("upwards.bin", "../../outside".to_owned()),
        ("descriptor.bin", format!("/proc/self/fd/{}", held.as_raw_fd())),
        ("process.bin", format!("/proc/self/cwd/{}", outside.display())),
        ("chain.bin", "aside".to_owned()),
    ];
    for (name, target) in &targets {
        symlink(target, lab.path("tree/model").join(name)).unwrap();
    }
    let mounted = serve(&lab, "rehash");
    for (name, _) in &targets {
        let path = mounted.path.join("model").join(name);
        assert!(is_refused(&path), "{name}: {:?}", fs::read_to_string(&path));
    }
    assert_holds(&mounted.path.join("model/weights.bin"), "weights");
}

// Stands on `Demands::of` (fs/src/gate/demands.rs): by the name of a link to it, a publication is none.
#[test]
fn a_guarded_link_to_what_is_called_a_publication_is_refused() {
    let Some(lab) = with_model() else { return };
    let tree = lab.path("tree");
    fs::create_dir(tree.join("aside")).unwrap();
    fs::write(tree.join("aside/model.sig"), "evil").unwrap();
    fs::write(tree.join("aside/claims.jsonl"), "evil").unwrap();
    for (target, link) in [
        ("aside/model.sig", "once.bin"),
        ("aside/claims.jsonl", "between"),
        ("between", "twice.bin"),
        ("aside", "directory"),
        ("directory/model.sig", "through.bin"),
    ] {
        symlink(target, tree.join(link)).unwrap();
    }
    let mounted = serve(&lab, "rehash");
    for name in ["once.bin", "twice.bin", "through.bin"] {
        let path = mounted.path.join(name);
        assert!(is_refused(&path), "{name}: {:?}", fs::read_to_string(&path));
    }
    assert!(fs::read(mounted.path.join("model/model.sig")).is_ok());
}

// Stands on `Demands::lock` (fs/src/gate/demands.rs). The link is made when the run has begun: before, a
// lock whose data is no regular file starts nothing.
#[test]
fn locked_data_that_is_a_link_to_what_is_called_a_publication_now_is_refused() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.directory("tree/raw").join("a.csv"), "good").unwrap();
    fs::write(lab.directory("tree/aside").join("model.sig"), "evil").unwrap();
    let read = |options: &[&str], script: &str| {
        let mut run = lab.run("read");
        run.args(["--dir", "tree", "--lock", "data.lock"]).args(options);
        run.args(["--", "sh", "-ec", script]).finish()
    };
    assert_eq!(read(&[], "cat tree/raw/a.csv").stdout, "good");
    let exchange = "ln -sf ../aside/model.sig tree/raw/a.csv; echo began; cat tree/raw/a.csv";
    let ended = read(&["--locked"], exchange);
    assert_eq!(ended.stdout, "began\n", "{ended:?}");
    assert!(ended.code != Some(0) && ended.stderr.contains("raw/a.csv"), "{ended:?}");
}

// Stands on `Links::aliases` (fs/src/gate/links.rs): a file is guarded by the links that lead to it.
#[test]
fn a_guarded_link_to_a_file_that_nothing_guards_is_refused() {
    let Some(lab) = with_model() else { return };
    fs::write(lab.path("tree/model/blob"), "evil").unwrap();
    symlink("blob", lab.path("tree/model/evil.bin")).unwrap();
    let mounted = serve(&lab, "rehash");
    assert!(is_refused(&mounted.path.join("model/evil.bin")));
}

// Stands on `find` (fs/src/gate/evidence.rs), which resolves beneath the root and follows no link.
#[test]
fn evidence_that_is_a_link_counts_for_nothing() {
    let Some(lab) = Lab::new() else { return };
    train(&lab, "model", &[("weights.bin", "weights")]);
    for evidence in ["model.sig", "claims.jsonl"] {
        let (from, to) = (lab.path("tree/model").join(evidence), lab.path(evidence));
        fs::rename(&from, &to).unwrap();
        symlink(&to, &from).unwrap();
    }
    // Another machine, whose store knows of nothing.
    policy(&lab, "rehash");
    let state = lab.directory("elsewhere");
    let options = ["--read-only", "--policy", "policy.toml", "--state", state.to_str().unwrap()];
    let mounted = Mounted::new(&lab, "tree", "mnt", &options);
    assert_refused(&mounted.path.join("model/weights.bin"), "no attestation at hand");
}

// Stands on `Gate::let_in` (fs/src/gate/gate.rs), asked when a name is looked up: the kernel opens a
// pipe without asking us.
#[test]
fn a_pipe_in_the_place_of_a_guarded_file_feeds_nobody() {
    let Some(lab) = with_model() else { return };
    let model = lab.path("tree/model");
    lab.configured("mkfifo").arg(model.join("evil.bin")).arg(model.join("free")).succeed();
    let mounted = serve(&lab, "rehash");
    let at = |name: &str| mounted.path.join("model").join(name);
    let feed = "(echo evil > \"$1\" &) 2> /dev/null; timeout 5 cat \"$1\"";
    let fed = |name: &str| lab.configured("sh").args(["-c", feed, "sh"]).arg(at(name)).finish();
    assert_eq!(fed("free").stdout, "evil\n", "nothing guards that name");
    let ended = fed("evil.bin");
    assert_eq!(ended.stdout, "", "{ended:?}");
    assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
}

// Stands on `escaped` (fs/attestation/src/name.rs) and on globs that take every byte but a slash.
#[test]
fn a_name_that_is_no_text_is_guarded_like_any_other() {
    let Some(lab) = with_model() else { return };
    let names: [&[u8]; 5] = [b"\xff.bin", b"a\nb.bin", b".bin", b"\\x2f.bin", b"a\x1b[2K.bin"];
    for directory in [&b"d"[..], b"d\n\xfe", b"-"] {
        let directory = Path::new("tree/model").join(OsStr::from_bytes(directory));
        fs::create_dir(lab.path("").join(&directory)).unwrap();
        for name in names {
            let path = lab.path("").join(&directory).join(OsStr::from_bytes(name));
            fs::write(path, "evil").unwrap();
        }
    }
    let mounted = serve(&lab, "rehash");
    for directory in [&b"d"[..], b"d\n\xfe", b"-"] {
        for name in names {
            let path = mounted.path.join("model").join(OsStr::from_bytes(directory));
            let path = path.join(OsStr::from_bytes(name));
            assert!(is_refused(&path), "{}", path.display());
        }
    }
}
