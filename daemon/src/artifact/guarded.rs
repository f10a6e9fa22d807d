//! What a mount with a policy would say of files, asked at rest.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    Admission, Around, BUNDLE_MAX, Beside, CLAIMS_FILE, CLAIMS_MAX, Content, MODEL_SIGNATURE_FILE,
    Policy, Publications, Question, Refusal, Rule,
};
use jiff::Timestamp;

use super::{
    at_hand::read_if_there,
    content::Watch,
    judge::{Artifact, NotJudged, attestable, spelled},
    tree::Tree,
};

/// A policy, and what it is asked about.
#[expect(missing_debug_implementations, reason = "stores need not be printable")]
pub struct Guard<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The directory that would be mounted: the policy's paths are relative to it, and nothing outside
    /// it counts. By default the artifact, or the directory of a file.
    pub tree: Option<&'a Path>,
    /// What is published.
    pub store: &'a dyn Publications,
    /// The time.
    pub now: Timestamp,
}

/// What the policy says of each file.
#[derive(Debug, Default)]
pub struct Guarded {
    /// Those that would open.
    pub admitted: Vec<GuardedFile<Admission>>,
    /// Those that would not, by name.
    pub refused: Vec<GuardedFile<Refusal>>,
    /// How many no rule has: they would open unchecked.
    pub unguarded: usize,
}

/// A file that a rule has, and what the rule says.
#[derive(Debug)]
pub struct GuardedFile<T> {
    /// Relative to what would be mounted, escaped.
    pub name: String,
    /// The number of the rule.
    pub rule: usize,
    /// What it says.
    pub verdict: T,
}

/// Judges a file, or each file below a directory, as a mount with this policy would.
///
/// # Errors
/// What keeps us from judging. That something is refused is no error.
pub fn judge_by_policy(
    artifact: &Artifact,
    guard: &Guard<'_>,
    watch: &dyn Watch,
) -> Result<Guarded, NotJudged> {
    let tree = guard.tree.unwrap_or(artifact.directory());
    if !artifact.path().starts_with(tree) {
        let (path, tree) = (artifact.path().to_owned(), tree.to_owned());
        return Err(NotJudged::OutsideTree { path, tree });
    }
    let mut asking = Asking { guard, tree, beside: HashMap::new(), guarded: Guarded::default() };
    match artifact {
        Artifact::File(path) => asking.file(path, watch)?,
        Artifact::Directory(path) => asking.directory(path, watch)?,
    }
    let mut guarded = asking.guarded;
    guarded.refused.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(guarded)
}

struct Asking<'a> {
    guard: &'a Guard<'a>,
    tree: &'a Path,
    beside: HashMap<PathBuf, Arc<Beside>>,
    guarded: Guarded,
}

impl<'a> Asking<'a> {
    fn file(&mut self, path: &Path, watch: &dyn Watch) -> Result<(), NotJudged> {
        if self.rule(path).is_none() {
            self.guarded.unguarded = 1;
            return Ok(());
        }
        let content = NotJudged::unless_hashed(path, watch)?;
        self.judge(path, content)
    }

    /// Only files that a rule has are hashed. A link leads to a file that has a name of its own.
    fn directory(&mut self, path: &Path, watch: &dyn Watch) -> Result<(), NotJudged> {
        let looked = Tree::look(path)?;
        let files = looked.files().map(Path::to_path_buf);
        let (guarded, unguarded): (HashSet<_>, HashSet<_>) =
            files.partition(|file| self.rule(&path.join(file)).is_some());
        self.guarded.unguarded = unguarded.len();
        for entry in looked.hash(|file| guarded.contains(file), watch)? {
            let file = path.join(&entry.name);
            match attestable(&entry) {
                Ok(Some(content)) => self.judge(&file, content)?,
                Ok(None) => {}
                Err(refusal) => self.refuse(&file, refusal),
            }
        }
        Ok(())
    }

    fn judge(&mut self, path: &Path, content: Content) -> Result<(), NotJudged> {
        let name = self.name(path);
        let Some(rule) = self.rule(path) else { return Ok(()) };
        let around = self.around(path)?;
        let question = Question {
            name: &name,
            path: &spelled(path),
            content,
            around: &around,
            store: self.guard.store,
            now: self.guard.now,
        };
        match rule.judge(&question) {
            Ok(verdict) => {
                self.guarded.admitted.push(GuardedFile { name, rule: rule.number(), verdict });
            }
            Err(refusal) => self.refuse(path, refusal),
        }
        Ok(())
    }

    fn refuse(&mut self, path: &Path, verdict: Refusal) {
        let rule = self.rule(path).map_or(0, Rule::number);
        self.guarded.refused.push(GuardedFile { name: self.name(path), rule, verdict });
    }

    fn rule(&self, path: &Path) -> Option<&'a Rule> {
        self.guard.policy.rule_for(&self.name(path))
    }

    /// As the mount would name it.
    fn name(&self, path: &Path) -> String {
        spelled(path.strip_prefix(self.tree).unwrap_or(path))
    }

    /// What lies in the directories above the file, as far as it may count.
    fn around(&mut self, file: &Path) -> Result<Vec<Around>, NotJudged> {
        let mut around = Vec::new();
        for directory in file.ancestors().skip(1) {
            if !directory.starts_with(self.tree) {
                break;
            }
            let beside = self.beside(directory)?;
            if !beside.is_empty() {
                let name = spelled(file.strip_prefix(directory).unwrap_or(file));
                around.push(Around { root: spelled(directory), name, beside });
            }
        }
        Ok(around)
    }

    /// Each directory is looked at once.
    fn beside(&mut self, directory: &Path) -> Result<Arc<Beside>, NotJudged> {
        if let Some(beside) = self.beside.get(directory) {
            return Ok(Arc::clone(beside));
        }
        let model = read_if_there(&directory.join(MODEL_SIGNATURE_FILE), BUNDLE_MAX)?;
        let claims = read_if_there(&directory.join(CLAIMS_FILE), CLAIMS_MAX)?;
        let beside = Arc::new(Beside::parse(model.as_deref(), claims.as_deref()));
        self.beside.insert(directory.to_path_buf(), Arc::clone(&beside));
        Ok(beside)
    }
}
