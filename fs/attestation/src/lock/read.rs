//! Reading a lock. It comes from whoever could change the repository it lies in.

use std::collections::{BTreeMap, BTreeSet};

use attestfs_digest::Sha256;

use super::{
    entry::{Entry, LOCK_HEADER, LOCK_MAX, MANIFESTS_MAX, ROOT, TREE, meant},
    judge::Lock,
};
use crate::{
    manifest::{Listing, ManifestError},
    name::is_canonical,
    statement::sha256,
};

/// Why a lock is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// More than [`LOCK_MAX`].
    #[error("the lock has {length} bytes, more than the {LOCK_MAX} that are read")]
    TooLarge {
        /// Bytes.
        length: usize,
    },
    /// Something else, or the lock of another version.
    #[error("line 1 is not '{LOCK_HEADER}': this is no lock that this version of attestfs reads")]
    Header,
    /// Mostly what a version control system has made of it.
    #[error("line {number} ends in CR LF: lines of a lock end in LF alone")]
    LineEnd {
        /// From 1.
        number: usize,
    },
    /// Neither a file, nor a directory, nor a section; or the last line does not end.
    #[error("line {number} is not '<path> <sha256> <size>' or '<path>/ tree:<sha256> <files>'")]
    Line {
        /// From 1.
        number: usize,
    },
    /// Absolute, with `..`, or spelt otherwise than attestfs spells it.
    #[error("line {number} names no path below its directory in the spelling of attestfs")]
    Path {
        /// From 1.
        number: usize,
    },
    /// Two lines in the wrong order, or two for one path.
    #[error("line {number} does not come after the one before it: paths are sorted, each once")]
    Order {
        /// From 1.
        number: usize,
    },
    /// A line for a file of a directory that has a manifest.
    #[error("line {number} names what lies below a directory that has a line already")]
    Twice {
        /// From 1.
        number: usize,
    },
    /// Sections are numbered from 1, and a lock has none or at least two.
    #[error("line {number} begins another section than the next one")]
    Section {
        /// From 1.
        number: usize,
    },
    /// It is not where it should be, or cannot be read.
    #[error("the manifest {manifest} of line {number} cannot be read: {reason}")]
    NoManifest {
        /// From 1.
        number: usize,
        /// Its digest.
        manifest: Sha256,
        /// What the system said.
        reason: String,
    },
    /// It is another one than the line names.
    #[error("the manifest {manifest} of line {number} was changed: its digest is {found}")]
    WrongManifest {
        /// From 1.
        number: usize,
        /// Its digest.
        manifest: Sha256,
        /// What it has.
        found: Sha256,
    },
    /// It has its digest and is no manifest, or not of as many files, or names one twice.
    #[error("the manifest {manifest} of line {number} cannot be used: {reason}")]
    BadManifest {
        /// From 1.
        number: usize,
        /// Its digest.
        manifest: Sha256,
        /// What is wrong with it.
        reason: ManifestFault,
    },
}

/// What is wrong with the manifest of a lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// Not the format.
    #[error(transparent)]
    Form(#[from] ManifestError),
    /// The line of the lock says another number.
    #[error("it lists {found} files, and the lock says {expected}")]
    Count {
        /// In the lock.
        expected: usize,
        /// In the manifest.
        found: usize,
    },
    /// Absolute, with `..`, or the like.
    #[error("'{name}' is no path below the directory")]
    Name {
        /// As listed.
        name: String,
    },
    /// A file has one content.
    #[error("'{name}' is listed twice")]
    Twice {
        /// As listed.
        name: String,
    },
    /// All manifests together are more than are read.
    #[error("the manifests of the lock have more than the {MANIFESTS_MAX} bytes that are read")]
    TooLarge,
}

/// Gives the manifest of a digest, as it lies beside the lock, or a sentence that says why not.
type ReadManifest<'a> = &'a mut dyn FnMut(Sha256) -> Result<Vec<u8>, String>;

impl Lock {
    /// Reads a lock; `read_manifest` gives the manifests that it names.
    ///
    /// # Errors
    /// It is not exactly what attestfs writes: a line says what it says in one spelling only.
    pub fn parse(bytes: &[u8], read_manifest: ReadManifest<'_>) -> Result<Self, LockError> {
        if bytes.len() > LOCK_MAX {
            return Err(LockError::TooLarge { length: bytes.len() });
        }
        let mut reader = Reader::new(read_manifest);
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            reader.number = index + 1;
            reader.take(line)?;
        }
        reader.finish(sha256(bytes))
    }
}

