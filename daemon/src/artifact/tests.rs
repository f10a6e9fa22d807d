use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    ArtifactRoot, Bundle, CLAIMS_LINES_MAX, Claims, Commit, CommitKind, Content, Entry, EntryKind,
    Inputs, Known, Material, MaterialDigests, Needed, Origin, Outcome, Output, Refusal,
    RunDescription, SigningKey, TrustedSigners, model_statement,
};
use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::{
    About, Artifact, AtHand, ClaimedKind, Completeness, Directory, Judged, NotJudged, Unwatched,
    claimed, content_at, judge,
};
#[cfg(feature = "mount")]
use crate::publication::{NameLine, name_key};
use crate::{
    config::{Environment, StateDir},
    publication::{DurableFiles, Shelf},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A directory in which runs have been, and the key that they signed with.
struct Lab {
    base: tempfile::TempDir,
    key: SigningKey,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { base: tempfile::tempdir().unwrap(), key: SigningKey::generate().unwrap() };
        fs::create_dir(lab.path("model")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.base.path()).unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn state(&self) -> StateDir {
        let state = self.path("state");
        let state = StateDir::resolve(Some(&state), &Environment::default()).unwrap();
        state.prepare().unwrap();
        state
    }

    /// What a run says that made these files of `root`, as they are now.
    fn commit(&self, root: &str, names: &[&str]) -> Commit {
        let root = self.path(root);
        let outputs = names.iter().map(|name| {
            let content = content_at(&root.join(name), &Unwatched).unwrap();
            let Known::Both(digests) = content.digests else { panic!("both were asked for") };
            Output { name: (*name).to_owned(), digests, size: content.size }
        });
        let path = root.to_str().unwrap().to_owned();
        Commit {
            run: run(),
            root: ArtifactRoot { name: "model".to_owned(), path },
            kind: CommitKind::StageEnd(Outcome::Success),
            finished: "2026-01-02T03:05:00Z".parse().unwrap(),
            outputs: outputs.collect(),
            left_out: Vec::new(),
            materials: Vec::new(),
        }
    }

    fn sign(&self, commit: &Commit) -> Bundle {
        Bundle::sign_attestation(commit.draft().unwrap().payload, &self.key).unwrap()
    }

    fn put_beside(&self, directory: &str, bundles: Vec<Bundle>) {
        let claims = Claims { bundles, ..Claims::default() };
        fs::write(self.path(directory).join("claims.jsonl"), claims.to_jsonl()).unwrap();
    }

    fn put_on_shelf(&self, commit: &Commit) -> Bundle {
        self.put_on_shelf_by(&self.key, commit)
    }

    fn put_on_shelf_by(&self, key: &SigningKey, commit: &Commit) -> Bundle {
        let bundle = Bundle::sign_attestation(commit.draft().unwrap().payload, key).unwrap();
        let shelf = Shelf::of(&self.state());
        shelf.put_bundle(&DurableFiles, bundle.sha256(), &bundle.to_json()).unwrap();
        let subjects = commit.outputs.iter().map(|output| output.digests.sha256);
        shelf.index(&DurableFiles, bundle.sha256(), subjects).unwrap();
        bundle
    }

    fn sign_model(&self, directory: &str) -> Vec<u8> {
        let directory = Directory::open(&self.path(directory)).unwrap();
        let found = directory.walk().unwrap();
        let entries = directory.survey(&found, |_| Needed::Sha256, &Unwatched).unwrap();
        let statement = model_statement("model", &entries).unwrap();
        Bundle::sign_model(statement, &self.key).unwrap().to_json()
    }

    fn judge(&self, path: &str) -> Result<Judged, NotJudged> {
        let artifact = Artifact::at(&self.path(path)).unwrap();
        let at_hand = AtHand::around(&artifact, Some(&self.state()))?;
        judge(&artifact, &at_hand, &self.trusted(), NOW, &Unwatched)
    }

    fn judge_by(&self, path: &str, bundle: &str) -> Result<Judged, NotJudged> {
        let artifact = Artifact::at(&self.path(path)).unwrap();
        let at_hand = AtHand::around(&artifact, Some(&self.state()))?;
        let at_hand = at_hand.and_bundle(&self.path(bundle))?;
        judge(&artifact, &at_hand, &self.trusted(), NOW, &Unwatched)
    }

    fn trusted(&self) -> TrustedSigners {
        TrustedSigners::keys([self.key.verifying_key()])
    }
}

fn run() -> RunDescription {
    RunDescription {
        id: "train-1".to_owned(),
        stage: "train".to_owned(),
        command: vec!["python".to_owned()],
        executable: None,
        working_directory: "/".to_owned(),
        uid: 1000,
        host: "node".to_owned(),
        kernel: "Linux".to_owned(),
        cgroup: None,
        trees: vec!["/data".to_owned()],
        declared_inputs: Vec::new(),
        declared_outputs: Vec::new(),
        inputs: Inputs::Opened,
        labels: BTreeMap::new(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}

#[track_caller]
fn check(result: Result<Judged, NotJudged>) -> u8 {
    match result {
        Err(NotJudged::Refused(refusal)) => refusal.check().0,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn nothing_at_hand_admits_nothing() {
    let lab = Lab::new();
    assert_eq!(check(lab.judge("model")), 1);
    lab.write("model/a", "a");
    assert_eq!(check(lab.judge("model")), 1);
    assert_eq!(check(lab.judge("model/a")), 1);
}

#[test]
fn a_file_is_admitted_by_the_claims_beside_it_and_only_under_its_name() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/sub/b", "b");
    lab.put_beside("model", vec![lab.sign(&lab.commit("model", &["a", "sub/b"]))]);
    for file in ["model/a", "model/sub/b"] {
        let judged = lab.judge(file).unwrap();
        assert_eq!(judged.completeness, Completeness::NotCovered);
        assert_eq!(judged.verified.attestations.len(), 1);
    }
    lab.write("model/a", "b");
    assert_eq!(check(lab.judge("model/a")), 8);
    lab.write("model/c", "b");
    assert_eq!(check(lab.judge("model/c")), 7);
}

#[test]
fn a_copied_directory_takes_its_claims_along() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.put_beside("model", vec![lab.sign(&lab.commit("model", &["a"]))]);
    fs::rename(lab.path("model"), lab.path("copied")).unwrap();
    lab.judge("copied/a").unwrap();
    lab.judge("copied").unwrap();
}

#[test]
fn claims_say_what_names_are_relative_to() {
    let lab = Lab::new();
    lab.write("model/sub/a", "a");
    let claims = vec![lab.sign(&lab.commit("model", &["sub/a"]))];
    lab.put_beside("model", claims.clone());
    lab.judge("model/sub/a").unwrap();
    lab.judge("model/sub").unwrap();
    fs::remove_file(lab.path("model/claims.jsonl")).unwrap();
    lab.put_beside("model/sub", claims);
    assert_eq!(check(lab.judge("model/sub/a")), 7);
}

#[test]
fn what_does_not_speak_of_the_artifact_is_passed_over_and_named() {
    let stranger = Lab::new();
    stranger.write("model/sub/a", "a");
    let by_stranger = stranger.sign(&stranger.commit("model", &["sub/a"])).to_json();
    let of_stranger = stranger.sign_model("model");
    let cases: [(&str, &[u8]); 7] = [
        ("model/sub/claims.jsonl", b""),
        ("model/sub/claims.jsonl", b"{\"claim\": \"my own\"}"),
        ("model/sub/claims.jsonl", &"x\n".repeat(CLAIMS_LINES_MAX + 1).into_bytes()),
        ("model/sub/model.sig", b"garbage"),
        ("model/claims.jsonl", &by_stranger),
        ("model/model.sig", &of_stranger),
        ("model.sig", b"garbage"),
    ];
    for (name, bytes) in cases {
        let lab = Lab::new();
        lab.write("model/sub/a", "a");
        lab.put_on_shelf(&lab.commit("model", &["sub/a"]));
        fs::write(lab.path(name), bytes).unwrap();
        let judged = lab.judge("model/sub/a").unwrap();
        let [passed] = judged.passed_over.as_slice() else { panic!("{name}: {judged:?}") };
        assert_eq!(Path::new(&passed.publication), lab.path(name));
        assert!(!passed.reason.is_empty());
        if !name.starts_with("model/sub") {
            lab.judge("model/sub").unwrap();
        }
    }
}

#[test]
fn a_model_signature_above_decides_when_it_is_trusted_and_lists_the_file() {
    let lab = Lab::new();
    lab.write("model/sub/a", "a");
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    let judged = lab.judge("model/sub/a").unwrap();
    assert_eq!(judged.completeness, Completeness::OneOfModel);
    assert!(matches!(lab.judge("model/sub"), Err(NotJudged::PartOfModel { .. })));
    lab.write("model/sub/a", "b");
    lab.put_on_shelf(&lab.commit("model", &["sub/a"]));
    assert_eq!(check(lab.judge("model/sub/a")), 8);
    lab.write("model/other/b", "b");
    lab.put_on_shelf(&lab.commit("model", &["other/b"]));
    lab.judge("model/other/b").unwrap();
    lab.judge("model/other").unwrap();
}

/// What a run says of `model/a`, with a SHA-256 that the file does not have. Who finds it good has computed
/// nothing but the BLAKE3.
fn half_a_lie(lab: &Lab) -> Commit {
    let mut commit = lab.commit("model", &["a"]);
    commit.outputs[0].digests.sha256 = Sha256([7; 32]);
    commit
}

/// The model signature of somebody who says the same.
fn model_of(commit: &Commit, key: &SigningKey) -> Vec<u8> {
    let entry = |output: &Output| {
        let content = Content::new(output.digests, output.size);
        Entry { name: output.name.clone(), kind: EntryKind::File(content) }
    };
    let entries: Vec<_> = commit.outputs.iter().map(entry).collect();
    Bundle::sign_model(model_statement("model", &entries).unwrap(), key).unwrap().to_json()
}

fn sign_by(key: &SigningKey, commit: &Commit) -> Bundle {
    Bundle::sign_attestation(commit.draft().unwrap().payload, key).unwrap()
}

#[test]
fn what_is_signed_with_its_blake3_is_verified_by_that_alone() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let lie = half_a_lie(&lab);
    lab.put_beside("model", vec![lab.sign(&lie)]);
    for path in ["model", "model/a"] {
        let judged = lab.judge(path).unwrap();
        assert_eq!((judged.files, judged.by_blake3), (1, 1), "{path} without model signature");
    }
    fs::write(lab.path("model/model.sig"), model_of(&lie, &lab.key)).unwrap();
    for path in ["model", "model/a"] {
        let judged = lab.judge(path).unwrap();
        assert_eq!((judged.files, judged.by_blake3), (1, 1), "{path}");
    }
}

#[test]
#[cfg(feature = "mount")]
fn what_the_state_published_at_a_path_is_verified_there_by_its_blake3() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let lie = half_a_lie(&lab);
    let statement = lab.put_on_shelf(&lie).sha256();
    assert_eq!(check(lab.judge("model/a")), 1, "nothing leads to what it is said to be");
    let (key, content) = (name_key(&lie.root.path, "a"), lie.outputs[0].digests.sha256);
    let name = NameLine { key, content, statement };
    Shelf::of(&lab.state()).enter_names(&DurableFiles, [name].into_iter()).unwrap();
    assert_eq!(lab.judge("model/a").unwrap().by_blake3, 1);
    assert_eq!(lab.judge("model").unwrap().by_blake3, 1);
    lab.write("model/a", "b");
    assert_eq!(check(lab.judge("model/a")), 1, "of what it holds now nobody speaks");
}

#[test]
fn what_is_not_what_was_signed_is_told_by_its_own_digest() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let commit = lab.commit("model", &["a"]);
    lab.put_beside("model", vec![lab.sign(&commit)]);
    lab.write("model/a", "b");
    let refusal = |number: u8, path: &str| {
        let Err(NotJudged::Refused(refusal)) = lab.judge(path) else { panic!("{path} is another") };
        let found = Sha256::of(b"b").to_string();
        assert!(refusal.check().0 == number && refusal.to_string().contains(&found), "{refusal}");
    };
    refusal(8, "model");
    refusal(8, "model/a");
    fs::write(lab.path("model/model.sig"), model_of(&commit, &lab.key)).unwrap();
    refusal(8, "model");
    refusal(8, "model/a");
}

