//! How names become text.

use std::fmt::Write as _;

use crate::{claims::CLAIMS_FILE, oms::MODEL_SIGNATURE_FILE};

/// Spells a path so that two different paths never look alike and the result is UTF-8: a byte that
/// is no part of valid UTF-8 becomes `\xHH`, a backslash `\\`, everything else stays.
pub fn escaped(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            push_formatted(&mut text, format_args!(r"\x{byte:02x}"));
        }
    }
    text
}

/// Undoes [`escaped`]. Text that it did not write is taken as it stands.
pub fn unescaped(text: &str) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        path.extend_from_slice(before.as_bytes());
        let (byte, length) = escape_sequence(after).unwrap_or((b'\\', 0));
        path.push(byte);
        rest = &after[length..];
    }
    path.extend_from_slice(rest.as_bytes());
    path
}

/// The byte that follows a backslash in escaped form, and the length of that form.
fn escape_sequence(after: &str) -> Option<(u8, usize)> {
    if after.starts_with('\\') {
        return Some((b'\\', 1));
    }
    let digits = after.strip_prefix('x')?.get(..2)?;
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some((byte[0], 3))
}

/// The `file:` URI of an absolute path on a host (RFC 8089); bytes that a URI path does not allow
/// are percent-encoded.
pub fn file_uri(host: &str, path: &[u8]) -> String {
    let mut uri = String::from("file://");
    percent_encode(&mut uri, host.as_bytes());
    percent_encode(&mut uri, path);
    uri
}

/// Whether a name is relative, has no empty, `.` or `..` component and no NUL: one file, one name.
pub fn is_canonical(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|component| !matches!(component, "" | "." | ".."))
}

/// The files that a commit itself writes into an artifact's directory.
pub const PUBLICATIONS: [&str; 2] = [CLAIMS_FILE, MODEL_SIGNATURE_FILE];

/// Whether a file has the name of a publication, wherever below an artifact's root. Such files are
/// never subjects.
pub fn is_publication(name: &str) -> bool {
    PUBLICATIONS.contains(&name.rsplit('/').next().unwrap_or_default())
}

/// The directories that lead to a name, and the name itself: `a`, `a/b`, `a/b/c`.
pub(crate) fn paths_to(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(end, _)| &name[..end]).chain([name])
}

fn percent_encode(uri: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => push_formatted(uri, format_args!("%{byte:02X}")),
        }
    }
}

pub(crate) fn push_formatted(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn different_names_never_look_alike() {
        assert_eq!(escaped(b""), "");
        assert_eq!(escaped(b"a\xffb"), r"a\xffb");
        assert_eq!(escaped(br"a\xffb"), r"a\\xffb");
        assert_eq!(escaped("é".as_bytes()), "é");
    }

    #[test]
    fn a_uri_holds_only_what_a_uri_may_hold() {
        assert_eq!(
            file_uri("node 1", "/data/é#%.bin".as_bytes()),
            "file://node%201/data/%C3%A9%23%25.bin"
        );
    }

    #[test]
    fn only_one_spelling_of_a_path_is_canonical() {
        for name in ["", "/", "/a", "a/", "a//b", ".", "./a", "a/..", "..", "a\0b"] {
            assert!(!is_canonical(name), "{name:?}");
        }
        for name in ["a", "a/b", "...", ".hidden", "a b", r"a\b"] {
            assert!(is_canonical(name), "{name:?}");
        }
    }

    #[test]
    fn text_that_was_never_escaped_is_taken_as_it_stands() {
        for text in [r"\", r"a\q", r"\x", r"\x4", r"\xzz", "\\x\u{e9}"] {
            assert_eq!(unescaped(text), text.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn what_a_commit_writes_is_known_by_its_last_component() {
        assert!(is_publication("model.sig") && is_publication("a/b/claims.jsonl"));
        assert!(!is_publication("model.sig/weights") && !is_publication("a.model.sig"));
    }

    proptest! {
        #[test]
        fn unescaping_undoes_escaping(path: Vec<u8>) {
            prop_assert_eq!(unescaped(&escaped(&path)), path);
        }

        #[test]
        fn escaping_loses_nothing(left: Vec<u8>, right: Vec<u8>) {
            prop_assert_eq!(escaped(&left) == escaped(&right), left == right);
        }
    }
}
