//! `user.attestfs.*` of files and directories that were published.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Output},
};

use attestfs_attestation::{Policy, SigningKey};
use attestfs_fs::Fact;
use rustix::{fs::XattrFlags, io::Errno};

use crate::common::{Scratch, Store, can_mount, digests_of};

const NAMES: [&str; 8] =
    ["state", "verdict", "blake3", "sha256", "attestation", "stage", "run", "signer"];

/// The attribute's value, `-` where there is none.
fn shown(path: &Path, name: &str) -> String {
    let mut value = [0; 1024];
    match rustix::fs::getxattr(path, format!("user.attestfs.{name}"), &mut value[..]) {
        Ok(length) => String::from_utf8(value[..length].to_vec()).unwrap(),
        Err(Errno::NODATA) => "-".to_owned(),
        Err(errno) => panic!("{name} of {}: {errno}", path.display()),
    }
}

fn scratch_with(store: &Store, files: &[&str]) -> Scratch {
    guarded_scratch(store, None, files)
}

fn guarded_scratch(store: &Store, policy: Option<Policy>, files: &[&str]) -> Scratch {
    Scratch::beside(store, policy, |root| {
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), file).unwrap();
        }
    })
}

/// `*.pt` is guarded at this level, and `*.pkl` refused.
fn policy(key: &SigningKey, level: &str) -> Policy {
    let pem = key.verifying_key().to_pem();
    let text = format!(
        r#"
        version = 1
        mode = "enforce"
        [signers.trainer]
        key = """{pem}"""
        [[rule]]
        paths = ["**/*.pt"]
        level = "{level}"
        signed_by = ["trainer"]
        [[rule]]
        paths = ["**/*.pkl"]
        refuse = "pickle runs code when it is loaded"
        "#
    );
    Policy::parse(&text, &mut |file| Err(format!("{file} is not there"))).unwrap()
}

fn may_open(path: &Path) -> bool {
    match File::open(path) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
            false
        }
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

#[test]
fn a_published_file_says_where_it_comes_from_before_anybody_opens_it() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["model/w"]);
    let statement = store.publish(&key, "train", &scratch.stored("model"), &["w"]);
    let (path, digests) = (scratch.path("model/w"), digests_of(&scratch.stored("model/w")));
    for (name, value) in [
        ("state", "published".to_owned()),
        ("verdict", "-".to_owned()),
        ("blake3", digests.blake3.to_string()),
        ("sha256", digests.sha256.to_string()),
        ("attestation", format!("sha256:{statement}")),
        ("stage", "train".to_owned()),
        ("run", "train-1".to_owned()),
        ("signer", key.verifying_key().hint().to_string()),
        ("unheard-of", "-".to_owned()),
    ] {
        assert_eq!(shown(&path, name), value, "{name}");
    }
    assert_eq!(scratch.facts.all(), []);
}

#[test]
fn a_directory_that_is_a_published_artifact_says_so() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["model/part/w", "w"]);
    let first = store.publish(&key, "train", &scratch.stored("model"), &["part/w"]);
    let second = store.publish(&key, "tune", &scratch.stored("model"), &["part/w"]);
    let whole = store.publish(&key, "pack", &scratch.stored(""), &["w"]);
    let model = scratch.path("model");
    assert_eq!(shown(&model, "state"), "published");
    assert_eq!(shown(&model, "attestation"), format!("sha256:{second} sha256:{first}"));
    assert_eq!(shown(&model, "stage"), "tune");
    assert_eq!(shown(&model, "run"), "tune-1");
    assert_eq!(shown(&model, "signer"), key.verifying_key().hint().to_string());
    assert_eq!(shown(&scratch.path(""), "attestation"), format!("sha256:{whole}"));
    for name in ["verdict", "sha256", "blake3"] {
        assert_eq!(shown(&model, name), "-");
    }
    for name in NAMES {
        assert_eq!(shown(&scratch.path("model/part"), name), "-", "{name}");
    }
}