#[test]
fn a_model_of_which_nobody_gives_a_blake3_is_verified_by_its_sha256() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/sub/b", "b");
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    let judged = lab.judge("model").unwrap();
    assert_eq!((judged.files, judged.by_blake3), (2, 0));
    lab.write("model/sub/b", "c");
    assert_eq!(check(lab.judge("model")), 8);
}

#[test]
fn nobodys_blake3_counts_for_what_another_one_signed() {
    let lab = Lab::new();
    let liar = SigningKey::generate().unwrap();
    lab.write("model/a", "a");
    let lie = half_a_lie(&lab);
    let judge = |path: &str| {
        let artifact = Artifact::at(&lab.path(path)).unwrap();
        let at_hand = AtHand::around(&artifact, Some(&lab.state())).unwrap();
        let both = TrustedSigners::keys([lab.key.verifying_key(), liar.verifying_key()]);
        judge(&artifact, &at_hand, &both, NOW, &Unwatched)
    };
    // Both are believed, and only the liar gives the BLAKE3.
    lab.put_beside("model", vec![sign_by(&liar, &lie)]);
    fs::write(lab.path("model/model.sig"), model_of(&lie, &lab.key)).unwrap();
    assert_eq!(check(judge("model")), 8);
    assert_eq!(check(judge("model/a")), 8);
    // The same where the other one signed an attestation, wherever that lies.
    fs::remove_file(lab.path("model/model.sig")).unwrap();
    judge("model").unwrap();
    let mut another = lie.clone();
    another.run.id = "train-2".to_owned();
    lab.put_on_shelf(&another);
    assert_eq!(check(judge("model")), 8);
    assert_eq!(check(judge("model/a")), 8);
}

