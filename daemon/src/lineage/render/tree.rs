use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::text::{content, execution};
use crate::{
    lineage::{Direction, Graph, Link, Role, RunId, RunNode, VersionId, VersionNode},
    text::{harmless, one_name_of},
};

pub(super) fn render(graph: &Graph) -> String {
    if graph.start.is_empty() {
        return "nothing is known of it\n".to_owned();
    }
    let base = common_folder(graph.versions.iter().map(|version| version.path.as_str()));
    let plan = Plan::of(graph, base);
    let rows = plan.rows();
    let width = rows.iter().map(Row::width).filter(|width| *width <= LABEL_COLUMNS_MAX).max();

    let mut lines = Vec::new();
    if !base.is_empty() {
        lines.push(format!("below {}", harmless(base)));
    }
    lines.extend(rows.iter().map(|row| row.line(width.unwrap_or(0))));
    if !graph.complete {
        lines.push("… cut off: the graph is larger than what was asked for".to_owned());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// A graph as a tree: each run and each version has its place once, as near to the start as
/// possible, and is only mentioned elsewhere.
#[derive(Default)]
struct Plan {
    nodes: Vec<Node>,
    places: Vec<NodeId>,
}

#[derive(Default)]
struct Node {
    label: String,
    detail: String,
    children: Vec<NodeId>,
}

type NodeId = usize;

impl Node {
    fn remark(label: String) -> Self {
        Self { label, ..Self::default() }
    }
}

impl Plan {
    /// In the order of distance from the start, so that a place is claimed by the nearest.
    fn of(graph: &Graph, base: &str) -> Self {
        let edges = Edges::of(graph);
        let mut plan = Self::default();
        let mut claimed = Claimed::default();
        let mut waiting = VecDeque::new();
        for start in edges.start() {
            claimed.claim(start);
            let place = plan.add(edges.node(start, base, ""));
            plan.places.push(place);
            waiting.push_back((place, start));
        }
        while let Some((place, item)) = waiting.pop_front() {
            let (shown, hidden) = edges.behind_in_short(item, &claimed);
            for item in shown {
                let is_new = claimed.claim(item);
                let leads_on = !edges.behind(item).is_empty();
                let note = if !is_new && leads_on { "  (shown elsewhere)" } else { "" };
                let child = plan.add_below(place, edges.node(item, base, note));
                if is_new {
                    waiting.push_back((child, item));
                }
            }
            if hidden > 0 {
                plan.add_below(place, Node::remark(format!("… and {hidden} more")));
            }
        }
        plan
    }

    fn add_below(&mut self, parent: NodeId, node: Node) -> NodeId {
        let child = self.add(node);
        self.nodes[parent].children.push(child);
        child
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Top down. Without recursion: how deep a graph is, is not ours to say.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        let places = self.places.iter().rev();
        let mut stack: Vec<_> = places.map(|place| (*place, String::new(), "")).collect();
        while let Some((place, indent, branch)) = stack.pop() {
            let node = &self.nodes[place];
            let below = format!("{indent}{}", continuation(branch));
            rows.push(Row {
                label: format!("{indent}{branch}{}", node.label),
                detail: &node.detail,
            });
            for (number, child) in node.children.iter().enumerate().rev() {
                let is_last = number + 1 == node.children.len();
                stack.push((*child, below.clone(), if is_last { LAST } else { NOT_LAST }));
            }
        }
        rows
    }
}

/// What may lie behind a node.
#[derive(Clone, Copy)]
enum Item<'a> {
    Run(&'a RunNode),
    Version(&'a VersionNode),
}

/// The links of a graph, followed in its direction.
struct Edges<'a> {
    graph: &'a Graph,
    runs: BTreeMap<&'a RunId, &'a RunNode>,
    versions: BTreeMap<VersionId, &'a VersionNode>,
    runs_behind: BTreeMap<VersionId, Vec<&'a RunId>>,
    versions_behind_run: BTreeMap<&'a RunId, Vec<VersionId>>,
    versions_behind_version: BTreeMap<VersionId, Vec<VersionId>>,
}

impl<'a> Edges<'a> {
    fn of(graph: &'a Graph) -> Self {
        let mut edges = Self {
            graph,
            runs: graph.runs.iter().map(|run| (&run.run, run)).collect(),
            versions: graph.versions.iter().map(|version| (version.version, version)).collect(),
            runs_behind: BTreeMap::new(),
            versions_behind_run: BTreeMap::new(),
            versions_behind_version: BTreeMap::new(),
        };
        for Link { run, role, version } in &graph.links {
            match (graph.direction, role) {
                (Direction::Ancestors, Role::Wrote) | (Direction::Descendants, Role::Read) => {
                    edges.runs_behind.entry(*version).or_default().push(run);
                }
                (Direction::Ancestors, Role::Read) | (Direction::Descendants, Role::Wrote) => {
                    edges.versions_behind_run.entry(run).or_default().push(*version);
                }
            }
        }
        for (before, after) in graph.changed_outside() {
            let (from, to) = match graph.direction {
                Direction::Ancestors => (after, before),
                Direction::Descendants => (before, after),
            };
            edges.versions_behind_version.entry(from).or_default().push(to);
        }
        edges
    }

    fn start(&self) -> Vec<Item<'a>> {
        self.known(Some(&self.graph.start))
    }

    /// Those items behind this one that get a line, and how many do not: a line for all that lead
    /// to something that has no place yet, and for some of the others.
    fn behind_in_short(&self, item: Item<'a>, claimed: &Claimed<'a>) -> (Vec<Item<'a>>, usize) {
        let behind = self.behind(item);
        let mut room = LEAVES_MAX;
        let mut led_to = Claimed::default();
        let mut shown = Vec::new();
        for item in &behind {
            let beyond = self.behind(*item);
            let leads_on = beyond.into_iter().any(|next| !claimed.has(next) && led_to.claim(next));
            if leads_on || room > 0 {
                room = room.saturating_sub(1);
                shown.push(*item);
            }
        }
        let hidden = behind.len() - shown.len();
        (shown, hidden)
    }

    fn behind(&self, item: Item<'a>) -> Vec<Item<'a>> {
        match item {
            Item::Run(run) => self.known(self.versions_behind_run.get(&run.run)),
            Item::Version(version) => {
                let runs = self.runs_behind.get(&version.version).into_iter().flatten();
                let runs = runs.filter_map(|run| self.runs.get(run)).map(|run| Item::Run(run));
                let versions = self.known(self.versions_behind_version.get(&version.version));
                runs.chain(versions).collect()
            }
        }
    }

    fn known(&self, versions: Option<&Vec<VersionId>>) -> Vec<Item<'a>> {
        let known = versions.into_iter().flatten().filter_map(|version| self.versions.get(version));
        known.map(|version| Item::Version(version)).collect()
    }

    fn node(&self, item: Item<'a>, base: &str, note: &str) -> Node {
        let (label, detail) = match item {
            Item::Run(run) => {
                let stage = harmless(&run.stage);
                let label = match self.graph.direction {
                    Direction::Ancestors => format!("by {stage}"),
                    Direction::Descendants => format!("into {stage}"),
                };
                (label, execution(run))
            }
            Item::Version(version) => {
                let label = one_name_of(name(version, base), version.also.len());
                (label, content(version))
            }
        };
        Node { label, detail: format!("{detail}{note}"), children: Vec::new() }
    }
}

/// What has a place in the tree.
#[derive(Default)]
struct Claimed<'a> {
    runs: BTreeSet<&'a RunId>,
    versions: BTreeSet<VersionId>,
}

