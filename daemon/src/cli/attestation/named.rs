//! Which attestation is meant. Read from the state directory; no daemon is asked.

use std::path::{Path, PathBuf};

use attestfs_digest::Sha256;

use crate::{
    artifact::content_at,
    cli::{failure::Failure, progress::Progress},
    config::{Environment, StateDir},
    publication::Shelf,
};

/// So many digits at least name an attestation.
const DIGITS_MIN: usize = 8;

/// An attestation, and where it is looked for.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The name of the attestation, at least 8 digits of it; or a file of which it speaks
    #[arg(value_name = "NAME|PATH")]
    name: PathBuf,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Named {
    /// The bundle of the attestation.
    pub(super) fn bundle(&self, environment: &Environment) -> Result<Vec<u8>, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        let shelf = Shelf::of(&state);
        let failed = |error| {
            let shelf = shelf.directory().display();
            Failure::environment(format_args!("{shelf}: {error}"))
        };
        let statement = self.statement(&shelf, &failed)?;
        shelf.bundle(statement).map_err(failed)?.ok_or_else(|| unknown(&self.name))
    }

    fn statement(
        &self,
        shelf: &Shelf,
        failed: &dyn Fn(std::io::Error) -> Failure,
    ) -> Result<Sha256, Failure> {
        let Some(digits) = digits(&self.name) else {
            let naming = shelf.statements_of(of_file(&self.name)?).map_err(failed)?;
            return naming.first().copied().ok_or_else(|| unknown(&self.name));
        };
        match *shelf.statements_like(digits).map_err(failed)? {
            [statement] => Ok(statement),
            [] => Err(unknown(&self.name)),
            [..] => Err(Failure::refused(format_args!("{digits} begins several names"))
                .with_next_step("give more digits")),
        }
    }
}

/// The digits of a name, if the text is one; a file of such a name is `./NAME`.
fn digits(text: &Path) -> Option<&str> {
    let text = text.to_str()?;
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digits = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (is_digits && (DIGITS_MIN..=64).contains(&digits.len())).then_some(digits)
}

fn of_file(path: &Path) -> Result<Sha256, Failure> {
    let failed = |error| {
        let message =
            format!("'{}' is no name of an attestation, and as a file: {error}", path.display());
        Failure::environment(message).with_next_step("attestfs attestation list")
    };
    Ok(content_at(path, &Progress::new()).map_err(failed)?.digests.sha256)
}

fn unknown(name: &Path) -> Failure {
    Failure::refused(format_args!("no attestation of '{}' lies in this state", name.display()))
        .with_next_step("attestfs attestation list; or name another state directory with --state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_hexadecimal_digits_and_no_other() {
        assert_eq!(digits(Path::new("sha256:0011aabb")), Some("0011aabb"));
        assert_eq!(digits(Path::new("0011aabb")), Some("0011aabb"));
        for wrong in ["", "0011aab", "0011AABB", "./0011aabb", &"0".repeat(65)] {
            assert_eq!(digits(Path::new(wrong)), None, "{wrong}");
        }
    }
}
