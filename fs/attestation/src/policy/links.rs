//! Names by way of symbolic links. A file is guarded by those as well: in many caches of models the
//! names are links, and the files are called after digests.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

/// Another path to a file: by way of links to it, or to directories above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Relative to the mount, as [`crate::escaped`] spells it.
    pub path: String,
    /// The links, the one that is followed last first.
    pub steps: Vec<Step>,
    /// Whether all the links count without being asked again where they lead.
    pub is_recent: bool,
}

/// One link, and what it leads to: a file, or a directory above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The path of the link.
    pub link: String,
    /// The path that it leads to.
    pub target: String,
}

/// Where a link leads within its tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Past all links on the way.
    pub now: Option<PathBuf>,
    /// Until somebody goes there a link on the way may lead elsewhere, and what is missing may be
    /// made: by this path it is known all the same. None when it leads out, or nobody can say.
    pub as_written: Option<PathBuf>,
}

/// What is at the end of a path when every link on it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// What has this path in the same tree.
    To(PathBuf),
    /// Nothing, or the links run in circles.
    Nowhere,
    /// Something else, or nobody can say.
    Elsewhere,
}

/// The other paths to what has this one, those by fewer links first. `links_to` says which links lead
/// to a path, and whether each counts without being asked again.
///
/// # Returns
/// `None` when there are more than anybody looks at. One that is left out might be the guarded one.
pub fn aliases<'l, L>(path: &str, links_to: impl Fn(&str) -> L) -> Option<Vec<Alias>>
where
    L: IntoIterator<Item = (&'l str, bool)>,
{
    let own = Alias { path: path.to_owned(), steps: Vec::new(), is_recent: true };
    let (mut aliases, mut seen) = (vec![own], HashSet::new());
    let mut next = 0;
    while next < aliases.len() {
        let from = aliases[next].clone();
        let more = one_link_further(&from, &links_to)
            .filter(|alias| seen.insert((alias.path.clone(), alias.is_recent)));
        aliases.extend(more.take(1 + ALIASES_MAX));
        if aliases.len() > 1 + ALIASES_MAX {
            return None;
        }
        next += 1;
    }
    aliases.remove(0);
    Some(aliases)
}

/// The paths by one more link. By the same link one comes twice at the most: it may lead to a directory
/// above itself.
fn one_link_further<'l, L>(
    from: &Alias,
    links_to: &impl Fn(&str) -> L,
) -> impl Iterator<Item = Alias>
where
    L: IntoIterator<Item = (&'l str, bool)>,
{
    ancestors(&from.path).flat_map(move |(target, rest)| {
        links_to(target).into_iter().filter_map(move |(link, is_recent)| {
            let step = Step { link: link.to_owned(), target: target.to_owned() };
            if from.steps.iter().filter(|known| **known == step).count() > 1 {
                return None;
            }
            let path = format!("{link}{rest}");
            let steps = from.steps.iter().cloned().chain([step]).collect();
            Some(Alias { path, steps, is_recent: from.is_recent && is_recent })
        })
    })
}

/// The path itself, and each directory above it, with the rest that leads from there to it: empty, or
/// beginning with a slash.
fn ancestors(path: &str) -> impl Iterator<Item = (&str, String)> {
    let root = (!path.is_empty()).then(|| ("", format!("/{path}")));
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let below = ends.map(|end| {
        let (above, rest) = path.split_at(end);
        (above, rest.to_owned())
    });
    root.into_iter().chain(below)
}

impl Ends {
    /// Of a link at this path in its tree, with this text. An absolute one leads to the tree when it
    /// begins with the path of the mount itself, `mount_point`, and away otherwise: to the directory
    /// that the mount fronts it leads around the mount, unless both are one. `follow` is asked what is
    /// at the end of a path in the tree.
    pub fn of(
        link: &Path,
        text: &Path,
        mount_point: Option<&Path>,
        follow: impl FnOnce(&Path) -> Followed,
    ) -> Self {
        let (above, text) = match mount_point.and_then(|above| text.strip_prefix(above).ok()) {
            Some(inside) => (Path::new(""), inside),
            None if text.is_absolute() => return Self::default(),
            None => (link.parent().unwrap_or(Path::new("")), text),
        };
        let (as_written, way) = (as_written(above, text), above.join(text));
        let is_root = way.as_os_str().is_empty();
        match if is_root { Followed::To(way) } else { follow(&way) } {
            Followed::To(end) => Self { now: Some(end), as_written },
            Followed::Nowhere => Self { now: None, as_written },
            Followed::Elsewhere => Self::default(),
        }
    }

    /// Whether it leads to no other place than these.
    pub fn are_certain(&self) -> bool {
        self.as_written.is_some()
    }

    /// Both.
    pub fn all(self) -> impl Iterator<Item = PathBuf> {
        self.now.into_iter().chain(self.as_written)
    }
}

/// The path of a link's text below a directory, as long as no other link is on the way. None when it
/// leads out, or upwards from a directory that may be such a link.
fn as_written(above: &Path, text: &Path) -> Option<PathBuf> {
    let (mut written, mut is_below) = (above.to_owned(), false);
    for component in text.components() {
        match component {
            Component::Normal(name) => {
                written.push(name);
                is_below = true;
            }
            Component::CurDir => {}
            Component::ParentDir if !is_below && written.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(written)
}

/// So many other paths of one file are looked at.
const ALIASES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_as_it_is_written_leads_into_the_tree_or_nobody_knows_where() {
        let written = |above, text| as_written(Path::new(above), Path::new(text));
        assert_eq!(written("", ""), Some(PathBuf::new()));
        assert_eq!(written("a", ".."), Some(PathBuf::new()));
        assert_eq!(written("snapshots/1", "../../blobs/./9f"), Some("blobs/9f".into()));
        assert_eq!(written("a", "../.."), None);
        assert_eq!(written("a", "d/../w"), None);
        assert_eq!(written("a", "/a"), None);
    }

    #[test]
    fn an_absolute_link_leads_into_the_tree_by_the_path_of_the_mount_alone() {
        let ends = |text, mount_point: Option<&str>| {
            let follow = |way: &Path| Followed::To(way.to_owned());
            Ends::of(Path::new("d/link"), Path::new(text), mount_point.map(Path::new), follow)
        };
        let to = |path: &str| Some(PathBuf::from(path));
        assert_eq!(ends("/mnt/w", Some("/mnt")), Ends { now: to("w"), as_written: to("w") });
        assert_eq!(ends("/mnt", Some("/mnt")), Ends { now: to(""), as_written: to("") });
        for mount_point in [None, Some("/mn")] {
            assert_eq!(ends("/mnt/w", mount_point), Ends::default());
            assert_eq!(ends("w", mount_point), Ends { now: to("d/w"), as_written: to("d/w") });
        }
    }

    #[test]
    fn a_link_to_what_is_missing_is_known_by_what_is_written_and_one_elsewhere_by_nothing() {
        let ends = |end: Followed| Ends::of(Path::new("link"), Path::new("w"), None, |_| end);
        let missing = ends(Followed::Nowhere);
        assert!(missing.are_certain() && missing.all().eq([PathBuf::from("w")]));
        assert!(!ends(Followed::Elsewhere).are_certain());
    }
}
