//! The reference implementation of model signing, where it is installed, judges ours.

use std::path::PathBuf;

use crate::{require::require, tool::Tool};

/// `ATTESTFS_MODEL_SIGNING`: the path of its program.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment what is installed"
)]
fn model_signing() -> Option<PathBuf> {
    let program = std::env::var_os("ATTESTFS_MODEL_SIGNING").map(PathBuf::from);
    let what = "model_signing, by its path in ATTESTFS_MODEL_SIGNING";
    require(program.is_some(), what).then_some(program).flatten()
}

#[test]
fn what_we_sign_others_verify() {
    let Some(program) = model_signing() else { return };
    let tool = Tool::with_signed_model();
    let line = ["verify", "key", "model", "--signature", "model/model.sig"];
    let key = ["--public_key", "keys/attestfs.pub"];
    tool.other(&program, line.iter().chain(&key)).is(0);
    tool.write("model/config.json", "changed");
    tool.other(&program, line.iter().chain(&key)).is(1);
}

#[test]
fn what_others_sign_we_verify() {
    let Some(program) = model_signing() else { return };
    let tool = Tool::with_model();
    let line = ["sign", "key", "model", "--signature", "model/model.sig"];
    let key = ["--private_key", "keys/attestfs.key"];
    tool.other(&program, line.iter().chain(&key)).is(0);
    let verify = ["verify", "model", "--key", "keys/attestfs.pub"];
    tool.run(verify).is(0);
    tool.write("model/config.json", "changed");
    tool.run(verify).is(1).says("check 8, ");
}
