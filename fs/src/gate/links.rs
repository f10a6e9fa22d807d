//! Symbolic links that were found or followed: a file is also guarded by the names of the links that
//! lead to it.

use std::collections::{BTreeMap, HashMap};

use attestfs_attestation::{Alias, Step, aliases};
use parking_lot::Mutex;

use crate::{fact::TreePath, lately::Moment};

/// What links lead to, and who follows them. Of one that nobody followed lately ask again before it
/// counts.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By their targets, and when they were followed last.
    links: BTreeMap<TreePath, HashMap<TreePath, Option<Moment>>>,
    /// How many there are, all together.
    count: usize,
    /// When there last were more that counted than are remembered.
    overflow: Option<Moment>,
    /// How many there ever were.
    additions: u64,
}

impl Links {
    /// A link to a file or directory of the same tree was found.
    pub(super) fn found(&self, link: TreePath, target: TreePath) {
        self.add(link, target, None);
    }

    /// Such a link was read: somebody goes there.
    pub(super) fn followed(&self, link: TreePath, target: TreePath) {
        self.add(link, target, Some(Moment::now()));
    }

    fn add(&self, link: TreePath, target: TreePath, followed: Option<Moment>) {
        let mut known = self.0.lock();
        known.make_room();
        let links = known.links.entry(target).or_default();
        let before = links.len();
        let last = links.entry(link).or_default();
        *last = followed.or(*last);
        let added = links.len() - before;
        known.count += added;
        known.additions += added as u64;
    }

    /// As long as it is the same, there is no path to anything that there was not before.
    pub(super) fn additions(&self) -> u64 {
        self.0.lock().additions
    }

    /// It leads there no more.
    pub(super) fn forget(&self, tree: u16, step: &Step) {
        let path = |path: &String| TreePath { tree, path: path.clone() };
        let (link, target) = (path(&step.link), path(&step.target));
        let mut known = self.0.lock();
        let Some(links) = known.links.get_mut(&target) else { return };
        let gone = links.remove(&link).is_some();
        if links.is_empty() {
            known.links.remove(&target);
        }
        known.count -= usize::from(gone);
    }

    /// The other paths to what has this one, those by fewer links first.
    ///
    /// # Returns
    /// `None` when there are more than anybody looks at. One that is left out might be the guarded one.
    pub(super) fn aliases(&self, path: &TreePath) -> Option<Vec<Alias>> {
        let known = self.0.lock();
        if known.overflow.is_some_and(Moment::is_recent) {
            return None;
        }
        aliases(&path.path, |target| known.leading_to(path.tree, target))
    }

    /// Links that lately led to what lies at this path or below.
    pub(super) fn recently_through(&self, path: &TreePath) -> Vec<TreePath> {
        let below = TreePath { tree: path.tree, path: format!("{}/", path.path) };
        let known = self.0.lock();
        let at = known.links.get(path).into_iter();
        let further = known.links.range(below.clone()..);
        let further = further.take_while(|(target, _)| {
            target.tree == below.tree && target.path.starts_with(&below.path)
        });
        let links = at.chain(further.map(|(_, links)| links)).flatten();
        links.filter(|(_, followed)| is_recent(**followed)).map(|(link, _)| link.clone()).collect()
    }
}

impl Known {
    /// Drops what has to be asked again anyway. What may count at once is not dropped unnoticed.
    fn make_room(&mut self) {
        if self.count < LINKS_MAX {
            return;
        }
        self.links.retain(|_, links| {
            links.retain(|_, followed| is_recent(*followed));
            !links.is_empty()
        });
        self.count = self.links.values().map(HashMap::len).sum();
        if self.count > LINKS_MAX / 2 {
            let additions = self.additions;
            *self = Self { overflow: Some(Moment::now()), additions, ..Self::default() };
        }
    }

    /// The links that lead there, and whether somebody followed them a moment ago.
    fn leading_to(&self, tree: u16, target: &str) -> impl Iterator<Item = (&str, bool)> + use<'_> {
        let target = TreePath { tree, path: target.to_owned() };
        let links = self.links.get(&target).into_iter().flatten();
        links.map(|(link, followed)| (link.path.as_str(), is_recent(*followed)))
    }
}

fn is_recent(followed: Option<Moment>) -> bool {
    followed.is_some_and(Moment::is_recent)
}

/// So many links are known at a time.
const LINKS_MAX: usize = 256 * 1024;

