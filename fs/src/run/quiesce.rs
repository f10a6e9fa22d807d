//! Bringing a run, or a part of its files, to rest, so that it can be committed.

use std::{sync::Arc, time::Duration};

use super::{
    content::State,
    run::{Guards, Run},
    tracked::Tracked,
};
use crate::{
    fact::{TreePath, Unsealed},
    lately::Moment,
    sync::thread,
};

/// Which files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All files of the run.
    Run,
    /// The file or directory at this path, and what lies below it.
    Below(TreePath),
}

impl Scope {
    fn covers(&self, tracked: &Tracked) -> bool {
        match self {
            Self::Run => true,
            Self::Below(root) => tracked.paths().iter().any(|path| root.covers(path)),
        }
    }
}

impl TreePath {
    /// Whether `other` is this path or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        self.tree == other.tree
            && (self.path.is_empty()
                || other
                    .path
                    .strip_prefix(self.path.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// A file that the run wrote and that has no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: TreePath,
    /// Why it has no digest.
    pub unsealed: Unsealed,
}

impl Tracked {
    /// When it lost a guarded name that still counts, or any name after that.
    fn renamed(&self, guards: &dyn Guards) -> Option<Moment> {
        let names = self.names();
        let renamed = names.changed().filter(|moment| moment.is_recent())?;
        let sighted = names.sighted(false);
        drop(names);
        let is_guarded = sighted.is_none_or(|sighted| {
            let former: Vec<_> = sighted.lately.into_iter().map(TreePath::from).collect();
            guards.guards(&former)
        });
        is_guarded.then_some(renamed)
    }
}

impl Run {
    /// Waits until every file in `scope` that the run changed has lost its writers, those of others
    /// too, and has its digest, no longer than `patience`; then tells where all of them are now. Answers
    /// with those that have no digest that stays, by path.
    ///
    /// Other files go on being written meanwhile.
    pub fn quiesce(&self, scope: &Scope, patience: Duration) -> Vec<LeftOut> {
        self.wait_for_rest(scope, patience);
        let mut left_out: Vec<LeftOut> = self
            .tracked_files()
            .iter()
            .filter(|tracked| scope.covers(tracked))
            .filter_map(|tracked| self.tell_where(tracked))
            .collect();
        left_out.sort_by(|one, other| one.path.cmp(&other.path));
        left_out
    }

    /// Waits until what the run made in one of `scopes` is guarded by no name that it had a moment ago,
    /// such as the one under which it was written before it was renamed into place: nobody vouches for
    /// those, and until then others are refused. No longer than such a name counts, and not at all where
    /// none does.
    pub fn wait_for_names(&self, scopes: &[Scope]) {
        if let Some(renamed) = self.renamed(scopes) {
            thread::sleep(renamed.remaining());
        }
    }

    /// When something that the run made in one of `scopes` lost a guarded name that still counts.
    fn renamed(&self, scopes: &[Scope]) -> Option<Moment> {
        let guards = self.guards.get()?.as_ref();
        let outputs = scopes.iter().flat_map(|scope| self.outputs(scope));
        outputs.filter_map(|tracked| tracked.renamed(guards)).max()
    }

    /// Who changes a file keeps it busy until it has its digest. Who has it open and has not changed it
    /// yet still may, be it by a mapping.
    fn wait_for_rest(&self, scope: &Scope, patience: Duration) {
        let began = Moment::now();
        let left = || patience.saturating_sub(began.elapsed());
        let concerns = |tracked: &Tracked| scope.covers(tracked);
        self.activity.wait(patience, concerns);
        for tracked in self.outputs(scope) {
            tracked.wait_for_writers(left());
        }
        self.activity.wait(left(), concerns);
    }

    fn outputs(&self, scope: &Scope) -> impl Iterator<Item = Arc<Tracked>> {
        let is_output = |tracked: &Tracked| tracked.content().own_version().is_some();
        let files = self.tracked_files().into_iter();
        files.filter(move |tracked| scope.covers(tracked) && is_output(tracked))
    }

    /// Tells the file's name if it changed since it was last told. Answers with the file when the
    /// run wrote it and it has no digest.
    fn tell_where(&self, tracked: &Tracked) -> Option<LeftOut> {
        let mut content = tracked.content();
        let version = content.own_version()?;
        let paths = tracked.paths();
        let identity = content.identity();
        let unsealed = match &content.state {
            // It has got a guarded name since it was sealed.
            State::Sealed { .. } if self.keeps_back(tracked, &content) => {
                let unsealed = Unsealed::NotAdmitted;
                content.state = State::Unsealed { version, unsealed: unsealed.clone(), identity };
                unsealed
            }
            State::Sealed { .. } if tracked.is_open_for_writing() => Unsealed::Open,
            State::Sealed { .. } => {
                if paths != content.told_paths {
                    self.tell_again(tracked, &mut content);
                }
                return None;
            }
            State::Unsealed { unsealed, .. } => unsealed.clone(),
            _ => Unsealed::Open,
        };
        self.tell_unsealed(tracked, &mut content, version, unsealed.clone());
        if matches!(content.state, State::Sealed { .. }) {
            // To be told again when nobody has it open any more.
            content.told_paths.clear();
        }
        drop(content);
        paths.into_iter().next().map(|path| LeftOut { path: path.told(), unsealed })
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs::File};

    use super::*;
    use crate::{
        backing::Directory,
        fact::{Fact, Process},
        names::Place,
        port::{NothingKnown, Recorder},
        run::{Change, Haste, Inputs, Limits, Opened},
    };

    #[derive(Debug)]
    struct Deaf;

    impl Recorder for Deaf {
        fn record(&self, _fact: Fact) {}
    }

    /// Guards what has this ending.
    #[derive(Debug)]
    struct Ending(&'static str);

    impl Guards for Ending {
        fn keeps_back(&self, names: &[TreePath]) -> bool {
            self.guards(names)
        }

        fn guards(&self, names: &[TreePath]) -> bool {
            names.iter().any(|name| name.path.ends_with(self.0))
        }
    }

    fn path(tree: u16, path: &str) -> TreePath {
        TreePath { tree, path: path.to_owned() }
    }

    /// A run that guards `*.pt` and has written one file, which still has no name.
    fn writing() -> (Arc<Run>, Arc<Tracked>) {
        let (root, stored) = (tempfile::tempdir().unwrap(), tempfile::tempfile().unwrap());
        let backing = Arc::new(Directory::new(File::open(root.path()).unwrap().into()));
        let opened = &Opened { backing, file: Arc::new(stored) };
        let (recorder, known) = (Box::new(Deaf), Box::new(NothingKnown));
        let run = Run::start(recorder, known, Inputs::None, Limits::default());
        run.guarded_by(Arc::new(Ending(".pt")));
        let tracked = run.track(opened.stat().unwrap().identity.file);
        let change = Change { tracked: &tracked, opened, by: &Process::default() };
        let store = |opened: &Opened| Ok(opened.backing.write_at(&opened.file, b"w", 0)?);
        let content = &mut tracked.content();
        run.change(
            content,
            change,
            |_, _| Ok(()),
            store,
            |hasher, _| hasher.wrote(0, b"w", Haste::None),
        )
        .unwrap();
        (run, Arc::clone(&tracked))
    }

    #[test]
    fn nobody_waits_for_names_where_nothing_was_renamed() {
        let (run, tracked) = writing();
        tracked.names().add(&Place::root(0), OsStr::new("w.pt"));
        assert_eq!(run.renamed(&[Scope::Run]), None);
    }

    #[test]
    fn the_guarded_name_that_an_output_lost_is_waited_for_until_it_counts_no_more() {
        let (run, tracked) = writing();
        let root = Place::root(0);
        let rename = |from: &str, to: &str| {
            tracked.names().remove(&root, OsStr::new(from));
            tracked.names().add(&root, OsStr::new(to));
        };
        tracked.names().add(&root, OsStr::new("w.tmp"));
        rename("w.tmp", "a.pt");
        assert_eq!(run.renamed(&[Scope::Run]), None, "no rule has the name that it lost");
        rename("a.pt", "b.pt");
        assert!(run.renamed(&[Scope::Run]).is_some());
        assert!(run.renamed(&[Scope::Below(path(0, "b.pt"))]).is_some());
        assert_eq!(run.renamed(&[Scope::Below(path(0, "a.pt"))]), None, "another output");
        rename("b.pt", "a.pt");
        rename("a.pt", "b.pt");
        tracked.names().add(&root, OsStr::new("a.pt"));
        assert_eq!(run.renamed(&[Scope::Run]), None, "it has both names");
        tracked.names().remove(&root, OsStr::new("a.pt"));
        assert!(run.renamed(&[Scope::Run]).is_some());
        tracked.names().age();
        assert_eq!(run.renamed(&[Scope::Run]), None, "it counts no more");
    }

    #[test]
    fn the_guarded_path_that_a_directory_had_is_waited_for() {
        let (run, tracked) = writing();
        let root = Place::root(0);
        let written = Place::below(&root, OsStr::new("tmp-checkpoint-1"));
        tracked.names().add(&written, OsStr::new("w.pt"));
        assert_eq!(run.renamed(&[Scope::Run]), None);
        written.move_to(&root, OsStr::new("checkpoint-1"));
        assert!(run.renamed(&[Scope::Run]).is_some());
    }

    #[test]
    fn nobody_waits_for_the_names_of_what_the_run_did_not_make() {
        let (run, tracked) = writing();
        tracked.names().add(&Place::root(0), OsStr::new("a.pt"));
        tracked.names().remove(&Place::root(0), OsStr::new("a.pt"));
        tracked.names().add(&Place::root(0), OsStr::new("b.pt"));
        run.unlinked(&tracked);
        assert_eq!(run.renamed(&[Scope::Run]), None);
    }

    #[test]
    fn a_path_covers_itself_and_what_lies_below() {
        let model = path(0, "model");
        assert!(model.covers(&model));
        assert!(model.covers(&path(0, "model/a/b")));
        assert!(!model.covers(&path(0, "model2/a")));
        assert!(!model.covers(&path(0, "mode")));
        assert!(!model.covers(&path(1, "model/a")));
        assert!(path(0, "").covers(&model));
    }
}
