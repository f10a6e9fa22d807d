//! The way in which the kernel reads and writes each open file, and which ways go together.
//!
//! One inode is read past us, by the kernel from the file of the store, or through us, and not both at a time:
//! a wrong mix is refused by the kernel, as EIO of the application's open (`fs/fuse/iomode.c`). So the first
//! who opens a file decides for those who come while it is open.
//!
//! ```text
//!  None --reads what nobody can change-> Passthrough
//!  None --writes what is read again----> Passthrough
//!  None --writes what it began---------> Direct
//!  None --any other--------------------> Cached
//!
//!  Passthrough --reads-----------------> Passthrough, by the same shortcut
//!  Passthrough --writes, maps nothing--> its writes come to us
//!  Passthrough --may map what it writes> refused: what it would store in a mapping nobody sees
//!  Passthrough --must not pass us------> refused
//!  Direct --any------------------------> Direct
//!  Cached --any------------------------> Cached
//!  any --the last one closes-----------> None
//! ```
//!
//! A file that is open for direct I/O and mapped is cached by the kernel, which tells nobody: so nobody passes
//! us while one is open. We hear of a close after the kernel has done it: what we take for open may not be, and
//! never the other way round.

use std::fmt::Debug;

use crate::error::Error;

/// Who opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    /// Reads what nobody has to see being read. Who `passes` us may begin to; all may join those who do.
    Reader { passes: bool },
    /// Reads, and each read is verified.
    VerifiedReader,
    /// Writes and never reads, so that it maps nothing. Some may begin to pass us, as a user of this number.
    Writer { past: Option<u32> },
    /// Writes what begins with it, and reads.
    Maker,
    /// Reads and changes what is there.
    Changer,
}

/// How the kernel treats one open file. `S` stands for what it knows the file of the store by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way<S> {
    /// Through us, and the kernel keeps pages.
    Cached,
    /// Through us, and the kernel keeps none.
    Direct,
    /// Past us.
    Passthrough(S),
    /// Writes come to us, while others pass us.
    PassthroughDirect(S),
}

/// How all who have one file open have it open.
#[derive(Debug)]
pub(crate) struct Ways<S>(Option<Common<S>>);

#[derive(Debug)]
struct Common<S> {
    opens: u64,
    way: Way<S>,
    /// The user who began with it and writes past us.
    written_past: Option<u32>,
}

impl<S> Default for Ways<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S: Clone + Debug> Ways<S> {
    /// The way of one who opens the file, who is to [leave](Self::leave) it in the end. `shortcut` makes the file
    /// of the store known to the kernel, where that is possible.
    ///
    /// # Errors
    /// [`Error::InUse`] when reads or mappings must come to us and others pass us.
    pub(crate) fn enter(
        &mut self,
        opener: Opener,
        shortcut: impl FnOnce() -> Option<S>,
    ) -> Result<Way<S>, Error> {
        if let Some(common) = &mut self.0 {
            let way = common.way.joined_by(opener)?;
            common.opens += 1;
            return Ok(way);
        }
        let way = Way::begun_by(opener, shortcut);
        let written_past = match (opener, &way) {
            (Opener::Writer { past }, Way::Passthrough(_)) => past,
            _ => None,
        };
        self.0 = Some(Common { opens: 1, way: way.clone(), written_past });
        Ok(way)
    }

    /// Whether somebody reads or writes past us, so that who may map what he writes is refused.
    pub(crate) fn is_passed(&self) -> bool {
        self.0.as_ref().is_some_and(|common| matches!(common.way, Way::Passthrough(_)))
    }

    /// As which user somebody may write past us: as long as that one has the file open, or anybody who came
    /// meanwhile.
    pub(crate) fn written_past(&self) -> Option<u32> {
        self.0.as_ref().and_then(|common| common.written_past)
    }

    /// One who has the file open closes it.
    pub(crate) fn leave(&mut self) {
        if let Some(common) = &mut self.0 {
            common.opens -= 1;
            if common.opens == 0 {
                self.0 = None;
            }
        }
    }
}