#[test]
fn who_gives_two_blake3s_of_one_sha256_is_not_believed_by_either() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let lie = half_a_lie(&lab);
    let mut another = lie.clone();
    another.run.id = "train-2".to_owned();
    another.outputs[0].digests.blake3.0[0] ^= 1;
    lab.put_beside("model", vec![lab.sign(&lie), lab.sign(&another)]);
    assert_eq!(check(lab.judge("model")), 8);
    assert_eq!(check(lab.judge("model/a")), 8);
}

#[test]
fn an_attestation_of_what_a_file_was_before_does_not_keep_from_comparing_blake3s() {
    let lab = Lab::new();
    lab.write("model/a", "before");
    let before = lab.commit("model", &["a"]);
    lab.write("model/a", "a");
    let lie = half_a_lie(&lab);
    lab.put_beside("model", vec![lab.sign(&lie), lab.sign(&before)]);
    assert_eq!(lab.judge("model").unwrap().by_blake3, 1);
    fs::write(lab.path("model/model.sig"), model_of(&lie, &lab.key)).unwrap();
    assert_eq!(lab.judge("model").unwrap().by_blake3, 1);
}

#[test]
fn what_claims_to_know_a_file_is_computed_in_full() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.put_beside("model", vec![lab.sign(&half_a_lie(&lab))]);
    let artifact = Artifact::at(&lab.path("model/a")).unwrap();
    let at_hand = AtHand::around(&artifact, None).unwrap();
    let claims = claimed(&artifact, &at_hand, &Unwatched).unwrap();
    assert_eq!(claims.content.unwrap().sha256(), Sha256::of(b"a"));
}

