use std::collections::{BTreeMap, HashMap};

use attestfs_digest::{Blake3, Sha256};

use crate::{
    manifest::Listing,
    oms::Content,
    provenance::MANIFEST_FORMAT,
    statement::{ResourceDescriptor, sha256},
    verify::{Attestations, Refusal, Vouched},
};

/// A file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// What.
    pub content: Content,
}

/// Where a file was found, in names as [`crate::escaped`] spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this path relative to the artifact's root. The subject must have exactly this name.
    Below(String),
    /// At this name relative to the directory in which the statement lies, and at this absolute path.
    /// If the path lies below the root that the statement records, that decides. Otherwise the
    /// artifact was moved, and the name does.
    Beside {
        /// Relative.
        name: String,
        /// Absolute.
        path: String,
    },
    /// At this absolute path, and nobody knows where the artifact's root is now. If the path lies
    /// below the root that the statement records, this decides. Otherwise the artifact was moved,
    /// and the subject must have the longest name, of all in the statement, that the path ends
    /// with: two files of one statement still cannot be swapped.
    Anywhere(String),
}

impl Place {
    /// For people.
    pub fn name(&self) -> &str {
        match self {
            Self::Below(name) | Self::Beside { name, .. } | Self::Anywhere(name) => name,
        }
    }
}

/// What a statement names, its manifest included.
#[derive(Clone, Debug)]
pub struct Subjects {
    root: String,
    by_name: BTreeMap<String, Subject>,
    /// One name of each content: what it is shown as.
    by_content: HashMap<Sha256, String>,
}

#[derive(Clone, Debug)]
struct Subject {
    sha256: Sha256,
    blake3: Option<Blake3>,
    size: Option<u64>,
}

impl Subjects {
    /// Reads the subjects of a statement, from its manifest if they are in one.
    ///
    /// # Errors
    /// The manifest is not at hand, or two subjects have one name.
    pub fn of(vouched: &Vouched, source: &dyn Attestations) -> Result<Self, Refusal> {
        let mut by_name = BTreeMap::new();
        for descriptor in &vouched.statement().subject {
            for (name, subject) in read(descriptor, source)? {
                if by_name.insert(name, subject).is_some() {
                    return Err(Refusal::Subjects { reason: "two have the same name" });
                }
            }
        }
        let parameters = &vouched.provenance().build_definition.internal_parameters;
        Ok(Self {
            root: parameters.artifact_root.clone(),
            by_content: by_name
                .iter()
                .map(|(name, subject)| (subject.sha256, name.clone()))
                .collect(),
            by_name,
        })
    }

    /// The absolute path of the artifact's root when it was attested.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// How many files are named.
    pub fn files(&self) -> usize {
        self.by_name.len()
    }

    /// Whether any subject has this content.
    pub fn has(&self, content: Sha256) -> bool {
        self.by_content.contains_key(&content)
    }

    /// Whether a subject has this name.
    pub fn names(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Checks 7 and 8: this file is what the statement says of its name.
    ///
    /// # Returns
    /// The subject's name.
    ///
    /// # Errors
    /// [`Refusal::Unattested`] if the statement speaks neither of the name nor of the content.
    pub fn check(&self, found: &Found) -> Result<&str, Refusal> {
        // 7. The name chooses the subject; content under another name is a swap.
        let Some((name, subject)) = self.at(&found.place) else {
            return Err(self.no_such_name(found));
        };
        // 8.
        subject.compare(name, &found.content)?;
        Ok(name)
    }

    /// What is said of a file at this place, before anybody has read it.
    pub(super) fn digests_at(&self, place: &Place) -> Option<(Sha256, Option<Blake3>)> {
        let (_, subject) = self.at(place)?;
        Some((subject.sha256, subject.blake3))
    }

    fn at(&self, place: &Place) -> Option<(&str, &Subject)> {
        match place {
            Place::Below(name) => self.named(name),
            Place::Beside { name, path } => {
                self.named(self.below_recorded_root(path).unwrap_or(name))
            }
            Place::Anywhere(path) => match self.below_recorded_root(path) {
                Some(name) => self.named(name),
                None => suffixes(path).find_map(|suffix| self.named(suffix)),
            },
        }
    }

    fn named(&self, name: &str) -> Option<(&str, &Subject)> {
        self.by_name.get_key_value(name).map(|(name, subject)| (name.as_str(), subject))
    }

    pub(crate) fn below_recorded_root<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.root.trim_end_matches('/'))?.strip_prefix('/')
    }

    fn no_such_name(&self, found: &Found) -> Refusal {
        let name = found.place.name().to_owned();
        match self.by_content.get(&found.content.sha256()) {
            Some(attested_as) => Refusal::WrongSubject { name, attested_as: attested_as.clone() },
            None => Refusal::Unattested { name },
        }
    }
}

