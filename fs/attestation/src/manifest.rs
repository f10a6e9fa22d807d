//! Long lists: the text that `sha256sum` writes, sorted, and its digest in the statement.

use std::collections::BTreeMap;

use attestfs_digest::Sha256;

use crate::{
    name::{escaped, unescaped},
    statement::sha256,
};

/// Most subjects, or materials, that a statement lists one by one. A statement of a million lines
/// could not be changed later, and no tool reads it.
pub const LISTED_MAX: usize = 1000;

/// Largest manifest that is read, in bytes: some two million files.
pub const MANIFEST_MAX: usize = 256 * 1024 * 1024;

const HEX_LEN: usize = 64;

/// A sorted list of files and their digests, in the format of `sha256sum`.
///
/// Each line is the digest, two spaces, the name, a line feed. A name with a backslash, a line
/// feed or a carriage return is written `\\`, `\n`, `\r`, and its line begins with a backslash.
/// Lines are in the order of their unescaped names' bytes, then of their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    sha256: Sha256,
    files: usize,
}

impl Manifest {
    /// Writes the manifest of files named as [`crate::escaped`] spells them. Equal lines become one.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, Sha256)>) -> Self {
        let mut lines: Vec<(Vec<u8>, Sha256)> =
            files.into_iter().map(|(name, digest)| (unescaped(name), digest)).collect();
        lines.sort_unstable();
        lines.dedup();
        let bytes = lines.iter().flat_map(|(name, digest)| line(name, *digest)).collect();
        Self::named(bytes, lines.len())
    }

    /// `sha256sum --check` reads these.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the statement holds instead of the list, and the name of the file that has it.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Number of lines.
    pub fn files(&self) -> usize {
        self.files
    }

    fn named(bytes: Vec<u8>, files: usize) -> Self {
        let sha256 = sha256(&bytes);
        Self { bytes, sha256, files }
    }
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MANIFEST_MAX`].
    #[error("the manifest has {length} bytes, more than the {MANIFEST_MAX} that are read")]
    TooLarge {
        /// Bytes.
        length: usize,
    },
    /// Not `<64 hexadecimal digits>  <name>`, or the last line does not end.
    #[error("line {number} of the manifest is not '<sha256>  <name>'")]
    Line {
        /// From 1.
        number: usize,
    },
}

/// A manifest that was read: names as [`crate::escaped`] spells them, and all digests of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, Vec<Sha256>>);

impl Listing {
    /// Reads a manifest in any order.
    ///
    /// # Errors
    /// It is too large, or a line is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_MAX {
            return Err(ManifestError::TooLarge { length: bytes.len() });
        }
        let mut listing = Self::default();
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let (name, digest) =
                parse_line(line).ok_or(ManifestError::Line { number: index + 1 })?;
            listing.0.entry(name).or_default().push(digest);
        }
        Ok(listing)
    }

    /// Names and digests; a name may come more than once.
    pub fn files(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.0
            .iter()
            .flat_map(|(name, digests)| digests.iter().map(move |digest| (name.as_str(), *digest)))
    }
}

fn line(name: &[u8], digest: Sha256) -> Vec<u8> {
    let mut escaped_name = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'\\' => escaped_name.extend_from_slice(br"\\"),
            b'\n' => escaped_name.extend_from_slice(br"\n"),
            b'\r' => escaped_name.extend_from_slice(br"\r"),
            _ => escaped_name.push(byte),
        }
    }
    let mark = if escaped_name.len() == name.len() { "" } else { r"\" };
    let mut line = format!("{mark}{digest}  ").into_bytes();
    line.extend_from_slice(&escaped_name);
    line.push(b'\n');
    line
}

fn parse_line(line: &[u8]) -> Option<(String, Sha256)> {
    let line = line.strip_suffix(b"\n")?;
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digest, rest) = line.split_at_checked(HEX_LEN)?;
    let digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    let name = rest.strip_prefix(b"  ").filter(|name| !name.is_empty())?;
    let name = if is_escaped { parse_name(name)? } else { name.to_vec() };
    Some((escaped(&name), digest))
}

fn parse_name(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        name.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(byte: u8) -> Sha256 {
        Sha256([byte; 32])
    }

    #[test]
    fn an_empty_manifest_is_the_empty_file() {
        let manifest = Manifest::of([]);
        assert_eq!((manifest.bytes(), manifest.files()), (&b""[..], 0));
        assert_eq!(Listing::parse(b"").unwrap(), Listing::default());
    }

    #[test]
    fn lines_are_sorted_by_name_and_equal_ones_written_once() {
        let manifest = Manifest::of([("b", digest(1)), ("a/c", digest(2)), ("b", digest(1))]);
        let expected = format!("{}  a/c\n{}  b\n", "02".repeat(32), "01".repeat(32));
        assert_eq!(manifest.bytes(), expected.as_bytes());
        assert_eq!(manifest.files(), 2);
    }

    #[test]
    fn awkward_names_are_written_as_sha256sum_writes_them() {
        let manifest =
            Manifest::of([(r"a\\b", digest(1)), ("c\nd\re", digest(2)), (r"f\xff", digest(3))]);
        let mut expected = format!(
            "\\{}  a\\\\b\n\\{}  c\\nd\\re\n{}  f",
            "01".repeat(32),
            "02".repeat(32),
            "03".repeat(32)
        )
        .into_bytes();
        expected.extend_from_slice(b"\xff\n");
        assert_eq!(manifest.bytes(), expected);
    }

    #[test]
    fn more_than_the_bound_is_not_read() {
        for length in [MANIFEST_MAX + 1, MANIFEST_MAX + 2] {
            let read = Listing::parse(&vec![0; length]);
            assert_eq!(read, Err(ManifestError::TooLarge { length }));
        }
    }

    #[test]
    fn a_broken_line_is_refused_by_its_number() {
        let good = format!("{}  a\n", "01".repeat(32));
        for bad in ["\n", "x\n", "  a\n", &good[..66], &good[..67], "\\", &good.replace("  ", " *")]
        {
            let text = format!("{good}{bad}");
            assert_eq!(
                Listing::parse(text.as_bytes()),
                Err(ManifestError::Line { number: 2 }),
                "{bad:?}"
            );
        }
        let unknown_escape = format!("\\{}  a\\t\n", "01".repeat(32));
        assert!(Listing::parse(unknown_escape.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(names: std::collections::BTreeSet<Vec<u8>>) {
            let names: Vec<String> =
                names.iter().filter(|name| !name.is_empty()).map(|name| escaped(name)).collect();
            let manifest = Manifest::of(names.iter().map(|name| (name.as_str(), digest(7))));
            let listing = Listing::parse(manifest.bytes()).unwrap();
            prop_assert_eq!(listing.files().count(), names.len());
            for name in &names {
                prop_assert!(listing.files().any(|file| file == (name.as_str(), digest(7))));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(Listing::parse(&bytes));
        }
    }
}
