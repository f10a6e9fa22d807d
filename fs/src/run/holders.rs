//! Who has a file open, as far as it concerns others, in whichever run they opened it.
//!
//! The kernel keeps one set of pages of a file: what somebody stores in a shared mapping, or writes, others
//! read there before the filesystem hears of it, and also when it says no. So those who read what was
//! judged and those who have the file open for writing exclude each other, as the kernel keeps apart who
//! runs a program and who writes to it. A mapping keeps its open file alive, so to count open files is
//! enough.

use std::collections::BTreeMap;

use crate::fact::Process;

/// Whose an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It was opened while no stage was open: what somebody else opened so is another's, too.
    Nobody,
    /// The run of this number.
    Run(u64),
}

/// What somebody does with an open file that concerns others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Reads what was judged.
    Reads,
    /// Writes. May read what nobody had to judge.
    Writes,
    /// Reads what was judged, and writes.
    ReadsAndWrites,
}

/// Somebody who has the file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) owner: Owner,
    pub(crate) by: Process,
}

/// Why somebody else may not have the file now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InTheWay {
    /// This one reads what was judged.
    Reader(Process),
    /// This one may write.
    Writer(Process),
}

/// All holders of one file. As many as there are open files; the kernel bounds those.
#[derive(Debug, Default)]
pub(super) struct Holders {
    readers: BTreeMap<Number, Holder>,
    writers: BTreeMap<Number, Holder>,
    last: Number,
}

/// By which one holder is told from the others of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

impl Owner {
    fn is_another_than(self, other: Self) -> bool {
        self == Self::Nobody || self != other
    }
}

impl Usage {
    fn reads(self) -> bool {
        matches!(self, Self::Reads | Self::ReadsAndWrites)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Writes | Self::ReadsAndWrites)
    }
}

impl Holders {
    /// One more, unless somebody is in the way.
    pub(super) fn enter(&mut self, usage: Usage, holder: Holder) -> Result<Number, InTheWay> {
        match self.in_the_way_of(usage, holder.owner) {
            Some(in_the_way) => Err(in_the_way),
            None => Ok(self.enter_anyway(usage, holder)),
        }
    }

    /// One more, where nobody is kept apart.
    pub(super) fn enter_anyway(&mut self, usage: Usage, holder: Holder) -> Number {
        self.last.0 += 1;
        if usage.writes() {
            self.writers.insert(self.last, holder.clone());
        }
        if usage.reads() {
            self.readers.insert(self.last, holder);
        }
        self.last
    }

    pub(super) fn leave(&mut self, number: Number) {
        self.readers.remove(&number);
        self.writers.remove(&number);
    }

    /// Who keeps `owner` from opening the file for this.
    pub(super) fn in_the_way_of(&self, usage: Usage, owner: Owner) -> Option<InTheWay> {
        let writer = usage.reads().then(|| another(&self.writers, owner, None)).flatten();
        let reader = usage.writes().then(|| another(&self.readers, owner, None)).flatten();
        writer.map(InTheWay::Writer).or(reader.map(InTheWay::Reader))
    }

    /// Who keeps `owner` from a change, which it makes as the holder `own` if it is one.
    pub(super) fn in_the_way_of_change(
        &self,
        owner: Owner,
        own: Option<Number>,
    ) -> Option<InTheWay> {
        another(&self.readers, owner, own).map(InTheWay::Reader)
    }

    /// Whether somebody may change the file.
    pub(super) fn may_change(&self) -> bool {
        !self.writers.is_empty()
    }
}

fn another(
    holders: &BTreeMap<Number, Holder>,
    owner: Owner,
    own: Option<Number>,
) -> Option<Process> {
    let mut others = holders.iter().filter(|(number, _)| Some(**number) != own);
    let other = others.find(|(_, holder)| holder.owner.is_another_than(owner));
    other.map(|(_, holder)| holder.by.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGES: [Usage; 3] = [Usage::Reads, Usage::Writes, Usage::ReadsAndWrites];

    fn holder(owner: Owner) -> Holder {
        Holder { owner, by: Process::default() }
    }

    fn may_both(first: (Usage, Owner), second: (Usage, Owner)) -> bool {
        let mut holders = Holders::default();
        holders.enter(first.0, holder(first.1)).unwrap();
        holders.enter(second.0, holder(second.1)).is_ok()
    }

    #[test]
    fn who_reads_what_was_judged_and_who_may_write_exclude_each_other() {
        let (one, other) = (Owner::Run(1), Owner::Run(2));
        for first in USAGES {
            for second in USAGES {
                let apart = first.reads() && second.writes() || first.writes() && second.reads();
                assert_eq!(may_both((first, one), (second, other)), !apart, "{first:?} {second:?}");
                assert_eq!(may_both((first, Owner::Nobody), (second, other)), !apart);
                assert_eq!(may_both((first, one), (second, Owner::Nobody)), !apart);
                assert_eq!(may_both((first, Owner::Nobody), (second, Owner::Nobody)), !apart);
            }
        }
    }

    #[test]
    fn a_run_does_not_exclude_itself() {
        let own = Owner::Run(1);
        for first in USAGES {
            for second in USAGES {
                assert!(may_both((first, own), (second, own)), "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn who_left_is_in_nobodys_way() {
        let mut holders = Holders::default();
        for usage in USAGES {
            let number = holders.enter(usage, holder(Owner::Run(1))).unwrap();
            assert_eq!(holders.may_change(), usage != Usage::Reads, "{usage:?}");
            holders.leave(number);
            assert!(!holders.may_change());
            let again = holders.enter(Usage::ReadsAndWrites, holder(Owner::Nobody)).unwrap();
            holders.leave(again);
        }
    }

    #[test]
    fn a_change_is_kept_from_all_readers_but_the_one_who_makes_it() {
        let mut holders = Holders::default();
        let nobody = Owner::Nobody;
        assert_eq!(holders.in_the_way_of_change(nobody, None), None);
        let own = holders.enter(Usage::ReadsAndWrites, holder(nobody)).unwrap();
        assert_eq!(holders.in_the_way_of_change(nobody, Some(own)), None);
        let reader = Some(InTheWay::Reader(Process::default()));
        assert_eq!(holders.in_the_way_of_change(nobody, None), reader);
        assert_eq!(holders.in_the_way_of_change(Owner::Run(1), Some(own)), None);
        assert_eq!(holders.in_the_way_of_change(Owner::Run(1), None), reader);
    }

    #[test]
    fn who_is_in_the_way_is_named() {
        let mut holders = Holders::default();
        let by = Process { pid: Some(7), ..Process::default() };
        let writer = Holder { owner: Owner::Run(1), by: by.clone() };
        let number = holders.enter(Usage::Writes, writer).unwrap();
        let other = Owner::Run(2);
        assert_eq!(holders.enter(Usage::Reads, holder(other)), Err(InTheWay::Writer(by)),);
        // Where nobody is kept apart.
        holders.enter_anyway(Usage::Reads, holder(other));
        holders.leave(number);
        let reader = InTheWay::Reader(Process::default());
        assert_eq!(holders.enter(Usage::Writes, holder(Owner::Run(1))), Err(reader));
    }
}
