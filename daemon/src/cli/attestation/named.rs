//! Which attestation is meant. Read from the state directory; no daemon is asked.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use attestfs_digest::Sha256;

use crate::{
    artifact::{About, Artifact, AtHand, Claimed, ClaimedKind, claimed},
    cli::{
        digits::{digits, refuse_upper_case},
        failure::Failure,
        progress::Progress,
        story::{ended, short},
    },
    config::{Environment, StateDir},
    publication::Shelf,
    text::harmless,
};

/// The most other attestations that are listed for people; --json has them all.
const LISTED_MAX: usize = 12;

/// An attestation, and where it is looked for.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The name of the attestation, at least 8 digits of it; or a file of which it speaks: then the
    /// newest of a run that succeeded
    #[arg(value_name = "NAME|PATH")]
    name: PathBuf,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// The attestation that is meant.
pub(super) struct Meant {
    /// Its bundle.
    pub(super) bundle: Vec<u8>,
    /// Which of those that name a file.
    pub(super) choice: Choice,
}

/// Of the attestations that name the content of a file, the one that says most about the file comes
/// first. Empty when a name was given, not a file.
pub(super) struct Choice(Vec<Claimed>);

impl Named {
    /// The attestation.
    pub(super) fn meant(&self, environment: &Environment) -> Result<Meant, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        let shelf = Shelf::of(&state);
        let failed = |error| {
            let shelf = shelf.directory().display();
            Failure::environment(format_args!("{shelf}: {error}"))
        };
        let (statement, choice) = match digits(&self.name) {
            Some(digits) => {
                let like = shelf.statements_like(digits).map_err(failed)?;
                (self.only(digits, &like)?, Choice(Vec::new()))
            }
            None => self.of_file(&state)?,
        };
        let bundle = shelf.bundle(statement).map_err(failed)?;
        Ok(Meant { bundle: bundle.ok_or_else(|| unknown(&self.name))?, choice })
    }

    fn only(&self, digits: &str, like: &[Sha256]) -> Result<Sha256, Failure> {
        match *like {
            [statement] => Ok(statement),
            [] => Err(unknown(&self.name)),
            [..] => Err(Failure::refused(format_args!("{digits} begins several names"))
                .with_next_step("give more digits")),
        }
    }

    /// What speaks of the file itself comes before what speaks of equal content elsewhere.
    fn of_file(&self, state: &StateDir) -> Result<(Sha256, Choice), Failure> {
        refuse_upper_case(&self.name)?;
        let artifact = Artifact::at(&self.name).map_err(|error| no_file(&self.name, &error))?;
        if let Artifact::Directory(_) = artifact {
            return Err(no_file(&self.name, &"Is a directory"));
        }
        let found = claimed(&artifact, &AtHand::in_state(state), &Progress::new())?;
        let first = found.claims.first().ok_or_else(|| unknown(&self.name))?;
        Ok((first.attestation, Choice(found.claims)))
    }
}

impl Choice {
    /// For programs.
    pub(super) fn others(&self) -> &[Claimed] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// For people: where the file was, and what else there is.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(chosen) = self.0.first() else { return Ok(()) };
        writeln!(f, "speaks of    {}", spoken_of(chosen))?;
        for other in self.others().iter().take(LISTED_MAX) {
            writeln!(f, "another      {}  {}", short(&other.attestation), spoken_of(other))?;
        }
        match self.others().len().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => writeln!(f, "             … and {more} more"),
        }
    }
}

fn spoken_of(claimed: &Claimed) -> String {
    let ClaimedKind::Run { subject, root, stage, outcome, .. } = &claimed.claim else {
        return String::new();
    };
    let path = Path::new(root).join(subject.as_deref().unwrap_or_default());
    let about = match claimed.about {
        About::Artifact | About::Behind => "",
        About::SameContent => " (same content, elsewhere)",
    };
    let (path, stage) = (harmless(&path.to_string_lossy()), harmless(stage));
    format!("{path}{about}, stage '{stage}', {}", ended(*outcome))
}

fn no_file(path: &Path, error: &dyn fmt::Display) -> Failure {
    let message =
        format!("'{}' is no name of an attestation, and as a file: {error}", path.display());
    Failure::environment(message).with_next_step("attestfs attestation list")
}

fn unknown(name: &Path) -> Failure {
    Failure::refused(format_args!("no attestation of '{}' lies in this state", name.display()))
        .with_next_step("attestfs attestation list, which also has what 'attestfs gc' freed; or name another state directory with --state")
}