#[cfg(test)]
impl Links {
    /// As if time had passed.
    pub(super) fn age(&self) {
        let mut known = self.0.lock();
        let followed = known.links.values_mut().flat_map(HashMap::values_mut);
        followed.for_each(|followed| *followed = followed.map(|_| Moment::long_ago()));
        known.overflow = known.overflow.map(|_| Moment::long_ago());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many other paths of a file as are looked at.
    const ALIASES_MAX: usize = 4096;

    fn path(path: &str) -> TreePath {
        TreePath { tree: 0, path: path.to_owned() }
    }

    fn aliases(links: &Links, of: &str) -> Vec<String> {
        let aliases = links.aliases(&path(of)).unwrap();
        let mut paths: Vec<_> = aliases.into_iter().map(|alias| alias.path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn a_file_has_the_names_of_links_to_it_and_to_the_directories_above_it() {
        let links = Links::default();
        assert_eq!(aliases(&links, "blobs/9f"), [""; 0]);
        links.followed(path("model.pt"), path("blobs/9f"));
        links.followed(path("latest"), path("blobs"));
        links.followed(path("all"), path(""));
        let names = ["all/blobs/9f", "all/latest/9f", "all/model.pt", "latest/9f", "model.pt"];
        assert!(names.iter().all(|name| aliases(&links, "blobs/9f").contains(&(*name).to_owned())));
        assert!(!aliases(&links, "blobs/9f2").contains(&"model.pt".to_owned()));
        assert!(!aliases(&links, "blobs2/9f").contains(&"latest/9f".to_owned()));
        let other = TreePath { tree: 1, path: "blobs/9f".to_owned() };
        assert_eq!(links.aliases(&other), Some(Vec::new()));
    }

    #[test]
    fn links_are_followed_through_any_number_of_links_and_never_in_circles() {
        let links = Links::default();
        links.followed(path("shared/best"), path("blobs/1"));
        links.followed(path("v2/weights"), path("shared"));
        links.followed(path("latest"), path("v2"));
        links.followed(path("current"), path("latest"));
        assert!(aliases(&links, "blobs/1").contains(&"latest/weights/best".to_owned()));
        assert!(aliases(&links, "blobs/1").contains(&"current/weights/best".to_owned()));
        links.followed(path("a/b"), path("a"));
        assert_eq!(aliases(&links, "a/w"), ["a/b/b/w", "a/b/w"]);
    }

    #[test]
    fn a_path_is_recent_as_long_as_all_its_links_are() {
        let links = Links::default();
        links.followed(path("v2/w.pt"), path("blobs/1"));
        links.age();
        links.followed(path("latest"), path("v2"));
        let recent = |links: &Links| -> Vec<bool> {
            links.aliases(&path("blobs/1")).unwrap().iter().map(|alias| alias.is_recent).collect()
        };
        assert_eq!(recent(&links), [false, false]);
        links.found(path("v2/w.pt"), path("blobs/1"));
        assert_eq!(recent(&links), [false, false], "found and not followed");
        links.followed(path("v2/w.pt"), path("blobs/1"));
        links.found(path("v2/w.pt"), path("blobs/1"));
        assert_eq!(recent(&links), [true, true]);
    }

    #[test]
    fn what_lately_led_through_a_path_is_found() {
        let links = Links::default();
        let through = |of| links.recently_through(&path(of)).into_iter().map(|link| link.path);
        links.followed(path("m.pt"), path("d/blob"));
        links.followed(path("n.pt"), path("d-2/blob"));
        assert_eq!(through("d").collect::<Vec<_>>(), ["m.pt"]);
        assert_eq!(through("d/blob").collect::<Vec<_>>(), ["m.pt"]);
        assert_eq!(through("d/b").count(), 0);
        links.age();
        assert_eq!(through("d").count(), 0);
    }

    #[test]
    fn a_link_that_is_gone_is_forgotten() {
        let links = Links::default();
        links.followed(path("model.pt"), path("w"));
        links.followed(path("model.pt"), path("w"));
        let found = links.aliases(&path("w")).unwrap();
        assert_eq!(found.len(), 1);
        links.forget(0, &found[0].steps[0]);
        links.forget(0, &found[0].steps[0]);
        assert_eq!(aliases(&links, "w"), [""; 0]);
        assert_eq!(links.0.lock().count, 0);
    }

    #[test]
    fn more_links_than_anybody_looks_at_are_said_to_be_too_many() {
        let links = Links::default();
        for number in 0..ALIASES_MAX {
            links.followed(path(&number.to_string()), path("w"));
        }
        assert_eq!(links.aliases(&path("w")).map(|aliases| aliases.len()), Some(ALIASES_MAX));
        links.followed(path("one more"), path("w"));
        assert_eq!(links.aliases(&path("w")), None);
    }

    #[test]
    fn links_to_links_are_too_many_as_well() {
        let links = Links::default();
        for number in 0..100 {
            links.followed(path(&format!("files/{number}")), path("w"));
            links.followed(path(&format!("{number}")), path("files"));
        }
        assert_eq!(links.aliases(&path("w")), None);
    }

    #[test]
    fn links_that_may_count_at_once_are_not_dropped_unnoticed() {
        let links = Links::default();
        for number in 0..=LINKS_MAX {
            links.followed(path(&number.to_string()), path(&format!("w{number}")));
            assert!(links.0.lock().count <= LINKS_MAX);
        }
        assert_eq!(links.aliases(&path("w1")), None, "it may have been one of those");
        links.age();
        assert_eq!(aliases(&links, "w1"), [""; 0]);
        (0..LINKS_MAX).for_each(|number| links.followed(path(&number.to_string()), path("w")));
        links.age();
        links.followed(path("one more"), path("v"));
        assert_eq!(aliases(&links, "v"), ["one more"], "the others have to be asked again anyway");
    }
}
