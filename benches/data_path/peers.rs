//! Programs that others wrote, with which we compare.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    command::{find, finish},
    mounted::unused_mount_point,
    place::Place,
    row::Nothing,
};

/// A file system that passes everything through, as long as it is measured.
#[derive(Debug)]
pub(crate) struct PeerMount {
    /// Where it is seen.
    pub(crate) path: PathBuf,
}

/// A file system in user space that hashes, records and judges nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    arguments: &'static [&'static str],
}

/// Direct I/O, as its manual advises where nothing needs shared mappings: its fastest way to write.
pub(crate) const MERGERFS: Peer = Peer {
    name: "mergerfs",
    arguments: &["-o", "cache.files=off,use_ino,category.create=ff,minfreespace=0"],
};

pub(crate) const BINDFS: Peer = Peer { name: "bindfs", arguments: &[] };

impl Peer {
    /// None where it is not installed.
    pub(crate) fn mount(&self, place: &Place, backing: &Path) -> Option<PeerMount> {
        let program = find(Path::new(self.name))?;
        let path = unused_mount_point(place);
        finish(Command::new(program).args(self.arguments).arg(backing).arg(&path));
        let mounted = PeerMount { path };
        for _ in 0..200 {
            if is_mounted(&mounted.path) {
                return Some(mounted);
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{} does not mount {}", self.name, mounted.path.display());
    }
}

impl Drop for PeerMount {
    fn drop(&mut self) {
        // Whoever is not root unmounts by the first.
        for words in [&["fusermount3", "-u"][..], &["umount"], &["umount", "--lazy"]] {
            let mut command = Command::new(words[0]);
            let output = command.args(&words[1..]).arg(&self.path).output();
            if output.is_ok_and(|output| output.status.success()) || !is_mounted(&self.path) {
                return;
            }
        }
        eprintln!("{} is still mounted", self.path.display());
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|mount| mount.split(' ').nth(4) == path.to_str())
}

pub(crate) const WITHOUT_MERGERFS: Nothing =
    Nothing::Lacking { program: "mergerfs", remedy: "apt-get install -y mergerfs fuse3" };

pub(crate) const WITHOUT_MODEL_SIGNING: Nothing = Nothing::Lacking {
    program: "model_signing",
    remedy: "pip install model-signing pyOpenSSL, then --model-signing PATH",
};

pub(crate) const WITHOUT_B3SUM: Nothing =
    Nothing::Lacking { program: "b3sum", remedy: "cargo install b3sum" };

pub(crate) const WITHOUT_PYTHON: Nothing =
    Nothing::Lacking { program: "python3", remedy: "apt-get install -y python3" };

/// The reference implementation of `OpenSSF` Model Signing.
#[derive(Debug)]
pub(crate) struct ModelSigning(PathBuf);

impl ModelSigning {
    pub(crate) fn find(program: &Path) -> Option<Self> {
        find(program).map(Self)
    }

    /// Signs a directory with the place's key, into its `model.sig`.
    pub(crate) fn sign(&self, place: &Place, model: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["sign", "key"]).arg(model).arg("--private_key").arg(place.key());
        command.arg("--signature").arg(model.join("model.sig"));
        command
    }

    /// Fails when the directory is not what its `model.sig` says. What we leave beside the content
    /// is part of no model.
    pub(crate) fn verify(&self, place: &Place, model: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["verify", "key"]).arg(model).arg("--public_key").arg(place.public_key());
        command.arg("--signature").arg(model.join("model.sig"));
        command
    }
}
