use attestfs_attestation::Outcome;
use attestfs_fs::{Fact, FileKey, Process, RunVersion, TreePath, Unknown, Unsealed};

use super::with_each_store;
use crate::lineage::{
    FactProblem, LineageError, LineageStore, MaterialDigest, OutputState, Role, RunEnd, RunId,
    testing::{Content, Story, description, succeeded},
};

#[test]
fn a_name_that_is_empty_too_long_or_not_text_is_refused() {
    with_each_store(|store| {
        for name in ["", "a\0b", "x".repeat(256).as_str()] {
            let refusal = store.begin(&description(name)).unwrap_err();
            assert!(matches!(refusal, LineageError::BadName { .. }), "{name:?}: {refusal}");
        }
        store.begin(&description(&"x".repeat(255))).unwrap();
    });
}

#[test]
fn a_run_id_is_used_once() {
    with_each_store(|store| {
        store.begin(&description("train")).unwrap();
        store.begin(&description("train")).unwrap();
        let mut other = description("train");
        other.uid += 1;
        assert!(matches!(store.begin(&other), Err(LineageError::RunDiffers(_))));
        assert_eq!(store.runs(10).unwrap().len(), 1);
    });
}

#[test]
fn a_run_that_never_began_is_unknown() {
    with_each_store(|store| {
        let run = RunId("nobody".to_owned());
        assert!(matches!(store.ingest(&run, 0..1, &[]), Err(LineageError::UnknownRun(_))));
        assert!(matches!(store.end(&run, &succeeded()), Err(LineageError::UnknownRun(_))));
        assert!(matches!(store.outputs(&run), Err(LineageError::UnknownRun(_))));
        assert!(matches!(store.materials(&run), Err(LineageError::UnknownRun(_))));
        assert_eq!(store.run(&run).unwrap(), None);
    });
}

#[test]
fn a_file_that_another_run_removed_is_gone_and_says_who_removed_it() {
    with_each_store(|store| {
        let checkpoint = Content::of(1, 1);
        let version = Story::begin(store, "train").writes(checkpoint);
        let mut rotate = Story::begin(store, "rotate");
        rotate.tell(&[Content::of(2, 2).removed()]);
        assert!(!store.version(version).unwrap().unwrap().gone);
        rotate.tell(&[checkpoint.removed()]);
        let gone = store.version(version).unwrap().unwrap();
        assert_eq!((gone.gone, gone.removed_by), (true, Some(rotate.run.clone())));
        assert_eq!(gone.digests, Some(checkpoint.digests()), "it stays known");
    });
}

#[test]
fn a_version_that_its_run_removed_or_wrote_over_is_gone() {
    with_each_store(|store| {
        let mut train = Story::begin(store, "train");
        let removed = train.writes(Content::of(1, 1));
        let overwritten = train.writes(Content::of(2, 2));
        let kept = train.writes(Content::of(2, 3));
        train.tell(&[Content::gone(1)]);
        let is_gone = |version| store.version(version).unwrap().unwrap().gone;
        assert_eq!([removed, overwritten, kept].map(is_gone), [true, true, false]);
    });
}

#[test]
fn a_refusal_is_kept_and_makes_nobody_a_reader() {
    with_each_store(|store| {
        let model = Content::of(1, 1);
        let version = Story::begin(store, "train").writes(model);
        let mut serve = Story::begin(store, "serve");
        serve.tell(&[model.refused(3)]);
        let kept = store.refusals(&serve.run, 9).unwrap();
        assert_eq!((kept.len(), kept[0].check, kept[0].enforced), (1, 3, true));
        assert_eq!(kept[0].reason, "signed by a stranger");
        assert!(store.materials(&serve.run).unwrap().is_empty());
        assert!(store.runs_of_version(version, Role::Read, 9).unwrap().is_empty());
    });
}

#[test]
fn a_gap_in_the_journal_is_refused() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        story.writes(Content::of(1, 1));
        assert_eq!(store.ingested(&story.run).unwrap(), 2);
        for range in [3..4, 1..4, 5..5] {
            let refusal = store.ingest(&story.run, range.clone(), &[]).unwrap_err();
            assert!(matches!(refusal, LineageError::JournalGap { ingested: 2, .. }), "{range:?}");
        }
        #[expect(clippy::reversed_empty_ranges, reason = "a range that ends before it begins")]
        let backwards = store.ingest(&story.run, 2..1, &[]);
        assert!(matches!(backwards, Err(LineageError::JournalGap { .. })));
    });
}

#[test]
fn a_range_that_was_taken_in_is_skipped() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        story.writes(Content::of(1, 1));
        let before = store.outputs(&story.run).unwrap();
        store.ingest(&story.run, 0..2, &[Content::of(1, 1).written(1)]).unwrap();
        store.ingest(&story.run, 1..2, &[Content::of(1, 2).sealed(1)]).unwrap();
        assert_eq!(store.outputs(&story.run).unwrap(), before);
    });
}