#[test]
fn the_model_signature_of_a_directory_decides_about_it_whatever_it_is() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.put_on_shelf(&lab.commit("model", &["a"]));
    lab.judge("model").unwrap();
    lab.write("model/model.sig", "garbage");
    assert_eq!(check(lab.judge("model")), 1);
}

#[test]
fn a_file_is_admitted_by_the_state_wherever_it_was_moved() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/sub/b", "b");
    lab.put_on_shelf(&lab.commit("model", &["a", "sub/b"]));
    lab.judge("model/a").unwrap();
    lab.judge("model").unwrap();
    fs::rename(lab.path("model"), lab.path("moved")).unwrap();
    lab.judge("moved/sub/b").unwrap();
    fs::copy(lab.path("moved/sub/b"), lab.path("moved/a")).unwrap();
    assert!(check(lab.judge("moved/a")) >= 7);
}

#[test]
fn an_index_that_lies_admits_nothing() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let bundle = lab.put_on_shelf(&lab.commit("model", &["a"]));
    lab.write("model/b", "b");
    let b = lab.commit("model", &["b"]).outputs[0].digests.sha256;
    Shelf::of(&lab.state()).index(&DurableFiles, bundle.sha256(), [b].into_iter()).unwrap();
    assert_eq!(check(lab.judge("model/b")), 1);
    assert_eq!(check(lab.judge("model")), 1);
}

