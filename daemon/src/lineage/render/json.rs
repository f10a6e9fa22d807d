use serde::Serialize;

use crate::lineage::Graph;

pub(super) fn render(graph: &Graph) -> String {
    let document = Document { version: VERSION, graph };
    let mut text = serde_json::to_string_pretty(&document)
        .expect("a graph is lists of strings and numbers, which JSON can hold");
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    #[serde(flatten)]
    graph: &'a Graph,
}

/// Grows when a field changes its meaning or goes away, not when one is added.
const VERSION: u32 = 1;