#[test]
fn asking_never_hashes() {
    if !can_mount() {
        return;
    }
    let store = Store::default();
    let scratch = scratch_with(&store, &["w"]);
    for name in NAMES {
        let value = if name == "state" { "unsealed" } else { "-" };
        assert_eq!(shown(&scratch.path("w"), name), value, "{name}");
    }
    assert_eq!(scratch.facts.all(), []);
}

#[test]
fn what_was_published_and_changed_since_has_none_of_it() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["w"]);
    store.publish(&key, "train", &scratch.stored(""), &["w"]);
    fs::read(scratch.path("w")).unwrap();
    scratch.quiesce();
    let digest = shown(&scratch.path("w"), "sha256");
    File::options().append(true).open(scratch.stored("w")).unwrap().write_all(b"!").unwrap();
    for name in NAMES {
        let value = if name == "state" { "unsealed" } else { "-" };
        assert_eq!(shown(&scratch.path("w"), name), value, "{name}");
    }
    // The same bytes again, in an inode that was touched: a look at them shows it.
    fs::write(scratch.stored("w"), b"w").unwrap();
    fs::read(scratch.path("w")).unwrap();
    scratch.quiesce();
    assert_eq!(shown(&scratch.path("w"), "sha256"), digest);
    assert_eq!(shown(&scratch.path("w"), "state"), "published");
}

#[test]
fn published_comes_after_sealed_and_the_newest_attestation_first() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let mut scratch = scratch_with(&store, &[]);
    let path = scratch.path("w");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"weights").unwrap();
    assert_eq!(shown(&path, "state"), "open");
    drop(file);
    scratch.check_digests();
    assert_eq!(shown(&path, "state"), "sealed");
    assert_eq!((shown(&path, "stage"), shown(&path, "run")), ("test".into(), "run-1".into()));
    assert_eq!((shown(&path, "signer"), shown(&path, "attestation")), ("-".into(), "-".into()));
    let first = store.publish(&key, "train", &scratch.stored(""), &["w"]);
    let second = store.publish(&key, "again", &scratch.stored(""), &["w"]);
    assert_eq!(shown(&path, "state"), "published");
    assert_eq!(shown(&path, "attestation"), format!("sha256:{second} sha256:{first}"));
    assert_eq!((shown(&path, "stage"), shown(&path, "run")), ("test".into(), "run-1".into()));
    // The run is over: what it wrote is known by what was published.
    scratch.idle();
    assert_eq!((shown(&path, "stage"), shown(&path, "run")), ("again".into(), "again-1".into()));
    assert_eq!(shown(&path, "state"), "published");
}

#[test]
fn an_attestation_of_the_same_content_elsewhere_is_not_shown() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["w"]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("w"), "w").unwrap();
    store.publish(&key, "train", elsewhere.path(), &["w"]);
    fs::read(scratch.path("w")).unwrap();
    scratch.quiesce();
    assert_eq!(shown(&scratch.path("w"), "state"), "sealed");
    assert_eq!(shown(&scratch.path("w"), "attestation"), "-");
}

#[test]
fn the_names_are_reserved_and_not_listed_on_files_and_directories() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["model/w"]);
    store.publish(&key, "train", &scratch.stored("model"), &["w"]);
    for path in ["model", "model/w"].map(|name| scratch.path(name)) {
        assert_eq!(rustix::fs::listxattr(&path, &mut [0; 64][..]), Ok(0));
        for name in NAMES.map(|name| format!("user.attestfs.{name}")) {
            let set = rustix::fs::setxattr(&path, &name, b"x", XattrFlags::empty());
            assert_eq!(set, Err(Errno::PERM), "{name}");
            assert_eq!(rustix::fs::removexattr(&path, &name), Err(Errno::PERM), "{name}");
        }
    }
}

