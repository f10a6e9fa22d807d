//! Work for background threads.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A queue that ends when it is closed.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    more: Condvar,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let waiting = Waiting { items: VecDeque::new(), closed: false };
        Self { waiting: Mutex::new(waiting), more: Condvar::new() }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&self, item: T) {
        self.waiting.lock().items.push_back(item);
        self.more.notify_one();
    }

    /// Takes up to `most` items; waits for the first. None when the queue is closed.
    pub(crate) fn pop(&self, most: usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        self.more.wait_while(&mut waiting, |waiting| waiting.items.is_empty() && !waiting.closed);
        if waiting.closed {
            return None;
        }
        let count = most.min(waiting.items.len());
        Some(waiting.items.drain(..count).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }

    /// What still waits is dropped, and whoever waits for more is let go.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.items.clear();
        self.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_in_batches() {
        let queue = Queue::default();
        (1..=3).for_each(|item| queue.push(item));
        assert_eq!(queue.pop(2), Some(vec![1, 2]));
        assert_eq!(queue.pop(2), Some(vec![3]));
    }

    #[test]
    fn a_closed_queue_lets_go_of_its_waiters() {
        let queue = Queue::<u8>::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.pop(1));
            queue.close();
            assert_eq!(waiter.join().unwrap(), None);
        });
    }
}