#[test]
fn a_damaged_journal_is_named_and_nothing_of_it_is_taken_in() {
    let (a, b) = (Content::of(1, 1), Content::of(2, 2));
    let elsewhere = TreePath { tree: 1, path: "x".to_owned() };
    let in_no_tree = Fact::Written {
        version: RunVersion(9),
        file: FileKey { filesystem: 1, inode: 1, born_ns: 1 },
        path: elsewhere.clone(),
        by: Process::default(),
    };
    let linked_into_no_tree = Fact::Sealed {
        version: RunVersion(1),
        identity: a.identity(),
        digests: a.digests(),
        path: Some(a.path()),
        also: vec![elsewhere],
    };
    let cases = [
        (vec![a.hashed(1)], FactProblem::Unknown),
        (vec![a.sealed(1)], FactProblem::Unknown),
        (vec![Content::gone(1)], FactProblem::Unknown),
        (vec![Content::opened_as(1, "link")], FactProblem::Unknown),
        (vec![a.written(1), Content::opened_as(1, "link")], FactProblem::Output),
        (vec![a.opened(1), b.opened(1)], FactProblem::Known),
        (vec![a.opened(1), b.written(1)], FactProblem::Known),
        (vec![a.written(1), b.opened(1)], FactProblem::Known),
        (vec![a.opened(1), a.sealed(1)], FactProblem::Material),
        (vec![a.opened(1), Content::gone(1)], FactProblem::Material),
        (vec![a.written(1), a.hashed(1)], FactProblem::Output),
        (vec![a.opened(1), b.hashed(1)], FactProblem::File),
        (vec![a.written(1), b.sealed(1)], FactProblem::File),
        (vec![in_no_tree], FactProblem::Tree),
        (vec![a.written(1), linked_into_no_tree], FactProblem::Tree),
    ];
    with_each_store(|store| {
        let story = Story::begin(store, "train");
        for (facts, expected) in &cases {
            let refusal = store.ingest(&story.run, 0..9, facts).unwrap_err();
            let LineageError::BadFact { index, problem, .. } = refusal else {
                panic!("{refusal}");
            };
            assert_eq!((problem, index), (*expected, facts.len() - 1));
        }
        assert_eq!(store.ingested(&story.run).unwrap(), 0);
        assert!(store.outputs(&story.run).unwrap().kept.is_empty());
        assert!(store.materials(&story.run).unwrap().is_empty());
        assert_eq!(store.version_of(&a.identity()).unwrap(), None);
    });
}

#[test]
fn what_ended_stays_as_it_ended() {
    with_each_store(|store| {
        let run = Story::begin(store, "train").ends();
        store.end(&run, &succeeded()).unwrap();
        let failed = RunEnd { outcome: Outcome::Unknown, ..succeeded() };
        assert!(matches!(store.end(&run, &failed), Err(LineageError::EndDiffers(_))));
        let late = store.ingest(&run, 0..1, &[Content::of(1, 1).written(1)]);
        assert!(matches!(late, Err(LineageError::RunEnded(_))));
        assert_eq!(store.run(&run).unwrap().unwrap().end, Some(succeeded()));
    });
}

#[test]
fn runs_are_listed_newest_first_and_unfinished_ones_oldest_first() {
    with_each_store(|store| {
        for id in ["a", "b", "c"] {
            Story::begin(store, id);
        }
        Story::begin(store, "d").ends();
        let names = |runs: Vec<crate::lineage::Run>| {
            runs.into_iter().map(|run| run.description.id).collect::<Vec<_>>()
        };
        assert_eq!(names(store.runs(2).unwrap()), ["d", "c"]);
        assert_eq!(names(store.unfinished().unwrap()), ["a", "b", "c"]);
    });
}

#[test]
fn an_output_is_what_the_run_said_of_it_last() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        let content = Content::of(1, 1);
        story.tell(&[content.written(1)]);
        let open = OutputState::Unsealed { reason: Unsealed::Open };
        assert_eq!(store.outputs(&story.run).unwrap().kept[0].state, open);

        let renamed = TreePath { tree: 0, path: "final".to_owned() };
        let seal = Fact::Sealed {
            version: RunVersion(1),
            identity: content.touched().identity(),
            digests: content.digests(),
            path: Some(renamed.clone()),
            also: Vec::new(),
        };
        story.tell(&[content.sealed(1), seal]);
        let output = store.outputs(&story.run).unwrap().kept.remove(0);
        assert_eq!(output.path, Some(renamed));
        let (identity, digests) = (content.touched().identity(), content.digests());
        assert_eq!(output.state, OutputState::Sealed { identity, digests });
        assert_eq!(store.version_of(&content.identity()).unwrap(), None);
        let version = store.version(output.version).unwrap().unwrap();
        assert_eq!(version.path, "/lab/final");

        story.tell(&[content.unsealed(1, Unsealed::ChangedBelow)]);
        let changed = OutputState::Unsealed { reason: Unsealed::ChangedBelow };
        assert_eq!(store.outputs(&story.run).unwrap().kept[0].state, changed);
        assert_eq!(store.version_of(&identity).unwrap(), None);
    });
}