impl Subject {
    /// A manifest says no more of a file.
    fn of(sha256: Sha256) -> Self {
        Self { sha256, blake3: None, size: None }
    }

    /// SHA-256 decides. BLAKE3 and the size are compared as well when they are given, so that a
    /// statement that contradicts itself is refused. So is one of which nobody has computed what it gives.
    fn compare(&self, name: &str, content: &Content) -> Result<(), Refusal> {
        let mismatch = |expected: String, found: String| Refusal::DigestMismatch {
            name: name.to_owned(),
            expected,
            found,
            others: 0,
        };
        if self.sha256 != content.sha256() {
            return Err(mismatch(self.sha256.to_string(), content.sha256().to_string()));
        }
        match (self.blake3, self.size) {
            (Some(blake3), _) if Some(blake3) != content.blake3() => {
                let found = content.blake3().map(|found| found.to_string());
                let found = found.unwrap_or_else(|| "nobody has computed".to_owned());
                Err(mismatch(format!("blake3 {blake3}"), format!("blake3 {found}")))
            }
            (_, Some(size)) if size != content.size => {
                Err(mismatch(format!("{size} bytes"), format!("{} bytes", content.size)))
            }
            _ => Ok(()),
        }
    }
}

/// What a path ends with, by whole components, the longest first.
pub(super) fn suffixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[at + 1..])
}

fn read(
    descriptor: &ResourceDescriptor,
    source: &dyn Attestations,
) -> Result<Vec<(String, Subject)>, Refusal> {
    let (Some(name), Some(sha256)) = (&descriptor.name, descriptor.digest.sha256()) else {
        return Err(Refusal::Subjects { reason: "one lacks a name or a SHA-256" });
    };
    match descriptor.annotation("manifest") {
        None => Ok(vec![(name.clone(), listed(descriptor, sha256)?)]),
        Some(MANIFEST_FORMAT) => Ok(manifest(sha256, source)?
            .files()
            .map(|(name, sha256)| (name.to_owned(), Subject::of(sha256)))
            .collect()),
        Some(_) => Err(Refusal::Subjects { reason: "their manifest is of an unknown format" }),
    }
}

fn listed(descriptor: &ResourceDescriptor, sha256: Sha256) -> Result<Subject, Refusal> {
    let blake3 = descriptor.annotation("blake3").map(str::parse).transpose();
    let size = descriptor.annotation("size").map(str::parse).transpose();
    match (blake3, size) {
        (Ok(blake3), Ok(size)) => Ok(Subject { sha256, blake3, size }),
        _ => Err(Refusal::Subjects { reason: "a BLAKE3 or a size is damaged" }),
    }
}

/// A manifest by its digest.
pub(super) fn manifest(digest: Sha256, source: &dyn Attestations) -> Result<Listing, Refusal> {
    let bytes = source
        .manifest(digest)
        .filter(|bytes| sha256(bytes) == digest)
        .ok_or(Refusal::ManifestNotSeen { digest })?;
    Listing::parse(&bytes).map_err(Refusal::Manifest)
}