impl<S: Clone> Way<S> {
    fn begun_by(opener: Opener, shortcut: impl FnOnce() -> Option<S>) -> Self {
        match opener {
            Opener::Reader { passes: true } => shortcut().map_or(Self::Cached, Self::Passthrough),
            Opener::Writer { past: Some(_) } => shortcut().map_or(Self::Direct, Self::Passthrough),
            Opener::Writer { past: None } | Opener::Maker => Self::Direct,
            Opener::Reader { passes: false } | Opener::VerifiedReader | Opener::Changer => {
                Self::Cached
            }
        }
    }

    fn joined_by(&self, opener: Opener) -> Result<Self, Error> {
        match (self, opener) {
            (Self::Passthrough(_), Opener::VerifiedReader | Opener::Changer | Opener::Maker) => {
                Err(Error::InUse)
            }
            (Self::Passthrough(shortcut), Opener::Writer { .. }) => {
                Ok(Self::PassthroughDirect(shortcut.clone()))
            }
            (way, _) => Ok(way.clone()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the kernel keeps of one inode, after `fs/fuse/iomode.c`: those who have it cached count up, those
    /// who have it from the store count down.
    #[derive(Clone, Debug, Default)]
    pub(in crate::vfs) struct Kernel {
        cached: u32,
        passed: u32,
        shortcut: Option<u32>,
    }

    /// One open file as the kernel sees it.
    #[derive(Clone, Copy, Debug)]
    struct Open {
        way: Way<u32>,
        /// Writes past us.
        passes: bool,
        mapped: bool,
        closed: bool,
    }

    impl Kernel {
        /// None is EIO.
        pub(in crate::vfs) fn open(&mut self, way: Way<u32>) -> Option<()> {
            match way {
                Way::Cached | Way::Direct if self.passed > 0 => return None,
                Way::Cached => self.cached += 1,
                Way::Direct => {}
                Way::Passthrough(shortcut) | Way::PassthroughDirect(shortcut) => {
                    if self.cached > 0 || self.shortcut.is_some_and(|known| known != shortcut) {
                        return None;
                    }
                    self.passed += 1;
                    self.shortcut = Some(shortcut);
                }
            }
            Some(())
        }

        /// None is ENODEV.
        fn map(&mut self, way: Way<u32>) -> Option<()> {
            if way == Way::Direct {
                (self.passed == 0).then_some(())?;
                self.cached += 1;
            }
            Some(())
        }

        pub(in crate::vfs) fn close(&mut self, way: Way<u32>, is_mapped: bool) {
            match way {
                Way::Cached => self.cached -= 1,
                Way::Direct => self.cached -= u32::from(is_mapped),
                Way::Passthrough(_) | Way::PassthroughDirect(_) => {
                    self.passed -= 1;
                    if self.passed == 0 {
                        self.shortcut = None;
                    }
                }
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open(Opener),
        /// The n-th open file is mapped, closed, and we hear of the close.
        Map(usize),
        Close(usize),
        Hear(usize),
    }

    const OPENERS: [Opener; 7] = [
        Opener::Reader { passes: true },
        Opener::Reader { passes: false },
        Opener::VerifiedReader,
        Opener::Writer { past: Some(0) },
        Opener::Writer { past: None },
        Opener::Maker,
        Opener::Changer,
    ];

    /// Lives through all histories of so many more steps.
    fn explore(ways: &Ways<u32>, kernel: &Kernel, open: &[Open], steps: u32, made: u32) -> u64 {
        if steps == 0 {
            return 1;
        }
        let opens = OPENERS.into_iter().map(Step::Open);
        let others = (0..open.len()).flat_map(|n| [Step::Map(n), Step::Close(n), Step::Hear(n)]);
        opens
            .chain(others)
            .map(|step| {
                let (mut ways, mut kernel, mut open) =
                    (ways.copied(), kernel.clone(), open.to_vec());
                let mut made = made;
                if !live(step, &mut ways, &mut kernel, &mut open, &mut made) {
                    return 0;
                }
                explore(&ways, &kernel, &open, steps - 1, made)
            })
            .sum()
    }

    /// Whether the step is possible.
    fn live(
        step: Step,
        ways: &mut Ways<u32>,
        kernel: &mut Kernel,
        open: &mut Vec<Open>,
        made: &mut u32,
    ) -> bool {
        match step {
            Step::Open(opener) => {
                let shortcut = || {
                    *made += 1;
                    Some(*made)
                };
                let Ok(way) = ways.enter(opener, shortcut) else {
                    let refused = matches!(opener, Opener::Reader { .. } | Opener::Writer { .. });
                    assert!(!refused, "{opener:?}");
                    return true;
                };
                assert!(kernel.open(way).is_some(), "{way:?} {kernel:?} {open:?}");
                if opener == Opener::VerifiedReader {
                    assert!(matches!(way, Way::Cached | Way::Direct), "its reads come to us");
                }
                let maps = matches!(opener, Opener::Changer | Opener::Maker);
                assert!(!maps || matches!(way, Way::Cached | Way::Direct), "what it maps is ours");
                let passes = matches!((opener, way), (Opener::Writer { .. }, Way::Passthrough(_)));
                assert!(!passes || ways.written_past().is_some());
                open.push(Open { way, passes, mapped: false, closed: false });
            }
            Step::Map(n) => {
                // The kernel maps nothing that is not open for reading.
                if open[n].mapped || open[n].closed || open[n].passes {
                    return false;
                }
                assert!(kernel.map(open[n].way).is_some(), "{kernel:?} {open:?}");
                open[n].mapped = true;
            }
            Step::Close(n) => {
                if open[n].closed {
                    return false;
                }
                kernel.close(open[n].way, open[n].mapped);
                open[n].closed = true;
            }
            Step::Hear(n) => {
                if !open[n].closed {
                    return false;
                }
                ways.leave();
                open.remove(n);
                let written_past = open.iter().any(|open| open.passes);
                assert!(!written_past || ways.written_past().is_some(), "{open:?}");
            }
        }
        true
    }

    impl Ways<u32> {
        fn copied(&self) -> Self {
            let copied = |common: &Common<u32>| Common { way: common.way, ..*common };
            Self(self.0.as_ref().map(copied))
        }
    }

    #[test]
    fn no_history_of_opens_ends_in_an_error_of_the_kernel() {
        let histories = explore(&Ways::default(), &Kernel::default(), &[], 7, 0);
        assert!(histories > 100_000, "{histories}");
    }

    #[test]
    fn without_a_shortcut_reads_come_to_us() {
        let mut ways = Ways::<u32>::default();
        assert_eq!(ways.enter(Opener::Reader { passes: true }, || None), Ok(Way::Cached));
        // As long as that one reads, no other is offered one.
        let offered = || unreachable!("others have it cached");
        assert_eq!(ways.enter(Opener::Reader { passes: true }, offered), Ok(Way::Cached));
    }

    #[test]
    fn a_verified_reader_never_has_its_pages_from_the_store() {
        let mut ways = Ways::default();
        assert_eq!(
            ways.enter(Opener::Reader { passes: true }, || Some(1)),
            Ok(Way::Passthrough(1))
        );
        assert_eq!(ways.enter(Opener::VerifiedReader, || Some(2)), Err(Error::InUse));
        ways.leave();
        assert_eq!(ways.enter(Opener::VerifiedReader, || Some(2)), Ok(Way::Cached));
        assert_eq!(ways.enter(Opener::Reader { passes: true }, || Some(3)), Ok(Way::Cached));
    }

    #[test]
    fn the_last_one_to_close_leaves_nothing() {
        let mut ways = Ways::default();
        for _ in 0..2 {
            assert_eq!(ways.enter(Opener::Maker, || Some(1)), Ok(Way::Direct));
            assert_eq!(ways.enter(Opener::Changer, || Some(1)), Ok(Way::Direct));
            ways.leave();
            assert_eq!(ways.enter(Opener::Reader { passes: true }, || Some(1)), Ok(Way::Direct));
            ways.leave();
            ways.leave();
        }
        assert!(ways.0.is_none());
    }
}