#[test]
fn what_a_failed_run_left_behind_is_refused() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let outcome = Outcome::Failed { exit_code: Some(1), signal: None };
    let kind = CommitKind::StageEnd(outcome);
    lab.put_on_shelf(&Commit { kind, ..lab.commit("model", &["a"]) });
    assert_eq!(check(lab.judge("model/a")), 6);
}

#[test]
fn every_file_of_a_directory_without_model_signature_must_be_attested() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.put_beside("model", vec![lab.sign(&lab.commit("model", &["a"]))]);
    let judged = lab.judge("model").unwrap();
    assert_eq!((judged.files, judged.completeness), (1, Completeness::NotCovered));
    symlink("a", lab.path("model/link")).unwrap();
    assert_eq!(check(lab.judge("model")), 9);
    fs::remove_file(lab.path("model/link")).unwrap();
    lab.write("model/b", "b");
    assert_eq!(check(lab.judge("model")), 1);
}

#[test]
fn a_bundle_that_was_named_decides_alone() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/b", "b");
    lab.put_on_shelf(&lab.commit("model", &["a", "b"]));
    let only_b = lab.sign(&lab.commit("model", &["b"]));
    fs::write(lab.path("b.json"), only_b.to_json()).unwrap();
    lab.judge("model/a").unwrap();
    assert_eq!(check(lab.judge_by("model/a", "b.json")), 1);
    lab.judge_by("model/b", "b.json").unwrap();
}

#[test]
fn beside_a_bundle_that_was_named_claims_show_where_materials_came_from() {
    let lab = Lab::new();
    lab.write("data/raw", "raw");
    lab.write("model/a", "a");
    let clean = lab.commit("data", &["raw"]);
    let material = Material {
        name: "raw".to_owned(),
        uri: "file://node/data/raw".to_owned(),
        digests: MaterialDigests::Known(clean.outputs[0].digests),
        size: 3,
        declared: true,
        attestation: Some(lab.sign(&clean).sha256()),
    };
    let train = Commit { materials: vec![material], ..lab.commit("model", &["a"]) };
    fs::write(lab.path("train.json"), lab.sign(&train).to_json()).unwrap();
    lab.put_beside("model", vec![lab.sign(&clean)]);
    for path in ["model", "model/a"] {
        let judged = lab.judge_by(path, "train.json").unwrap();
        let origin = &judged.verified.attestations[0].materials[0].origin;
        assert!(matches!(origin, Origin::Attested(_)), "{path}: {origin:?}");
    }
}

#[test]
fn a_model_signature_that_was_named_covers_directories_and_their_files() {
    let lab = Lab::new();
    lab.write("model/sub/a", "a");
    lab.write("model/a", "other");
    let signature = lab.sign_model("model");
    fs::write(lab.path("model.json"), signature).unwrap();
    assert_eq!(lab.judge_by("model", "model.json").unwrap().completeness, Completeness::Whole);
    for file in ["model/a", "model/sub/a"] {
        let judged = lab.judge_by(file, "model.json").unwrap();
        assert_eq!(judged.completeness, Completeness::OneOfModel);
    }
    fs::copy(lab.path("model/a"), lab.path("model/sub/a")).unwrap();
    assert_eq!(check(lab.judge_by("model/sub/a", "model.json")), 8);
    lab.write("model/c", "a");
    assert_eq!(check(lab.judge_by("model/c", "model.json")), 9);
}

