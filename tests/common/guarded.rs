//! A policy of the lab, and what it refuses.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::lab::Lab;

/// A policy that believes the lab's key about weights, at this level; in the lab as `policy.toml`.
pub(crate) fn policy(lab: &Lab, level: &str) -> PathBuf {
    fs::copy(lab.public_key(), lab.path("trainer.pub")).unwrap();
    let path = lab.path("policy.toml");
    let text = format!(
        "version = 1\n\n[signers.trainer]\nkey = \"trainer.pub\"\n\n[[rule]]\n\
         paths = [\"**/*.bin\"]\nlevel = \"{level}\"\nsigned_by = [\"trainer\"]\n\n[[rule]]\n\
         paths = [\"**/*.pkl\"]\nrefuse = \"pickle runs code when it is loaded\"\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Whether the gate keeps its content back.
pub(crate) fn is_refused(path: &Path) -> bool {
    fs::read(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}
