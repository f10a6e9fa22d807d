use std::collections::{BTreeSet, VecDeque};

use attestfs_attestation::{CommitKind, Outcome};
use attestfs_digest::{Digests, Sha256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AttestationQuery, LineageError, LineageStore, Origin, Role, Run, RunId, Version, VersionId,
};

/// Which way a graph was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From a version to the runs that wrote it and the materials they read.
    Ancestors,
    /// From a version to the runs that read it and the outputs they made.
    Descendants,
}

impl Direction {
    /// The edge that leads from a version to the next run.
    fn towards_run(self) -> Role {
        match self {
            Self::Ancestors => Role::Wrote,
            Self::Descendants => Role::Read,
        }
    }

    /// The edge that leads from a run to the next versions.
    fn beyond_run(self) -> Role {
        match self {
            Self::Ancestors => Role::Read,
            Self::Descendants => Role::Wrote,
        }
    }
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Runs between the start and the last versions.
    pub runs_deep: usize,
    /// Runs and versions together.
    pub nodes: usize,
}

impl Default for Bounds {
    /// Deeper and wider than any pipeline that a person reads, smaller than the memory of a
    /// laptop.
    fn default() -> Self {
        Self { runs_deep: 64, nodes: 10_000 }
    }
}

/// Runs and versions, and which run read or wrote which version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Which way it was walked.
    pub direction: Direction,
    /// Where the walk began.
    pub start: Vec<VersionId>,
    /// In the order in which they were reached.
    pub runs: Vec<RunNode>,
    /// In the order in which they were reached.
    pub versions: Vec<VersionNode>,
    /// Both ends of each are in the graph. In the order of the walk.
    pub links: Vec<Link>,
    /// False when a bound cut something off.
    pub complete: bool,
}

impl Graph {
    /// Pairs of versions of one file, both in the graph: what a run wrote, and what was found
    /// there afterwards ([`Version::after`]).
    pub fn changed_outside(&self) -> impl Iterator<Item = (VersionId, VersionId)> {
        let known: BTreeSet<_> = self.versions.iter().map(|version| version.version).collect();
        let pairs = self.versions.iter().filter_map(|found| Some((found.after?, found.version)));
        pairs.filter(move |(before, _)| known.contains(before))
    }
}

/// A run in a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunNode {
    /// Its name.
    pub run: RunId,
    /// Its stage.
    pub stage: String,
    /// When it started.
    pub started: Timestamp,
    /// How it ended; none while it runs.
    pub outcome: Option<Outcome>,
    /// What was published of it, newest first, at most [`COMMITS_MAX`].
    pub commits: Vec<CommitMark>,
}

/// A publication of a run, as a graph shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitMark {
    /// SHA-256 of the DSSE payload.
    pub statement: Sha256,
    /// The end of the stage, or a checkpoint.
    pub kind: CommitKind,
    /// The time the statement bears.
    pub time: Timestamp,
    /// As in [`Attestation::freed`](super::Attestation::freed).
    #[serde(default)]
    pub freed: bool,
}

/// A version in a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionNode {
    /// Its number in the store.
    pub version: VersionId,
    /// The absolute path under which it was last seen.
    pub path: String,
    /// As in [`Version::also`].
    #[serde(default)]
    pub also: Vec<String>,
    /// None while unknown.
    pub digests: Option<Digests>,
    /// Bytes, where known.
    pub size: Option<u64>,
    /// Whether it was there when it was first seen, or who made it.
    pub origin: Origin,
    /// A run has written over it.
    pub superseded: bool,
    /// As in [`Version::gone`].
    #[serde(default)]
    pub gone: bool,
    /// As in [`Version::removed_by`].
    #[serde(default)]
    pub removed_by: Option<RunId>,
    /// As in [`Version::after`]; in the graph unless a bound forbade it.
    pub after: Option<VersionId>,
}