#[test]
fn provenance_that_contradicts_a_good_model_signature_is_refused() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    assert!(lab.judge("model").unwrap().verified.attestations.is_empty());
    let kind = CommitKind::StageEnd(Outcome::Unknown);
    let failed = Commit { kind, ..lab.commit("model", &["a"]) };
    lab.put_beside("model", vec![lab.sign(&failed)]);
    assert_eq!(check(lab.judge("model")), 6);
    assert_eq!(check(lab.judge("model/a")), 6);
}

#[test]
fn materials_are_followed_as_far_as_their_attestations_are_at_hand() {
    let lab = Lab::new();
    lab.write("data/raw", "raw");
    lab.write("model/a", "a");
    let clean = lab.commit("data", &["raw"]);
    let material = Material {
        name: "raw".to_owned(),
        uri: "file://node/data/raw".to_owned(),
        digests: MaterialDigests::Known(clean.outputs[0].digests),
        size: 3,
        declared: true,
        attestation: Some(lab.sign(&clean).sha256()),
    };
    let train = Commit { materials: vec![material], ..lab.commit("model", &["a"]) };
    lab.put_beside("model", vec![lab.sign(&train)]);
    let origin = |judged: Judged| judged.verified.attestations[0].materials[0].origin.clone();
    assert!(matches!(origin(lab.judge("model").unwrap()), Origin::NotSeen(_)));
    lab.put_on_shelf(&clean);
    assert!(matches!(origin(lab.judge("model").unwrap()), Origin::Attested(_)));
}

#[test]
fn a_directory_called_model_sig_is_no_signature() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/model.sig/x", "x");
    lab.put_on_shelf(&lab.commit("model", &["a"]));
    lab.judge("model/a").unwrap();
    assert_eq!(check(lab.judge("model")), 1, "what lies in it is not attested");
}

#[test]
fn without_a_key_it_is_told_who_claims_what() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let artifact = Artifact::at(&lab.path("model/a")).unwrap();
    let claims = || {
        let at_hand = AtHand::around(&artifact, Some(&lab.state())).unwrap();
        claimed(&artifact, &at_hand, &Unwatched).unwrap()
    };
    assert!(claims().claims.is_empty());
    let commit = lab.commit("model", &["a"]);
    lab.put_on_shelf(&commit);
    lab.put_beside("model", vec![lab.sign(&commit)]);
    let found = claims();
    assert_eq!(found.content.unwrap().size, 1);
    let [only] = found.claims.as_slice() else { panic!("{found:?}") };
    assert_eq!(only.signer, lab.key.verifying_key().hint().to_string());
    let ClaimedKind::Run { subject, stage, .. } = &only.claim else { panic!("{only:?}") };
    assert_eq!((subject.as_deref(), stage.as_str()), (Some("a"), "train"));
}

/// Stage and root of each run that claims to have made the file.
fn told(lab: &Lab, path: &str, at_hand: &AtHand) -> Vec<(About, String, String)> {
    let artifact = Artifact::at(&lab.path(path)).unwrap();
    let claims = claimed(&artifact, at_hand, &Unwatched).unwrap().claims;
    let runs = claims.into_iter().filter_map(|claimed| match claimed.claim {
        ClaimedKind::Run { subject, stage, .. } => Some((claimed.about, stage, subject?)),
        ClaimedKind::ModelSignature { .. } => None,
    });
    runs.collect()
}

#[test]
fn what_is_claimed_of_the_path_itself_is_told_before_the_same_content_elsewhere() {
    let lab = Lab::new();
    for file in ["model/w", "model/also", "other/zz"] {
        lab.write(file, "same");
    }
    let of = |stage: &str, root: &str, names: &[&str], minute: u8, outcome: Outcome| {
        let finished = format!("2026-01-02T03:{minute:02}:00Z").parse().unwrap();
        let run = RunDescription { stage: stage.to_owned(), ..run() };
        let kind = CommitKind::StageEnd(outcome);
        lab.put_on_shelf(&Commit { run, kind, finished, ..lab.commit(root, names) });
    };
    let failed = Outcome::Failed { exit_code: Some(1), signal: None };
    of("here and newer", "model", &["also", "w"], 20, Outcome::Success);
    of("here", "model", &["w"], 10, Outcome::Success);
    of("here, failing", "model", &["w"], 30, failed);
    of("there", "other", &["zz"], 40, Outcome::Success);
    of("there, failing", "other", &["zz"], 50, failed);
    let expected = [
        (About::Artifact, "here and newer", "w"),
        (About::Artifact, "here", "w"),
        (About::Artifact, "here, failing", "w"),
        (About::SameContent, "there", "zz"),
        (About::SameContent, "there, failing", "zz"),
    ];
    let expected =
        expected.map(|(about, stage, name)| (about, stage.to_owned(), name.to_owned())).to_vec();
    assert_eq!(told(&lab, "model/w", &AtHand::in_state(&lab.state())), expected);
    let zz = told(&lab, "other/zz", &AtHand::in_state(&lab.state()));
    assert_eq!(zz[0], (About::Artifact, "there".to_owned(), "zz".to_owned()));
}

