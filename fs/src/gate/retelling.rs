use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::fact::TreePath;

/// Refusals that were told lately: a program that tries again and again is told once a second.
#[derive(Debug, Default)]
pub(super) struct Retelling(Mutex<HashMap<Told, Timestamp>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    process: Option<u32>,
    path: TreePath,
    reason: String,
}

impl Retelling {
    /// Whether this is to be told, which is then taken as done.
    pub(super) fn is_news(
        &self,
        process: Option<u32>,
        path: &TreePath,
        reason: &str,
        now: Timestamp,
    ) -> bool {
        let mut told = self.0.lock();
        // A clock that was set back makes no silence.
        let recent = |at: &Timestamp| *at <= now && now.duration_since(*at) < SILENCE;
        if told.len() >= TOLD_MAX {
            told.retain(|_, at| recent(at));
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        let this = Told { process, path: path.clone(), reason: reason.to_owned() };
        let silent = told.get(&this).is_some_and(recent);
        if !silent {
            told.insert(this, now);
        }
        !silent
    }
}

const SILENCE: SignedDuration = SignedDuration::from_secs(1);

/// So many are remembered; beyond that some are told too often.
const TOLD_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> TreePath {
        TreePath { tree: 0, path: path.to_owned() }
    }

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn the_same_is_told_once_a_second() {
        let retelling = Retelling::default();
        let tell = |now| retelling.is_news(Some(1), &path("a"), "why", at(now));
        assert!(tell(0));
        assert!(!tell(999));
        assert!(tell(1000));
        assert!(tell(0), "the clock was set back");
    }

    #[test]
    fn another_process_path_or_reason_is_told() {
        let retelling = Retelling::default();
        assert!(retelling.is_news(Some(1), &path("a"), "why", at(0)));
        assert!(retelling.is_news(Some(2), &path("a"), "why", at(0)));
        assert!(retelling.is_news(None, &path("a"), "why", at(0)));
        assert!(retelling.is_news(Some(1), &path("b"), "why", at(0)));
        assert!(retelling.is_news(Some(1), &path("a"), "other", at(0)));
    }

    #[test]
    fn it_remembers_no_more_than_its_bound() {
        let retelling = Retelling::default();
        for number in 0..3 * TOLD_MAX {
            assert!(retelling.is_news(None, &path(&number.to_string()), "why", at(0)));
            assert!(retelling.0.lock().len() <= TOLD_MAX);
        }
    }
}
