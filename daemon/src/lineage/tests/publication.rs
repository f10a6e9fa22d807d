use attestfs_attestation::{CommitKind, Outcome};
use attestfs_digest::Sha256;

use super::with_each_store;
use crate::lineage::{
    Attestation, AttestationQuery, CommitId, LineageError, LineageStore, RunId,
    testing::{Content, Story, attested, publish},
};

#[test]
fn what_was_not_frozen_cannot_be_published() {
    with_each_store(|store| {
        let refusal = store.publish(&commit("c"), &[]).unwrap_err();
        assert!(matches!(refusal, LineageError::NotFrozen(_)));
        assert_eq!(store.published(&commit("c")).unwrap(), None);
    });
}

#[test]
fn a_frozen_commit_keeps_its_bytes() {
    with_each_store(|store| {
        for bytes in [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 200_000] {
            let content: Vec<u8> = (0..=250).cycle().take(bytes).collect();
            let name = commit(&format!("c{bytes}"));
            store.freeze(&name, &content).unwrap();
            store.freeze(&name, &content).unwrap();
            let frozen = store.frozen().unwrap();
            let kept = frozen.iter().find(|frozen| frozen.commit == name).unwrap();
            assert!(kept.bytes == content, "{bytes} bytes");
            let mut other = content;
            other.push(0);
            assert!(matches!(store.freeze(&name, &other), Err(LineageError::FrozenDiffers(_))));
        }
        let (prefix, longer) = (commit("p"), commit("pp"));
        store.freeze(&prefix, b"short").unwrap();
        store.freeze(&longer, b"long").unwrap();
        store.publish(&prefix, &[]).unwrap();
        assert!(store.frozen().unwrap().iter().any(|frozen| frozen.bytes == b"long"));
    });
}

#[test]
fn a_commit_is_published_once() {
    with_each_store(|store| {
        let (run, attestation) = trained(store);
        store.freeze(&commit("c"), b"bytes").unwrap();
        for _ in 0..2 {
            store.publish(&commit("c"), std::slice::from_ref(&attestation)).unwrap();
            assert!(store.frozen().unwrap().is_empty());
            assert_eq!(store.attestations(AttestationQuery::Run(&run), 9).unwrap().len(), 1);
        }
        assert!(matches!(
            store.freeze(&commit("c"), b"bytes"),
            Err(LineageError::AlreadyPublished(_))
        ));

        // The same statement again, from a commit that did not know of the first.
        publish(store, "d", std::slice::from_ref(&attestation));
        assert_eq!(store.attestations(AttestationQuery::All, 9).unwrap().len(), 1);
        let known = store.published(&commit("d")).unwrap().unwrap();
        assert_eq!(known[0].commit, commit("c"));
    });
}

#[test]
fn an_attestation_of_an_unknown_run_is_refused_and_the_commit_stays_frozen() {
    with_each_store(|store| {
        store.freeze(&commit("c"), b"bytes").unwrap();
        let stranger = attested(&RunId("stranger".to_owned()), 1, "/lab", &[]);
        let refusal = store.publish(&commit("c"), &[stranger]).unwrap_err();
        assert!(matches!(refusal, LineageError::UnknownRun(_)));
        assert_eq!(store.frozen().unwrap().len(), 1);
    });
}

#[test]
fn an_attestation_is_found_by_everything_it_names() {
    with_each_store(|store| {
        let (run, attestation) = trained(store);
        let subject = attestation.subjects[0].clone();
        publish(store, "c", std::slice::from_ref(&attestation));
        let found = |query| statements(&store.attestations(query, 9).unwrap());
        let expected = [attestation.statement];
        assert_eq!(found(AttestationQuery::All), expected);
        assert_eq!(found(AttestationQuery::Run(&run)), expected);
        assert_eq!(found(AttestationQuery::Version(subject.version.unwrap())), expected);
        assert_eq!(found(AttestationQuery::Content(subject.digests.sha256)), expected);
        for path in ["/lab/model", "/lab/model/", "/lab", "/"] {
            assert_eq!(found(AttestationQuery::Under(path)), expected, "{path}");
        }
        for path in ["/lab/mod", "/lab/model/x", "/other", "/lab/models"] {
            assert!(found(AttestationQuery::Under(path)).is_empty(), "{path}");
        }
        assert!(found(AttestationQuery::Content(Sha256([77; 32]))).is_empty());
        assert_eq!(store.subjects(&attestation.statement).unwrap(), attestation.subjects);
        let kept = store.attestation(&attestation.statement).unwrap().unwrap();
        assert_eq!((kept.subjects, kept.commit), (1, commit("c")));
        assert_eq!(store.attestation(&Sha256([77; 32])).unwrap(), None);
    });
}

#[test]
fn a_version_that_an_attestation_names_twice_has_that_attestation_once() {
    with_each_store(|store| {
        let (run, mut attestation) = trained(store);
        let mut link = attestation.subjects[0].clone();
        link.name = "link".to_owned();
        attestation.subjects.push(link.clone());
        publish(store, "c", std::slice::from_ref(&attestation));
        assert_eq!(store.subjects(&attestation.statement).unwrap(), attestation.subjects);
        assert_eq!(store.attestation(&attestation.statement).unwrap().unwrap().subjects, 2);
        let version = AttestationQuery::Version(link.version.unwrap());
        let content = AttestationQuery::Content(link.digests.sha256);
        for query in [version, content, AttestationQuery::Run(&run)] {
            let found = store.attestations(query, 9).unwrap();
            assert_eq!(statements(&found), [attestation.statement]);
        }
        let mut evaluate = Story::begin(store, "evaluate");
        evaluate.reads(Content::of(1, 1));
        let material = store.materials(&evaluate.run).unwrap().remove(0);
        assert_eq!(material.attestation, Some(attestation.statement));
    });
}