#[test]
fn a_copied_directory_is_spoken_of_by_the_claims_in_it() {
    let lab = Lab::new();
    lab.write("model/sub/a", "a");
    let commit = lab.commit("model", &["sub/a"]);
    lab.put_on_shelf(&commit);
    lab.put_beside("model", vec![lab.sign(&commit)]);
    fs::rename(lab.path("model"), lab.path("copied")).unwrap();
    let artifact = Artifact::at(&lab.path("copied/sub/a")).unwrap();
    let at_hand = AtHand::around(&artifact, Some(&lab.state())).unwrap();
    let here = (About::Artifact, "train".to_owned(), "sub/a".to_owned());
    assert_eq!(told(&lab, "copied/sub/a", &at_hand), [here], "and only once");
    let elsewhere = told(&lab, "copied/sub/a", &AtHand::in_state(&lab.state()));
    assert_eq!(elsewhere[0].0, About::SameContent);
}

#[test]
fn of_a_directory_its_own_claims_are_told_apart_from_what_it_was_made_from() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("data/raw", "raw");
    let (train, clean) = (lab.commit("model", &["a"]), lab.commit("data", &["raw"]));
    lab.put_beside("model", vec![lab.sign(&train), lab.sign(&clean), lab.sign(&train)]);
    fs::rename(lab.path("model"), lab.path("copied")).unwrap();
    let artifact = Artifact::at(&lab.path("copied")).unwrap();
    let at_hand = AtHand::around(&artifact, Some(&lab.state())).unwrap();
    let claims = claimed(&artifact, &at_hand, &Unwatched).unwrap().claims;
    let about: Vec<_> = claims.iter().map(|claimed| claimed.about).collect();
    assert_eq!(about, [About::Artifact, About::Behind]);
}

#[test]
fn what_a_stranger_signed_in_the_state_refuses_nothing_that_is_signed_and_is_told() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let commit = lab.commit("model", &["a"]);
    let strange = Commit { run: RunDescription { uid: 7, ..run() }, ..commit.clone() };
    let stranger = SigningKey::generate().unwrap();
    let bundle = lab.put_on_shelf_by(&stranger, &strange);
    assert_eq!(check(lab.judge("model")), 3, "nobody else speaks of it");
    assert_eq!(check(lab.judge("model/a")), 3);
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    for path in ["model", "model/a"] {
        let judged = lab.judge(path).unwrap();
        let [passed] = judged.passed_over.as_slice() else { panic!("{path}: {judged:?}") };
        let shelf = Shelf::of(&lab.state());
        assert_eq!(Path::new(&passed.publication), shelf.bundle_path(bundle.sha256()));
        assert!(passed.reason.contains("none of the trusted"), "{passed:?}");
    }
    lab.put_beside("model", vec![bundle]);
    assert_eq!(check(lab.judge("model")), 3, "it lies beside the content");
    lab.put_beside("model", vec![lab.sign(&commit)]);
    assert_eq!(lab.judge("model").unwrap().verified.attestations.len(), 1);
}

