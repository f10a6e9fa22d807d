//! The attestations of a state directory. Whoever may read the directory can read them, with no
//! daemon at all.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use attestfs_attestation::{BUNDLE_MAX, MANIFEST_MAX, Payload};
use attestfs_digest::Sha256;

use super::Files;
use crate::config::StateDir;

/// What the name of a bundle ends with.
pub const BUNDLE_SUFFIX: &str = ".sigstore.json";

pub(super) const MANIFEST_SUFFIX: &str = ".manifest";

/// Which statements name which content.
pub(super) const SUBJECTS_INDEX: &str = "subjects.index";

/// What was published under which name. Only what vouches is in it.
pub(super) const NAMES_INDEX: &str = "names.index";

/// Two digests, a space and a newline.
const SUBJECT_LINE_BYTES: u64 = 130;

/// Three digests, two spaces and a newline.
const NAME_LINE_BYTES: u64 = 195;

/// Under which key a name below an artifact root stands in `names.index`: that of the path which
/// both make. A file may be published as a part of several roots, and all of that is one history. A
/// root itself ends in a slash, which the path of no file does.
pub fn name_key(root: &str, name: &str) -> Sha256 {
    Sha256::of([root.trim_end_matches('/'), "/", name].concat().as_bytes())
}

/// Bundles by the SHA-256 of their payload, manifests by their own, and an index from subjects to
/// the statements that name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// The shelf of a state directory.
    pub fn of(state: &StateDir) -> Self {
        Self { directory: state.attestations() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the bundle of a statement lies, if it is there.
    pub fn bundle_path(&self, statement: Sha256) -> PathBuf {
        self.directory.join(format!("{statement}{BUNDLE_SUFFIX}"))
    }

    /// Where a manifest lies, if it is there.
    pub fn manifest_path(&self, manifest: Sha256) -> PathBuf {
        self.directory.join(format!("{manifest}{MANIFEST_SUFFIX}"))
    }

    /// The bundle of a statement; none when it is not on this shelf.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any bundle.
    pub fn bundle(&self, statement: Sha256) -> io::Result<Option<Vec<u8>>> {
        read_bounded(&self.bundle_path(statement), BUNDLE_MAX)
    }

    /// The names of statements on this shelf that begin with these hexadecimal digits.
    ///
    /// # Errors
    /// The directory is there and cannot be read.
    pub fn statements_like(&self, prefix: &str) -> io::Result<Vec<Sha256>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let statement = name.to_str().and_then(|name| name.strip_suffix(BUNDLE_SUFFIX));
            let statement = statement.filter(|statement| statement.starts_with(prefix));
            found.extend(statement.and_then(|statement| statement.parse::<Sha256>().ok()));
        }
        Ok(found)
    }

    /// A manifest; none when it is not on this shelf.
    ///
    /// # Errors
    /// It cannot be read, is larger than any manifest, or is not the one it is called.
    pub fn manifest(&self, manifest: Sha256) -> io::Result<Option<Vec<u8>>> {
        let bytes = read_bounded(&self.manifest_path(manifest), MANIFEST_MAX)?;
        Ok(bytes.filter(|bytes| Payload::new(bytes.clone()).sha256() == manifest))
    }

    /// The statements that name this content, the one published last first.
    ///
    /// # Errors
    /// The index cannot be read. A shelf without index has no statements.
    pub fn statements_of(&self, subject: Sha256) -> io::Result<Vec<Sha256>> {
        let mut found = self.statements_of_each(&HashSet::from([subject]))?;
        Ok(found.remove(&subject).unwrap_or_default())
    }

    /// As [`Shelf::statements_of`] for many contents, reading the index once. What nothing names is
    /// not in the answer.
    ///
    /// # Errors
    /// As [`Shelf::statements_of`].
    pub fn statements_of_each(
        &self,
        subjects: &HashSet<Sha256>,
    ) -> io::Result<HashMap<Sha256, Vec<Sha256>>> {
        let mut found: HashMap<Sha256, Vec<Sha256>> = HashMap::new();
        if subjects.is_empty() {
            return Ok(found);
        }
        self.each_line(SUBJECTS_INDEX, SUBJECT_LINE_BYTES, |line| {
            if let Some([subject, statement]) = digests(line)
                && subjects.contains(&subject)
            {
                found.entry(subject).or_default().push(statement);
            }
        })?;
        for statements in found.values_mut() {
            let mut seen = HashSet::new();
            statements.reverse();
            statements.retain(|statement| seen.insert(*statement));
        }
        Ok(found)
    }

    /// The contents that were published under any of these names, each given as its [`name_key`]. Whoever
    /// published them is to be asked, and whether he is believed.
    ///
    /// # Errors
    /// The index cannot be read. A shelf without index has no names.
    pub fn contents_under(&self, names: &HashSet<Sha256>) -> io::Result<HashSet<Sha256>> {
        let mut contents = HashSet::new();
        self.each_line(NAMES_INDEX, NAME_LINE_BYTES, |line| {
            if let Some([name, content, _statement]) = digests(line)
                && names.contains(&name)
            {
                contents.insert(content);
            }
        })?;
        Ok(contents)
    }

    /// Shows every line of an index, from the first one on. A line that is longer comes in pieces.
    fn each_line(
        &self,
        index: &str,
        line_bytes: u64,
        mut visit: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let Some(file) = open(&self.directory.join(index))? else { return Ok(()) };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.by_ref().take(line_bytes).read_until(b'\n', &mut line)? > 0 {
            visit(&line);
            line.clear();
        }
        Ok(())
    }

    /// Puts a bundle on the shelf.
    ///
    /// # Errors
    /// What writing says.
    pub fn put_bundle(
        &self,
        files: &dyn Files,
        statement: Sha256,
        bundle: &[u8],
    ) -> io::Result<()> {
        self.put(files, &format!("{statement}{BUNDLE_SUFFIX}"), bundle)
    }

    /// Puts a manifest on the shelf.
    ///
    /// # Errors
    /// What writing says.
    pub fn put_manifest(
        &self,
        files: &dyn Files,
        manifest: Sha256,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.put(files, &format!("{manifest}{MANIFEST_SUFFIX}"), bytes)
    }

    /// Enters which statement names which subjects. Entered again, nothing changes for readers.
    ///
    /// # Errors
    /// What writing says.
    pub fn index(
        &self,
        files: &dyn Files,
        statement: Sha256,
        subjects: impl Iterator<Item = Sha256>,
    ) -> io::Result<()> {
        let mut lines = String::new();
        for subject in subjects {
            lines.extend([&subject.to_string(), " ", &statement.to_string(), "\n"]);
        }
        files.append(&File::open(&self.directory)?, SUBJECTS_INDEX, &lines)
    }

    pub(super) fn put(&self, files: &dyn Files, name: &str, bytes: &[u8]) -> io::Result<()> {
        files.replace(&File::open(&self.directory)?, name, bytes)
    }
}

