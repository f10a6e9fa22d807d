use std::collections::BTreeMap;

use super::text::{content, execution};
use crate::{
    lineage::{Graph, Role},
    text::one_name_of,
};

/// How a language for pictures says things. Each answer is one line.
pub(super) trait Pen {
    /// A node for a file, with one line of text for each of `label`.
    fn file(&self, node: &str, label: &[&str]) -> String;

    /// A node for a run.
    fn run(&self, node: &str, label: &[&str]) -> String;

    /// What was in `from` went to `to`.
    fn arrow(&self, from: &str, to: &str) -> String;

    /// Somebody outside of all runs made `to` from `from`.
    fn dashed_arrow(&self, from: &str, to: &str) -> String;
}

/// All nodes, then all arrows, in the direction in which the data went.
pub(super) fn draw(graph: &Graph, pen: &impl Pen) -> Vec<String> {
    let mut lines = Vec::new();
    for version in &graph.versions {
        let label = [&*one_name_of(&version.path, version.also.len()), &content(version)];
        lines.push(pen.file(&version.version.to_string(), &label));
    }
    let mut nodes = BTreeMap::new();
    for (number, run) in graph.runs.iter().enumerate() {
        let node = format!("r{number}");
        lines.push(pen.run(&node, &[&run.stage, &execution(run)]));
        nodes.insert(&run.run, node);
    }
    for link in &graph.links {
        let version = link.version.to_string();
        let Some(run) = nodes.get(&link.run) else {
            continue;
        };
        lines.push(match link.role {
            Role::Read => pen.arrow(&version, run),
            Role::Wrote => pen.arrow(run, &version),
        });
    }
    for (before, after) in graph.changed_outside() {
        lines.push(pen.dashed_arrow(&before.to_string(), &after.to_string()));
    }
    lines
}