/// What was read so far.
struct Reader<'a> {
    read_manifest: ReadManifest<'a>,
    manifests: BTreeSet<Sha256>,
    manifest_bytes: usize,
    /// Of the line that is being read, from 1; 0 before the first.
    number: usize,
    sections: Vec<BTreeMap<String, Sha256>>,
    /// Whether the sections have lines of their own.
    divided: bool,
    /// The key of the last line of this section.
    last: Option<Vec<u8>>,
    /// The last directory of this section that has a line.
    directory: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(read_manifest: ReadManifest<'a>) -> Self {
        Self {
            read_manifest,
            manifests: BTreeSet::new(),
            manifest_bytes: 0,
            number: 0,
            sections: vec![BTreeMap::new()],
            divided: false,
            last: None,
            directory: None,
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), LockError> {
        let number = self.number;
        if line.ends_with(b"\r\n") {
            return Err(LockError::LineEnd { number });
        }
        let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        if number == 1 {
            return (text == Some(LOCK_HEADER)).then_some(()).ok_or(LockError::Header);
        }
        let text = text.ok_or(LockError::Line { number })?;
        match section(text) {
            Some(section) => self.begin(section),
            None => self.enter(entry(text, number)?),
        }
    }

    fn begin(&mut self, section: usize) -> Result<(), LockError> {
        let first = !self.divided && self.number == 2;
        let expected = if first { 1 } else { self.sections.len() + 1 };
        if section != expected || !(first || self.divided) || section > usize::from(u16::MAX) {
            return Err(LockError::Section { number: self.number });
        }
        if !first {
            self.sections.push(BTreeMap::new());
        }
        self.divided = true;
        self.last = None;
        self.directory = None;
        Ok(())
    }

    fn enter(&mut self, entry: Entry) -> Result<(), LockError> {
        let number = self.number;
        let key = Some(entry.key());
        if key <= self.last {
            return Err(LockError::Order { number });
        }
        self.last = key;
        let (Entry::File { path, .. } | Entry::Tree { path, .. }) = &entry;
        if self.directory.as_ref().is_some_and(|above| is_below(above, path)) {
            return Err(LockError::Twice { number });
        }
        match entry {
            Entry::File { path, sha256, .. } => {
                self.section().insert(path, sha256);
            }
            Entry::Tree { path, manifest, files } => {
                let listing = self.manifest(manifest, files)?;
                let files = listing.files().map(|(name, sha256)| (join(&path, name), sha256));
                self.section().extend(files);
                self.directory = Some(path);
            }
        }
        Ok(())
    }

    fn manifest(&mut self, manifest: Sha256, files: usize) -> Result<Listing, LockError> {
        let number = self.number;
        let bad = |reason| LockError::BadManifest { number, manifest, reason };
        let bytes = (self.read_manifest)(manifest).map_err(|reason| LockError::NoManifest {
            number,
            manifest,
            reason,
        })?;
        self.manifest_bytes = self.manifest_bytes.saturating_add(bytes.len());
        if self.manifest_bytes > MANIFESTS_MAX {
            return Err(bad(ManifestFault::TooLarge));
        }
        let found = sha256(&bytes);
        if found != manifest {
            return Err(LockError::WrongManifest { number, manifest, found });
        }
        let listing = Listing::parse(&bytes).map_err(|error| bad(error.into()))?;
        check(&listing, files).map_err(bad)?;
        self.manifests.insert(manifest);
        Ok(listing)
    }

    fn section(&mut self) -> &mut BTreeMap<String, Sha256> {
        self.sections.last_mut().expect("there is one from the beginning")
    }

    fn finish(self, sha256: Sha256) -> Result<Lock, LockError> {
        match (self.number, self.divided, self.sections.len()) {
            (0, ..) => Err(LockError::Header),
            (number, true, 1) => Err(LockError::Section { number }),
            _ => Ok(Lock::new(sha256, self.sections, self.manifests)),
        }
    }
}

/// `[dir 1]`.
fn section(line: &str) -> Option<usize> {
    number(line.strip_prefix("[dir ")?.strip_suffix(']')?)
}

/// From the right: a path may hold spaces.
fn entry(line: &str, number_of_line: usize) -> Result<Entry, LockError> {
    let broken = || LockError::Line { number: number_of_line };
    let mut fields = line.rsplitn(3, ' ');
    let (Some(count), Some(digest), Some(path)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(broken());
    };
    let count = number::<u64>(count).ok_or_else(broken)?;
    let path_of = |text: &str| {
        let path = meant(text).filter(|path| is_canonical(path));
        path.ok_or(LockError::Path { number: number_of_line })
    };
    let Some(manifest) = digest.strip_prefix(TREE) else {
        let sha256 = digest.parse().map_err(|_not_a_digest| broken())?;
        return Ok(Entry::File { path: path_of(path)?, sha256, size: count });
    };
    let manifest = manifest.parse().map_err(|_not_a_digest| broken())?;
    let files = usize::try_from(count).map_err(|_too_many| broken())?;
    let path = match path {
        ROOT => String::new(),
        path => path_of(path.strip_suffix('/').ok_or_else(broken)?)?,
    };
    Ok(Entry::Tree { path, manifest, files })
}

/// A decimal number in its only spelling.
fn number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse::<N>().ok().filter(|number| number.to_string() == text)
}

/// The files of a manifest are those of its line, each once.
fn check(listing: &Listing, expected: usize) -> Result<(), ManifestFault> {
    let mut found = 0;
    let mut last = None;
    for (name, _) in listing.files() {
        if !is_canonical(name) {
            return Err(ManifestFault::Name { name: name.to_owned() });
        }
        if last == Some(name) {
            return Err(ManifestFault::Twice { name: name.to_owned() });
        }
        last = Some(name);
        found += 1;
    }
    if found != expected {
        return Err(ManifestFault::Count { expected, found });
    }
    Ok(())
}

fn is_below(directory: &str, path: &str) -> bool {
    directory.is_empty()
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}
