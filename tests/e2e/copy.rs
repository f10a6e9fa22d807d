//! Copies out of a guarded mount by the tools that people use, and what else they find there.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use attestfs_attestation::Bundle;
use rustix::fs::{XattrFlags, setxattr};

use crate::{
    lab::{Finish, Lab},
    mounted::{Mounted, attribute},
};

/// A model that one stage published and a policy guards.
fn serving(lab: &Lab) -> Mounted<'_> {
    fs::copy(lab.public_key(), lab.path("trainer.pub")).unwrap();
    let policy = "version = 1\n[signers.trainer]\nkey = \"trainer.pub\"\n[[rule]]\n\
                  paths = [\"**/*.bin\"]\nlevel = \"rehash\"\nsigned_by = [\"trainer\"]\n";
    fs::write(lab.path("policy.toml"), policy).unwrap();
    let training = Mounted::new(lab, "tree", "training", &["--stage", "train", "--out", "model"]);
    fs::create_dir_all(training.path.join("model/part")).unwrap();
    for name in FILES {
        let path = training.path.join(name);
        fs::write(&path, name).unwrap();
        setxattr(&path, "user.note", b"mine", XattrFlags::empty()).unwrap();
    }
    training.umount(&[]).succeed();
    training.wait_for_end();
    Mounted::new(lab, "tree", "serving", &["--policy", "policy.toml"])
}

const FILES: [&str; 2] = ["model/weights.bin", "model/part/config.json"];

fn is_copied_by(program: &str, arguments: &[&str]) {
    let Some(lab) = Lab::new() else { return };
    let mounted = serving(&lab);
    let (from, to) = (mounted.path.join("model"), lab.directory("copies").join("model"));
    let mut copy = Command::new(program);
    let copied = copy.args(arguments).args([&from, &to]).finish();
    assert_eq!((copied.code, copied.stderr.as_str()), (Some(0), ""), "{copied:?}");
    for name in FILES {
        let path = lab.path("copies").join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), name);
        assert_eq!(attribute(&path, "user.note").as_deref(), Some("mine"));
        assert_eq!(attribute(&path, "user.attestfs.state"), None);
    }
    lab.verify("copies/model").succeed();
}

#[test]
fn a_model_that_rsync_copied_verifies() {
    is_copied_by("sh", &["-euc", "rsync -aX \"$1/\" \"$2\"", "sh"]);
}

#[test]
fn a_model_that_cp_copied_verifies() {
    is_copied_by("cp", &["-r", "--preserve=all"]);
}

#[test]
fn a_model_that_tar_copied_verifies() {
    let script = "mkdir \"$2\"; tar -C \"$1\" --xattrs --xattrs-include='*' -c . |\n\
                  tar -C \"$2\" --xattrs --xattrs-include='*' -x";
    is_copied_by("sh", &["-euc", script, "sh"]);
}

#[test]
fn a_model_that_shutil_copied_verifies() {
    let script = "import shutil, sys\nshutil.copytree(*sys.argv[1:], copy_function=shutil.copy2)";
    is_copied_by("python3", &["-c", script]);
}

#[test]
fn attestations_of_a_model_are_found_through_the_mount_and_verify() {
    let Some(lab) = Lab::new() else { return };
    let mounted = serving(&lab);
    let model = mounted.path.join("model");
    let shown = |path: &Path, name: &str| attribute(path, &format!("user.attestfs.{name}"));
    assert_eq!(shown(&model, "state").as_deref(), Some("published"));
    assert_eq!(shown(&model, "stage").as_deref(), Some("train"));
    let weights = model.join("weights.bin");
    assert_eq!(shown(&weights, "state").as_deref(), Some("published"));
    let attestation = shown(&weights, "attestation").unwrap();
    assert_eq!(shown(&model, "attestation").as_deref(), Some(attestation.as_str()));
    let name = format!("{}.sigstore.json", attestation.strip_prefix("sha256:").unwrap());
    let directory = mounted.path.join(".attestfs/attestations");
    let bundle = Bundle::parse(&fs::read(directory.join(&name)).unwrap()).unwrap();
    assert_eq!(format!("sha256:{}", bundle.sha256()), attestation);
    let listed = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(listed.collect::<Vec<_>>(), [OsStr::new(&name)]);
    // Verified by a copy of the bundle alone, beside a file that nothing else speaks for.
    let elsewhere = lab.directory("elsewhere");
    fs::copy(directory.join(&name), elsewhere.join("bundle.json")).unwrap();
    fs::copy(&weights, elsewhere.join("weights.bin")).unwrap();
    let mut verify = lab.verify("elsewhere/weights.bin");
    verify.args(["--bundle", "elsewhere/bundle.json"]).succeed();
}