/// An edge of a graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Who.
    pub run: RunId,
    /// What the run did with the version.
    pub role: Role,
    /// With what.
    pub version: VersionId,
}

/// Walks from some versions through the runs before or after them.
///
/// Each run and each version is visited once, so a cycle of runs that exchange files while both
/// are alive ends like everything else. An empty version is shown, but never walked through,
/// except from the start: who asks for an empty file wants to know where it comes from.
///
/// # Errors
/// The store fails. A start that is not known to it is left out.
pub fn trace(
    store: &dyn LineageStore,
    direction: Direction,
    start: &[VersionId],
    bounds: Bounds,
) -> Result<Graph, LineageError> {
    let mut walk = Walk::new(store, direction, bounds);
    for version in start {
        walk.begin_at(*version)?;
    }
    while let Some((version, runs_deep)) = walk.frontier.pop_front() {
        walk.pass(version, runs_deep)?;
    }
    Ok(walk.graph)
}

/// The versions that the newest commit at or below this absolute path vouches for: where
/// `--latest DIR` starts.
///
/// # Errors
/// The store fails.
pub fn latest(store: &dyn LineageStore, path: &str) -> Result<Vec<VersionId>, LineageError> {
    let mut versions = BTreeSet::new();
    for attestation in store.latest(path)? {
        let subjects = store.subjects(&attestation.statement)?;
        versions.extend(subjects.into_iter().filter_map(|subject| subject.version));
    }
    Ok(versions.into_iter().collect())
}

struct Walk<'a> {
    store: &'a dyn LineageStore,
    bounds: Bounds,
    graph: Graph,
    /// Versions to walk through, with the number of runs between them and the start.
    frontier: VecDeque<(VersionId, usize)>,
    seen_versions: BTreeSet<VersionId>,
    seen_runs: BTreeSet<RunId>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn LineageStore, direction: Direction, bounds: Bounds) -> Self {
        let graph = Graph {
            direction,
            start: Vec::new(),
            runs: Vec::new(),
            versions: Vec::new(),
            links: Vec::new(),
            complete: true,
        };
        Self {
            store,
            bounds,
            graph,
            frontier: VecDeque::new(),
            seen_versions: BTreeSet::new(),
            seen_runs: BTreeSet::new(),
        }
    }

    fn begin_at(&mut self, version: VersionId) -> Result<(), LineageError> {
        if !self.seen_versions.contains(&version) && self.meet_version(version, 0)? {
            self.graph.start.push(version);
        }
        Ok(())
    }

    /// Goes from a version to its runs, and from each run that is new to the versions behind it.
    fn pass(&mut self, version: VersionId, runs_deep: usize) -> Result<(), LineageError> {
        for neighbour in self.same_file(version)? {
            if !self.seen_versions.contains(&neighbour) {
                self.meet_version(neighbour, runs_deep)?;
            }
        }
        let towards_run = self.graph.direction.towards_run();
        let runs = self.store.runs_of_version(version, towards_run, self.bounds.nodes)?;
        if runs_deep == self.bounds.runs_deep {
            self.graph.complete &= runs.is_empty();
            return Ok(());
        }
        for run in runs {
            if self.seen_runs.contains(&run) || self.meet_run(&run, runs_deep)? {
                self.link(&run, towards_run, version);
            }
        }
        Ok(())
    }

    /// What a run had left in the file in which the version was found, or the other way round.
    fn same_file(&self, version: VersionId) -> Result<Vec<VersionId>, LineageError> {
        match self.graph.direction {
            Direction::Ancestors => {
                let after = self.store.version(version)?.and_then(|version| version.after);
                Ok(after.into_iter().collect())
            }
            Direction::Descendants => self.store.found_after(version, self.bounds.nodes),
        }
    }

    /// Takes a run and what lies behind it into the graph. False when a bound forbids it.
    fn meet_run(&mut self, id: &RunId, runs_deep: usize) -> Result<bool, LineageError> {
        let Some(run) = self.store.run(id)? else {
            return Ok(false);
        };
        if !self.has_room() {
            return Ok(false);
        }
        self.seen_runs.insert(id.clone());
        let commits = commits(self.store, id)?;
        self.graph.runs.push(RunNode::of(run, commits));

        let beyond = self.graph.direction.beyond_run();
        for version in self.store.versions_of_run(id, beyond, self.bounds.nodes)? {
            if self.seen_versions.contains(&version) || self.meet_version(version, runs_deep + 1)? {
                self.link(id, beyond, version);
            }
        }
        Ok(true)
    }

    /// Takes a version into the graph. False when a bound forbids it or nobody knows it.
    fn meet_version(&mut self, id: VersionId, runs_deep: usize) -> Result<bool, LineageError> {
        let Some(version) = self.store.version(id)? else {
            return Ok(false);
        };
        if !self.has_room() {
            return Ok(false);
        }
        let is_start = runs_deep == 0;
        if is_start || !version.is_empty() {
            self.frontier.push_back((id, runs_deep));
        }
        self.seen_versions.insert(id);
        self.graph.versions.push(VersionNode::of(version));
        Ok(true)
    }

    fn has_room(&mut self) -> bool {
        let room = self.graph.runs.len() + self.graph.versions.len() < self.bounds.nodes;
        self.graph.complete &= room;
        room
    }

    fn link(&mut self, run: &RunId, role: Role, version: VersionId) {
        self.graph.links.push(Link { run: run.clone(), role, version });
    }
}