#[test]
fn a_store_that_cannot_be_asked_takes_nothing_else_away() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let scratch = scratch_with(&store, &["w"]);
    store.publish(&key, "train", &scratch.stored(""), &["w"]);
    fs::read(scratch.path("w")).unwrap();
    scratch.quiesce();
    store.set_away(true);
    assert_eq!(shown(&scratch.path("w"), "state"), "sealed");
    assert_ne!(shown(&scratch.path("w"), "sha256"), "-");
    for name in ["attestation", "stage", "run", "signer"] {
        assert_eq!(shown(&scratch.path("w"), name), "-", "{name}");
    }
    assert_eq!(shown(&scratch.path(""), "state"), "-");
}

#[test]
fn a_refused_file_says_why_without_being_opened() {
    if !can_mount() {
        return;
    }
    let (store, key, stranger) = (Store::default(), key(), key());
    let files = ["good.pt", "forged.pt", "nobodys.pt", "code.pkl", "notes.txt"];
    let mut scratch = guarded_scratch(&store, Some(policy(&key, "stat")), &files);
    scratch.idle();
    store.publish(&key, "train", &scratch.stored(""), &["good.pt", "code.pkl"]);
    store.publish(&stranger, "train", &scratch.stored(""), &["forged.pt"]);
    let verdict = |name: &str| shown(&scratch.path(name), "verdict");
    assert_eq!(verdict("good.pt"), "admitted: stat");
    assert_eq!(verdict("notes.txt"), "-");
    let forbidden = verdict("code.pkl");
    assert!(forbidden.starts_with("refused: "), "{forbidden}");
    assert!(forbidden.contains("pickle runs code when it is loaded"), "{forbidden}");
    let hint = stranger.verifying_key().hint().to_string();
    assert!(verdict("forged.pt").contains(&hint), "{}", verdict("forged.pt"));
    // Nobody has looked into this one.
    assert_eq!(verdict("nobodys.pt"), "-");
    assert_eq!(scratch.facts.all(), []);
    assert!(may_open(&scratch.path("good.pt")));
    for refused in ["forged.pt", "nobodys.pt", "code.pkl"] {
        assert!(!may_open(&scratch.path(refused)), "{refused}");
        let told = scratch.facts.all().into_iter().rev().find_map(|fact| match fact {
            Fact::Refused { path, reason, next_step, .. } if path.path == refused => {
                Some(format!("refused: {reason}\nnext: {next_step}"))
            }
            _ => None,
        });
        assert_eq!(verdict(refused), told.unwrap());
    }
    // Whoever is refused may know what it is.
    let digests = digests_of(&scratch.stored("nobodys.pt"));
    assert_eq!(shown(&scratch.path("nobodys.pt"), "sha256"), digests.sha256.to_string());
    assert_eq!(shown(&scratch.path("forged.pt"), "state"), "published");
}

#[test]
fn a_verdict_follows_the_content_the_store_and_who_wrote_it() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let mut scratch = guarded_scratch(&store, Some(policy(&key, "rehash")), &["found.pt"]);
    let (found, made) = (scratch.path("found.pt"), scratch.path("made.pt"));
    assert!(!may_open(&found));
    assert!(shown(&found, "verdict").starts_with("refused: "));
    store.publish(&key, "train", &scratch.stored(""), &["found.pt"]);
    assert_eq!(shown(&found, "verdict"), "admitted: rehash");
    File::options().append(true).open(scratch.stored("found.pt")).unwrap().write_all(b"!").unwrap();
    assert_eq!(shown(&found, "verdict"), "-");
    fs::write(&made, b"weights").unwrap();
    assert_eq!(shown(&made, "verdict"), "admitted: own");
    scratch.check_digests();
    scratch.idle();
    assert!(!may_open(&made));
    assert!(shown(&made, "verdict").starts_with("refused: "));
}

