//! Random operations on the store on disk, judged by the plain lists of the one in memory.

use std::collections::BTreeMap;

use attestfs_attestation::{CommitKind, Outcome};
use attestfs_digest::Sha256;
use attestfs_fs::{Fact, Unknown, Unsealed};
use proptest::prelude::*;

use crate::lineage::{
    AttestationQuery, Bounds, CommitId, Direction, DiskStore, LineageError, LineageStore,
    PublishedAttestation, Role, RunEnd, RunId, VersionId,
    testing::{Content, MemoryStore, attested, description, succeeded},
    trace,
};

#[derive(Clone, Debug)]
enum Operation {
    Begin { run: u8 },
    Ingest { run: u8, offset: i64, steps: Vec<Step> },
    End { run: u8, outcome: Outcome },
    Remember { content: Content },
    Freeze { commit: u8, fill: u8 },
    Publish { commit: u8, attestations: Vec<PublishedAttestation> },
    Free { statements: Vec<u8> },
    Reopen,
}

/// A fact before it is known what the run has called its versions.
#[derive(Clone, Debug)]
enum Step {
    /// The run meets a content for the first time.
    First { role: Role, content: Content },
    /// It says more about one that it met; the content is of the same file.
    More { word: u8, pick: usize, content: Content },
    /// A damaged journal may say anything.
    Any(Fact),
}

/// What each run has met: the role and the file of its version 1, 2, ..
type Met = BTreeMap<u8, Vec<(Role, u64)>>;

impl Step {
    fn fact(&self, met: &mut Vec<(Role, u64)>) -> Fact {
        match self {
            Self::Any(fact) => fact.clone(),
            Self::First { role, content } => {
                met.push((*role, content.inode));
                let version = met.len() as u64;
                match role {
                    Role::Read => content.opened(version),
                    Role::Wrote => content.written(version),
                }
            }
            Self::More { word, pick, content } => {
                let index = pick % met.len().max(1);
                let (role, inode) = met.get(index).copied().unwrap_or((Role::Read, 1));
                let content = Content { inode, ..*content };
                more(role, *word, index as u64 + 1, content)
            }
        }
    }
}

fn more(role: Role, word: u8, version: u64, content: Content) -> Fact {
    match (role, word) {
        (Role::Read, 0) => Content::not_hashed(version, Unknown::Changed),
        (Role::Read, 1) => Content::opened_as(version, "link"),
        (Role::Read, _) => content.hashed(version),
        (Role::Wrote, 0) => content.unsealed(version, Unsealed::Sparse),
        (Role::Wrote, 1) => Content::gone(version),
        (Role::Wrote, 2) => content.sealed_with_links(version, &["link", "sub/link"]),
        (Role::Wrote, 3) => Content::also_named(version, &["more", "sub/more"]),
        (Role::Wrote, _) => content.sealed(version),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_answers_like_the_plain_lists(
        operations in prop::collection::vec(operation(), 1..60)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let lists = MemoryStore::default();
        let mut disk = DiskStore::open(folder.path()).unwrap();
        let mut met = Met::new();
        for operation in &operations {
            if matches!(operation, Operation::Reopen) {
                drop(disk);
                disk = DiskStore::open(folder.path()).unwrap();
            }
            let expected = apply(&lists, operation, &mut met.clone());
            let answer = apply(&disk, operation, &mut met);
            prop_assert_eq!(answer, expected, "{:?}", operation);
        }
        prop_assert_eq!(everything(&disk), everything(&lists));
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let run = 0..3_u8;
    let commit = 0..3_u8;
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Unknown)];
    let steps = prop::collection::vec(step(), 0..6);
    let attestations = prop::collection::vec(attestation(), 0..3);
    prop_oneof![
        6 => run.clone().prop_map(|run| Operation::Begin { run }),
        24 => (run.clone(), prop_oneof![15 => Just(0), 1 => -2..2_i64], steps)
            .prop_map(|(run, offset, steps)| Operation::Ingest { run, offset, steps }),
        1 => (run, outcome).prop_map(|(run, outcome)| Operation::End { run, outcome }),
        2 => content().prop_map(|content| Operation::Remember { content }),
        4 => (commit.clone(), 0..2_u8).prop_map(|(commit, fill)| Operation::Freeze { commit, fill }),
        6 => (commit, attestations)
            .prop_map(|(commit, attestations)| Operation::Publish { commit, attestations }),
        1 => prop::collection::vec(0..4_u8, 0..3)
            .prop_map(|statements| Operation::Free { statements }),
        1 => Just(Operation::Reopen),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let role = prop_oneof![2 => Just(Role::Read), 1 => Just(Role::Wrote)];
    let more = (0..7_u8, 0..9_usize, content());
    prop_oneof![
        40 => (role, content()).prop_map(|(role, content)| Step::First { role, content }),
        3 => content().prop_map(|content| Step::Any(content.removed())),
        3 => (content(), 1..3_u8).prop_map(|(content, check)| Step::Any(content.refused(check))),
        53 => more.prop_map(|(word, pick, content)| Step::More { word, pick, content }),
        1 => fact().prop_map(Step::Any),
    ]
}

/// Few files, few contents, few names: what is rare in life meets often here.
fn fact() -> impl Strategy<Value = Fact> {
    (0..10, 1..6_u64, content()).prop_map(|(kind, version, content)| match kind {
        0 => content.opened(version),
        1 => content.hashed(version),
        2 => Content::not_hashed(version, Unknown::Changed),
        3 => content.written(version),
        4 => content.sealed(version),
        5 => content.unsealed(version, Unsealed::Sparse),
        6 => content.removed(),
        7 => Content::opened_as(version, "link"),
        8 => Content::also_named(version, &["more"]),
        _ => Content::gone(version),
    })
}

fn content() -> impl Strategy<Value = Content> {
    (1..3_u64, 0..3_u8, -1..2_i64).prop_map(|(inode, fill, changed)| {
        let size = if fill == 0 { 0 } else { 10 };
        Content { inode, fill, size, changed }
    })
}

fn attestation() -> impl Strategy<Value = PublishedAttestation> {
    let subjects = prop::collection::vec(((1..9_u64).prop_map(VersionId), content()), 0..3);
    let root = prop_oneof![Just("/lab"), Just("/lab/model/"), Just("/")];
    let kind = prop_oneof![
        Just(CommitKind::Checkpoint),
        Just(CommitKind::StageEnd(Outcome::Success)),
        Just(CommitKind::StageEnd(Outcome::Unknown)),
    ];
    (0..3_u8, 0..4_u8, root, subjects, kind).prop_map(|(run, statement, root, subjects, kind)| {
        PublishedAttestation { kind, ..attested(&run_id(run), statement, root, &subjects) }
    })
}

/// What the operation answers, in words.
fn apply(store: &dyn LineageStore, operation: &Operation, met: &mut Met) -> String {
    match operation {
        Operation::Begin { run } => said(store.begin(&description(&run_id(*run).0))),
        Operation::Ingest { run, offset, steps } => {
            let met = met.entry(*run).or_default();
            let before = met.clone();
            let facts: Vec<Fact> = steps.iter().map(|step| step.fact(met)).collect();
            let answer = ingest(store, *run, *offset, &facts);
            if answer.is_err() {
                *met = before;
            }
            said(answer)
        }
        Operation::End { run, outcome } => {
            let end = RunEnd { outcome: *outcome, ..succeeded() };
            said(store.end(&run_id(*run), &end))
        }
        Operation::Remember { content } => {
            said(store.remember(&content.identity(), &content.digests(), "/lab/seen"))
        }
        Operation::Freeze { commit, fill } => said(store.freeze(&commit_id(*commit), &[*fill])),
        Operation::Publish { commit, attestations } => {
            said(store.publish(&commit_id(*commit), attestations))
        }
        Operation::Free { statements } => {
            let statements: Vec<_> = statements.iter().map(|fill| Sha256([*fill; 32])).collect();
            said(store.free(&statements))
        }
        Operation::Reopen => String::new(),
    }
}

/// Goes on where the journal ended, give or take `offset`.
fn ingest(
    store: &dyn LineageStore,
    run: u8,
    offset: i64,
    facts: &[Fact],
) -> Result<(), LineageError> {
    let run = run_id(run);
    let start = store.ingested(&run)?.saturating_add_signed(offset);
    store.ingest(&run, start..start + facts.len() as u64, facts)
}

fn said<T: std::fmt::Debug>(answer: Result<T, LineageError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => error.to_string(),
    }
}

