//! What a state directory has published, for those who ask often and never wait for a daemon.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    ops::ControlFlow,
    sync::Arc,
};

use attestfs_attestation::{
    Attestations, Bundle, BundleError, Provenance, Publication, Publications, SignerHint,
    Unavailable, Verifier,
};
use attestfs_digest::Sha256;
use attestfs_fs::{BundleSource, Identity, Maker, PublishedFile};
use parking_lot::Mutex;

use super::{
    Shelf,
    entering::FILES_INDEX,
    index::{FileLine, NameLine, word_of},
    lines::{FILE_BYTES_MAX, Lines, SHORTENS},
    shelf::{NAMES_INDEX, SUBJECTS_INDEX, name_key},
};
use crate::config::StateDir;

/// Statements of which it is remembered who made them.
const MAKERS_MAX: usize = 1024;

/// The publications of a state directory, read from its plain files. Handles of one value share what
/// they know.
#[derive(Clone, Debug)]
pub struct Published(Arc<Source>);

#[derive(Debug)]
struct Source {
    shelf: Shelf,
    subjects: Lines,
    names: Lines,
    files: Lines,
    makers: Mutex<HashMap<Sha256, Maker>>,
}

impl Published {
    /// What is published here, now and later. A directory without any publication has published
    /// nothing.
    pub fn of(state: &StateDir) -> Self {
        Self::on(Shelf::of(state))
    }

    pub(crate) fn on(shelf: Shelf) -> Self {
        let lines = |name: &str| Lines::of(shelf.directory().join(name));
        Self(Arc::new(Source {
            subjects: lines(SUBJECTS_INDEX),
            names: lines(NAMES_INDEX),
            files: lines(FILES_INDEX),
            makers: Mutex::default(),
            shelf,
        }))
    }

    /// Reads the indexes, so that no question has to wait for it.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn read_ahead(&self) -> Result<(), Unavailable> {
        for lines in [&self.0.subjects, &self.0.names, &self.0.files] {
            lines.read_ahead().map_err(|error| unavailable(lines, &error))?;
        }
        self.check_indexed()
    }

    /// What was published under this name, in the order of the publications. One that was entered
    /// again, because a crash had come between, has its last place.
    pub(crate) fn names(&self, root: &str, name: &str) -> Result<Vec<NameLine>, Unavailable> {
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        self.each_name(root, name, &mut |line| {
            if seen.insert((line.content, line.statement)) {
                lines.push(line);
            }
            ControlFlow::Continue(())
        })?;
        lines.reverse();
        Ok(lines)
    }

    /// The lines of this name, the newest first.
    fn each_name(
        &self,
        root: &str,
        name: &str,
        visit: &mut dyn FnMut(NameLine) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        let key = name_key(root, name);
        self.check_indexed()?;
        newest_first(&self.0.names, &key.to_string(), |rest| {
            NameLine::parse_after(key, rest).map_or(ControlFlow::Continue(()), &mut *visit)
        })
    }

    /// What was last published in this file, whatever it holds now; in exactly this identity, if
    /// anything was.
    fn file(&self, identity: &Identity) -> Result<Option<FileLine>, Unavailable> {
        self.check_indexed()?;
        let (mut newest, mut exact) = (None, None);
        newest_first(&self.0.files, &word_of(&identity.file), |rest| {
            let line = FileLine::parse_after(&identity.file, rest);
            let line = line.filter(|line| line.is_of(identity));
            exact = line.filter(|line| line.identity == *identity);
            newest = newest.or(line);
            if exact.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(exact.or(newest))
    }

    /// That there is an index of names wherever anything was published: without it, as in a state of
    /// an older program or one that was restored in part, nobody knows what is the newest.
    fn check_indexed(&self) -> Result<(), Unavailable> {
        let shelf = &self.0.shelf;
        let is_indexed = || -> io::Result<bool> { Ok(shelf.has_names()? || shelf.is_empty()?) };
        let directory = shelf.directory().display();
        match is_indexed() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unavailable(format!(
                "{directory} has attestations and no {NAMES_INDEX}, which says which are the newest: \
                 start the daemon of this state directory once, and it is made"
            ))),
            Err(error) => Err(Unavailable(format!("{directory} cannot be read: {error}"))),
        }
    }

    /// What is unknown because the bundle is missing or damaged is empty.
    fn made_by(&self, statement: Sha256) -> Maker {
        if let Some(known) = self.0.makers.lock().get(&statement) {
            return known.clone();
        }
        let Some(Ok(bundle)) = self.attestation(statement).pop() else {
            return Maker::default();
        };
        let maker = maker_of(&bundle);
        let mut makers = self.0.makers.lock();
        if makers.len() == MAKERS_MAX {
            makers.clear();
        }
        makers.insert(statement, maker.clone());
        maker
    }
}

