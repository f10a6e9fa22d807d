//! Whether anything came or went around a file since somebody looked: attestations, or a directory on the way to it.

use std::{
    collections::HashSet,
    ffi::CStr,
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
};

use attestfs_attestation::{CLAIMS_FILE, MODEL_SIGNATURE_FILE};
use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        AtFlags, FsWord, StatxFlags, fstatfs,
        inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags},
        statx,
    },
    io::Errno,
};

use crate::backing::{Node, by_descriptor};

/// Directories that are watched by the kernel. It tells of what is made, renamed and removed there, and of who may search
/// them, by whomever and by whatever path, before that returns; so nobody who looks after that is told what was before. Not of
/// what is changed in a file that stays, which has to be looked at.
///
/// In doubt something came or went: when the kernel had more to tell than it keeps, when a directory or its filesystem
/// is gone, and when anything was mounted or unmounted anywhere.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// A file of proc that says when there are other mounts.
    mounts: &'static Path,
    watched: Mutex<Watched>,
}

/// A number that becomes another one whenever anything came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Season(u64);

#[derive(Debug, Default)]
struct Watched {
    season: u64,
    /// None before anything is watched, and when what was is to be watched anew.
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    inotify: OwnedFd,
    mounts: File,
    /// Those that the file tells of. Of what is mounted in another namespace nobody would hear what is mounted over it.
    heard_of: HashSet<u64>,
    directories: HashSet<i32>,
}

/// What is to be told from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Nothing that matters.
    None,
    /// Something came or went.
    Change,
    /// Something is no longer watched.
    Blindness,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self::within(MOUNTS)
    }
}

impl Surroundings {
    fn within(mounts: &'static str) -> Self {
        Self { mounts: Path::new(mounts), watched: Mutex::default() }
    }

    /// The number by now. None as long as nothing is watched.
    pub(super) fn season(&self) -> Option<Season> {
        let mut watched = self.watched.lock();
        watched.listen();
        watched.watch.as_ref().map(|_| Season(watched.season))
    }

    /// Watches a directory from now on. Whoever looks at it afterwards is told what changed since.
    ///
    /// # Returns
    /// The number by now. What was watched when it was another one may be watched no more.
    ///
    /// # Errors
    /// It cannot be watched: the kernel may have no room for more, or not hear of all that is changed there.
    pub(super) fn watch(&self, directory: &Node) -> io::Result<Season> {
        if !TELLING.contains(&fstatfs(directory)?.f_type) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut watched = self.watched.lock();
        watched.listen();
        if watched.watch.as_ref().is_some_and(|watch| watch.directories.len() >= DIRECTORIES_MAX) {
            watched.hear(News::Blindness);
        }
        let watch = match watched.watch.take() {
            Some(watch) => watch,
            None => Watch::new(self.mounts)?,
        };
        watched.watch.insert(watch).add(directory)?;
        Ok(Season(watched.season))
    }
}

impl Watched {
    fn listen(&mut self) {
        if let Some(watch) = &self.watch {
            let news = watch.news();
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        self.season += u64::from(news != News::None);
        if news == News::Blindness {
            self.watch = None;
        }
    }
}

impl Watch {
    fn new(mounts: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mounts = File::open(mounts)?;
        // From here on it tells of others.
        let listed = fs::read_to_string(MOUNTS)?;
        let number = |line: &str| line.split(' ').next()?.parse().ok();
        let heard_of = listed.lines().filter_map(number).collect();
        Ok(Self { inotify, mounts, heard_of, directories: HashSet::new() })
    }

    fn add(&mut self, directory: &Node) -> io::Result<()> {
        let mount = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
        if !self.heard_of.contains(&mount) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        let flags = flags | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        let number = inotify::add_watch(&self.inotify, by_descriptor(directory), flags)?;
        self.directories.insert(number);
        Ok(())
    }

