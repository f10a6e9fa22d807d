//! Which files of a mount an attestation is about.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    Bundle, INCOMPLETE_TYPE, IncompleteRun, Listing, PROVENANCE_TYPE, Provenance,
    ResourceDescriptor, Statement, is_canonical, unescaped,
};
use attestfs_digest::Sha256;
use parking_lot::Mutex;

use crate::{error::Error, port::BundleSource};

/// The subjects of attestations as paths below the root of the mount. An attestation never changes
/// under its name, so what was read once stands.
#[derive(Debug)]
pub(super) struct Subjects {
    /// The artifact roots that statements record are compared with this absolute path.
    origin: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    of: HashMap<Sha256, Remembered>,
    /// Of all together.
    paths: usize,
}

/// What is remembered of an attestation: the first few, which nearly always are enough to find one
/// that can be read.
#[derive(Clone, Debug)]
struct Remembered {
    paths: Arc<[PathBuf]>,
    are_all: bool,
}

impl Subjects {
    /// Of a mount whose root is called `origin` in statements, escaped.
    pub(super) fn below(origin: String) -> Self {
        Self { origin, known: Mutex::default() }
    }

    /// Whether `is_asked` holds of a subject that lies below the origin, of which no more than
    /// [`SUBJECTS_MAX`] are looked at. Of none when they are in a manifest that is not at hand, or the
    /// bundle is something else.
    ///
    /// # Errors
    /// Those of `bundle`, which is asked for it when what is remembered is not enough.
    pub(super) fn any(
        &self,
        attestation: Sha256,
        bundle: impl FnOnce() -> Result<Bundle, Error>,
        source: &dyn BundleSource,
        is_asked: impl Fn(&Path) -> bool,
    ) -> Result<bool, Error> {
        let remembered = self.known.lock().of.get(&attestation).cloned();
        if let Some(is_any) = remembered.and_then(|remembered| remembered.any(&is_asked)) {
            return Ok(is_any);
        }
        let Some(paths) = self.read(&bundle()?, source) else { return Ok(false) };
        self.known.lock().remember(attestation, &paths);
        Ok(paths.iter().any(|path| is_asked(path)))
    }

    /// None when a manifest is not at hand, which may change.
    fn read(&self, bundle: &Bundle, source: &dyn BundleSource) -> Option<Vec<PathBuf>> {
        let Some((root, subjects)) = statement(bundle) else { return Some(Vec::new()) };
        let mut paths = Vec::new();
        for subject in subjects {
            let room = SUBJECTS_MAX - paths.len();
            let names = names(subject, source)?.into_iter();
            paths.extend(names.filter_map(|name| self.place(&root, &name)).take(room));
        }
        Some(paths)
    }

    /// Where a subject of this name lies in the mount, if it lies there.
    fn place(&self, root: &str, name: &str) -> Option<PathBuf> {
        let path = format!("{}/{name}", root.trim_end_matches('/'));
        let relative = path.strip_prefix(self.origin.trim_end_matches('/'))?.strip_prefix('/')?;
        let path = PathBuf::from(OsString::from_vec(unescaped(relative)));
        // Also when it is no longer escaped it leads nowhere else.
        let goes_down = path.components().all(|part| matches!(part, Component::Normal(_)));
        (is_canonical(relative) && goes_down).then_some(path)
    }
}

impl Remembered {
    /// None when only the others could tell.
    fn any(&self, is_asked: impl Fn(&Path) -> bool) -> Option<bool> {
        let is_any = self.paths.iter().any(|path| is_asked(path));
        (is_any || self.are_all).then_some(is_any)
    }
}

impl Known {
    /// Above the bound every second one is forgotten, whichever that is: whoever looks through more
    /// attestations than are remembered then does not read all of them each time.
    fn remember(&mut self, attestation: Sha256, paths: &[PathBuf]) {
        if self.of.len() + self.paths > KNOWN_MAX {
            let mut is_kept = false;
            self.of.retain(|_, _| {
                is_kept = !is_kept;
                is_kept
            });
            self.paths = self.of.values().map(|remembered| remembered.paths.len()).sum();
        }
        let first = &paths[..paths.len().min(REMEMBERED_MAX)];
        let remembered = Remembered { paths: first.into(), are_all: first.len() == paths.len() };
        let before = self.of.insert(attestation, remembered);
        self.paths += first.len();
        self.paths -= before.map_or(0, |before| before.paths.len());
    }
}