impl<'a> Claimed<'a> {
    /// Whether it had no place.
    fn claim(&mut self, item: Item<'a>) -> bool {
        match item {
            Item::Run(run) => self.runs.insert(&run.run),
            Item::Version(version) => self.versions.insert(version.version),
        }
    }

    fn has(&self, item: Item<'a>) -> bool {
        match item {
            Item::Run(run) => self.runs.contains(&run.run),
            Item::Version(version) => self.versions.contains(&version.version),
        }
    }
}

struct Row<'a> {
    label: String,
    detail: &'a str,
}

impl Row<'_> {
    fn width(&self) -> usize {
        self.label.chars().count()
    }

    fn line(&self, width: usize) -> String {
        format!("{:width$}  {}", self.label, self.detail).trim_end().to_owned()
    }
}

const NOT_LAST: &str = "├─ ";
const LAST: &str = "└─ ";

/// What stands below a branch, in front of its children.
fn continuation(branch: &str) -> &'static str {
    match branch {
        NOT_LAST => "│  ",
        LAST => "   ",
        _ => "",
    }
}

/// The path of a version below the folder that stands in the first line.
fn name<'a>(version: &'a VersionNode, base: &str) -> &'a str {
    let below = version.path.strip_prefix(base).filter(|_| !base.is_empty());
    below.map_or(&version.path, |name| name.trim_start_matches('/'))
}

/// The longest folder that all of the paths lie in; empty when that is the root directory.
fn common_folder<'a>(mut paths: impl Iterator<Item = &'a str>) -> &'a str {
    let folder = |path: &'a str| path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut common = paths.next().map_or("", folder);
    for path in paths {
        while !common.is_empty() && !is_in(path, common) {
            common = folder(common);
        }
    }
    common
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Materials or outputs of one run that get a line although nothing lies behind them.
const LEAVES_MAX: usize = 8;

/// A label that is longer does not push the second column to the right.
const LABEL_COLUMNS_MAX: usize = 64;
