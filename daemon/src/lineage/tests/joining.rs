//! When two sightings of a file are one version: a test for each rule of `daemon/LINEAGE.md`.

use attestfs_fs::{Fact, Process, RunVersion, TreePath, Unsealed};

use super::with_each_store;
use crate::lineage::{
    LineageStore, MaterialDigest, Origin, Role, RunId,
    testing::{Content, Story, attested, publish},
};

#[test]
fn an_unknown_file_is_a_found_version() {
    with_each_store(|store| {
        let raw = Content::of(1, 1);
        let version = Story::begin(store, "clean").reads(raw);
        let version = store.version(version).unwrap().unwrap();
        assert_eq!(version.origin, Origin::Found);
        assert_eq!(version.path, "/lab/f1");
        assert_eq!(store.digests_of(&[raw.identity()]).unwrap(), [Some(raw.digests())]);
    });
}

#[test]
fn equal_identity_is_the_version_that_was_written() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let written = Story::begin(store, "clean").writes(data);
        let mut train = Story::begin(store, "train");
        train.tell(&[data.opened(1)]);
        assert_eq!(store.materials(&train.run).unwrap()[0].version, written);
        assert_eq!(readers(store, written), ["train"]);
    });
}

#[test]
fn a_version_that_is_opened_by_another_of_its_names_keeps_them_all() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let mut clean = Story::begin(store, "clean");
        clean.tell(&[data.written(1), data.sealed_with_links(1, &["b", "c"])]);
        let written = store.outputs(&clean.run).unwrap().kept[0].version;
        let names_after_opening = |run: &str, name: &str| {
            let opened = Fact::Opened {
                version: RunVersion(1),
                identity: data.identity(),
                path: TreePath { tree: 0, path: name.to_owned() },
                by: Process::default(),
            };
            Story::begin(store, run).tell(&[opened]);
            let version = store.version(written).unwrap().unwrap();
            [vec![version.path], version.also].concat()
        };
        assert_eq!(names_after_opening("train", "c"), ["/lab/c", "/lab/b", "/lab/f1"]);
        assert_eq!(names_after_opening("test", "c"), ["/lab/c", "/lab/b", "/lab/f1"]);
        assert_eq!(names_after_opening("later", "moved"), ["/lab/moved", "/lab/b", "/lab/f1"]);
    });
}

#[test]
fn equal_content_of_the_same_file_is_the_version_that_was_written() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let written = Story::begin(store, "clean").writes(data);
        let mut train = Story::begin(store, "train");
        train.tell(&[data.touched().opened(1)]);
        let pending = store.materials(&train.run).unwrap()[0].version;
        assert_ne!(pending, written, "nobody knows yet that only the mode has changed");
        train.tell(&[data.touched().hashed(1)]);
        assert_eq!(store.materials(&train.run).unwrap()[0].version, written);
        assert_eq!(store.version(pending).unwrap(), None);
        assert_eq!(store.version_of(&data.touched().identity()).unwrap(), Some(written));
    });
}

#[test]
fn other_content_of_the_same_file_is_another_version_that_lies_behind_it() {
    with_each_store(|store| {
        let written = Story::begin(store, "clean").writes(Content::of(1, 1));
        let found = Story::begin(store, "train").reads(Content::of(1, 2));
        assert_ne!(found, written);
        assert_eq!(store.version(found).unwrap().unwrap().after, Some(written));
        assert_eq!(store.found_after(written, 9).unwrap(), [found]);
    });
}

#[test]
fn what_a_killed_writer_left_lies_behind_what_it_wrote() {
    with_each_store(|store| {
        let partial = Content::of(1, 1);
        let mut killed = Story::begin(store, "killed");
        killed.tell(&[partial.written(1), partial.unsealed(1, Unsealed::Open)]);
        let written = store.outputs(&killed.run).unwrap().kept[0].version;
        let found = Story::begin(store, "train").reads(partial);
        assert_eq!(store.version(found).unwrap().unwrap().after, Some(written));
    });
}

#[test]
fn what_lay_there_before_a_run_started_does_not_lie_behind_it() {
    with_each_store(|store| {
        Story::begin(store, "late").writes(Content::of(1, 2));
        let before = Content { changed: -1, ..Content::of(1, 1) };
        let found = Story::begin(store, "early").reads(before);
        assert_eq!(store.version(found).unwrap().unwrap().after, None);
    });
}

#[test]
fn what_was_read_of_a_version_stays_when_its_content_does_not() {
    for change in
        [Content::of(1, 1).unsealed(1, Unsealed::ChangedBelow), Content::of(1, 2).sealed(1)]
    {
        with_each_store(|store| {
            let before = Content::of(1, 1);
            let mut clean = Story::begin(store, "clean");
            let written = clean.writes(before);
            let mut train = Story::begin(store, "train");
            assert_eq!(train.reads(before), written);
            clean.tell(std::slice::from_ref(&change));

            let material = store.materials(&train.run).unwrap().remove(0);
            assert_eq!(material.digest, MaterialDigest::Known { digests: before.digests() });
            let left = store.version(material.version).unwrap().unwrap();
            assert_eq!((left.origin, left.after), (Origin::Found, Some(written)));
            assert_eq!(store.version_of(&before.identity()).unwrap(), Some(material.version));
        });
    }
}

