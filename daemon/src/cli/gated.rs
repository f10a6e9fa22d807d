//! What the gate of a mount says of a file, as it tells everybody in an extended attribute.

use std::path::Path;

use super::failure::Failure;

/// The attribute.
const VERDICT: &str = "user.attestfs.verdict";

/// The longest value that an extended attribute can have, in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// A verdict of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gated {
    /// It opens: `admitted: <level>`.
    Admitted(String),
    /// It does not, for this reason.
    Refused(Failure),
    /// It opens: it is seen through a mount, and no rule has it.
    Unguarded,
}

impl Gated {
    /// None outside of mounts.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let mut value = vec![0; VALUE_BYTES_MAX];
        let Ok(length) = rustix::fs::getxattr(path, VERDICT, &mut value) else {
            return is_seen_through_mount(path).then_some(Self::Unguarded);
        };
        Self::parse(&String::from_utf8_lossy(&value[..length]))
    }

    /// `refused: <reason>`, and what can be done about it on a second line.
    fn parse(verdict: &str) -> Option<Self> {
        let (verdict, next_step) = verdict.split_once("\nnext: ").unwrap_or((verdict, ""));
        if verdict.starts_with("admitted: ") {
            return Some(Self::Admitted(verdict.to_owned()));
        }
        let failure = Failure::refused(verdict.strip_prefix("refused: ")?);
        Some(Self::Refused(match next_step {
            "" => failure,
            next_step => failure.with_next_step(next_step),
        }))
    }
}

#[cfg(feature = "mount")]
fn is_seen_through_mount(path: &Path) -> bool {
    let is_file = path.is_file();
    let seen = std::fs::canonicalize(path).ok();
    is_file && seen.is_some_and(|path| crate::mount::mounts::seen_through(&path).is_some())
}

#[cfg(not(feature = "mount"))]
fn is_seen_through_mount(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_with_its_next_step() {
        assert_eq!(Gated::parse("admitted: stat"), Some(Gated::Admitted("admitted: stat".into())));
        let refused = Failure::refused("signed by nobody");
        assert_eq!(
            Gated::parse("refused: signed by nobody"),
            Some(Gated::Refused(refused.clone()))
        );
        let told = Gated::parse("refused: signed by nobody\nnext: sign it");
        assert_eq!(told, Some(Gated::Refused(refused.with_next_step("sign it"))));
        for other in ["", "maybe", "refused", "next: x"] {
            assert_eq!(Gated::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_outside_of_mounts_has_no_verdict() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Gated::of(file.path()), None);
        assert_eq!(Gated::of(Path::new("/no/such/file")), None);
    }
}