#[test]
fn what_a_signature_leaves_out_is_named_unless_the_run_wrote_it() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    lab.write("model/.gitignore", "*.tmp");
    lab.write("model/.git/HEAD", "x");
    lab.write("model/sub/.gitignore", "is covered");
    let names = ["a", ".gitignore", "sub/.gitignore"];
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    assert_eq!(lab.judge("model").unwrap().left_out, [".git", ".gitignore"]);
    lab.put_beside("model", vec![lab.sign(&lab.commit("model", &names))]);
    let judged = lab.judge("model").unwrap();
    assert_eq!((judged.left_out.as_slice(), judged.files), (&[".git".to_owned()][..], 3));
    lab.write("model/.gitignore", "*");
    assert_eq!(check(lab.judge("model")), 8);
    fs::remove_file(lab.path("model/.gitignore")).unwrap();
    symlink("a", lab.path("model/.gitignore")).unwrap();
    assert_eq!(check(lab.judge("model")), 9);
}

#[test]
fn damaged_claims_beside_a_good_signature_are_told() {
    let lab = Lab::new();
    lab.write("model/a", "a");
    let good = lab.sign(&lab.commit("model", &["a"])).to_json();
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    let cases: [(&[u8], usize, &str); 4] = [
        (b"", 0, "it holds no attestation"),
        (&good[..good.len() / 2], 0, "1 line is no attestation"),
        (b"x\ny\n", 0, "2 lines are no attestations"),
        (&[&good, &b"\nx\n"[..]].concat(), 1, "1 line is no attestation"),
    ];
    for (claims, attestations, reason) in cases {
        fs::write(lab.path("model/claims.jsonl"), claims).unwrap();
        for path in ["model", "model/a"] {
            let judged = lab.judge(path).unwrap();
            assert_eq!(judged.verified.attestations.len(), attestations);
            let [passed] = judged.passed_over.as_slice() else { panic!("{path}: {judged:?}") };
            assert_eq!(passed.reason, reason);
        }
    }
}

#[test]
fn without_a_key_it_is_told_how_a_directory_differs_from_what_it_claims() {
    let difference = |lab: &Lab| {
        let artifact = Artifact::at(&lab.path("model")).unwrap();
        let at_hand = AtHand::around(&artifact, None).unwrap();
        claimed(&artifact, &at_hand, &Unwatched).unwrap().difference
    };
    let lab = Lab::new();
    for file in ["model/a", "model/b", "model/.gitignore"] {
        lab.write(file, "as attested");
    }
    assert_eq!(difference(&lab), None);
    let newer = lab.commit("model", &["a"]);
    lab.write("model/a", "before");
    let older = lab.commit("model", &["a", "b", ".gitignore"]);
    lab.write("model/a", "as attested");
    lab.put_beside("model", vec![lab.sign(&newer), lab.sign(&older)]);
    assert_eq!(difference(&lab), None);
    let changed_of = |lab: &Lab| match difference(lab) {
        Some(Refusal::DigestMismatch { name, others, .. }) => Some((name, others)),
        _ => None,
    };
    lab.write("model/a", "changed");
    lab.write("model/b", "changed");
    assert_eq!(changed_of(&lab), Some(("a".to_owned(), 1)), "by its claims alone");
    fs::write(lab.path("model/model.sig"), lab.sign_model("model")).unwrap();
    assert_eq!(difference(&lab), None, "signed again since");
    lab.write("model/.gitignore", "changed");
    assert_eq!(changed_of(&lab), Some((".gitignore".to_owned(), 0)));
    lab.write("model/b", "changed again");
    assert_eq!(changed_of(&lab), Some(("b".to_owned(), 0)));
    fs::remove_file(lab.path("model/b")).unwrap();
    assert_eq!(difference(&lab).unwrap().check().0, 9);
}

#[test]
fn only_files_and_directories_are_artifacts() {
    let lab = Lab::new();
    lab.write("model/claims.jsonl", "");
    assert!(Artifact::at(&lab.path("missing")).is_err());
    assert!(Artifact::at(Path::new("/dev/null")).is_err());
    assert!(Artifact::at(&lab.path("model/claims.jsonl")).is_err());
    symlink("model", lab.path("link")).unwrap();
    let artifact = Artifact::at(&lab.path("link")).unwrap();
    assert_eq!(artifact, Artifact::Directory(lab.path("model")));
}

#[test]
fn a_refusal_keeps_its_own_words() {
    let refusal = Refusal::Unattested { name: "x".to_owned() };
    assert_eq!(NotJudged::from(refusal.clone()).to_string(), refusal.to_string());
}
