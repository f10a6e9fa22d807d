//! What was so until a moment ago and goes on counting: between two requests of one system call the
//! kernel goes by what it was told before.

use std::time::{Duration, Instant};

/// When something was seen, or was so for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long ago it was: what time it is, the data plane does not know"
    )]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whether somebody may still go by it.
    pub(crate) fn is_recent(self) -> bool {
        self.elapsed() < RECENT
    }

    /// How long somebody may still go by it.
    pub(crate) fn remaining(self) -> Duration {
        RECENT.saturating_sub(self.0.elapsed())
    }
}

/// What is so no more.
#[derive(Debug)]
pub(crate) struct Lately<T> {
    ended: Vec<(T, Moment)>,
    /// When there last was more than is remembered.
    overflow: Option<Moment>,
}

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self { ended: Vec::new(), overflow: None }
    }
}

impl<T: PartialEq> Lately<T> {
    /// It ended now.
    pub(crate) fn add(&mut self, what: T) {
        self.ended.retain(|(known, since)| since.is_recent() && *known != what);
        if self.ended.len() < REMEMBERED_MAX {
            self.ended.push((what, Moment::now()));
        } else {
            self.add_unknown();
        }
    }

    /// Something ended now that cannot be named.
    pub(crate) fn add_unknown(&mut self) {
        self.overflow = Some(Moment::now());
    }

    /// What ended a moment ago.
    ///
    /// # Returns
    /// `None` when that is not all of it.
    pub(crate) fn recent(&self) -> Option<impl Iterator<Item = &T>> {
        if self.overflow.is_some_and(Moment::is_recent) {
            return None;
        }
        Some(self.ended.iter().filter(|(_, since)| since.is_recent()).map(|(what, _)| what))
    }

    /// When the last of it ended.
    pub(crate) fn last(&self) -> Option<Moment> {
        self.ended.iter().map(|(_, since)| *since).chain(self.overflow).max()
    }
}

/// The kernel answers from what it was told for a second (`LIFETIME` in `fuse.rs`); the rest is for
/// whoever gets no processor in between.
const RECENT: Duration = Duration::from_secs(3);

/// So much of one thing is remembered.
const REMEMBERED_MAX: usize = 64;

#[cfg(test)]
impl Moment {
    /// So long ago that it no longer counts.
    pub(crate) fn long_ago() -> Self {
        Self(Self::now().0.checked_sub(RECENT).unwrap())
    }
}

#[cfg(test)]
impl<T> Lately<T> {
    /// As if time had passed.
    pub(crate) fn age(&mut self) {
        self.ended.iter_mut().for_each(|(_, since)| *since = Moment::long_ago());
        self.overflow = self.overflow.map(|_| Moment::long_ago());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(lately: &Lately<usize>) -> Option<Vec<usize>> {
        lately.recent().map(|recent| recent.copied().collect())
    }

    #[test]
    fn what_ended_counts_for_a_while_and_then_no_more() {
        let mut lately = Lately::default();
        assert_eq!(recent(&lately), Some(vec![]));
        lately.add(1);
        lately.add(2);
        lately.add(1);
        assert_eq!(recent(&lately), Some(vec![2, 1]));
        lately.age();
        assert_eq!(recent(&lately), Some(vec![]));
        lately.add(3);
        assert_eq!(lately.ended.len(), 1, "what counts no more is not kept");
    }

    #[test]
    fn nothing_is_dropped_to_make_room() {
        let mut lately = Lately::default();
        (0..REMEMBERED_MAX).for_each(|number| lately.add(number));
        assert_eq!(recent(&lately).unwrap().len(), REMEMBERED_MAX);
        lately.add(0);
        assert_eq!(recent(&lately).unwrap().len(), REMEMBERED_MAX);
        lately.add(REMEMBERED_MAX);
        assert_eq!(recent(&lately), None);
        lately.age();
        lately.add(7);
        assert_eq!(recent(&lately), Some(vec![7]));
    }

    #[test]
    fn what_cannot_be_named_is_not_left_out() {
        let mut lately = Lately::default();
        lately.add_unknown();
        lately.add(1);
        assert_eq!(recent(&lately), None);
    }

    #[test]
    fn it_counts_no_more_when_its_time_is_over() {
        let mut lately = Lately::default();
        assert_eq!(lately.last(), None);
        lately.add(1);
        assert!(lately.last().unwrap().remaining() > Duration::ZERO);
        lately.age();
        assert_eq!(lately.last().unwrap().remaining(), Duration::ZERO);
        lately.add_unknown();
        assert!(lately.last().unwrap().remaining() > Duration::ZERO, "it cannot be named");
    }
}
