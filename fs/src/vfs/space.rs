//! Whether the store has room for what is answered before it is stored.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::StatVfs;

/// Room that was there when somebody last looked. As long as it lasts, a write is not expected to fail for want of
/// room; what a quota says is not known.
#[derive(Debug, Default)]
pub(super) struct Space {
    left: AtomicU64,
}

impl Space {
    /// Whether there is room for so many bytes more, by what `look` last said of the store.
    pub(super) fn covers(&self, bytes: u64, look: impl FnOnce() -> Option<StatVfs>) -> bool {
        let takes = |left: u64| left.checked_sub(bytes);
        if self.left.fetch_update(Relaxed, Relaxed, takes).is_ok() {
            return true;
        }
        let share = look().map_or(0, |store| share(&store));
        self.left.store(share.saturating_sub(bytes), Relaxed);
        share >= bytes
    }
}

impl Space {
    /// It was not as it seemed.
    pub(super) fn look_again(&self) {
        self.left.store(0, Relaxed);
    }
}

/// What is written before somebody looks again: a small part of what is free, for others write too.
fn share(store: &StatVfs) -> u64 {
    // A tmpfs without bound says nothing.
    if store.f_blocks == 0 {
        return LOOK_EVERY;
    }
    let free = store.f_bavail.saturating_mul(store.f_frsize);
    (free / 8).min(LOOK_EVERY)
}

/// Written after one look at the most.
const LOOK_EVERY: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn store(free: u64) -> StatVfs {
        let mut store = rustix::fs::statvfs("/").unwrap();
        (store.f_blocks, store.f_bavail, store.f_frsize) = (1 << 40, free, 1);
        store
    }

    #[test]
    fn it_lasts_for_an_eighth_of_what_is_free() {
        let space = Space::default();
        assert!(space.covers(100, || Some(store(1600))));
        assert!(space.covers(100, || unreachable!("it was looked at")));
        assert!(!space.covers(100, || Some(store(799))));
        assert!(space.covers(100, || Some(store(800))));
    }

    #[test]
    fn a_full_store_and_one_that_does_not_answer_have_no_room() {
        let space = Space::default();
        assert!(!space.covers(1, || Some(store(0))));
        assert!(!space.covers(1, || None));
    }

    #[test]
    fn however_much_is_free_it_is_looked_at_again() {
        let space = Space::default();
        assert!(space.covers(LOOK_EVERY, || Some(store(u64::MAX))));
        let mut looks = 0;
        let looked = || {
            looks += 1;
            Some(store(u64::MAX))
        };
        assert!(space.covers(1, looked));
        assert_eq!(looks, 1);
    }
}
