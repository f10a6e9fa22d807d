use std::fmt::Write;

use super::picture::{Pen, draw};
use crate::{lineage::Graph, text::harmless};

pub(super) fn render(graph: &Graph) -> String {
    let lines = draw(graph, &Graphviz).join("\n  ");
    format!("digraph lineage {{\n  rankdir=LR;\n  {lines}\n}}\n")
}

struct Graphviz;

impl Pen for Graphviz {
    fn file(&self, node: &str, label: &[&str]) -> String {
        format!("{node} [shape=note, label={}];", quoted(label))
    }

    fn run(&self, node: &str, label: &[&str]) -> String {
        format!("{node} [shape=box, style=rounded, label={}];", quoted(label))
    }

    fn arrow(&self, from: &str, to: &str) -> String {
        format!("{from} -> {to};")
    }

    fn dashed_arrow(&self, from: &str, to: &str) -> String {
        format!("{from} -> {to} [style=dashed, label=\"changed outside\"];")
    }
}

fn quoted(label: &[&str]) -> String {
    let lines: Vec<_> = label.iter().map(|line| escaped(line)).collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn escaped(line: &str) -> String {
    let mut escaped = String::new();
    for character in harmless(line).chars() {
        match character {
            // A backslash begins an escape, of which some are replaced by the node's name.
            '"' | '\\' => write!(escaped, "\\{character}").expect("a string takes everything"),
            _ => escaped.push(character),
        }
    }
    escaped
}