impl Attestations for Published {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        let (mut statements, mut seen) = (Vec::new(), HashSet::<Sha256>::new());
        let found = newest_first(&self.0.subjects, &content.to_string(), |rest| {
            statements.extend(rest.parse().ok().filter(|statement| seen.insert(*statement)));
            // Nobody looks at more.
            if statements.len() < Verifier::CANDIDATES_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if let Err(error) = found {
            tracing::warn!(%error, "attestations of a content cannot be looked for");
        }
        statements
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        let bundle = self.0.shelf.bundle(name).unwrap_or_else(|error| {
            tracing::warn!(statement = %name, %error, "a bundle cannot be read");
            None
        });
        bundle.map(|bundle| Bundle::parse(&bundle)).into_iter().collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.0.shelf.manifest(digest).unwrap_or_else(|error| {
            tracing::warn!(manifest = %digest, %error, "a manifest cannot be read");
            None
        })
    }
}

impl Publications for Published {
    fn history(&self, root: &str, name: &str) -> Result<Vec<Publication>, Unavailable> {
        Ok(self.names(root, name)?.into_iter().map(publication).collect())
    }

    fn newest_first(
        &self,
        root: &str,
        name: &str,
        visit: &mut dyn FnMut(Publication) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        self.each_name(root, name, &mut |line| visit(publication(line)))
    }
}

impl BundleSource for Published {
    /// Grows with each line that is appended, and differs when a file was put in place of another.
    fn generation(&self) -> Result<u64, Unavailable> {
        generation_of([&self.0.subjects, &self.0.names, &self.0.files])
    }

    /// Asked at each open of a guarded file, so by one look: whatever vouches is entered under its names last but for
    /// files, which no judgement asks for, and taking attestations away leaves a mark there.
    fn objections(&self) -> Result<u64, Unavailable> {
        generation_of([&self.0.names])
    }

    /// Asked at each write, so by one look.
    fn file_generation(&self) -> Result<u64, Unavailable> {
        generation_of([&self.0.files])
    }

    fn published(&self, identity: &Identity) -> Result<Option<PublishedFile>, Unavailable> {
        let Some(line) = self.file(identity)? else {
            return Ok(None);
        };
        let Maker { stage, run, signer } = self.made_by(line.statement);
        Ok(Some(PublishedFile {
            content: line.digests.sha256,
            digests: (line.identity == *identity).then_some(line.digests),
            statement: line.statement,
            stage,
            run,
            signer,
        }))
    }

    fn maker(&self, statement: Sha256) -> Result<Maker, Unavailable> {
        Ok(self.made_by(statement))
    }

