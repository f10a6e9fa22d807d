//! A graph as text: for people, for programs, for pictures.

mod dot;
mod json;
mod mermaid;
mod picture;
mod text;
mod tree;

use super::Graph;

/// The forms in which a graph can be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: each run below what it made, or below what it read.
    #[default]
    Tree,
    /// For programs: the graph itself. Stable, written down in `daemon/LINEAGE.md`.
    Json,
    /// For Graphviz.
    Dot,
    /// For Markdown pages that draw Mermaid diagrams.
    Mermaid,
}

/// The graph in this form, ending with a line break. Names of files and stages may be hostile:
/// they cannot break out of their place, nor move the cursor of a terminal.
pub fn render(graph: &Graph, format: Format) -> String {
    match format {
        Format::Tree => tree::render(graph),
        Format::Json => json::render(graph),
        Format::Dot => dot::render(graph),
        Format::Mermaid => mermaid::render(graph),
    }
}

#[cfg(test)]
mod tests {
    use attestfs_attestation::{CommitKind, Outcome};
    use proptest::prelude::*;

    use super::{Format, render};
    use crate::lineage::{
        Bounds, Direction, Graph, LineageStore, Link, Role, RunEnd, RunId, VersionId,
        testing::{Content, MemoryStore, Story, attested, publish, succeeded},
        trace,
    };

    #[test]
    fn nothing_known_is_said() {
        let store = MemoryStore::default();
        let graph = trace(&store, Direction::Ancestors, &[VersionId(1)], Bounds::default());
        assert_eq!(render(&graph.unwrap(), Format::Tree), "nothing is known of it\n");
    }