/// The digests of a line; a line that a crash cut off has none.
fn digests<const N: usize>(line: &[u8]) -> Option<[Sha256; N]> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let words: [&str; N] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let digests: Vec<_> = words.iter().filter_map(|word| word.parse().ok()).collect();
    digests.try_into().ok()
}

fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Environment, publication::DurableFiles};

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
        state.prepare().unwrap();
        (directory, Shelf::of(&state))
    }

    fn digest(byte: u8) -> Sha256 {
        Sha256([byte; 32])
    }

    #[test]
    fn an_empty_shelf_has_nothing() {
        let (_directory, shelf) = shelf();
        assert_eq!(shelf.bundle(digest(1)).unwrap(), None);
        assert_eq!(shelf.manifest(digest(1)).unwrap(), None);
        assert_eq!(shelf.statements_of(digest(1)).unwrap(), []);
    }

    #[test]
    fn statements_are_found_by_subject_newest_first_and_once() {
        let (_directory, shelf) = shelf();
        for (statement, subjects) in [(10, &[1, 2][..]), (11, &[1]), (12, &[2]), (10, &[1])] {
            let subjects = subjects.iter().map(|byte| digest(*byte));
            shelf.index(&DurableFiles, digest(statement), subjects).unwrap();
        }
        assert_eq!(shelf.statements_of(digest(1)).unwrap(), [digest(10), digest(11)]);
        assert_eq!(shelf.statements_of(digest(2)).unwrap(), [digest(12), digest(10)]);
    }

    #[test]
    fn lines_that_are_no_entry_are_passed_over() {
        let (_directory, shelf) = shelf();
        let index = shelf.directory.join(SUBJECTS_INDEX);
        let cut = format!("{} {}", digest(1), &digest(2).to_string()[..20]);
        let long = "x".repeat(1000);
        fs::write(&index, format!("\n\n{long}\n{} {}\n{cut}", digest(1), digest(3))).unwrap();
        assert_eq!(shelf.statements_of(digest(1)).unwrap(), [digest(3)]);
        shelf.index(&DurableFiles, digest(4), [digest(1)].into_iter()).unwrap();
        assert_eq!(shelf.statements_of(digest(1)).unwrap(), [digest(4), digest(3)]);
    }

    #[test]
    fn contents_are_found_by_the_name_under_which_they_were_published() {
        let (_directory, shelf) = shelf();
        let names = |names: &[&str]| names.iter().map(|name| name_key("/data", name)).collect();
        assert!(shelf.contents_under(&names(&["a"])).unwrap().is_empty());
        let line = |name: &str, content| {
            format!("{} {} {}\n", name_key("/data", name), digest(content), digest(9))
        };
        let lines = [line("a", 1), line("b", 2), "odd\n".to_owned(), line("a", 3)].concat();
        fs::write(shelf.directory.join(NAMES_INDEX), lines + &line("a", 4)[..194]).unwrap();
        let found = shelf.contents_under(&names(&["a", "c"])).unwrap();
        assert_eq!(found, HashSet::from([digest(1), digest(3)]));
    }

    #[test]
    fn statements_are_found_by_the_beginning_of_their_names() {
        let (_directory, shelf) = shelf();
        assert_eq!(shelf.statements_like("").unwrap(), []);
        for statement in [digest(0x1a), digest(0x1b)] {
            shelf.put_bundle(&DurableFiles, statement, b"{}").unwrap();
        }
        assert_eq!(shelf.statements_like("1a1a").unwrap(), [digest(0x1a)]);
        assert_eq!(shelf.statements_like("1").unwrap().len(), 2);
        assert_eq!(shelf.statements_like("2").unwrap(), []);
    }

    #[test]
    fn a_manifest_that_is_not_what_it_is_called_is_not_there() {
        let (_directory, shelf) = shelf();
        shelf.put_manifest(&DurableFiles, digest(1), b"changed").unwrap();
        assert_eq!(shelf.manifest(digest(1)).unwrap(), None);
        let right = Payload::new(b"text".to_vec()).sha256();
        shelf.put_manifest(&DurableFiles, right, b"text").unwrap();
        assert_eq!(shelf.manifest(right).unwrap().as_deref(), Some(&b"text"[..]));
    }

    #[test]
    fn a_file_larger_than_any_bundle_is_not_read() {
        let (_directory, shelf) = shelf();
        let file = File::create(shelf.bundle_path(digest(1))).unwrap();
        file.set_len(BUNDLE_MAX as u64 + 1).unwrap();
        assert!(shelf.bundle(digest(1)).is_err());
    }
}
