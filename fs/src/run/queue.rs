//! Work for background threads.

use std::collections::VecDeque;

use prometheus_client::metrics::gauge::Gauge;

use crate::sync::{Condvar, Mutex};

/// A queue that ends when it is closed.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    more: Condvar,
    /// How much waits, in all queues that share it.
    depth: Gauge,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// Threads that have nothing to do.
    idle: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue whose length counts in `depth`.
    pub(crate) fn of(depth: Gauge) -> Self {
        let waiting = Waiting { items: VecDeque::new(), idle: 0, closed: false };
        Self { waiting: Mutex::new(waiting), more: Condvar::new(), depth }
    }

    /// A closed queue drops it.
    pub(crate) fn push(&self, item: T) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return drop(item);
        }
        waiting.items.push_back(item);
        self.depth.inc();
        self.more.notify_one();
    }

    /// Takes up to `most` items; waits for the first. None when the queue is closed.
    pub(crate) fn pop(&self, most: usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        waiting.idle += 1;
        self.more.wait_while(&mut waiting, |waiting| waiting.items.is_empty() && !waiting.closed);
        waiting.idle -= 1;
        self.take(&mut waiting, most)
    }

    /// Takes up to `most` items if there are any that no idle thread is about to take; waits for none. None when the
    /// queue is closed.
    pub(crate) fn pop_what_nobody_waits_for(&self, most: usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        let spare = waiting.items.len().saturating_sub(waiting.idle);
        self.take(&mut waiting, most.min(spare))
    }

    fn take(&self, waiting: &mut Waiting<T>, most: usize) -> Option<Vec<T>> {
        if waiting.closed {
            return None;
        }
        let count = most.min(waiting.items.len());
        self.less(count);
        Some(waiting.items.drain(..count).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }

    /// What still waits is dropped, and whoever waits for more is let go.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        self.less(waiting.items.len());
        waiting.items.clear();
        self.more.notify_all();
    }

    fn less(&self, count: usize) {
        self.depth.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_in_batches() {
        let queue = Queue::of(Gauge::default());
        (1..=3).for_each(|item| queue.push(item));
        assert_eq!(queue.pop(2), Some(vec![1, 2]));
        assert_eq!(queue.pop(2), Some(vec![3]));
    }

    #[test]
    fn the_depth_is_what_waits_in_all_queues_that_share_it() {
        let depth = Gauge::default();
        let (one, other) = (Queue::of(depth.clone()), Queue::of(depth.clone()));
        (1..=3).for_each(|item| one.push(item));
        other.push(4);
        assert_eq!(depth.get(), 4);
        one.pop(2);
        assert_eq!(depth.get(), 2);
        one.close();
        one.push(5);
        assert_eq!(depth.get(), 1);
    }

    #[test]
    fn a_closed_queue_lets_go_of_its_waiters() {
        let queue = Queue::<u8>::of(Gauge::default());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.pop(1));
            queue.close();
            assert_eq!(waiter.join().unwrap(), None);
        });
        queue.push(1);
        assert_eq!(queue.len(), 0);
    }
}
