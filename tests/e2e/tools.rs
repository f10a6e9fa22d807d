//! Programs that people put through the mount: each leaves what it leaves on a plain directory, and
//! what is attested of it is what `sha256sum` says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    evidence::{self, check_digests, files_below, only_attestation},
    lab::{Finish, Lab},
    needs,
};

/// Runs a script in an empty directory behind the mount; afterwards every file there must be attested
/// with its digest. `sources` is a directory beside it that `prepare` has filled.
fn check(prepare: &str, script: &str) {
    let Some(lab) = Lab::new() else { return };
    check_in(&lab, prepare, script);
}

fn check_in(lab: &Lab, prepare: &str, script: &str) {
    let (tree, sources) = (lab.directory("tree"), lab.directory("sources"));
    lab.configured("sh").current_dir(sources).args(["-ec", prepare]).succeed();
    lab.shell("tree", script).succeed();
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), evidence::PROVENANCE);
    let subjects = attestation.subjects(&lab.state());
    assert!(!subjects.is_empty());
    assert_eq!(subjects.keys().cloned().collect::<Vec<_>>(), files_below(&tree));
    check_digests(&subjects);
    assert_eq!(stored_digests(lab), subjects, "the store has others than the statement");
}

/// The SHA-256 of what the lab's only run left, as the store has it.
fn stored_digests(lab: &Lab) -> BTreeMap<PathBuf, String> {
    let run = fs::read_dir(lab.state().join("runs")).unwrap().next().unwrap().unwrap();
    let mut show = lab.attestfs(["stage", "show", "--json"]);
    let run: Value = serde_json::from_str(&show.arg(run.file_name()).succeed()).unwrap();
    let kept = run["outputs"]["kept"].as_array().unwrap().iter();
    kept.flat_map(|output| {
        let sha256 = output["state"]["sealed"]["digests"]["sha256"].as_str().unwrap();
        let names = output["also"].as_array().unwrap().iter().chain([&output["path"]]);
        names.map(move |name| {
            (lab.path("tree").join(name["path"].as_str().unwrap()), sha256.to_owned())
        })
    })
    .collect()
}

/// Files of several sizes and modes, links of both kinds, an empty directory and an empty file.
const MIXED_FILES: &str = "
    mkdir -p deep/er empty 'with space'
    : > nothing
    echo content > deep/er/file
    head -c 65536 /dev/zero > 'with space/exactly one group'
    head -c 3000001 /dev/urandom > deep/large
    truncate -s 1M deep/sparse
    chmod 0755 deep/er/file
    ln deep/er/file deep/hard
    ln -s er/file deep/soft";

#[test]
fn tar_unpacks_what_it_packed() {
    if needs::programs(&["tar", "diff"]) {
        let packed = format!("{MIXED_FILES}\ntar --sparse -cf ../packed.tar .");
        check(&packed, "tar -xpf ../packed.tar && diff -r --no-dereference ../sources .");
    }
}

#[test]
fn cp_copies_an_archive() {
    check(MIXED_FILES, "cp -a ../sources/. . && diff -r --no-dereference ../sources .");
}

#[test]
fn rsync_copies_and_updates() {
    if needs::programs(&["rsync"]) {
        let script = "rsync -aHS ../sources/ copy/ && echo more >> ../sources/deep/large \
            && rsync -aHS --inplace --no-whole-file ../sources/ copy/ && rsync -aH --delete ../sources/ copy/ \
            && diff -r --no-dereference ../sources copy";
        check(MIXED_FILES, script);
    }
}

#[test]
fn git_clones_commits_and_collects_garbage() {
    if needs::programs(&["git"]) {
        let identity = "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org \
            GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org";
        let prepare = format!(
            "{identity}; {MIXED_FILES}\ngit init -q -b main . && git add -A && git commit -qm first \
             && seq 99999 > numbers && git add -A && git commit -qm second"
        );
        let script = format!(
            "{identity}; git clone -q --no-local ../sources clone && cd clone && seq 9 > few && git add -A \
             && git commit -qm third && git gc -q --prune=now && git fsck --strict --no-progress && test -z \"$(git status --porcelain)\""
        );
        check(&prepare, &script);
    }
}

#[test]
fn sqlite_keeps_a_write_ahead_log() {
    if needs::programs(&["sqlite3"]) {
        let script = r#"
            sqlite3 base.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(a, b);'
            sqlite3 base.db 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
                INSERT INTO t SELECT i, hex(randomblob(20)) FROM n; DELETE FROM t WHERE a % 3 = 0;'
            mkfifo held && (cat held | sqlite3 base.db > /dev/null) & exec 9> held
            echo 'BEGIN; SELECT count(*) FROM t;' >&9
            sqlite3 base.db 'UPDATE t SET b = 0 WHERE a < 100;'
            echo 'COMMIT;' >&9; exec 9>&-; wait; rm held
            test "$(sqlite3 base.db 'PRAGMA integrity_check; SELECT count(*) FROM t WHERE b = 0;')" = "ok
66"
            sqlite3 base.db VACUUM"#;
        check("true", script);
    }
}

#[test]
fn pip_installs_into_a_directory() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let Some(lab) = Lab::new() else { return };
    let script = format!(
        "{python} -m pip install --quiet --disable-pip-version-check --no-index --no-cache-dir --target site \
         ../sources/*.whl && PYTHONPATH=site {python} -m pip --version | grep -F \"$PWD/site/pip\"",
        python = python.display()
    );
    check_in(&lab, &format!("{} {} .", python.display(), example("wheel").display()), &script);
}

#[test]
fn file_formats_of_machine_learning_are_written_and_read_back() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    for format in ["npy", "npz", "memmap", "safetensors", "h5py", "gguf"] {
        println!("{format}");
        let program = example("formats");
        let script = format!("{} {} {format} .", python.display(), program.display());
        check("true", &script);
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/{name}.py"))
}
