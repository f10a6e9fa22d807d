use std::{collections::HashMap, hash::Hash, mem};

/// A map that keeps what was asked for lately. It has two halves: what is new or asked for goes into
/// the young one; when that is full it becomes the old one, and what the old one still held is dropped.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, Weighed<V>>,
    old: HashMap<K, Weighed<V>>,
    /// Of the young half.
    weight: u64,
    half: u64,
}

#[derive(Debug)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Holds values of `bound` in weight, all together.
    pub(super) fn new(bound: u64) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, half: bound / 2 }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(found) = self.young.get(key) {
            return Some(found.value.clone());
        }
        let (key, found) = self.old.remove_entry(key)?;
        let value = found.value.clone();
        self.insert(key, found.value, found.weight);
        Some(value)
    }

    /// What weighs more than half the bound is not kept.
    pub(super) fn insert(&mut self, key: K, value: V, weight: u64) {
        self.remove(&key);
        if weight > self.half {
            return;
        }
        if self.weight + weight > self.half {
            self.old = mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, Weighed { value, weight });
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        if let Some(removed) = self.young.remove(key) {
            self.weight -= removed.weight;
            return Some(removed.value);
        }
        self.old.remove(key).map(|removed| removed.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let mut recent = Recent::new(4);
        recent.insert("asked", 0, 1);
        recent.insert("forgotten", 1, 1);
        for round in 0..10 {
            assert_eq!(recent.get(&"asked"), Some(0), "{round}");
            recent.insert("other", round, 1);
            recent.insert("another", round, 1);
        }
        assert_eq!(recent.get(&"forgotten"), None);
    }

    #[test]
    fn what_is_heavier_than_half_the_bound_is_not_kept() {
        let mut recent = Recent::new(4);
        recent.insert(1, "old", 1);
        recent.insert(1, "heavy", 3);
        assert_eq!(recent.get(&1), None);
        recent.insert(1, "fits", 2);
        assert_eq!(recent.get(&1), Some("fits"));
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_bound_nor_a_wrong_value(
            steps in prop::collection::vec((0..20u64, 0..6u64, any::<bool>()), 0..200),
        ) {
            let (mut recent, mut model) = (Recent::new(10), HashMap::new());
            for (key, weight, remove) in steps {
                if remove {
                    recent.remove(&key);
                    model.remove(&key);
                } else {
                    recent.insert(key, (key, weight), weight);
                    model.insert(key, (key, weight));
                }
                let halves = [&recent.young, &recent.old];
                let held: u64 = halves.iter().flat_map(|h| h.values()).map(|v| v.weight).sum();
                prop_assert!(held <= 10);
                for key in 0..20 {
                    let found = recent.get(&key);
                    prop_assert!(found.is_none() || found == model.get(&key).copied());
                }
            }
        }
    }
}