/// All answers that a store can give about this small world.
fn everything(store: &dyn LineageStore) -> Vec<String> {
    let mut answers = vec![said(store.runs(9)), said(store.runs(1)), said(store.unfinished())];
    answers.push(said(store.frozen()));
    for run in (0..3).map(run_id) {
        answers.push(said(store.ingested(&run)));
        answers.push(said(store.run(&run)));
        answers.push(said(store.outputs(&run)));
        answers.push(said(store.materials(&run)));
        answers.push(said(store.refusals(&run, 3)));
        answers.push(said(store.attestations(AttestationQuery::Run(&run), 9)));
        for role in [Role::Read, Role::Wrote] {
            answers.push(said(store.versions_of_run(&run, role, 2)));
        }
    }
    for version in (1..40).map(VersionId) {
        answers.push(said(store.version(version)));
        answers.push(said(store.found_after(version, 9)));
        answers.push(said(store.attestations(AttestationQuery::Version(version), 9)));
        for role in [Role::Read, Role::Wrote] {
            answers.push(said(store.runs_of_version(version, role, 9)));
        }
        for direction in [Direction::Ancestors, Direction::Descendants] {
            answers.push(said(trace(store, direction, &[version], Bounds::default())));
        }
    }
    for commit in (0..3).map(commit_id) {
        answers.push(said(store.published(&commit)));
    }
    for fill in 0..4 {
        let statement = Sha256([fill; 32]);
        answers.push(said(store.attestation(&statement)));
        answers.push(said(store.subjects(&statement)));
        answers.push(said(store.attestations(AttestationQuery::Content(statement), 9)));
        answers.push(said(store.versions_of_digest(&statement, 9)));
        for (inode, changed) in [(1, -1), (1, 0), (1, 1), (2, -1), (2, 0), (2, 1)] {
            let content = Content { inode, fill, size: if fill == 0 { 0 } else { 10 }, changed };
            answers.push(said(store.version_of(&content.identity())));
            answers.push(said(store.digests_of(&[content.identity()])));
            answers.push(said(store.version_of_content(&content.file(), &content.sha256())));
        }
    }
    for path in ["/", "/lab", "/lab/model"] {
        answers.push(said(store.attestations(AttestationQuery::Under(path), 2)));
        answers.push(said(store.latest(path)));
    }
    answers
}

fn run_id(run: u8) -> RunId {
    RunId(format!("run-{run}"))
}

fn commit_id(commit: u8) -> CommitId {
    CommitId(format!("commit-{commit}"))
}