    #[test]
    fn a_tree_of_ancestors_ends_with_raw_data() {
        let store = MemoryStore::default();
        let [_, model] = pipeline(&store);
        let tree = render(&walked(&store, Direction::Ancestors, model), Format::Tree);
        let expected = "\
below /lab
f3                 sha256:030303030303
└─ by train        2026-01-02 03:04:05Z  success  ✓ signed 010101010101
   └─ f2           sha256:020202020202
      └─ by clean  2026-01-02 03:04:05Z  failed (exit 2)  not committed
         └─ f1     sha256:010101010101
";
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_file_with_several_names_is_shown_once_with_their_number() {
        let store = MemoryStore::default();
        let (weights, config) = (Content::of(1, 1), Content::of(2, 2));
        let mut train = Story::begin(&store, "train");
        train.tell(&[weights.written(1), weights.sealed_with_links(1, &["a", "b"])]);
        train.tell(&[config.written(2), config.sealed_with_links(2, &["c"])]);
        let start = [VersionId(1), VersionId(2)];
        let graph = trace(&store, Direction::Ancestors, &start, Bounds::default()).unwrap();
        let tree = render(&graph, Format::Tree);
        assert!(tree.contains("f1 (+2 names)") && tree.contains("f2 (+1 name) "), "{tree}");
        assert!(render(&graph, Format::Dot).contains(r#"label="/lab/f1 (+2 names)\n"#));
        assert!(render(&graph, Format::Json).contains("\"/lab/a\",\n        \"/lab/b\""));
    }

    #[test]
    fn a_tree_of_descendants_lists_what_the_data_touched() {
        let store = MemoryStore::default();
        let [raw, _] = pipeline(&store);
        let tree = render(&walked(&store, Direction::Descendants, raw), Format::Tree);
        let expected = "\
below /lab
f1                   sha256:010101010101
└─ into clean        2026-01-02 03:04:05Z  failed (exit 2)  not committed
   └─ f2             sha256:020202020202
      └─ into train  2026-01-02 03:04:05Z  success  ✓ signed 010101010101
         └─ f3       sha256:030303030303
";
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_tree_places_a_shared_ancestor_once() {
        let store = MemoryStore::default();
        let mut split = Story::begin(&store, "split");
        split.reads(Content::of(1, 1));
        split.writes(Content::of(2, 2));
        split.writes(Content::of(3, 3));
        let mut join = Story::begin(&store, "join");
        join.reads(Content::of(2, 2));
        join.reads(Content::of(3, 3));
        let model = join.writes(Content::of(4, 4));
        let tree = render(&walked(&store, Direction::Ancestors, model), Format::Tree);
        assert_eq!(tree.matches("f1 ").count(), 1, "{tree}");
        assert_eq!(tree.matches("(shown elsewhere)").count(), 1, "{tree}");
    }

    #[test]
    fn a_tree_hides_leaves_and_never_what_leads_on() {
        let store = MemoryStore::default();
        Story::begin(&store, "clean").writes(Content::of(100, 100));
        let mut train = Story::begin(&store, "train");
        for number in 1..=12 {
            train.reads(Content::of(number.into(), number));
        }
        train.reads(Content::of(100, 100));
        let model = train.writes(Content::of(99, 99));
        let tree = render(&walked(&store, Direction::Ancestors, model), Format::Tree);
        assert!(tree.contains("└─ … and 4 more\n"), "{tree}");
        assert!(tree.contains("by clean"), "{tree}");
        assert!(tree.contains("f8 ") && !tree.contains("f9 "), "{tree}");
    }

    #[test]
    fn a_tree_that_was_cut_off_says_so() {
        let store = MemoryStore::default();
        let [_, model] = pipeline(&store);
        let bounds = Bounds { runs_deep: 1, nodes: 10 };
        let graph = trace(&store, Direction::Ancestors, &[model], bounds).unwrap();
        assert!(render(&graph, Format::Tree).ends_with("than what was asked for\n"));
    }

    #[test]
    fn a_cycle_of_runs_ends_in_every_form() {
        let store = MemoryStore::default();
        let mut one = Story::begin(&store, "one");
        let mut two = Story::begin(&store, "two");
        let start = one.writes(Content::of(1, 1));
        two.writes(Content::of(2, 2));
        one.reads(Content::of(2, 2));
        two.reads(Content::of(1, 1));
        let graph = walked(&store, Direction::Ancestors, start);
        for format in [Format::Tree, Format::Json, Format::Dot, Format::Mermaid] {
            assert!(render(&graph, format).ends_with('\n'));
        }
    }

    #[test]
    fn json_is_the_graph_with_a_version() {
        let store = MemoryStore::default();
        let [_, model] = pipeline(&store);
        let graph = walked(&store, Direction::Ancestors, model);
        let json = render(&graph, Format::Json);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["direction"], "ancestors");
        assert_eq!(value["links"][0]["role"], "read");
        assert_eq!(value["versions"][0]["digests"]["sha256"], "03".repeat(32));
        assert_eq!(value["runs"][0]["outcome"], "success");
        assert_eq!(serde_json::from_value::<Graph>(value).unwrap(), graph);
    }

    #[test]
    fn dot_draws_runs_and_versions() {
        let store = MemoryStore::default();
        let [raw, _] = pipeline(&store);
        let bounds = Bounds { runs_deep: 1, nodes: 10 };
        let graph = trace(&store, Direction::Descendants, &[raw], bounds).unwrap();
        let expected = r#"digraph lineage {
  rankdir=LR;
  v1 [shape=note, label="/lab/f1\nsha256:010101010101"];
  v2 [shape=note, label="/lab/f2\nsha256:020202020202"];
  r0 [shape=box, style=rounded, label="clean\n2026-01-02 03:04:05Z  failed (exit 2)  not committed"];
  r0 -> v2;
  v1 -> r0;
}
"#;
        assert_eq!(render(&graph, Format::Dot), expected);
    }

    #[test]
    fn mermaid_draws_runs_and_versions() {
        let store = MemoryStore::default();
        let [raw, _] = pipeline(&store);
        let bounds = Bounds { runs_deep: 1, nodes: 10 };
        let graph = trace(&store, Direction::Descendants, &[raw], bounds).unwrap();
        let expected = r#"flowchart LR
  v1["/lab/f1<br/>sha256:010101010101"]
  v2["/lab/f2<br/>sha256:020202020202"]
  r0(["clean<br/>2026-01-02 03:04:05Z  failed #40;exit 2#41;  not committed"])
  r0 --> v2
  v1 --> r0
"#;
        assert_eq!(render(&graph, Format::Mermaid), expected);
    }

    #[test]
    fn hostile_names_do_not_break_out() {
        let store = MemoryStore::default();
        let mut graph = walked(&store, Direction::Ancestors, pipeline(&store)[1]);
        let hostile = "/lab/\"]; v9 [label=\"x\\\n\u{1b}[2J\u{202e}<script>`#";
        graph.versions[0].path = hostile.to_owned();
        graph.runs[0].stage = hostile.to_owned();
        for format in [Format::Tree, Format::Dot, Format::Mermaid] {
            let text = render(&graph, format);
            assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
            let lines = render(&walked(&store, Direction::Ancestors, VersionId(3)), format);
            assert_eq!(text.lines().count(), lines.lines().count(), "{text}");
        }
        let dot = render(&graph, Format::Dot);
        let escaped = r#"/lab/\"]; v9 [label=\"x\\\\u{a}\\u{1b}[2J\\u{202e}<script>`#"#;
        assert!(dot.contains(escaped), "{dot}");
        let mermaid = render(&graph, Format::Mermaid);
        let escaped = "/lab/#34;#93;#59; v9 #91;label#61;#34;x#92;#92;u#123;a#125;";
        assert!(mermaid.contains(escaped), "{mermaid}");
        assert!(!mermaid.contains("<script") && !mermaid.contains('`'), "{mermaid}");
    }

    #[test]
    fn a_file_changed_outside_is_joined_by_a_dashed_arrow() {
        let store = MemoryStore::default();
        let written = Story::begin(&store, "clean").writes(Content::of(1, 1));
        let edited = Story::begin(&store, "train").reads(Content::of(1, 2));
        let graph = walked(&store, Direction::Ancestors, edited);
        assert_eq!((written, edited), (VersionId(1), VersionId(2)));
        assert!(render(&graph, Format::Dot).contains("v1 -> v2 [style=dashed"));
        assert!(render(&graph, Format::Mermaid).contains("v1 -. changed outside .-> v2"));
        assert!(render(&graph, Format::Tree).contains("by clean"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// A graph may come from a damaged store: with loops, without ends, with nodes missing.
        #[test]
        fn no_graph_makes_a_form_hang_or_panic(
            links in prop::collection::vec((0..3_usize, any::<bool>(), 0..7_u64), 0..20),
            after in prop::collection::vec(prop::option::of(0..7_u64), 3),
            start in prop::collection::vec((0..7_u64).prop_map(VersionId), 0..4),
            paths in prop::collection::vec(".{0,12}", 3),
        ) {
            let store = MemoryStore::default();
            let [_, model] = pipeline(&store);
            let mut graph = walked(&store, Direction::Ancestors, model);
            for (node, after) in graph.versions.iter_mut().zip(after) {
                node.after = after.map(VersionId);
            }
            for (node, path) in graph.versions.iter_mut().zip(paths) {
                node.path = path;
            }
            graph.start.extend(start);
            graph.links.extend(links.into_iter().map(|(run, is_read, version)| Link {
                run: RunId(["clean", "train", "nobody"][run].to_owned()),
                role: if is_read { Role::Read } else { Role::Wrote },
                version: VersionId(version),
            }));
            for direction in [Direction::Ancestors, Direction::Descendants] {
                graph.direction = direction;
                for format in [Format::Tree, Format::Json, Format::Dot, Format::Mermaid] {
                    let text = render(&graph, format);
                    prop_assert!(text.ends_with('\n') && text.lines().count() < 1000);
                }
            }
        }
    }

    /// A run that failed still left data, on which a model was trained and committed.
    fn pipeline(store: &dyn LineageStore) -> [VersionId; 2] {
        let mut clean = Story::begin(store, "clean");
        let raw = clean.reads(Content::of(1, 1));
        clean.writes(Content::of(2, 2));
        let outcome = Outcome::Failed { exit_code: Some(2), signal: None };
        store.end(&clean.run, &RunEnd { outcome, ..succeeded() }).unwrap();
        let mut train = Story::begin(store, "train");
        train.reads(Content::of(2, 2));
        let model = train.writes(Content::of(3, 3));
        let run = train.ends();
        let attestation = attested(&run, 1, "/lab", &[(model, Content::of(3, 3))]);
        assert!(attestation.kind == CommitKind::StageEnd(Outcome::Success));
        publish(store, "commit", &[attestation]);
        [raw, model]
    }

    fn walked(store: &dyn LineageStore, direction: Direction, start: VersionId) -> Graph {
        trace(store, direction, &[start], Bounds::default()).unwrap()
    }
}