    /// What was told since somebody asked last.
    fn news(&self) -> News {
        let mut events =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.mounts, PollFlags::PRI)];
        match poll(&mut events, Some(&Timespec::default())) {
            Ok(0) => News::None,
            Ok(_) if !events[1].revents().is_empty() => News::Blindness,
            Ok(_) => self.read(),
            Err(_) => News::Blindness,
        }
    }

    fn read(&self) -> News {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut news = News::None;
        for _ in 0..EVENTS_MAX {
            match reader.next() {
                Ok(event) => match News::of(&event) {
                    News::Blindness => return News::Blindness,
                    News::Change => news = News::Change,
                    News::None => {}
                },
                Err(Errno::AGAIN) => return news,
                Err(Errno::INTR) => {}
                Err(_) => return News::Blindness,
            }
        }
        // To read on would keep whoever asks waiting.
        News::Blindness
    }
}

impl News {
    fn of(event: &Event<'_>) -> Self {
        let what = event.events();
        if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
            return Self::Blindness;
        }
        let name = event.file_name().map(CStr::to_bytes);
        // Without a name it is about the directory itself: who may search it.
        let is_evidence = name.is_none_or(|name| EVIDENCE.contains(&name));
        // One that is made leads to nothing that was there before.
        let moves_directory = what.contains(ReadFlags::ISDIR) && !what.contains(ReadFlags::CREATE);
        if is_evidence || moves_directory { Self::Change } else { Self::None }
    }
}

/// Those of the namespace of this process.
const MOUNTS: &str = "/proc/self/mountinfo";

const EVIDENCE: [&[u8]; 2] = [MODEL_SIGNATURE_FILE.as_bytes(), CLAIMS_FILE.as_bytes()];

