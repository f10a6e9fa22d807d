//! The Python module of `contrib`: its own tests, and stages of real mounts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    evidence::{INCOMPLETE_RUN, PROVENANCE, attestations, check_digests, only_attestation},
    guarded::policy,
    lab::{Ended, Finish, Lab},
    mounted::Mounted,
    needs,
};

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/python")
}

/// Python with the module, in the lab.
fn python(lab: &Lab) -> Option<Command> {
    let mut python = lab.configured(needs::program_of("ATTESTFS_PYTHON")?);
    python.env("PYTHONPATH", module()).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(python)
}

/// A script that looks at the mount `mnt`.
fn script(lab: &Lab, script: &str) -> Option<Ended> {
    Some(python(lab)?.args(["-c", &format!("import attestfs, hashlib, os\n{script}")]).finish())
}

fn done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn the_module_keeps_what_its_own_tests_promise() {
    let lab = Lab::without_mounts();
    let Some(mut python) = python(&lab) else { return };
    python.args(["-W", "error", "-m", "unittest", "discover", "-s", "tests"]);
    let ended = python.current_dir(module()).finish();
    done(&ended);
    assert!(!ended.stderr.contains("Ran 0 tests"), "{ended:?}");
}

#[test]
fn a_stage_in_python_is_attested_at_its_end_with_its_checkpoints() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    fs::write(mounted.path.join("raw.csv"), "1,2,3").unwrap();
    let training = r#"
with attestfs.stage("train", "mnt", inputs=["raw.csv"], out=["model"], labels={"team": "nlp"}) as run:
    os.makedirs("mnt/model/step-1")
    data = open("mnt/raw.csv").read()
    with open("mnt/model/step-1/weights", "w") as weights:
        weights.write(data)
    checkpoint = run.checkpoint("model/step-1")
    assert checkpoint.artifacts[0].files == 1, checkpoint
    open("mnt/model/weights", "w").write(data)
assert run.report.artifacts[0].statement, run.report
known = attestfs.provenance("mnt/model/weights")
assert (known.stage, known.run, known.state) == ("train", run.run, "published"), known
assert known.attestations == (run.report.artifacts[0].statement,), known
(uri, sha256), = known.materials().items()
assert uri.endswith("tree/raw.csv") and sha256 == hashlib.sha256(data.encode()).hexdigest(), uri
assert "train" in known._repr_html_()
print(run.run)
"#;
    let Some(ended) = script(&lab, training) else { return };
    done(&ended);
    let made = attestations(&lab.state());
    assert_eq!(made.len(), 2, "the checkpoint and the end");
    for attestation in &made {
        assert_eq!((attestation.predicate_type(), attestation.stage()), (PROVENANCE, "train"));
        check_digests(&attestation.subjects(&lab.state()));
    }
    lab.verify("tree/model").succeed();
}

#[test]
fn an_exception_ends_the_stage_as_failed_and_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let failing = r#"
with attestfs.stage("train", "mnt") as run:
    open("mnt/weights", "w").write("half")
    import atexit
    atexit.register(lambda: print(run.report))
    raise MemoryError("out of memory")
"#;
    let Some(ended) = script(&lab, failing) else { return };
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("MemoryError: out of memory"), "{ended:?}");
    assert!(ended.stdout.contains("vouched for by nobody"), "{ended:?}");
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
    assert_ne!(lab.verify("tree/weights").finish().code, Some(0));
    drop(mounted);
}

#[test]
fn a_second_stage_on_a_mount_is_refused_with_the_name_of_the_first() {
    let Some(lab) = Lab::new() else { return };
    let _mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let nested = r#"
with attestfs.stage("outer", "mnt") as outer:
    open("mnt/file", "w").write("content")
    try:
        attestfs.stage("inner", "mnt").open()
    except attestfs.Refused as refused:
        assert refused.code == "stage" and "'outer' is open" in str(refused), refused
        assert refused.next_step, refused
    else:
        raise AssertionError("two stages at once")
"#;
    let Some(ended) = script(&lab, nested) else { return };
    done(&ended);
    assert_eq!(only_attestation(&lab.state()).stage(), "outer");
}

#[test]
fn a_verdict_is_told_to_python_with_the_next_step_and_without_opening_the_file() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    fs::write(lab.directory("tree").join("stray.bin"), "nobody's").unwrap();
    fs::write(lab.path("tree/notes.txt"), "unguarded").unwrap();
    let _mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let looking = r#"
assert attestfs.verdict("mnt/notes.txt") is None
try:
    open("mnt/stray.bin")
except PermissionError:
    verdict = attestfs.verdict("mnt/stray.bin")
assert not verdict and verdict.reason and verdict.next_step, verdict
try:
    attestfs.verdict("tree/stray.bin")
except attestfs.NotMounted as error:
    assert "stray.bin" in str(error)
else:
    raise AssertionError("a verdict without a mount")
"#;
    let Some(ended) = script(&lab, looking) else { return };
    done(&ended);
}

#[test]
fn below_attestfs_run_python_makes_checkpoints_and_opens_no_stage() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let training = r#"
import attestfs, os
os.makedirs("tree/model")
open("tree/model/weights", "w").write("weights")
assert attestfs.checkpoint("tree/model").artifacts[0].statement
try:
    attestfs.stage("inner", "tree").open()
except attestfs.AttestfsError as error:
    assert "attestfs run" in str(error), error
else:
    raise AssertionError("a stage within a run")
"#;
    let mut run = lab.run("train");
    run.env("PYTHONPATH", module()).env("PYTHONDONTWRITEBYTECODE", "1");
    run.args(["--dir", "tree", "--out", "model", "--"])
        .arg(python)
        .args(["-c", training])
        .succeed();
    assert_eq!(attestations(&lab.state()).len(), 2);
}