    fn attestations(&self) -> Result<Vec<Sha256>, Unavailable> {
        let shelf = &self.0.shelf;
        let mut all = shelf.statements_like("").map_err(|error| {
            let directory = shelf.directory().display();
            Unavailable(format!("{directory} cannot be listed: {error}"))
        })?;
        all.sort_unstable();
        Ok(all)
    }
}

/// Who made a statement, as its bundle says. Nothing of it is checked here.
fn maker_of(bundle: &Bundle) -> Maker {
    let statement = bundle.payload().statement::<Provenance>().ok();
    let (stage, run) = statement.map_or_else(Default::default, |statement| {
        let Provenance { build_definition, run_details } = statement.predicate;
        (build_definition.external_parameters.stage, run_details.metadata.invocation_id)
    });
    let signer = match bundle.signer() {
        SignerHint::Key(name) | SignerHint::Certificate(name) => name,
        SignerHint::UnnamedKey => String::new(),
    };
    Maker { stage, run, signer }
}

fn publication(line: NameLine) -> Publication {
    Publication { statement: line.statement, content: line.content }
}

fn generation_of<const N: usize>(indexes: [&Lines; N]) -> Result<u64, Unavailable> {
    let mut hasher = DefaultHasher::new();
    for lines in indexes {
        let extent = lines.extent().map_err(|error| unavailable(lines, &error))?;
        extent.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn newest_first(
    lines: &Lines,
    word: &str,
    visit: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<(), Unavailable> {
    lines.newest_first(word, visit).map_err(|error| unavailable(lines, &error))
}

fn unavailable(lines: &Lines, error: &io::Error) -> Unavailable {
    let path = lines.path().display();
    Unavailable(match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let most = FILE_BYTES_MAX >> 30;
            format!("{path} is larger than the {most} GiB that are read of it: {SHORTENS}")
        }
        _ => format!("{path} cannot be read: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use attestfs_attestation::{KeyHint, Payload};
    use attestfs_digest::{Blake3, Digests};
    use attestfs_fs::FileKey;

    use super::*;
    use crate::{config::Environment, publication::DurableFiles};

    struct Desk {
        _base: tempfile::TempDir,
        state: StateDir,
        published: Published,
    }

    impl Desk {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            let state = StateDir::resolve(Some(base.path()), &Environment::default()).unwrap();
            state.prepare().unwrap();
            let published = Published::of(&state);
            Self { _base: base, state, published }
        }

        fn shelf(&self) -> Shelf {
            Shelf::of(&self.state)
        }

        fn names(&self, lines: &[(&str, u8, u8)]) {
            let lines = lines.iter().map(|(name, content, statement)| NameLine {
                key: name_key("/root", name),
                content: digest(*content),
                statement: digest(*statement),
            });
            self.shelf().enter_names(&DurableFiles, lines).unwrap();
        }

        fn file(&self, identity: Identity, content: u8, statement: u8) {
            let digests = digests(content);
            let line = FileLine { identity, digests, statement: digest(statement) };
            self.shelf().enter_files(&DurableFiles, [line].into_iter()).unwrap();
        }

        fn history(&self, name: &str) -> Vec<(u8, u8)> {
            let history = self.published.history("/root", name).unwrap();
            history.iter().map(|it| (it.content.0[0], it.statement.0[0])).collect()
        }

        fn published(&self, identity: Identity) -> Option<(u8, Option<u8>)> {
            let published = self.published.published(&identity).unwrap()?;
            let known = published.digests.map(|digests| digests.blake3.0[0]);
            Some((published.content.0[0], known))
        }
    }

    fn digest(byte: u8) -> Sha256 {
        Sha256([byte; 32])
    }

    fn digests(byte: u8) -> Digests {
        Digests { sha256: digest(byte), blake3: Blake3([byte; 32]) }
    }

    fn identity(inode: u64, born_ns: i64) -> Identity {
        let file = FileKey { filesystem: 1, inode, born_ns };
        Identity { file, size: 10, mtime_ns: 20, ctime_ns: 30 }
    }

    #[test]
    fn a_state_without_publications_has_published_nothing() {
        let desk = Desk::new();
        assert_eq!(desk.history("x"), []);
        assert_eq!(desk.published(identity(1, 1)), None);
        assert_eq!(desk.published.naming(digest(1)), []);
        assert!(desk.published.attestation(digest(1)).is_empty());
        assert_eq!(desk.published.manifest(digest(1)), None);
        assert_eq!(desk.published.attestations().unwrap(), []);
    }

    #[test]
    fn an_index_that_cannot_be_read_is_unavailable_and_no_empty_one() {
        let desk = Desk::new();
        for index in [NAMES_INDEX, FILES_INDEX] {
            fs::create_dir(desk.shelf().directory().join(index)).unwrap();
        }
        let Unavailable(reason) = desk.published.history("/root", "x").unwrap_err();
        assert!(reason.contains(NAMES_INDEX) && reason.contains("cannot be read"), "{reason}");
        assert!(desk.published.published(&identity(1, 1)).is_err());
        let blocked = Published::on(Shelf::of(&desk.state));
        fs::remove_dir(desk.shelf().directory().join(NAMES_INDEX)).unwrap();
        let index = fs::File::create(desk.shelf().directory().join(NAMES_INDEX)).unwrap();
        index.set_len(FILE_BYTES_MAX + 1).unwrap();
        let Unavailable(reason) = blocked.history("/root", "x").unwrap_err();
        assert!(reason.contains("larger than the 2 GiB"), "{reason}");
        assert!(reason.contains("attestfs gc"), "{reason}");
    }

    #[test]
    fn attestations_without_an_index_of_names_are_unavailable_and_not_the_newest() {
        for has_subjects in [false, true] {
            let desk = Desk::new();
            desk.file(identity(1, 1), 5, 10);
            let shelf = desk.shelf();
            if has_subjects {
                shelf.index(&DurableFiles, digest(10), [digest(5)].into_iter()).unwrap();
            } else {
                shelf.put_bundle(&DurableFiles, digest(10), b"{}").unwrap();
            }
            let Unavailable(reason) = desk.published.history("/root", "x").unwrap_err();
            assert!(
                reason.contains(NAMES_INDEX) && reason.contains("start the daemon"),
                "{reason}"
            );
            assert!(desk.published.latest("/root", "x", &|_| true).is_err());
            assert!(desk.published.published(&identity(1, 1)).is_err());
            assert!(desk.published.read_ahead().is_err());
            desk.names(&[]);
            assert_eq!(desk.history("x"), []);
            assert!(desk.published(identity(1, 1)).is_some());
            desk.published.read_ahead().unwrap();
        }
    }

    #[test]
    fn of_a_long_history_no_more_is_read_than_is_asked_for() {
        let desk = Desk::new();
        desk.names(&[("x", 1, 10), ("x", 2, 11), ("x", 3, 12), ("x", 2, 13)]);
        let asked = |content: u8| {
            let seen = std::cell::Cell::new(0);
            let latest = desk.published.latest("/root", "x", &|it| {
                seen.set(seen.get() + 1);
                it.content == digest(content)
            });
            let latest = latest.unwrap().unwrap();
            assert_eq!((latest.newest.content, latest.newest.statement), (digest(2), digest(13)));
            (latest.asked.map(|it| it.statement), seen.get())
        };
        assert_eq!(asked(2), (Some(digest(13)), 1));
        assert_eq!(asked(3), (Some(digest(12)), 2));
        assert_eq!(asked(9), (None, 4));
        assert_eq!(desk.published.latest("/root", "y", &|_| true).unwrap(), None);
    }

    #[test]
    fn of_a_content_that_everybody_publishes_only_the_newest_attestations_are_named() {
        let desk = Desk::new();
        let most = Verifier::CANDIDATES_MAX;
        let statement = |number: usize| Sha256::of(&number.to_le_bytes());
        let lines = (0..=most).map(|number| format!("{} {}\n", digest(1), statement(number)));
        let path = desk.shelf().directory().join(SUBJECTS_INDEX);
        fs::write(path, lines.collect::<String>()).unwrap();
        let named = desk.published.naming(digest(1));
        assert_eq!((named.len(), named[0]), (most, statement(most)));
        assert_eq!(named.last(), Some(&statement(1)));
    }

    #[test]
    fn the_history_of_a_name_is_its_own_and_in_order() {
        let desk = Desk::new();
        desk.names(&[("x", 1, 10), ("y", 2, 10), ("x", 3, 11)]);
        assert_eq!(desk.history("x"), [(1, 10), (3, 11)]);
        assert_eq!(desk.history("y"), [(2, 10)]);
        assert_eq!(desk.published.history("/other", "x").unwrap(), []);
        desk.names(&[("x", 1, 12)]);
        assert_eq!(desk.history("x"), [(1, 10), (3, 11), (1, 12)]);
    }

    #[test]
    fn a_publication_that_is_entered_again_counts_once_at_its_last_place() {
        let desk = Desk::new();
        desk.names(&[("x", 1, 10), ("x", 2, 11), ("x", 1, 10)]);
        assert_eq!(desk.history("x"), [(2, 11), (1, 10)]);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_hides_no_other_one() {
        let desk = Desk::new();
        desk.names(&[("x", 1, 10)]);
        let path = desk.shelf().directory().join(NAMES_INDEX);
        let mut index = fs::File::options().append(true).open(path).unwrap();
        write!(index, "{} {}", name_key("/root", "x"), &digest(9).to_string()[..9]).unwrap();
        assert_eq!(desk.history("x"), [(1, 10)]);
        desk.names(&[("x", 2, 11)]);
        assert_eq!(desk.history("x"), [(1, 10), (2, 11)]);
    }

    #[test]
    fn a_published_file_is_published_whatever_it_holds_and_known_only_unchanged() {
        let desk = Desk::new();
        desk.file(identity(1, 1), 5, 10);
        assert_eq!(desk.published(identity(1, 1)), Some((5, Some(5))));
        for changed in [
            Identity { size: 11, ..identity(1, 1) },
            Identity { mtime_ns: 21, ..identity(1, 1) },
            Identity { ctime_ns: 31, ..identity(1, 1) },
        ] {
            assert_eq!(desk.published(changed), Some((5, None)), "{changed:?}");
        }
        assert_eq!(desk.published(identity(2, 1)), None);
        assert_eq!(desk.published(identity(1, 2)), None);
    }

    #[test]
    fn without_a_birth_a_number_that_was_given_again_is_no_published_file() {
        let desk = Desk::new();
        desk.file(identity(1, 0), 5, 10);
        assert_eq!(desk.published(identity(1, 0)), Some((5, Some(5))));
        let touched = Identity { ctime_ns: 31, ..identity(1, 0) };
        assert_eq!(desk.published(touched), Some((5, None)));
        let another = Identity { size: 11, ..identity(1, 0) };
        assert_eq!(desk.published(another), None);
    }

    #[test]
    fn a_file_that_was_published_again_has_its_newest_content() {
        let desk = Desk::new();
        let later = Identity { ctime_ns: 40, ..identity(1, 1) };
        desk.file(identity(1, 1), 5, 10);
        desk.file(later, 6, 11);
        assert_eq!(desk.published(later), Some((6, Some(6))));
        let touched = Identity { ctime_ns: 50, ..later };
        assert_eq!(desk.published(touched), Some((6, None)));
        assert_eq!(desk.published(identity(1, 1)), Some((5, Some(5))), "exactly this identity");
    }

    /// Measured, and printed with `--nocapture`.
    #[test]
    #[ignore = "measures; cargo test -p attestfs-daemon --lib long_histories -- --ignored --nocapture"]
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    fn long_histories_take_time_that_grows_with_them() {
        for length in [10_000_u32, 20_000, 40_000] {
            let desk = Desk::new();
            let number = |number: u32| Sha256::of(&number.to_le_bytes());
            let key = name_key("/root", "x");
            let lines = (0..length).map(|it| NameLine {
                key,
                content: number(it),
                statement: number(it + length),
            });
            desk.shelf().enter_names(&DurableFiles, lines).unwrap();
            desk.published.read_ahead().unwrap();
            let asked = |content: Sha256| {
                let begun = std::time::Instant::now();
                let latest = desk.published.latest("/root", "x", &|it| it.content == content);
                assert_eq!(latest.unwrap().unwrap().newest.content, number(length - 1));
                begun.elapsed()
            };
            let (newest, stranger) = (asked(number(length - 1)), asked(number(u32::MAX)));
            let begun = std::time::Instant::now();
            assert_eq!(desk.published.names("/root", "x").unwrap().len(), length as usize);
            let all = begun.elapsed();
            println!("{length}: the newest {newest:?}, a stranger {stranger:?}, all {all:?}");
        }
    }

    #[test]
    fn the_generation_changes_with_each_publication() {
        let desk = Desk::new();
        let generation = || desk.published.generation().unwrap();
        let of_files = || desk.published.file_generation().unwrap();
        let objections = || desk.published.objections().unwrap();
        let mut seen = vec![generation()];
        let before = objections();
        desk.names(&[("x", 1, 10)]);
        assert_ne!(objections(), before);
        seen.push(generation());
        let before = (of_files(), objections());
        desk.file(identity(1, 1), 5, 10);
        assert_ne!(of_files(), before.0);
        seen.push(generation());
        desk.shelf().index(&DurableFiles, digest(10), [digest(1)].into_iter()).unwrap();
        assert_eq!(objections(), before.1, "only more speaks for something");
        seen.push(generation());
        desk.shelf().replace_files(&DurableFiles, [].into_iter()).unwrap();
        seen.push(generation());
        assert_eq!(seen.last(), Some(&generation()));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn taking_an_attestation_away_is_an_objection_and_makes_no_index() {
        let desk = Desk::new();
        let remove = || {
            let gone = digest(10);
            desk.shelf().put_bundle(&DurableFiles, gone, b"{}").unwrap();
            desk.shelf().remove(&DurableFiles, [&gone].into_iter(), [].into_iter()).unwrap();
        };
        remove();
        assert!(!desk.shelf().has_names().unwrap());
        desk.names(&[("x", 1, 10)]);
        let before = desk.published.objections().unwrap();
        remove();
        assert_ne!(desk.published.objections().unwrap(), before);
        assert_eq!(desk.history("x"), [(1, 10)]);
    }

    #[test]
    fn attestations_of_a_content_come_newest_first_and_damaged_ones_say_so() {
        let desk = Desk::new();
        let payload = Payload::new(b"{}".to_vec());
        let bundle = Bundle::attestation(payload, vec![1], KeyHint(digest(7)));
        let name = bundle.sha256();
        for statement in [digest(3), name, digest(3)] {
            desk.shelf().index(&DurableFiles, statement, [digest(1)].into_iter()).unwrap();
        }
        assert_eq!(desk.published.naming(digest(1)), [digest(3), name]);
        assert!(!desk.published.came_along(name));
        desk.shelf().put_bundle(&DurableFiles, name, &bundle.to_json()).unwrap();
        desk.shelf().put_bundle(&DurableFiles, digest(3), b"torn").unwrap();
        let found = desk.published.attestation(name);
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [bundle]);
        assert!(matches!(desk.published.attestation(digest(3))[..], [Err(_)]));
        assert_eq!(desk.published.attestations().unwrap().len(), 2);
    }
}