#[test]
fn attestations_are_listed_newest_first() {
    with_each_store(|store| {
        let run = Story::begin(store, "train").ends();
        for fill in 1..=5 {
            let root = format!("/lab/{}", 9 - fill);
            publish(store, &format!("c{fill}"), &[attested(&run, fill, &root, &[])]);
        }
        let newest = [Sha256([5; 32]), Sha256([4; 32])];
        for query in
            [AttestationQuery::All, AttestationQuery::Run(&run), AttestationQuery::Under("/lab")]
        {
            assert_eq!(statements(&store.attestations(query, 2).unwrap()), newest);
        }
    });
}

#[test]
fn the_latest_commit_is_the_newest_that_vouches_at_or_below() {
    with_each_store(|store| {
        let run = Story::begin(store, "train").ends();
        assert!(store.latest("/lab").unwrap().is_empty());
        publish(store, "old", &[attested(&run, 1, "/lab/model", &[])]);
        let inside = attested(&run, 2, "/lab/model/best", &[]);
        let outside = attested(&run, 3, "/lab/data", &[]);
        publish(store, "new", &[inside, outside]);
        let mut failed = attested(&run, 4, "/lab/model", &[]);
        failed.kind = CommitKind::StageEnd(Outcome::Unknown);
        publish(store, "failed", &[failed]);

        assert_eq!(statements(&store.latest("/lab/model").unwrap()), [Sha256([2; 32])]);
        assert_eq!(statements(&store.latest("/lab").unwrap()), [Sha256([2; 32]), Sha256([3; 32])]);
        assert!(store.latest("/lab/model/worst").unwrap().is_empty());
    });
}

#[test]
fn what_was_freed_stays_known_and_is_no_longer_the_latest() {
    with_each_store(|store| {
        let (run, attestation) = trained(store);
        publish(store, "old", std::slice::from_ref(&attestation));
        publish(store, "new", &[attested(&run, 2, "/lab/model", &[])]);
        store.free(&[]).unwrap();
        assert_eq!(statements(&store.latest("/lab/model").unwrap()), [Sha256([2; 32])]);
        for _ in 0..2 {
            store.free(&[Sha256([77; 32]), Sha256([2; 32])]).unwrap();
            let latest = store.latest("/lab/model").unwrap();
            assert_eq!(statements(&latest), [attestation.statement]);
            let known = store.attestations(AttestationQuery::All, 9).unwrap();
            let freed: Vec<_> = known.iter().map(|it| (it.statement, it.freed)).collect();
            assert_eq!(freed, [(Sha256([2; 32]), true), (attestation.statement, false)]);
        }
    });
}

#[test]
fn a_material_names_the_newest_attestation_that_vouches_for_exactly_its_content() {
    with_each_store(|store| {
        let data = Content::of(1, 1);
        let mut clean = Story::begin(store, "clean");
        let version = clean.writes(data);
        let mut train = Story::begin(store, "train");
        train.reads(data);
        let link = || store.materials(&train.run).unwrap()[0].attestation;
        assert_eq!(link(), None);

        publish(store, "a", &[attested(&clean.run, 1, "/lab", &[(version, data)])]);
        assert_eq!(link(), Some(Sha256([1; 32])));
        let mut checkpoint = attested(&clean.run, 2, "/lab", &[(version, data)]);
        checkpoint.kind = CommitKind::Checkpoint;
        publish(store, "b", &[checkpoint]);
        assert_eq!(link(), Some(Sha256([2; 32])));

        let mut unknown = attested(&clean.run, 3, "/lab", &[(version, data)]);
        unknown.kind = CommitKind::StageEnd(Outcome::Unknown);
        let other = attested(&clean.run, 4, "/lab", &[(version, Content::of(1, 9))]);
        publish(store, "c", &[unknown, other]);
        assert_eq!(link(), Some(Sha256([2; 32])));
    });
}

#[test]
fn an_empty_material_names_no_attestation() {
    with_each_store(|store| {
        let empty = Content::empty(1);
        let mut clean = Story::begin(store, "clean");
        let version = clean.writes(empty);
        publish(store, "a", &[attested(&clean.run, 1, "/lab", &[(version, empty)])]);
        let mut train = Story::begin(store, "train");
        assert_eq!(train.reads(empty), version);
        assert_eq!(store.materials(&train.run).unwrap()[0].attestation, None);
    });
}

/// A run with one output, and what there is to say about it.
fn trained(store: &dyn LineageStore) -> (RunId, crate::lineage::PublishedAttestation) {
    let content = Content::of(1, 1);
    let mut train = Story::begin(store, "train");
    let version = train.writes(content);
    let attestation = attested(&train.run, 9, "/lab/model/", &[(version, content)]);
    (train.ends(), attestation)
}

fn statements(attestations: &[Attestation]) -> Vec<Sha256> {
    attestations.iter().map(|attestation| attestation.statement).collect()
}

fn commit(name: &str) -> CommitId {
    CommitId(name.to_owned())
}
