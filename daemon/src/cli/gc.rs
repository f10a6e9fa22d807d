//! Freeing what the state directory keeps about content that is gone.

use std::{
    fmt,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use attestfs_attestation::escaped;
use attestfs_digest::Sha256;
use indicatif::HumanBytes;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, print},
    query::{Store, unexpected},
    story::counted,
    table::Table,
};
use crate::{
    client::Client,
    config::Environment,
    control::{Reply, Request},
    gc::{Amount, GarbageReport, Kept, Scope},
    text::harmless,
};

/// How often a plan is made anew when the state changes in between.
const ATTEMPTS_MAX: usize = 5;

/// The most directories that are listed for people; --json has more.
const LISTED_MAX: usize = 10;

/// Free what is kept about runs that have ended and content that is gone
///
/// Says first what that is. Attestations are kept, because what they speak of may have been copied:
/// a copy that finds no attestation any more is refused by mounts with a policy. With --bundles those
/// go of which a run removed, or wrote over, each file, and nothing that stays was made from them.
/// Below PATH, what is not there is gone, also when no run removed it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs gc
  attestfs gc --bundles
  attestfs gc /jobs/old-model --yes")]
pub(super) struct Gc {
    /// Only what is at or below these paths, which need not exist any more
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Free attestations too: copies made elsewhere lose theirs
    #[arg(long)]
    bundles: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    store: Store,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(GarbageReport);

impl Gc {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let daemon = self.store.daemon(environment)?;
        let paths: Vec<_> = self.paths.iter().map(|path| place(path)).collect::<Result<_, _>>()?;
        let scope = Scope { paths, bundles: self.bundles };
        let mut report = collect(&daemon, &scope, None)?;
        for _ in 0..ATTEMPTS_MAX {
            if report.freed || report.is_empty() || (output.is_json() && !self.yes) {
                output.show(&Shown(report))?;
                return Ok(Exit::Yes);
            }
            if !self.yes {
                output.show(&Shown(report.clone()))?;
                if !is_agreed()? {
                    return Ok(Exit::Refused);
                }
            }
            report = collect(&daemon, &scope, Some(report.plan))?;
        }
        Err(Failure::environment("the state changes faster than it can be freed")
            .with_next_step("try again when fewer runs end"))
    }
}

