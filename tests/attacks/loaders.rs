//! What loads models: it gets an error, and nothing of the model.

use std::fs;

use crate::{
    guarded::policy,
    lab::{Finish, Lab},
    mounted::Mounted,
    needs,
    scene::serve,
};

/// Leaves a file behind when somebody loads it.
const PICKLE: &str = "
import os, pickle, sys
class Evil:
    def __reduce__(self):
        return os.system, ('touch ' + sys.argv[2],)
pickle.dump(Evil(), open(sys.argv[1], 'wb'))
";

const UNPICKLE: &str = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))";

// Stands on `Demands::forbidden` (fs/src/gate/demands.rs) and `Rule::judge`
// (fs/attestation/src/policy/judge.rs): each alone refuses it.
#[test]
fn a_pickle_that_runs_code_when_it_is_loaded_is_not_loaded() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let pickle = lab.directory("tree").join("model.pkl");
    let mut make = lab.configured("python3");
    make.args(["-c", PICKLE]).arg(&pickle).arg("ran").succeed();
    let mounted = serve(&lab, "stat");
    let mut load = lab.configured("python3");
    let ended = load.args(["-c", UNPICKLE]).arg(mounted.path.join("model.pkl")).finish();
    assert!(ended.stderr.contains("PermissionError"), "{ended:?}");
    assert!(!lab.path("ran").exists());
    let mut load = lab.configured("python3");
    load.args(["-c", UNPICKLE]).arg(&pickle).succeed();
    assert!(lab.path("ran").exists(), "it was dangerous");
}

/// Trains a model of one tensor, or loads it.
const TENSORS: &str = "
import sys, numpy
from safetensors.numpy import load_file, save_file
if sys.argv[1] == 'train':
    save_file({'weights': numpy.full(1000, float(sys.argv[3]))}, sys.argv[2])
else:
    print(load_file(sys.argv[2])['weights'][0])
";

// Stands on the gate as a whole: safetensors maps the file, and gets what was attested or nothing.
#[test]
fn tensors_that_were_exchanged_after_they_were_published_are_not_loaded() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut train = lab.run("train");
    train.args(["--dir", "tree", "--"]).arg(&python);
    train.args(["-c", TENSORS, "train", "tree/weights.bin", "1"]).succeed();
    policy(&lab, "rehash");
    let options = ["--read-only", "--policy", "policy.toml"];
    let mounted = Mounted::new(&lab, "tree", "mnt", &options);
    let load = || {
        let mut load = lab.configured(&python);
        load.args(["-c", TENSORS, "load"]).arg(mounted.path.join("weights.bin")).finish()
    };
    assert_eq!(load().stdout, "1.0\n");
    let mut exchange = lab.configured(&python);
    exchange.args(["-c", TENSORS, "train", "other", "2"]).succeed();
    fs::copy(lab.path("other"), lab.path("tree/weights.bin")).unwrap();
    // To safetensors every file that does not open is a missing one.
    let ended = load();
    assert!(ended.code == Some(1) && ended.stdout.is_empty(), "{ended:?}");
}
