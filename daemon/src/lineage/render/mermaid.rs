use std::fmt::Write;

use super::picture::{Pen, draw};
use crate::{lineage::Graph, text::harmless};

pub(super) fn render(graph: &Graph) -> String {
    let lines = draw(graph, &Mermaid).join("\n  ");
    format!("flowchart LR\n  {lines}\n")
}

struct Mermaid;

impl Pen for Mermaid {
    fn file(&self, node: &str, label: &[&str]) -> String {
        format!("{node}[\"{}\"]", escaped(label))
    }

    fn run(&self, node: &str, label: &[&str]) -> String {
        format!("{node}([\"{}\"])", escaped(label))
    }

    fn arrow(&self, from: &str, to: &str) -> String {
        format!("{from} --> {to}")
    }

    fn dashed_arrow(&self, from: &str, to: &str) -> String {
        format!("{from} -. changed outside .-> {to}")
    }
}

fn escaped(label: &[&str]) -> String {
    let lines: Vec<_> = label.iter().map(|line| escaped_line(line)).collect();
    lines.join("<br/>")
}

/// Everything that Mermaid, or the HTML and Markdown in its labels, might read as more than itself
/// becomes a character code.
fn escaped_line(line: &str) -> String {
    let mut escaped = String::new();
    for character in harmless(line).chars() {
        if character.is_alphanumeric() || " ./-,:".contains(character) {
            escaped.push(character);
        } else {
            write!(escaped, "#{};", u32::from(character)).expect("a string takes everything");
        }
    }
    escaped
}