/// Filesystems of this machine alone, by the numbers in Linux `magic.h`: `EXT4_SUPER_MAGIC`, `XFS_SUPER_MAGIC`,
/// `BTRFS_SUPER_MAGIC`, `TMPFS_MAGIC`. Of others somebody elsewhere may change what the kernel here does not hear of.
const TELLING: [FsWord; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// So many directories are watched at a time. Linux allows each user some ten thousand at the least.
const DIRECTORIES_MAX: usize = 1024;

/// Events that are read before it is easier to look at everything again.
const EVENTS_MAX: usize = 1024;

/// Room for some of them at a time, the longest name among them.
const EVENT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::{
        mem,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use rustix::fs::{Mode, OFlags, RenameFlags};

    use super::*;
    use crate::backing::{Backing, Directory};

    /// It never says anything, whatever others on this machine mount meanwhile.
    const NO_MOUNTS: &str = "/dev/null";

    struct Desk {
        directory: tempfile::TempDir,
        surroundings: Surroundings,
    }

    impl Desk {
        /// Directories `a` and `a/b` with an attestation in each, all watched with the one above.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let desk = Self { directory, surroundings: Surroundings::within(NO_MOUNTS) };
            fs::create_dir_all(desk.at("a/b")).unwrap();
            fs::write(desk.at("a/model.sig"), "").unwrap();
            fs::write(desk.at("a/b/claims.jsonl"), "").unwrap();
            for path in ["", "a", "a/b"] {
                desk.watch(path).unwrap();
            }
            desk
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.directory.path().join(path)
        }

        fn watch(&self, path: &str) -> io::Result<Season> {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).unwrap();
            self.surroundings.watch(&Directory::new(open(&self.at(path))).root().unwrap())
        }

        /// Whether something is told of a change, and of no second one.
        fn tells(&self, change: impl FnOnce()) -> bool {
            let before = self.surroundings.season();
            assert!(before.is_some());
            change();
            let after = self.surroundings.season();
            assert!(after.is_none() || after == self.surroundings.season());
            after != before
        }

        fn tell_too_much(&self) {
            for number in 0..=EVENTS_MAX {
                fs::create_dir(self.at(&number.to_string())).unwrap();
            }
        }
    }

    #[test]
    fn nothing_is_told_before_anything_is_watched() {
        assert_eq!(Surroundings::default().season(), None);
    }

    #[test]
    fn attestations_that_come_or_go_are_told() {
        let desk = Desk::new();
        let at = |path| desk.at(path);
        assert!(!desk.tells(|| {}));
        assert!(desk.tells(|| fs::write(at("model.sig"), "").unwrap()));
        assert!(desk.tells(|| fs::remove_file(at("a/model.sig")).unwrap()));
        assert!(desk.tells(|| fs::rename(at("model.sig"), at("a/model.sig")).unwrap()));
        assert!(desk.tells(|| fs::hard_link(at("a/model.sig"), at("claims.jsonl")).unwrap()));
        assert!(desk.tells(|| symlink("b", at("a/claims.jsonl")).unwrap()));
        fs::write(at("other"), "").unwrap();
        assert!(desk.tells(|| fs::rename(at("other"), at("a/b/claims.jsonl")).unwrap()));
    }

    #[test]
    fn directories_that_are_moved_are_told_whichever_they_are() {
        let desk = Desk::new();
        let at = |path| desk.at(path);
        assert!(!desk.tells(|| fs::create_dir(at("a/c")).unwrap()));
        assert!(desk.tells(|| fs::rename(at("a"), at("moved")).unwrap()));
        assert!(desk.tells(|| fs::rename(at("moved/b"), at("b")).unwrap()));
        assert!(desk.tells(|| fs::rename(at("b"), at("moved/c")).unwrap()));
        fs::create_dir(at("new")).unwrap();
        let (directory, flags) = (File::open(at("")).unwrap(), RenameFlags::EXCHANGE);
        let exchange = || rustix::fs::renameat_with(&directory, "new", &directory, "moved", flags);
        assert!(desk.tells(|| exchange().unwrap()));
        assert!(desk.tells(|| fs::remove_dir(at("moved")).unwrap()));
    }

    #[test]
    fn who_may_search_a_directory_is_told() {
        let desk = Desk::new();
        for path in ["", "a", "a/b"] {
            let mode = fs::Permissions::from_mode(0o700);
            assert!(desk.tells(|| fs::set_permissions(desk.at(path), mode).unwrap()), "{path}");
        }
    }

    #[test]
    fn what_is_mounted_in_another_namespace_is_not_watched() {
        let desk = Desk::new();
        let listed =
            mem::take(&mut desk.surroundings.watched.lock().watch.as_mut().unwrap().heard_of);
        assert!(!listed.is_empty());
        assert_eq!(desk.watch("a").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn other_files_are_of_no_concern() {
        let desk = Desk::new();
        assert!(!desk.tells(|| {
            fs::write(desk.at("a/w.pt"), "").unwrap();
            fs::set_permissions(desk.at("a/w.pt"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(desk.at("a/w.pt"), desk.at("a/b/w.pt")).unwrap();
            fs::remove_file(desk.at("a/b/w.pt")).unwrap();
            symlink("a", desk.at("link")).unwrap();
        }));
    }

    #[test]
    fn what_is_gone_is_watched_no_more_and_so_nothing_is() {
        let desk = Desk::new();
        fs::remove_dir_all(desk.at("a/b")).unwrap();
        assert_eq!(desk.surroundings.season(), None);
        desk.watch("a").unwrap();
        assert!(!desk.tells(|| fs::write(desk.at("model.sig"), "").unwrap()));
        assert!(desk.tells(|| fs::write(desk.at("a/claims.jsonl"), "").unwrap()));
    }

    #[test]
    fn more_than_is_read_at_once_may_have_been_anything() {
        let desk = Desk::new();
        desk.tell_too_much();
        assert_eq!(desk.surroundings.season(), None);
    }

    #[test]
    fn what_is_watched_after_something_is_no_more_is_watched_in_another_season() {
        let desk = Desk::new();
        let season = desk.watch("").unwrap();
        assert_eq!(desk.watch("a").unwrap(), season);
        assert_eq!(desk.surroundings.season(), Some(season));
        desk.tell_too_much();
        assert_ne!(desk.watch("a").unwrap(), season);
    }

    #[test]
    fn a_filesystem_of_which_the_kernel_hears_not_all_is_not_watched() {
        let proc = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
        let surroundings = Surroundings::default();
        assert!(surroundings.watch(&Directory::new(proc).root().unwrap()).is_err());
        assert_eq!(surroundings.season(), None);
    }
}
