//! Hashing many files of a directory: as few digests as are needed, on as many threads as there are.

use std::{
    cmp::Reverse,
    fs::File,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use attestfs_attestation::{Content, Known, Needed};

use super::{
    content::{ContentError, Watch, content_as_needed, sha256_of_each, threads},
    directory::{Directory, Found, SurveyError},
};

/// Files below a directory, each with the digests that are needed of it.
pub(super) struct Survey<'a> {
    pub(super) directory: &'a Directory,
    pub(super) files: Vec<(&'a Found, Needed)>,
    pub(super) watch: &'a dyn Watch,
}

/// The number of a file, and what it holds.
type Answer = (usize, Result<Content, ContentError>);

impl Survey<'_> {
    /// What they hold, in their order. The longest are hashed first, so that no thread is left alone with one.
    ///
    /// # Errors
    /// Of the files that were found to be unreadable before it was given up, the first.
    pub(super) fn contents(&self) -> Result<Vec<Content>, SurveyError> {
        let mut numbers: Vec<usize> = (0..self.files.len()).collect();
        numbers.sort_by_key(|&number| Reverse(self.files[number].0.size()));
        let is_by_sha256 = |number: &usize| self.files[*number].1 == Needed::Sha256;
        let (by_sha256, others): (Vec<_>, Vec<_>) = numbers.into_iter().partition(is_by_sha256);
        let mut contents = Vec::new();
        for batch in by_sha256.chunks(OPEN_MAX) {
            contents.extend(self.readable(self.side_by_side(batch))?);
        }
        let is_large = |number: &usize| self.files[*number].0.size() >= LARGE_BYTES;
        let (large, small): (Vec<_>, Vec<_>) = others.into_iter().partition(is_large);
        for number in large {
            contents.extend(self.readable(vec![self.alone(number, threads())])?);
        }
        contents.extend(self.readable(self.one_per_thread(&small))?);
        contents.sort_by_key(|(number, _)| *number);
        Ok(contents.into_iter().map(|(_, content)| content).collect())
    }

    fn side_by_side(&self, numbers: &[usize]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut opened = Vec::new();
        for &number in numbers {
            match self.open(number) {
                Ok(file) => opened.push((number, file)),
                Err(error) => answers.push((number, Err(error))),
            }
        }
        if answers.is_empty() {
            let files: Vec<_> = opened.iter().map(|(_, file)| file).collect();
            let hashed = sha256_of_each(&files, self.watch).into_iter().map(|hashed| {
                let (sha256, size) = hashed?;
                Ok(Content { digests: Known::Sha256 { sha256 }, size })
            });
            answers.extend(opened.iter().map(|(number, _)| *number).zip(hashed));
        }
        answers
    }

    fn one_per_thread(&self, numbers: &[usize]) -> Vec<Answer> {
        let (turn, gave_up) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut answers = Vec::new();
            while !gave_up.load(Ordering::Relaxed)
                && let Some(&number) = numbers.get(turn.fetch_add(1, Ordering::Relaxed))
            {
                let answer = self.alone(number, 1);
                gave_up.fetch_or(answer.1.is_err(), Ordering::Relaxed);
                answers.push(answer);
            }
            answers
        };
        thread::scope(|scope| {
            let helpers = threads().min(numbers.len()).saturating_sub(1);
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let mut answers = work();
            for helper in helpers {
                answers.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            answers
        })
    }

    fn alone(&self, number: usize, threads: usize) -> Answer {
        let (_, needed) = &self.files[number];
        let content = self
            .open(number)
            .and_then(|file| content_as_needed(&file, needed, threads, self.watch));
        (number, content)
    }

    fn open(&self, number: usize) -> Result<File, ContentError> {
        self.directory.open_file(&self.files[number].0.path)
    }

    fn readable(&self, mut answers: Vec<Answer>) -> Result<Vec<(usize, Content)>, SurveyError> {
        answers.sort_by_key(|(number, _)| *number);
        let unless = |(number, content): Answer| match content {
            Ok(content) => Ok((number, content)),
            Err(source) => Err(SurveyError { path: self.files[number].0.path.clone(), source }),
        };
        answers.into_iter().map(unless).collect()
    }
}