impl RunNode {
    fn of(run: Run, commits: Vec<CommitMark>) -> Self {
        Self {
            run: run.id(),
            stage: run.description.stage,
            started: run.description.started,
            outcome: run.end.map(|end| end.outcome),
            commits,
        }
    }
}

impl VersionNode {
    fn of(version: Version) -> Self {
        Self {
            version: version.id,
            path: version.path,
            also: version.also,
            digests: version.digests,
            size: version.identity.map(|identity| identity.size),
            origin: version.origin,
            superseded: version.superseded_by.is_some(),
            gone: version.gone,
            removed_by: version.removed_by,
            after: version.after,
        }
    }
}

fn commits(store: &dyn LineageStore, run: &RunId) -> Result<Vec<CommitMark>, LineageError> {
    let attestations = store.attestations(AttestationQuery::Run(run), COMMITS_MAX)?;
    let marks = attestations.into_iter().map(|attestation| CommitMark {
        statement: attestation.statement,
        kind: attestation.kind,
        time: attestation.time,
        freed: attestation.freed,
    });
    Ok(marks.collect())
}

/// A training run may make a checkpoint every minute; nobody reads all of them in a graph.
pub const COMMITS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::{
        Bounds, CommitKind, Direction, Graph, LineageStore, Outcome, Role, VersionId, latest, trace,
    };
    use crate::lineage::testing::{Content, MemoryStore, Story, attested, publish};

    const RAW: u64 = 1;
    const DATA: u64 = 2;
    const MODEL: u64 = 3;

    #[test]
    fn an_unknown_start_gives_an_empty_graph() {
        let graph = ancestors(&MemoryStore::default(), VersionId(1));
        assert!(graph.start.is_empty() && graph.versions.is_empty() && graph.complete);
    }

    #[test]
    fn raw_data_has_no_ancestors() {
        let store = MemoryStore::default();
        let raw = Story::begin(&store, "clean").reads(Content::of(RAW, 1));
        let graph = ancestors(&store, raw);
        assert_eq!(versions(&graph), [raw]);
        assert!(graph.runs.is_empty());
    }

    #[test]
    fn a_chain_leads_from_the_model_to_raw_data_and_back() {
        let store = MemoryStore::default();
        let [raw, data, model] = chain(&store);
        let graph = ancestors(&store, model);
        assert_eq!(versions(&graph), [model, data, raw]);
        assert_eq!(runs(&graph), ["train", "clean"]);
        let expected = [
            ("train", Role::Read, data),
            ("train", Role::Wrote, model),
            ("clean", Role::Read, raw),
            ("clean", Role::Wrote, data),
        ];
        assert_eq!(links(&graph), expected);

        let graph = descendants(&store, raw);
        assert_eq!(versions(&graph), [raw, data, model]);
        assert_eq!(runs(&graph), ["clean", "train"]);
        assert!(graph.complete);
    }

    #[test]
    fn a_diamond_has_each_node_once() {
        let store = MemoryStore::default();
        let mut split = Story::begin(&store, "split");
        let raw = split.reads(Content::of(1, 1));
        split.writes(Content::of(2, 2));
        split.writes(Content::of(3, 3));
        for (stage, part) in [("left", 2), ("right", 3)] {
            let mut half = Story::begin(&store, stage);
            half.reads(Content::of(part.into(), part));
            half.writes(Content::of(u64::from(part) + 2, part + 2));
        }
        let mut join = Story::begin(&store, "join");
        join.reads(Content::of(4, 4));
        join.reads(Content::of(5, 5));
        let model = join.writes(Content::of(6, 6));

        let graph = ancestors(&store, model);
        assert_eq!(runs(&graph), ["join", "left", "right", "split"]);
        assert_eq!(graph.versions.len(), 6);
        assert_eq!(graph.links.len(), 10);
        assert_eq!(versions(&graph).last(), Some(&raw));
    }

    #[test]
    fn runs_that_exchange_files_while_both_are_alive_end_the_walk() {
        let store = MemoryStore::default();
        let mut one = Story::begin(&store, "one");
        let mut two = Story::begin(&store, "two");
        let from_one = one.writes(Content::of(1, 1));
        let from_two = two.writes(Content::of(2, 2));
        one.reads(Content::of(2, 2));
        two.reads(Content::of(1, 1));
        let graph = ancestors(&store, from_one);
        assert_eq!(versions(&graph), [from_one, from_two]);
        assert_eq!(graph.links.len(), 4);
        assert!(graph.complete);
    }

    #[test]
    fn empty_files_never_link() {
        let store = MemoryStore::default();
        let empty = Content::empty(1);
        let made = Story::begin(&store, "setup").writes(empty);
        let mut train = Story::begin(&store, "train");
        assert_eq!(train.reads(empty), made);
        let model = train.writes(Content::of(2, 2));

        let graph = ancestors(&store, model);
        assert_eq!(runs(&graph), ["train"]);
        assert_eq!(versions(&graph), [model, made], "it is shown");
        assert_eq!(runs(&ancestors(&store, made)), ["setup"], "unless it is what was asked for");

        let mut setup = Story::begin(&store, "again");
        let raw = setup.reads(Content::of(3, 3));
        setup.writes(Content::empty(4));
        Story::begin(&store, "user").reads(Content::empty(4));
        assert_eq!(runs(&descendants(&store, raw)), ["again"]);
    }

    #[test]
    fn a_file_changed_outside_of_a_run_leads_to_who_wrote_it_before() {
        let store = MemoryStore::default();
        let mut clean = Story::begin(&store, "clean");
        let raw = clean.reads(Content::of(RAW, 1));
        let written = clean.writes(Content::of(DATA, 2));
        let mut train = Story::begin(&store, "train");
        let edited = train.reads(Content::of(DATA, 3));
        let model = train.writes(Content::of(MODEL, 4));

        let graph = ancestors(&store, model);
        assert_eq!(versions(&graph), [model, edited, written, raw]);
        assert_eq!(graph.changed_outside().collect::<Vec<_>>(), [(written, edited)]);
        let graph = descendants(&store, raw);
        assert_eq!(versions(&graph), [raw, written, edited, model]);
        assert_eq!(graph.changed_outside().collect::<Vec<_>>(), [(written, edited)]);
    }

    #[test]
    fn a_bound_cuts_the_graph_and_says_so() {
        let store = MemoryStore::default();
        let [_, data, model] = chain(&store);
        let bounded = |runs_deep, nodes| {
            let bounds = Bounds { runs_deep, nodes };
            trace(&store, Direction::Ancestors, &[model], bounds).unwrap()
        };
        for (runs_deep, expected) in [(0, vec![]), (1, vec!["train"]), (2, vec!["train", "clean"])]
        {
            let graph = bounded(runs_deep, 100);
            assert_eq!(runs(&graph), expected);
            assert_eq!(graph.complete, runs_deep == 2);
        }
        for nodes in 0..=5 {
            let graph = bounded(64, nodes);
            assert_eq!(graph.runs.len() + graph.versions.len(), nodes);
            assert_eq!(graph.complete, nodes == 5, "{nodes}");
        }
        assert_eq!(versions(&bounded(64, 3)), [model, data]);
    }

    #[test]
    fn a_run_bears_the_marks_of_its_commits_newest_first() {
        let store = MemoryStore::default();
        let [_, _, model] = chain(&store);
        let train = crate::lineage::RunId("train".to_owned());
        let mut checkpoint = attested(&train, 1, "/lab", &[]);
        checkpoint.kind = CommitKind::Checkpoint;
        publish(&store, "a", &[checkpoint]);
        publish(&store, "b", &[attested(&train, 2, "/lab", &[])]);
        let graph = ancestors(&store, model);
        let kinds: Vec<_> = graph.runs[0].commits.iter().map(|mark| mark.kind).collect();
        assert_eq!(kinds, [CommitKind::StageEnd(Outcome::Success), CommitKind::Checkpoint]);
        assert_eq!(graph.runs[0].outcome, Some(Outcome::Success));
    }

    #[test]
    fn the_latest_are_the_versions_of_the_newest_commit() {
        let store = MemoryStore::default();
        let [_, data, model] = chain(&store);
        let run = crate::lineage::RunId("train".to_owned());
        assert!(latest(&store, "/lab").unwrap().is_empty());
        publish(&store, "a", &[attested(&run, 1, "/lab", &[(data, Content::of(DATA, 2))])]);
        publish(&store, "b", &[attested(&run, 2, "/lab/m", &[(model, Content::of(MODEL, 3))])]);
        assert_eq!(latest(&store, "/lab").unwrap(), [model]);
        assert_eq!(latest(&store, "/lab/m/").unwrap(), [model]);
    }

    /// Raw data is cleaned, a model is trained on it.
    fn chain(store: &dyn LineageStore) -> [VersionId; 3] {
        let mut clean = Story::begin(store, "clean");
        let raw = clean.reads(Content::of(RAW, 1));
        let data = clean.writes(Content::of(DATA, 2));
        clean.ends();
        let mut train = Story::begin(store, "train");
        train.reads(Content::of(DATA, 2));
        let model = train.writes(Content::of(MODEL, 3));
        train.ends();
        [raw, data, model]
    }

    fn ancestors(store: &dyn LineageStore, start: VersionId) -> Graph {
        trace(store, Direction::Ancestors, &[start], Bounds::default()).unwrap()
    }

    fn descendants(store: &dyn LineageStore, start: VersionId) -> Graph {
        trace(store, Direction::Descendants, &[start], Bounds::default()).unwrap()
    }

    fn versions(graph: &Graph) -> Vec<VersionId> {
        graph.versions.iter().map(|node| node.version).collect()
    }

    fn runs(graph: &Graph) -> Vec<&str> {
        graph.runs.iter().map(|node| node.run.0.as_str()).collect()
    }

    fn links(graph: &Graph) -> Vec<(&str, Role, VersionId)> {
        graph.links.iter().map(|link| (link.run.0.as_str(), link.role, link.version)).collect()
    }
}
