//! The same as `parking_lot` offers, as far as it is used, where a scheduler decides who goes on.
//!
//! Time does not pass here. A wait of no more than [`MOMENT`] may be over at any step. One for longer never is: who waits so
//! long waits for somebody, and if nobody tells him the scheduler finds that nothing goes on, and says so.
//!
//! Each property is held against [`SCHEDULES`] schedules that are drawn by chance, and as many in which some threads go
//! before others but in a few places (PCT). `ATTESTFS_SCHEDULES` says how many instead. Of one that fails the scheduler
//! prints what `shuttle::replay` takes to live through it again.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::{Arc, PoisonError},
    time::Duration,
};

use shuttle::{
    Config, Runner,
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler},
    sync,
};
pub(crate) use shuttle::{
    sync::{Once, atomic},
    thread, thread_local,
};

#[path = "../../../tests/common/setting.rs"]
mod setting;

/// Lives through many schedules of the threads of one history.
pub(crate) fn in_each_schedule(history: impl Fn() + Send + Sync + 'static) {
    let schedules = setting::number("ATTESTFS_SCHEDULES").map_or(SCHEDULES, |number| {
        usize::try_from(number).expect("a number of schedules is no larger than memory")
    });
    let history = Arc::new(history);
    let again = Arc::clone(&history);
    Runner::new(RandomScheduler::new(schedules), config()).run(move || again());
    Runner::new(PctScheduler::new(PREEMPTIONS, schedules), config()).run(move || history());
}

/// Waits for all of them.
pub(crate) fn join_all<T>(threads: impl IntoIterator<Item = thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn config() -> Config {
    let mut config = Config::default();
    config.stack_size = STACK_BYTES;
    config
}

/// Never poisoned, as [`parking_lot::Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// None while its owner waits.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>, &'a sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(locked(&self.0)), &self.0)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard), &self.0)),
            Err(sync::TryLockError::Poisoned(guard)) => {
                Some(MutexGuard(Some(guard.into_inner()), &self.0))
            }
            Err(sync::TryLockError::WouldBlock) => None,
        }
    }
}

fn locked<T>(mutex: &sync::Mutex<T>) -> sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("who waits does not look")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("who waits does not look")
    }
}

/// As [`parking_lot::RwLock`].
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`parking_lot::Condvar`]. Who is woken of several is drawn by chance.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    /// Not one of the scheduler's: nobody is held up while he looks here.
    waiting: std::sync::Mutex<VecDeque<Arc<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    thread: thread::Thread,
    is_woken: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let waiter = self.join();
        drop(guard.0.take());
        while !waiter.is_woken() {
            thread::park();
        }
        guard.0 = Some(locked(guard.1));
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        patience: Duration,
    ) -> WaitTimeoutResult {
        if patience > MOMENT {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        let waiter = self.join();
        drop(guard.0.take());
        while !waiter.is_woken() && !shuttle::rand::thread_rng().gen_ratio(1, 4) {
            thread::yield_now();
        }
        guard.0 = Some(locked(guard.1));
        self.waiters().retain(|other| !Arc::ptr_eq(other, &waiter));
        WaitTimeoutResult(!waiter.is_woken())
    }

    pub(crate) fn wait_while<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    pub(crate) fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        patience: Duration,
    ) -> WaitTimeoutResult {
        while condition(guard) {
            if patience.is_zero() || self.wait_for(guard, patience).timed_out() {
                return WaitTimeoutResult(condition(guard));
            }
        }
        WaitTimeoutResult(false)
    }

    pub(crate) fn notify_one(&self) {
        thread::yield_now();
        let waiter = {
            let mut waiting = self.waiters();
            let count = waiting.len();
            let chosen = (count > 0).then(|| shuttle::rand::thread_rng().gen_range(0..count));
            chosen.and_then(|chosen| waiting.remove(chosen))
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    pub(crate) fn notify_all(&self) {
        thread::yield_now();
        let waiting: Vec<_> = self.waiters().drain(..).collect();
        for waiter in waiting {
            waiter.wake();
        }
    }

    fn join(&self) -> Arc<Waiter> {
        let (thread, is_woken) = (thread::current(), false.into());
        let waiter = Arc::new(Waiter { thread, is_woken });
        self.waiters().push_back(Arc::clone(&waiter));
        waiter
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn is_woken(&self) -> bool {
        self.is_woken.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn wake(&self) {
        self.is_woken.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Some seconds for all properties together.
const SCHEDULES: usize = 500;

/// In so many places a thread gives way to one that comes after it otherwise.
const PREEMPTIONS: usize = 3;

/// Debug builds of what calls the store take more than the scheduler gives a thread.
const STACK_BYTES: usize = 1 << 20;

/// The longest wait that is for the time and not for somebody.
const MOMENT: Duration = Duration::from_millis(100);