/// So many files are open at once where they are hashed side by side. A process may have 1024 at least.
const OPEN_MAX: usize = 256;

/// From so many bytes on, starting threads for one file is no matter.
const LARGE_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::atomic::AtomicU64};

    use attestfs_attestation::EntryKind;
    use attestfs_digest::{Blake3, Digests, Sha256};

    use super::*;
    use crate::artifact::Unwatched;

    /// Counts what is read and what was to be expected.
    #[derive(Default)]
    struct Counted {
        expected: AtomicU64,
        read: AtomicU64,
    }

    impl Watch for Counted {
        fn expect(&self, bytes: u64) {
            self.expected.fetch_add(bytes, Ordering::Relaxed);
        }

        fn advance(&self, bytes: u64) {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn digests(bytes: &[u8]) -> Digests {
        Digests { sha256: Sha256::of(bytes), blake3: Blake3::of(bytes) }
    }

    fn bytes_of(number: usize) -> Vec<u8> {
        let large = usize::try_from(LARGE_BYTES).unwrap();
        let length = [0, 1, 70_000, large - 1, large, large + 1][number % 6];
        vec![u8::try_from(number).unwrap(); length]
    }

    /// Some files of each kind, and what is needed of each.
    fn needed_of(path: &Path) -> Needed {
        let number: usize = path.to_str().unwrap().parse().unwrap();
        let own = digests(&bytes_of(number));
        let another = digests(b"another");
        match number / 6 {
            0 => Needed::Sha256,
            1 => Needed::Blake3(vec![another, Digests { sha256: Sha256([7; 32]), ..own }]),
            2 => Needed::Blake3(vec![another]),
            _ => Needed::Both,
        }
    }

    #[test]
    fn of_every_file_is_known_what_is_needed_and_it_is_in_its_place() {
        let base = tempfile::tempdir().unwrap();
        for number in 0..24 {
            fs::write(base.path().join(format!("{number:02}")), bytes_of(number)).unwrap();
        }
        let directory = Directory::open(base.path()).unwrap();
        let found = directory.walk().unwrap();
        let watch = Counted::default();
        let entries = directory.survey(&found, needed_of, &watch).unwrap();
        assert_eq!(entries.len(), 24);
        for (number, entry) in entries.iter().enumerate() {
            let bytes = bytes_of(number);
            let own = digests(&bytes);
            let known = match number / 6 {
                0 => Known::Sha256 { sha256: own.sha256 },
                1 => Known::Blake3(Digests { sha256: Sha256([7; 32]), ..own }),
                _ => Known::Both(own),
            };
            let content = Content { digests: known, size: bytes.len() as u64 };
            assert_eq!(
                (&*entry.name, &entry.kind),
                (&*format!("{number:02}"), &EntryKind::File(content))
            );
        }
        assert_eq!(watch.read.into_inner(), watch.expected.into_inner());
    }

    #[test]
    fn the_first_file_that_is_gone_is_named_whatever_is_needed() {
        for needed in [Needed::Sha256, Needed::Both] {
            let base = tempfile::tempdir().unwrap();
            for name in ["a", "b", "c"] {
                fs::write(base.path().join(name), name).unwrap();
            }
            let directory = Directory::open(base.path()).unwrap();
            let found = directory.walk().unwrap();
            fs::remove_file(base.path().join("b")).unwrap();
            let survey = directory.survey(&found, |_| needed.clone(), &Unwatched);
            assert_eq!(survey.unwrap_err().path, Path::new("b"), "{needed:?}");
        }
    }

    #[test]
    fn no_more_files_are_open_than_a_process_may_have() {
        let base = tempfile::tempdir().unwrap();
        for number in 0..=2 * OPEN_MAX {
            fs::write(base.path().join(number.to_string()), number.to_string()).unwrap();
        }
        let directory = Directory::open(base.path()).unwrap();
        let found = directory.walk().unwrap();
        let entries = directory.survey(&found, |_| Needed::Sha256, &Unwatched).unwrap();
        assert_eq!(entries.len(), 2 * OPEN_MAX + 1);
        for entry in entries {
            let EntryKind::File(content) = entry.kind else { panic!("{entry:?}") };
            assert_eq!(content.sha256(), Sha256::of(entry.name.as_bytes()));
        }
    }
}