/// The artifact root and the subjects of a statement of ours.
fn statement(bundle: &Bundle) -> Option<(String, Vec<ResourceDescriptor>)> {
    let payload = bundle.payload();
    let (subject, provenance) = match payload.header().ok()?.predicate_type.as_str() {
        PROVENANCE_TYPE => {
            let Statement { subject, predicate, .. } = payload.statement::<Provenance>().ok()?;
            (subject, predicate)
        }
        INCOMPLETE_TYPE => {
            let Statement { subject, predicate, .. } = payload.statement::<IncompleteRun>().ok()?;
            (subject, predicate.run)
        }
        _ => return None,
    };
    Some((provenance.build_definition.internal_parameters.artifact_root, subject))
}

/// The names that one entry of the list of subjects stands for.
fn names(subject: ResourceDescriptor, source: &dyn BundleSource) -> Option<Vec<String>> {
    if subject.annotation("manifest").is_none() {
        return Some(subject.name.into_iter().collect());
    }
    let listing = Listing::parse(&source.manifest(subject.digest.sha256()?)?).ok()?;
    Some(listing.files().map(|(name, _)| name.to_owned()).collect())
}

/// So many files are looked at to find one that the caller may read. Who may read none of these may
/// not see the attestation.
const SUBJECTS_MAX: usize = 4096;

/// So many of these are remembered.
const REMEMBERED_MAX: usize = 8;

/// So many attestations and subjects are remembered, all together: some 20 MiB. An attestation about
/// another place takes one of them.
const KNOWN_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(origin: &str, root: &str, name: &str) -> Option<String> {
        let path = Subjects::below(origin.to_owned()).place(root, name)?;
        Some(path.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_subject_lies_where_its_statement_says_if_that_is_in_the_mount() {
        for (origin, root, name, expected) in [
            ("/data", "/data", "w", Some("w")),
            ("/data", "/data/model", "part/w", Some("model/part/w")),
            ("/data/model", "/data", "model/w", Some("w")),
            ("/data/", "/data/model/", "w", Some("model/w")),
            ("/", "/model", "w", Some("model/w")),
            ("/data", "/data", r"a\\b", Some(r"a\b")),
            ("/data", "/database", "w", None),
            ("/data", "/elsewhere", "w", None),
            ("/data/model", "/data", "model", None),
            ("/data", "data", "w", None),
            ("/data", "", "w", None),
        ] {
            assert_eq!(place(origin, root, name).as_deref(), expected, "{root} {name}");
        }
    }

    #[test]
    fn no_subject_leads_out_of_the_mount() {
        for name in
            ["", ".", "..", "../w", "a/../../w", "/w", "a//w", r"\x2e\x2e/w", r"a\x2f\x2e\x2e/w"]
        {
            assert_eq!(place("/data", "/data/model", name), None, "{name}");
        }
        assert_eq!(place("/data", "/data/..", "w"), None);
    }

    fn known(origin: &str, attestations: impl Iterator<Item = (Sha256, Vec<PathBuf>)>) -> Subjects {
        let subjects = Subjects::below(origin.to_owned());
        for (attestation, paths) in attestations {
            subjects.known.lock().remember(attestation, &paths);
        }
        subjects
    }

    fn digest(number: usize) -> Sha256 {
        Sha256::of(&number.to_le_bytes())
    }

    #[test]
    fn what_is_remembered_is_bounded_and_half_of_it_outlives_the_bound() {
        let many = (0..KNOWN_MAX + 2).map(|number| (digest(number), Vec::new()));
        let subjects = known("/data", many);
        let known = subjects.known.lock();
        assert!((KNOWN_MAX / 2..=KNOWN_MAX).contains(&known.of.len()), "{}", known.of.len());
        assert!(known.of.contains_key(&digest(KNOWN_MAX + 1)), "the last one is remembered");
    }

    #[test]
    fn of_an_attestation_the_first_few_subjects_are_remembered_and_counted_once() {
        for count in [0, 1, REMEMBERED_MAX, REMEMBERED_MAX + 1, SUBJECTS_MAX] {
            let paths: Vec<_> =
                (0..count).map(|number| PathBuf::from(number.to_string())).collect();
            let subjects =
                known("/data", [(digest(1), paths.clone()), (digest(1), paths)].into_iter());
            let known = subjects.known.lock();
            let remembered = &known.of[&digest(1)];
            assert_eq!(remembered.paths.len(), count.min(REMEMBERED_MAX));
            assert_eq!(known.paths, remembered.paths.len());
            assert_eq!(remembered.any(|_| true), Some(count > 0));
            assert_eq!(remembered.any(|_| false), (count <= REMEMBERED_MAX).then_some(false));
        }
    }

    proptest! {
        #[test]
        fn any_subject_goes_down_or_nowhere(
            root in "/a?[/.a\\\\x2ef]{0,20}",
            name in "[/.a\\\\x2ef]{0,20}",
        ) {
            if let Some(path) = Subjects::below("/a".to_owned()).place(&root, &name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(path.components().count() > 0);
            }
        }
    }
}
