//! What several benches tell the store.

use std::collections::BTreeMap;

use attestfs_attestation::{Inputs, RunDescription};
use attestfs_daemon::lineage::RunId;
use jiff::Timestamp;

/// What a run of this stage says of itself that worked on this directory.
pub(crate) fn description(run: &RunId, stage: &str, tree: &str) -> RunDescription {
    RunDescription {
        id: run.0.clone(),
        stage: stage.to_owned(),
        command: vec!["python".to_owned(), format!("{stage}.py")],
        executable: None,
        working_directory: "/home/lab/project".to_owned(),
        uid: 1000,
        host: "bench".to_owned(),
        kernel: "Linux".to_owned(),
        cgroup: None,
        trees: vec![tree.to_owned()],
        declared_inputs: Vec::new(),
        declared_outputs: Vec::new(),
        inputs: Inputs::Opened,
        labels: BTreeMap::new(),
        started: Timestamp::UNIX_EPOCH,
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}
