//! The story: a pipeline runs behind attestfs, and then somebody asks.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    raw,
    shell::{STATE, Shell, Trouble},
    train::{CHECKPOINT, MODEL, WEIGHTS},
};

/// What happens to the files when the story is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Remove,
    Keep,
}

pub(crate) fn tell(afterwards: Afterwards) -> ExitCode {
    match story(afterwards) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("quickstart: {trouble}");
            ExitCode::from(if matches!(trouble, Trouble::Environment) { 3 } else { 1 })
        }
    }
}

fn story(afterwards: Afterwards) -> Result<(), Trouble> {
    let place = tempfile::Builder::new().prefix("attestfs-quickstart-").tempdir()?;
    let project = place.path().join("bearings");
    fs::create_dir(&project)?;
    let shell = Shell::new(project.clone())?;
    let told = pipeline(&shell, &project)
        .and_then(|()| questions(&shell))
        .and_then(|()| tampering(&shell, &project));
    let quiet = wait_for_daemon(&project.join(STATE));
    if afterwards == Afterwards::Keep {
        println!("\nEverything is kept. To go on:\n\n{}", shell.entrance());
        // Leaving the guard behind is what keeps the files.
        drop(place.keep());
    } else if told.is_ok() {
        println!("\nAll of it is removed again; `--keep` as an argument keeps it.");
    }
    told.and(quiet)
}

fn pipeline(shell: &Shell, project: &Path) -> Result<(), Trouble> {
    heading("Raw data: what three machines sounded like, and what the mechanic found");
    raw::record(project)?;

    heading("Three stages, each behind attestfs. The programs do not know");
    shell.run("attestfs run --stage clean --dir . --in raw --out clean -- quickstart clean")?;
    println!();
    shell.run(&format!(
        "attestfs run --stage train --dir . --in clean --out {MODEL} --checkpoint-rule -- quickstart train"
    ))?;
    println!();
    shell.run(&format!(
        "attestfs run --stage evaluate --dir . --in clean --in {MODEL} --out metrics -- quickstart evaluate"
    ))?;

    heading(
        "Each output is signed where it lies, as is the checkpoint from the middle of training",
    );
    shell.run(&format!("ls {MODEL} {}", checkpoint()))?;
    let signature = project.join(checkpoint()).join("model.sig");
    if signature.exists() { Ok(()) } else { Err(Trouble::Missing(signature)) }
}

fn questions(shell: &Shell) -> Result<(), Trouble> {
    heading("Where do these metrics come from?");
    shell.run("attestfs lineage metrics/metrics.json")?;

    heading("The lathe's sensor was loose. What has that file touched?");
    shell.run("attestfs lineage raw/lathe.csv --descendants")?;

    heading("Is the checkpoint what training wrote? Offline, from the files and one public key");
    shell.run(&verification())
}

fn tampering(shell: &Shell, project: &Path) -> Result<(), Trouble> {
    heading("Somebody changes one byte of it");
    let weights = project.join(checkpoint()).join(WEIGHTS);
    flip_last_byte(&weights)?;
    shell.run_expecting(&verification(), 1)
}

fn verification() -> String {
    format!("attestfs verify {} --key {STATE}/attestfs.pub", checkpoint())
}

fn checkpoint() -> String {
    format!("{MODEL}/checkpoint-{CHECKPOINT}")
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

fn flip_last_byte(file: &Path) -> io::Result<()> {
    let mut bytes = fs::read(file)?;
    let last = bytes.last_mut().ok_or_else(|| io::Error::other("the weights are empty"))?;
    let before = *last;
    *last ^= 1;
    println!("last byte of {WEIGHTS}: {before:02x} -> {last:02x}");
    fs::write(file, bytes)
}

/// The store daemon ends by itself when nobody needs it; then its lock is free, and its files can be
/// removed.
fn wait_for_daemon(state: &Path) -> Result<(), Trouble> {
    let lock = state.join("daemon.lock");
    let Ok(file) = File::open(&lock) else {
        return Ok(()); // It never ran.
    };
    for _ in 0..DAEMON_PATIENCE_ATTEMPTS {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(());
        }
        thread::sleep(DAEMON_PAUSE);
    }
    Err(Trouble::DaemonStays(PathBuf::from(state)))
}

/// Fifteen seconds: it stays for one, and has work to finish at most for a moment.
const DAEMON_PATIENCE_ATTEMPTS: u32 = 300;
const DAEMON_PAUSE: Duration = Duration::from_millis(50);
