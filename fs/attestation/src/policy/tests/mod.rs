//! A rule, a file, and what is published: is it admitted?

mod certificates;
mod judging;
mod reading;
mod ready;
mod replaying;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::{Admission, Around, Beside, Policy, Question};
use crate::{
    bundle::{Bundle, BundleError},
    claims::Claims,
    key::SigningKey,
    oms::{Entry, EntryKind, MODEL_SIGNATURE_FILE, model_statement},
    run::Commit,
    statement::{Payload, sha256},
    testing::{commit, content, output},
    verify::{Attestations, Publication, Publications, Refusal, Unavailable},
};

const NOW: &str = "2026-02-01T00:00:00Z";

/// Some signers, a store, and what lies around the files.
struct Bench {
    keys: BTreeMap<&'static str, SigningKey>,
    store: Store,
    around: BTreeMap<String, Arc<Beside>>,
}

/// What was published, in memory.
#[derive(Default)]
struct Store {
    published: Claims,
    index: HashMap<Sha256, Vec<Sha256>>,
    /// By absolute path.
    history: HashMap<String, Vec<Publication>>,
    fails: bool,
}

impl Bench {
    /// `trainer`, `hub`, `alice` and `bob` are in the policy, `stranger` is not.
    fn new() -> Self {
        let names = ["alice", "bob", "hub", "stranger", "trainer"];
        let keys = names.map(|name| (name, SigningKey::generate().unwrap()));
        Self { keys: keys.into(), store: Store::default(), around: BTreeMap::new() }
    }

    fn key(&self, name: &str) -> &SigningKey {
        &self.keys[name]
    }

    /// A policy with one rule for all files, of these lines.
    fn policy(&self, rule: &str) -> Policy {
        let mut text = "version = 1\n".to_owned();
        for (name, key) in self.keys.iter().filter(|(name, _)| **name != "stranger") {
            let pem = key.verifying_key().to_pem();
            write!(text, "[signers.{name}]\nkey = '''\n{pem}'''\n").unwrap();
        }
        write!(text, "[[rule]]\npaths = [\"**\"]\nlevel = \"stat\"\n{rule}\n").unwrap();
        Policy::parse(&text, &mut |_| Err("no file".to_owned())).unwrap()
    }

    /// What the store publishes of a commit.
    fn publish(&mut self, commit: &Commit, by: &str) -> Sha256 {
        let statement = self.keep(commit, by);
        for output in &commit.outputs {
            let place = format!("{}/{}", commit.root.path, output.name);
            let publication = Publication { statement, content: output.digests.sha256 };
            self.store.history.entry(place).or_default().push(publication);
        }
        statement
    }

    /// What the store has of a commit that it did not publish.
    fn keep(&mut self, commit: &Commit, by: &str) -> Sha256 {
        let bundle = self.bundle(commit, by);
        let statement = bundle.sha256();
        self.store.published.bundles.push(bundle);
        for output in &commit.outputs {
            self.store.index.entry(output.digests.sha256).or_default().push(statement);
        }
        statement
    }

    /// What somebody signs, wherever it is kept.
    fn bundle(&self, commit: &Commit, by: &str) -> Bundle {
        let draft = commit.draft().unwrap();
        Bundle::sign_attestation(draft.payload, self.key(by)).unwrap()
    }

    /// Leaves claims in a directory.
    fn travels(&mut self, root: &str, bundles: Vec<Bundle>) {
        let claims = Claims { bundles, ..Claims::default() }.to_jsonl();
        self.around.insert(root.to_owned(), Arc::new(Beside::parse(None, Some(&claims))));
    }

    /// Leaves a model signature in a directory.
    fn signs(&mut self, root: &str, files: &[(&str, &str)], by: &str) -> Sha256 {
        let bundle = Bundle::sign_model(model(files), self.key(by)).unwrap();
        self.lies(root, &bundle);
        bundle.sha256()
    }

    /// Leaves this model signature in a directory.
    fn lies(&mut self, root: &str, signature: &Bundle) {
        let beside = Beside::parse(Some(&signature.to_json()), None);
        self.around.insert(root.to_owned(), Arc::new(beside));
    }

    /// The same, as a publication of the store.
    fn publishes_model(&mut self, root: &str, files: &[(&str, &str)], by: &str) -> Sha256 {
        let content = self.signs(root, files, by);
        let place = format!("{root}/{MODEL_SIGNATURE_FILE}");
        let statement = sha256(b"that of the run");
        let publication = Publication { statement, content };
        self.store.history.entry(place).or_default().push(publication);
        content
    }

    fn judge(&self, rule: &str, path: &str, text: &str) -> Result<Admission, Refusal> {
        self.judge_by(&self.policy(rule), path, text)
    }

    fn judge_by(&self, policy: &Policy, path: &str, text: &str) -> Result<Admission, Refusal> {
        self.judge_at(NOW.parse().unwrap(), policy, path, text)
    }

    fn judge_at(
        &self,
        now: Timestamp,
        policy: &Policy,
        path: &str,
        text: &str,
    ) -> Result<Admission, Refusal> {
        let name = path.strip_prefix("/data/").unwrap();
        let around: Vec<_> = self.around_of(path).collect();
        let question = Question {
            name,
            path,
            content: content(text),
            around: &around,
            store: &self.store,
            now,
        };
        policy.rule_for(name).unwrap().judge(&question)
    }

    fn around_of(&self, path: &str) -> impl Iterator<Item = Around> {
        self.around.iter().rev().filter_map(move |(root, beside)| {
            let name = path.strip_prefix(root.as_str())?.strip_prefix('/')?.to_owned();
            Some(Around { root: root.clone(), name, beside: Arc::clone(beside) })
        })
    }
}

impl Attestations for Store {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.index.get(&content).cloned().unwrap_or_default()
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.published.attestation(name)
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        Attestations::manifest(&self.published, digest)
    }
}

impl Publications for Store {
    fn history(&self, root: &str, name: &str) -> Result<Vec<Publication>, Unavailable> {
        if self.fails {
            return Err(Unavailable("the index is gone".to_owned()));
        }
        let place = format!("{root}/{name}");
        Ok(self.history.get(&place).cloned().unwrap_or_default())
    }
}

/// A stage that made `model.bin` of this content in `/data/model`.
fn trained(weights: &str) -> Commit {
    Commit { outputs: vec![output("model.bin", weights)], ..commit("train") }
}

fn model(files: &[(&str, &str)]) -> Payload {
    let entry = |(name, text): &(&str, &str)| Entry {
        name: (*name).to_owned(),
        kind: EntryKind::File(content(text)),
    };
    model_statement("model", &files.iter().map(entry).collect::<Vec<_>>()).unwrap()
}

/// Refused by this check, in these words, with something to do about it.
#[track_caller]
fn refused(verdict: Result<Admission, Refusal>, check: u8, words: &str) {
    let refusal = verdict.unwrap_err();
    assert_eq!(refusal.check().0, check, "{refusal}");
    assert!(refusal.to_string().contains(words), "{refusal}");
    assert!(!refusal.next_step().is_empty());
}
