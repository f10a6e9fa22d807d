//! Freeing what was planned, in an order that a crash can interrupt anywhere: the store knows first,
//! and what it knows to be freed is found again by the next plan as long as a file of it is there.

use std::{fs::File, io};

use super::{GcError, plan::Plan};
use crate::commit::Room;

pub(super) fn sweep(room: &Room, plan: &Plan) -> Result<(), GcError> {
    let statements: Vec<_> = plan.bundles.keys().copied().collect();
    // Also puts on disk what was taken in of the journals.
    room.store.free(&statements)?;
    for run in &plan.runs {
        let path = room.state.run(&run.run.0);
        room.files.remove(&File::open(&path)?, &run.names())?;
        match std::fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    let files = room.files.as_ref();
    room.shelf.forget_files(files, &plan.bundles)?;
    room.shelf.remove(files, plan.bundles.keys(), plan.manifests.keys())?;
    if plan.repeated > 0 {
        room.shelf.compact(files)?;
    }
    Ok(())
}
