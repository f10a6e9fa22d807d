use blake3::hazmat::{
    ChainingValue, Mode, merge_subtrees_non_root as merge, merge_subtrees_root as merge_root,
};

use crate::{digest::Blake3, tree::ChunkGroup};

/// The chaining values of a content of two or more chunk groups, level by level: node `i` of level
/// `k` covers the groups `i << k .. (i + 1) << k` as far as they exist. Level 0 are the groups; the
/// highest level has two nodes, whose merge is the root.
///
/// A node is stale (`None`, or beyond the end of its array) when something below it changed.
/// Invariant: every ancestor of a changed node is stale. So a fresh node can be used as it is.
///
/// Memory: 33 bytes per node, and as many nodes above level 0 as in it: about one thousandth of the
/// content, up to the last group that was stored.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    nodes: Vec<Vec<Option<ChainingValue>>>,
}

impl Levels {
    pub(crate) fn is_fresh(&self, group: ChunkGroup) -> bool {
        self.groups().get(group.index()).is_some_and(Option::is_some)
    }

    /// Keeps the chaining value of a group. Takes memory for all groups before it.
    pub(crate) fn store(&mut self, group: ChunkGroup, value: ChainingValue) {
        let index = group.index();
        self.forget(group, group);
        let groups = self.groups_mut();
        if groups.len() <= index {
            groups.resize(index + 1, None);
        }
        groups[index] = Some(value);
    }

    /// The groups from `first` to `last`, both included, changed.
    pub(crate) fn forget(&mut self, first: ChunkGroup, last: ChunkGroup) {
        for (level, nodes) in self.nodes.iter_mut().enumerate() {
            let end = nodes.len().min((last.index() >> level) + 1);
            let start = end.min(first.index() >> level);
            nodes[start..end].fill(None);
        }
    }

    /// The last group of the content was `old` and is `new` now.
    pub(crate) fn set_last(&mut self, old: ChunkGroup, new: ChunkGroup) {
        if old == new {
            return;
        }
        // What covered the last common group may cover fewer or more groups now. The group itself
        // did not change by this.
        let edge = old.min(new).index();
        for (level, nodes) in self.nodes.iter_mut().enumerate() {
            nodes.truncate(width(new, level));
            if level > 0
                && let Some(node) = nodes.get_mut(edge >> level)
            {
                *node = None;
            }
        }
    }

    /// The root over the groups up to `last`, which is not the first; none as long as one of them
    /// is stale. Merges only what is above a change: 60 ns per merge.
    pub(crate) fn root(&mut self, last: ChunkGroup) -> Option<Blake3> {
        let top = last.index().ilog2() as usize;
        self.nodes.resize_with(top + 1, Vec::new);
        for (level, nodes) in self.nodes.iter_mut().enumerate() {
            nodes.resize(width(last, level), None);
        }
        let left = self.refresh(top, 0)?;
        let right = self.refresh(top, 1)?;
        Some(Blake3(merge_root(&left, &right, Mode::Hash).into()))
    }

    /// The value of a node, from its children where it is stale. An odd last node has the value of
    /// its only child.
    fn refresh(&mut self, level: usize, index: usize) -> Option<ChainingValue> {
        if let Some(value) = self.nodes[level][index] {
            return Some(value);
        }
        let below = level.checked_sub(1)?;
        let left = self.refresh(below, 2 * index)?;
        let value = if 2 * index + 1 < self.nodes[below].len() {
            merge(&left, &self.refresh(below, 2 * index + 1)?, Mode::Hash)
        } else {
            left
        };
        self.nodes[level][index] = Some(value);
        Some(value)
    }

    /// For tests of the bound.
    #[cfg(test)]
    pub(crate) fn memory_nodes(&self) -> usize {
        self.nodes.iter().map(Vec::capacity).sum()
    }

    fn groups(&self) -> &[Option<ChainingValue>] {
        self.nodes.first().map_or(&[], Vec::as_slice)
    }

    fn groups_mut(&mut self) -> &mut Vec<Option<ChainingValue>> {
        if self.nodes.is_empty() {
            self.nodes.push(Vec::new());
        }
        &mut self.nodes[0]
    }
}

/// How many nodes a level has when `last` is the last group.
fn width(last: ChunkGroup, level: usize) -> usize {
    (last.index() >> level) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_the_memory_that_the_design_says() {
        assert_eq!(size_of::<Option<ChainingValue>>(), 33);
    }
}
