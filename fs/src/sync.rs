//! The one door to locks, condition variables and threads for rooms in which threads meet.
//!
//! A test that runs threads sees a few of the orders in which they can meet, and rarely the one that is wrong. So with the
//! feature `shuttle`, and in unit tests only, something else stands behind this door: a scheduler that lets one thread go on
//! at a time, decides at each step which, and does so in some thousand ways. The modules called `schedules` beside those
//! rooms say what has to be true in each of these.

#[cfg(not(all(test, feature = "shuttle")))]
mod real {
    pub(crate) use std::{
        sync::{Once, atomic},
        thread, thread_local,
    };

    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
}

#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use real::*;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod scheduled;

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use scheduled::*;