/// A tree of published and guarded files, with an attribute of the user's, is copied by `copy`, which
/// gets the source and the target.
fn is_copied_by(copy: impl FnOnce(&Path, &Path) -> Output) {
    let (store, key) = (Store::default(), key());
    let files = ["model/w.pt", "model/part/b.txt", "notes.txt"];
    let mut scratch = guarded_scratch(&store, Some(policy(&key, "rehash")), &files);
    scratch.idle();
    store.publish(&key, "train", &scratch.stored("model"), &["w.pt", "part/b.txt"]);
    for file in files {
        let path = scratch.stored(file);
        rustix::fs::setxattr(&path, "user.note", b"mine", XattrFlags::empty()).unwrap();
    }
    // An attribute is no content, but the inode was touched: published again.
    store.publish(&key, "train", &scratch.stored("model"), &["w.pt", "part/b.txt"]);
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("copy");
    let copied = copy(&scratch.path(""), &target);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(String::from_utf8_lossy(&copied.stderr), "");
    for file in files {
        assert_eq!(fs::read(target.join(file)).unwrap(), file.as_bytes());
        let mut names = [0; 256];
        let length = rustix::fs::listxattr(target.join(file), &mut names[..]).unwrap();
        assert_eq!(&names[..length], b"user.note\0", "{file}");
    }
    assert!(!target.join(".attestfs").exists());
}

fn run(program: &str, arguments: &[&OsStr]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

#[test]
fn rsync_copies_trees_with_published_and_guarded_files() {
    if !can_mount() {
        return;
    }
    is_copied_by(|from, to| run("rsync", &["-aX".as_ref(), from.as_ref(), to.as_ref()]));
}

#[test]
fn cp_copies_trees_with_published_and_guarded_files() {
    if !can_mount() {
        return;
    }
    let options: [&OsStr; 2] = ["-r".as_ref(), "--preserve=all".as_ref()];
    is_copied_by(|from, to| run("cp", &[options[0], options[1], from.as_ref(), to.as_ref()]));
}

#[test]
fn tar_copies_trees_with_published_and_guarded_files() {
    if !can_mount() {
        return;
    }
    let script = r#"
        mkdir "$2"
        tar --create --directory "$1" --xattrs --xattrs-include='*' . |
            tar --extract --directory "$2" --xattrs --xattrs-include='*'
    "#;
    let words = ["-euc", script, "sh"].map(OsStr::new);
    is_copied_by(|from, to| run("sh", &[&words[..], &[from.as_ref(), to.as_ref()]].concat()));
}

#[test]
fn shutil_copies_trees_with_published_and_guarded_files() {
    if !can_mount() {
        return;
    }
    let script = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], \
                  copy_function=shutil.copy2)";
    let words = ["-c", script].map(OsStr::new);
    is_copied_by(|from, to| run("python3", &[&words[..], &[from.as_ref(), to.as_ref()]].concat()));
}

#[test]
fn published_content_that_loses_its_last_name_is_told() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), key());
    let mut scratch = scratch_with(&store, &["a", "b", "linked", "unpublished"]);
    fs::hard_link(scratch.stored("linked"), scratch.stored("other")).unwrap();
    let root = scratch.stored("");
    store.publish(&key, "train", &root, &["a", "b", "linked"]);
    for is_idle in [false, true] {
        if is_idle {
            scratch.idle();
        }
        let removed = || -> Vec<String> {
            let facts = scratch.facts.all().into_iter();
            facts
                .filter_map(|fact| match fact {
                    Fact::Removed { path, .. } => Some(path.path),
                    _ => None,
                })
                .collect()
        };
        if is_idle {
            fs::write(scratch.path("new"), b"x").unwrap();
            fs::rename(scratch.path("new"), scratch.path("b")).unwrap();
            assert_eq!(removed(), ["b"]);
            fs::remove_file(scratch.path("other")).unwrap();
            assert_eq!(removed(), ["b", "other"]);
        } else {
            for name in ["a", "linked", "unpublished"] {
                fs::remove_file(scratch.path(name)).unwrap();
            }
            assert_eq!(removed(), ["a"]);
            // Of what the run wrote itself it is told that it is gone.
            fs::write(scratch.path("own"), b"x").unwrap();
            scratch.quiesce();
            store.publish(&key, "train", &root, &["own"]);
            fs::remove_file(scratch.path("own")).unwrap();
            assert_eq!(removed(), ["a"]);
            assert!(scratch.facts.all().iter().any(|fact| matches!(fact, Fact::Gone { .. })));
        }
    }
}
