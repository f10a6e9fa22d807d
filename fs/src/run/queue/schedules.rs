use std::sync::Arc;

use super::*;
use crate::sync::{in_each_schedule, join_all, thread};

/// What was taken, and who waits until that is all.
#[derive(Debug, Default)]
struct Taken {
    items: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Taken {
    fn add(&self, items: Vec<u8>) {
        self.items.lock().extend(items);
        self.more.notify_all();
    }
}

const ITEMS: u8 = 4;

#[test]
fn each_item_is_taken_once_although_those_at_work_take_more_and_all_hear_of_the_end() {
    in_each_schedule(|| {
        let queue = Arc::new(Queue::of(Gauge::default()));
        let taken = Arc::<Taken>::default();
        let takers = [1, 2, 3].map(|most| {
            let (queue, taken) = (Arc::clone(&queue), Arc::clone(&taken));
            thread::spawn(move || {
                while let Some(items) = queue.pop(1) {
                    taken.add(items);
                    let Some(more) = queue.pop_what_nobody_waits_for(most) else { return };
                    taken.add(more);
                }
            })
        });
        let givers = [0..2, 2..ITEMS].map(|items| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || items.for_each(|item| queue.push(item)))
        });
        let mut items = taken.items.lock();
        taken.more.wait_while(&mut items, |items| items.len() < usize::from(ITEMS));
        items.sort_unstable();
        assert_eq!(*items, (0..ITEMS).collect::<Vec<_>>());
        drop(items);
        join_all(givers);
        assert_eq!((queue.depth.get(), queue.len()), (0, 0));
        queue.close();
        join_all(takers);
    });
}