#[test]
fn an_output_has_all_the_names_that_the_run_gave_it() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        let content = Content::of(1, 1);
        let names = |store: &dyn LineageStore, story: &Story<'_>| {
            let output = store.outputs(&story.run).unwrap().kept.remove(0);
            let version = store.version(output.version).unwrap().unwrap();
            let names: Vec<_> = output.names().map(|name| name.path.clone()).collect();
            (names.join(" "), version.path, version.also.join(" "))
        };
        let expected = |names: &str, also: &str| (names.into(), "/lab/f1".into(), also.into());
        story.tell(&[content.written(1), content.sealed_with_links(1, &["b", "sub/a"])]);
        assert_eq!(names(store, &story), expected("f1 b sub/a", "/lab/b /lab/sub/a"));
        story.tell(&[Content::also_named(1, &["c"])]);
        story.tell(&[Content::also_named(1, &["sub/d"])]);
        let all = expected("f1 b sub/a c sub/d", "/lab/b /lab/sub/a /lab/c /lab/sub/d");
        assert_eq!(names(store, &story), all);
        story.tell(&[content.sealed_with_links(1, &["b"])]);
        assert_eq!(names(store, &story), expected("f1 b", "/lab/b"));
        story.tell(&[content.sealed(1)]);
        assert_eq!(names(store, &story), expected("f1", ""));
    });
}

#[test]
fn what_a_run_removed_or_wrote_over_is_gone() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        let first = story.writes(Content::of(1, 1));
        let second = story.writes(Content::of(1, 2));
        let removed = story.writes(Content::of(2, 3));
        story.tell(&[Content::gone(3)]);
        let outputs = store.outputs(&story.run).unwrap();
        let ids = |side: &[crate::lineage::Output]| {
            side.iter().map(|output| output.version).collect::<Vec<_>>()
        };
        assert_eq!(ids(&outputs.kept), [second]);
        assert_eq!(ids(&outputs.gone), [first, removed]);
        let superseded = store.version(first).unwrap().unwrap().superseded_by;
        assert_eq!(superseded, Some(second));
    });
}

#[test]
fn what_a_later_run_writes_over_stays_an_output_of_the_earlier() {
    with_each_store(|store| {
        let mut clean = Story::begin(store, "clean");
        let old = clean.writes(Content::of(1, 1));
        let mut train = Story::begin(store, "train");
        let new = train.writes(Content::of(1, 2));
        assert_eq!(store.outputs(&clean.run).unwrap().kept[0].version, old);
        assert_eq!(store.version(old).unwrap().unwrap().superseded_by, Some(new));
    });
}

#[test]
fn a_material_without_digest_says_why() {
    with_each_store(|store| {
        let mut story = Story::begin(store, "train");
        let content = Content::of(1, 1);
        let digest = |store: &dyn LineageStore, story: &Story<'_>| {
            store.materials(&story.run).unwrap().remove(0).digest
        };
        story.tell(&[content.opened(1)]);
        assert_eq!(digest(store, &story), MaterialDigest::Pending);
        story.tell(&[Content::not_hashed(1, Unknown::NotWanted)]);
        let reason = Unknown::NotWanted;
        assert_eq!(digest(store, &story), MaterialDigest::Unknown { reason });
        story.tell(&[content.hashed(1)]);
        assert_eq!(digest(store, &story), MaterialDigest::Known { digests: content.digests() });
    });
}

#[test]
fn a_material_that_changed_is_unknown_even_if_its_version_is_known() {
    with_each_store(|store| {
        let content = Content::of(1, 1);
        Story::begin(store, "clean").writes(content);
        let mut story = Story::begin(store, "train");
        story.tell(&[content.opened(1), Content::not_hashed(1, Unknown::Changed)]);
        let changed = MaterialDigest::Unknown { reason: Unknown::Changed };
        assert_eq!(store.materials(&story.run).unwrap()[0].digest, changed);

        let mut other = Story::begin(store, "evaluate");
        other.tell(&[content.opened(1), Content::not_hashed(1, Unknown::NotWanted)]);
        let known = MaterialDigest::Known { digests: content.digests() };
        assert_eq!(store.materials(&other.run).unwrap()[0].digest, known);
    });
}
