//! Programs that people put through the mount: each leaves what it leaves on a plain directory, and
//! what is attested of it is what `sha256sum` says.

use std::path::{Path, PathBuf};

use crate::{
    lab::{Finish, Lab},
    needs,
    relay::{pass_on, write_attested},
};

/// Runs a script in an empty directory behind the mount; afterwards every file there must be attested
/// with its digest. `sources` is a directory beside it that `prepare` has filled.
fn check(prepare: &str, script: &str) {
    let Some(lab) = Lab::new() else { return };
    check_in(&lab, prepare, script);
}

fn check_in(lab: &Lab, prepare: &str, script: &str) {
    let sources = lab.directory("sources");
    lab.configured("sh").current_dir(sources).args(["-ec", prepare]).succeed();
    write_attested(lab, script);
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
fn git_makes_a_repository_and_another_stage_clones_it() {
    if !needs::programs(&["git", "getfattr"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let identity = "export GIT_CONFIG_GLOBAL=/dev/null GIT_OPTIONAL_LOCKS=0 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a.a \
        GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a.a";
    let write = format!(
        "{identity}; git init -q -b main origin; cd origin; {MIXED_FILES}
         git add -A; git commit -qm first; seq 99999 > numbers; git add -A; git commit -qm second; cd ..
         git clone -q origin linked; git clone -q --no-local origin sent; cd sent; seq 9 > few; git add -A
         git commit -qm third; git push -q origin HEAD:refs/heads/more
         for each in . ../origin ../linked; do git -C $each gc -q --prune=now; git -C $each fsck --strict --no-progress; done"
    );
    let read = format!(
        "{identity}; for each in origin linked sent; do
             git -C $each fsck --strict --no-progress; test -z \"$(git -C $each status --porcelain)\"; done
         again=../again-$$; git clone -q -b more origin $again; test $(git -C $again log --oneline | wc -l) = 3
         diff -r --no-dereference -x .git sent $again"
    );
    pass_on(&lab, &write, &read);
}

#[test]
fn sqlite_keeps_a_write_ahead_log_and_another_stage_reads_the_base() {
    if !needs::programs(&["sqlite3", "getfattr"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let write = r"
        sqlite3 base.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(a, b);'
        sqlite3 base.db 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
            INSERT INTO t SELECT i, hex(randomblob(20)) FROM n; DELETE FROM t WHERE a % 3 = 0;'
        mkfifo held && (cat held | sqlite3 base.db > /dev/null) & exec 9> held
        echo 'BEGIN; SELECT count(*) FROM t;' >&9
        sqlite3 base.db 'UPDATE t SET b = 0 WHERE a < 100; PRAGMA wal_checkpoint(PASSIVE);'
        echo 'COMMIT;' >&9; exec 9>&-; wait; rm held
        sqlite3 base.db 'PRAGMA wal_checkpoint(TRUNCATE); VACUUM'";
    // What is published is opened for reading only, as on a disc that nobody can write to.
    let read = r#"test "$(sqlite3 'file:base.db?immutable=1' 'PRAGMA integrity_check; SELECT count(*) FROM t WHERE b = 0;')" = "ok
66""#;
    pass_on(&lab, write, read);
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

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/{name}.py"))
}