fn collect(
    daemon: &Client,
    scope: &Scope,
    agreed: Option<Sha256>,
) -> Result<GarbageReport, Failure> {
    match daemon.call(Request::Collect { scope: scope.clone(), agreed })? {
        Reply::Garbage(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

/// Asks whoever sits at the terminal.
fn is_agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nothing was freed: there is no terminal at which to ask")
            .with_next_step("attestfs gc --yes"));
    }
    print(b"free this? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::environment)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The absolute path of a place that may be gone: what is there of it is without symbolic links.
fn place(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::environment(format_args!("{}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(failed)?;
    let mut gone = Vec::new();
    let mut above = absolute.as_path();
    loop {
        match std::fs::canonicalize(above) {
            Ok(mut real) => {
                real.extend(gone.iter().rev());
                return Ok(escaped(real.as_os_str().as_encoded_bytes()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(name), Some(parent)) = (above.file_name(), above.parent()) else {
                    return Err(failed(error));
                };
                gone.push(name);
                above = parent;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        if report.is_empty() {
            writeln!(f, "there is nothing to free")?;
        } else {
            writeln!(f, "{}", if report.freed { "freed" } else { "can be freed" })?;
            write!(f, "{}", kinds(report))?;
            listed(f, "nothing is left of", &report.gone)?;
        }
        if report.bundles.files > 0 && !report.freed {
            writeln!(f, "copies of these files that were made elsewhere lose their attestation")?;
        }
        kept(f, &report.spared, "are all gone")?;
        if report.spared.attestations > 0 {
            writeln!(f, "  copies elsewhere may need them; if not: attestfs gc --bundles")?;
        }
        kept(f, &report.unseen, "are not where they were, and no run removed them")?;
        if report.unseen.attestations > 0 {
            writeln!(f, "  they may have been moved; if not, name the place: attestfs gc PATH")?;
        }
        kept(f, &report.away, "lie on a file system that is not there now")
    }
}

fn kinds(report: &GarbageReport) -> Table {
    let mut table = Table::default();
    let mut row = |amount: Amount, noun: &str, what: &str| {
        if amount.files > 0 {
            let bytes = HumanBytes(amount.bytes).to_string();
            table.row([format!("  {}", counted(amount.files, noun)), bytes, what.to_owned()]);
        }
    };
    row(report.bundles, "attestation", "whose files are all gone");
    row(report.manifests, "manifest", "that only these need");
    row(report.journals, "journal", "of runs that have ended");
    row(report.reports, "report", "of their commits");
    let empty = Amount { files: report.empty, bytes: 0 };
    row(empty, "empty folder", "that an interrupted attempt has left");
    if report.repeated > 0 {
        let bytes = HumanBytes(report.repeated).to_string();
        let what = "that say what later lines say again";
        table.row(["  lines of indexes".to_owned(), bytes, what.to_owned()]);
    }
    table
}

fn kept(f: &mut fmt::Formatter<'_>, kept: &Kept, why: &str) -> fmt::Result {
    if kept.attestations == 0 {
        return Ok(());
    }
    writeln!(f, "kept: {} whose files {why}", counted(kept.attestations, "attestation"))?;
    listed(f, "of", &kept.roots)
}

fn listed(f: &mut fmt::Formatter<'_>, what: &str, roots: &[String]) -> fmt::Result {
    for root in roots.iter().take(LISTED_MAX) {
        let root = if root.is_empty() { "/" } else { root };
        writeln!(f, "  {what} {}", harmless(root))?;
    }
    match roots.len().saturating_sub(LISTED_MAX) {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_gone_is_below_what_is_there_of_it() {
        let base = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(base.path()).unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let place = |path: PathBuf| place(&path).unwrap();
        assert_eq!(place(real.join("link")), real.to_str().unwrap());
        let gone = real.join("gone/below").to_str().unwrap().to_owned();
        assert_eq!(place(real.join("link/gone/below")), gone);
        assert_eq!(place(PathBuf::from("/")), "/");
    }

    #[test]
    fn what_is_kept_says_why_and_what_to_do() {
        let amount = Amount { files: 1, bytes: 2048 };
        let nothing = Amount::default();
        let report = GarbageReport {
            plan: Sha256([0; 32]),
            freed: false,
            journals: nothing,
            reports: nothing,
            empty: 0,
            bundles: amount,
            manifests: nothing,
            repeated: 0,
            gone: vec!["/jobs/step-1".to_owned()],
            spared: Kept { attestations: 1, roots: vec!["/jobs/rotated".to_owned()] },
            unseen: Kept { attestations: 2, roots: vec!["/jobs/moved".to_owned()] },
            away: Kept::default(),
        };
        let expected = "\
can be freed
  1 attestation  2.00 KiB  whose files are all gone
  nothing is left of /jobs/step-1
copies of these files that were made elsewhere lose their attestation
kept: 1 attestation whose files are all gone
  of /jobs/rotated
  copies elsewhere may need them; if not: attestfs gc --bundles
kept: 2 attestations whose files are not where they were, and no run removed them
  of /jobs/moved
  they may have been moved; if not, name the place: attestfs gc PATH
";
        assert_eq!(Shown(report.clone()).to_string(), expected);
        let unseen = Kept::default();
        let indexes = GarbageReport {
            bundles: nothing,
            repeated: 2048,
            gone: Vec::new(),
            unseen,
            spared: Kept::default(),
            ..report
        };
        let expected = "\
can be freed
  lines of indexes  2.00 KiB  that say what later lines say again
";
        assert_eq!(Shown(indexes.clone()).to_string(), expected);
        let nothing = GarbageReport { repeated: 0, ..indexes };
        assert_eq!(Shown(nothing).to_string(), "there is nothing to free\n");
    }
}