#[test]
fn equal_content_of_another_file_is_another_version() {
    with_each_store(|store| {
        let written = Story::begin(store, "clean").writes(Content::of(1, 1));
        let copy = Story::begin(store, "train").reads(Content::of(2, 1));
        assert_ne!(copy, written);
        let sha256 = Content::of(1, 1).sha256();
        assert_eq!(store.versions_of_digest(&sha256, 9).unwrap(), [copy, written]);
        assert_eq!(store.versions_of_digest(&sha256, 1).unwrap(), [copy]);
    });
}

#[test]
fn empty_files_are_not_joined_by_content() {
    with_each_store(|store| {
        let empty = Content::empty(1);
        let written = Story::begin(store, "clean").writes(empty);
        let found = Story::begin(store, "train").reads(empty.touched());
        assert_ne!(found, written);
        assert_eq!(store.version_of_content(&empty.file(), &empty.sha256()).unwrap(), None);
    });
}

#[test]
fn an_identity_that_turns_out_to_be_other_content_is_another_version() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let written = Story::begin(store, "clean").writes(data);
        let forged = Content { fill: 2, ..data };
        let found = Story::begin(store, "train").reads(forged);
        assert_ne!(found, written);
        assert_eq!(store.version(written).unwrap().unwrap().digests, Some(data.digests()));
        assert_eq!(store.version(found).unwrap().unwrap().digests, Some(forged.digests()));
        assert!(readers(store, written).is_empty());
    });
}

#[test]
fn a_file_two_runs_wait_for_becomes_one_version_for_both() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let written = Story::begin(store, "clean").writes(data);
        let mut one = Story::begin(store, "one");
        let mut two = Story::begin(store, "two");
        one.tell(&[data.touched().opened(1)]);
        two.tell(&[data.touched().opened(1)]);
        one.tell(&[data.touched().hashed(1)]);
        assert_eq!(readers(store, written), ["one", "two"]);
        two.tell(&[data.touched().hashed(1)]);
        assert_eq!(readers(store, written), ["one", "two"]);
    });
}

#[test]
fn a_reader_whose_journal_comes_first_is_joined_when_the_writer_is_heard() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let found = Story::begin(store, "train").reads(data);
        let written = Story::begin(store, "clean").writes(data);
        assert_eq!(store.version(found).unwrap(), None);
        assert_eq!(readers(store, written), ["train"]);
    });
}

#[test]
fn a_subject_of_an_attestation_is_never_joined_away() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let train = Story::begin(store, "train");
        let adopted = store.remember(&data.identity(), &data.digests(), "/lab/f1").unwrap();
        publish(store, "c", &[attested(&train.run, 9, "/lab", &[(adopted, data)])]);
        let written = Story::begin(store, "clean").writes(data);
        assert_ne!(adopted, written);
        assert!(store.version(adopted).unwrap().is_some());
    });
}

#[test]
fn a_run_that_opens_its_own_output_for_writing_makes_a_new_version() {
    with_each_store(|store| {
        let mut train = Story::begin(store, "train");
        let first = train.writes(Content::of(1, 1));
        let second = train.writes(Content::of(1, 1).touched());
        assert_ne!(first, second);
        assert_eq!(store.version(first).unwrap().unwrap().superseded_by, Some(second));
        assert_eq!(
            store
                .version_of_content(&Content::of(1, 1).file(), &Content::of(1, 1).sha256())
                .unwrap(),
            Some(second)
        );
    });
}

#[test]
fn a_run_is_no_reader_of_what_it_wrote() {
    with_each_store(|store| {
        let mut train = Story::begin(store, "train");
        let own = train.writes(Content::of(1, 1));
        train.tell(&[Content::of(1, 1).opened(7), Content::of(1, 1).hashed(7)]);
        assert!(store.materials(&train.run).unwrap().is_empty());
        assert!(store.versions_of_run(&train.run, Role::Read, 9).unwrap().is_empty());
        assert!(readers(store, own).is_empty());
    });
}

#[test]
fn what_was_hashed_outside_of_a_run_is_remembered() {
    with_each_store(|store| {
        let raw = Content::of(1, 1);
        let version = store.remember(&raw.identity(), &raw.digests(), "/lab/f1").unwrap();
        assert_eq!(store.remember(&raw.identity(), &raw.digests(), "/lab/f1").unwrap(), version);
        let answers = store.digests_of(&[raw.touched().identity(), raw.identity()]).unwrap();
        assert_eq!(answers, [None, Some(raw.digests())]);

        let written = Story::begin(store, "clean").writes(Content::of(2, 2));
        let seen = store.remember(
            &Content::of(2, 2).touched().identity(),
            &Content::of(2, 2).digests(),
            "/lab/x",
        );
        assert_eq!(seen.unwrap(), written);
    });
}

fn readers(store: &dyn LineageStore, version: crate::lineage::VersionId) -> Vec<String> {
    let runs = store.runs_of_version(version, Role::Read, 9).unwrap();
    runs.into_iter().map(|RunId(id)| id).collect()
}
