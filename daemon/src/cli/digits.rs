//! Names that are digits, as people type them.

use std::path::Path;

use super::failure::Failure;

/// So many digits at least name something.
const DIGITS_MIN: usize = 8;

/// As many has a digest.
const DIGITS_MAX: usize = 64;

/// The digits of a name, if the text is one or the beginning of one; `sha256:` may come before. A
/// file of such a name is `./NAME`.
pub(super) fn digits(text: &Path) -> Option<&str> {
    let digits = without_kind(text)?;
    let is_digits = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_digits && has_length(digits)).then_some(digits)
}

/// Refuses what would be a name in lower case, unless a file is called so.
pub(super) fn refuse_upper_case(text: &Path) -> Result<(), Failure> {
    let Some(digits) = without_kind(text).filter(|digits| has_length(digits)) else {
        return Ok(());
    };
    let is_mistake = digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.symlink_metadata().is_err();
    if !is_mistake {
        return Ok(());
    }
    let message = format!("'{}': a digest has lower-case digits", text.display());
    Err(Failure::usage(message).with_next_step(format!("give {}", digits.to_ascii_lowercase())))
}

fn without_kind(text: &Path) -> Option<&str> {
    let text = text.to_str()?;
    Some(text.strip_prefix("sha256:").unwrap_or(text))
}

fn has_length(digits: &str) -> bool {
    (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len())
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

    #[test]
    fn a_digest_in_upper_case_is_told_what_it_should_be() {
        let refused = refuse_upper_case(Path::new("sha256:0011AABB")).unwrap_err();
        assert!(refused.message.contains("a digest has lower-case digits"), "{refused:?}");
        assert_eq!(refused.next_step.as_deref(), Some("give 0011aabb"));
        for other in ["0011aabb", "0011AAB", "./0011AABB", "MODEL.bin", "12345678"] {
            assert!(refuse_upper_case(Path::new(other)).is_ok(), "{other}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("0011AABB");
        std::fs::write(&file, "").unwrap();
        assert!(refuse_upper_case(&file).is_ok());
    }
}
