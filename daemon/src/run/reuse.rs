//! `--reuse`: whether the command has to be run at all.

use attestfs_attestation::KeyHint;

use super::plan::Plan;
use crate::{
    client::connect_or_start,
    lock::{DataLock, NotReused, Repetition, Reused},
    publication::Shelf,
    signer::{KeyFileError, key_from_file, public_key_from_path},
};

/// Whether an earlier run did what is planned, and its outputs are there. Says so, or what is
/// different.
pub(super) fn is_done(plan: &Plan) -> bool {
    let console = &plan.assignment.console;
    match earlier(plan) {
        Ok(reused) => {
            console.reused(&reused);
            true
        }
        Err(difference) => {
            console.say(format_args!("not reused: {difference}"));
            false
        }
    }
}

fn earlier(plan: &Plan) -> Result<Reused, NotReused> {
    let description = plan.description().of(&plan.assignment);
    let lock = plan.lock.as_ref().and_then(DataLock::enforced).ok_or(NotReused::NoLock)?;
    let repetition = Repetition {
        description: &description,
        lock,
        trees: &plan.assignment.trees,
        signer: signer(plan)?,
        shelf: &Shelf::of(&plan.state),
        client: &connect_or_start(&plan.state, None)?,
    };
    repetition.find()
}

/// Of the key that would sign.
fn signer(plan: &Plan) -> Result<KeyHint, KeyFileError> {
    let key = match &plan.key {
        Some(key) => key_from_file(key, "--key")?.verifying_key(),
        None => public_key_from_path(&plan.state.public_key())?,
    };
    Ok(key.hint())
}
