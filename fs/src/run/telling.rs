//! What a fact says a file is called.

use std::iter;

use super::tracked::Tracked;
use crate::fact::TreePath;

/// What something that the run made is called.
pub(super) struct Told {
    /// The name that was seen last; none when it is unlinked.
    pub(super) path: Option<TreePath>,
    /// As many others as one fact has room for.
    pub(super) also: Vec<TreePath>,
    /// It has names, but all of them are too long, and this is what is told of one.
    pub(super) is_cut: bool,
}

impl Told {
    /// What is told of a file that is at these paths, and the names for more facts. Those that are too
    /// long are only told where it has no other: nobody can ask for it by them.
    pub(super) fn of(
        tracked: &Tracked,
        paths: &[TreePath],
    ) -> (Self, impl Iterator<Item = Vec<TreePath>> + use<>) {
        let mut names = paths.iter().filter(|path| path.is_told_whole()).cloned();
        let path = names.next();
        let mut more = pieces(names.collect());
        let also = more.next().unwrap_or_default();
        let is_cut = path.is_none() && tracked.has_names();
        let path = if is_cut { Some(tracked.told_path()) } else { path };
        (Self { path, also, is_cut }, more)
    }
}

/// The names, as many at a time as one fact has room for.
fn pieces(names: Vec<TreePath>) -> impl Iterator<Item = Vec<TreePath>> {
    let mut names = names.into_iter().peekable();
    iter::from_fn(move || {
        let first = names.next()?;
        let mut bytes = line_bytes(&first);
        let mut fits = |name: &TreePath| {
            bytes += line_bytes(name);
            bytes <= NAMES_BYTES_MAX
        };
        let others = iter::from_fn(|| names.next_if(&mut fits));
        Some(iter::once(first).chain(others).collect())
    })
}

/// No less than a name takes in a list of JSON.
fn line_bytes(name: &TreePath) -> usize {
    NAME_BYTES + name.line_bytes()
}

/// Names of one fact, as JSON: whoever takes facts down has lines of 128 KiB.
const NAMES_BYTES_MAX: usize = 32 << 10;

/// What is around a name: `{"tree":65535,"path":""},`.
const NAME_BYTES: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the pieces are that names of these lengths are told in.
    fn told(lengths: &[usize]) -> Vec<usize> {
        let name = |length: &usize| TreePath { tree: u16::MAX, path: "x".repeat(*length) };
        let names: Vec<_> = lengths.iter().map(name).collect();
        let told: Vec<_> = pieces(names.clone()).collect();
        assert_eq!(told.concat(), names);
        told.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_fact_tells_as_many_names_as_it_has_room_for_and_one_in_any_case() {
        let half = NAMES_BYTES_MAX / 2 - NAME_BYTES;
        assert!(told(&[]).is_empty());
        assert_eq!(told(&[1]), [1]);
        assert_eq!(told(&[half, half]), [2]);
        assert_eq!(told(&[half, half, 0]), [2, 1]);
        assert_eq!(told(&[half, half + 1]), [1, 1]);
        assert_eq!(told(&[NAMES_BYTES_MAX, 1, 1]), [1, 2]);
    }

    #[test]
    fn no_name_takes_more_of_a_line_than_is_reckoned() {
        for path in ["", "a/b", "\"\\", "\n", "\u{1f}\u{7f}", "ä€", r"\\xff"] {
            let name = TreePath { tree: u16::MAX, path: path.to_owned() };
            let line = serde_json::to_string(&name).unwrap() + ",";
            assert!(line.len() <= line_bytes(&name), "{line}");
        }
    }
}
