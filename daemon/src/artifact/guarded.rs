//! What a mount with a policy would say of files, asked at rest.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    Admission, Alias, Around, BUNDLE_MAX, Beside, CLAIMS_FILE, CLAIMS_MAX, Content, Guarding,
    MODEL_SIGNATURE_FILE, Needed, Policy, PolicyRefusal, Publications, Question, Refusal, Rule,
    is_publication, unescaped,
};
use jiff::Timestamp;

use super::{
    content::Watch,
    directory::{Found, Kind},
    judge::{Artifact, NotJudged, attestable, spelled},
    links::Links,
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
    /// The number of the rule; 0 when it is not known which one has it.
    pub rule: usize,
    /// What it says.
    pub verdict: T,
}

/// Judges a file, or each file below a directory, as a mount with this policy would: by its own name, and
/// by those that it has by way of links in what would be mounted.
///
/// # Errors
/// What keeps us from judging. That something is refused is no error.
pub fn judge_by_policy(
    artifact: &Artifact,
    guard: &Guard<'_>,
    watch: &dyn Watch,
) -> Result<Guarded, NotJudged> {
    let tree = guard.tree.unwrap_or(artifact.directory());
    let Ok(meant) = artifact.path().strip_prefix(tree) else {
        let (path, tree) = (artifact.path().to_owned(), tree.to_owned());
        return Err(NotJudged::OutsideTree { path, tree });
    };
    let looked = Tree::look(tree)?;
    let mut asking = Asking {
        guard,
        tree,
        looked: &looked,
        meant: spelled(meant),
        links: looked.links()?,
        beside: HashMap::new(),
        guarded: Guarded::default(),
    };
    asking.refuse_links_out();
    asking.files(watch)?;
    let mut guarded = asking.guarded;
    guarded.admitted.sort_by(|one, other| one.name.cmp(&other.name));
    guarded.refused.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(guarded)
}

struct Asking<'a> {
    guard: &'a Guard<'a>,
    tree: &'a Path,
    looked: &'a Tree<'a>,
    /// What is judged, relative to the tree, as names are spelt.
    meant: String,
    links: Links,
    beside: HashMap<PathBuf, Arc<Beside>>,
    guarded: Guarded,
}

impl<'a> Asking<'a> {
    /// A guarded link leads to no place where nothing is guarded.
    fn refuse_links_out(&mut self) {
        for link in self.links.leading_out().to_vec() {
            let Some(aliases) = self.aliases(&link) else { continue };
            let policy = self.guard.policy;
            let by_alias = || aliases.iter().find_map(|alias| policy.rule_for(&alias.path));
            let rule = policy.rule_for(&link).or_else(by_alias);
            if let Some(rule) = rule.filter(|_| self.is_meant(&link, &aliases)) {
                let verdict = PolicyRefusal::LeadsOut { name: link.clone() }.into();
                self.guarded.refused.push(GuardedFile { name: link, rule: rule.number(), verdict });
            }
        }
    }

    /// Only files that a rule has are hashed: both digests, since a rule may want several signers, of whom none
    /// answers for another.
    fn files(&mut self, watch: &dyn Watch) -> Result<(), NotJudged> {
        let mut guarded = BTreeMap::new();
        for Found { path, kind } in self.looked.files() {
            let guarding = self.guarding(&spelled(path), *kind);
            if !guarding.is_empty() {
                guarded.insert(path.clone(), guarding);
            }
        }
        let entries =
            self.looked.hash(|path| guarded.contains_key(path), |_| Needed::Both, watch)?;
        // Both in the order of the paths.
        for (entry, guarding) in entries.iter().zip(guarded.values()) {
            for guarding in guarding {
                self.judge(guarding, attestable(entry))?;
            }
        }
        Ok(())
    }

    /// What is asked of a file of this name, if it is meant by that or by one that leads to it.
    fn guarding(&mut self, name: &str, kind: Kind) -> Vec<Guarding<'a>> {
        let Some(aliases) = self.aliases(name) else { return Vec::new() };
        if !self.is_meant(name, &aliases) {
            return Vec::new();
        }
        let counts = &mut |_: &Alias| Ok::<_, Infallible>(true);
        let Ok(guarding) = self.guard.policy.guarding(name, &aliases, counts);
        if guarding.is_empty() && matches!(kind, Kind::File { .. }) && !is_publication(name) {
            self.guarded.unguarded += 1;
        }
        guarding
    }

    /// The other paths to what has this one. What has more of them than anybody looks at is refused.
    fn aliases(&mut self, name: &str) -> Option<Vec<Alias>> {
        let aliases = self.links.aliases(name);
        if aliases.is_none() {
            let reason = "too many links lead to it".to_owned();
            let verdict = PolicyRefusal::Unverified { name: name.to_owned(), reason }.into();
            self.guarded.refused.push(GuardedFile { name: name.to_owned(), rule: 0, verdict });
        }
        aliases
    }

    fn is_meant(&self, name: &str, aliases: &[Alias]) -> bool {
        let is_meant = |path: &str| {
            let rest = path.strip_prefix(&self.meant);
            rest.is_some_and(|rest| {
                self.meant.is_empty() || rest.is_empty() || rest.starts_with('/')
            })
        };
        is_meant(name) || aliases.iter().any(|alias| is_meant(&alias.path))
    }

    fn judge(
        &mut self,
        guarding: &Guarding<'_>,
        content: Result<Option<Content>, Refusal>,
    ) -> Result<(), NotJudged> {
        let (name, rule) = (guarding.path.clone(), guarding.rule.number());
        let verdict = match content {
            Ok(Some(content)) => {
                guarding.judge(|name| self.judge_name(guarding.rule, name, content))?
            }
            Ok(None) => return Ok(()),
            Err(refusal) => Err(refusal),
        };
        let Guarded { admitted, refused, .. } = &mut self.guarded;
        match verdict {
            Ok(verdict) => admitted.push(GuardedFile { name, rule, verdict }),
            Err(verdict) => refused.push(GuardedFile { name, rule, verdict }),
        }
        Ok(())
    }

    fn judge_name(
        &mut self,
        rule: &Rule,
        name: &str,
        content: Content,
    ) -> Result<Result<Admission, Refusal>, NotJudged> {
        let relative = PathBuf::from(OsString::from_vec(unescaped(name)));
        let around = self.around(&relative)?;
        Ok(rule.judge(&Question {
            name,
            path: &self.spelled(&relative),
            content,
            around: &around,
            store: self.guard.store,
            now: self.guard.now,
        }))
    }

    /// What lies in the directories above the file, as far as it may count.
    fn around(&mut self, file: &Path) -> Result<Vec<Around>, NotJudged> {
        let mut around = Vec::new();
        for directory in file.ancestors().skip(1) {
            let beside = self.beside(directory)?;
            if !beside.is_empty() {
                let name = spelled(file.strip_prefix(directory).unwrap_or(file));
                around.push(Around { root: self.spelled(directory), name, beside });
            }
        }
        Ok(around)
    }

    /// Each directory is looked at once. No link is followed to what lies there.
    fn beside(&mut self, directory: &Path) -> Result<Arc<Beside>, NotJudged> {
        if let Some(beside) = self.beside.get(directory) {
            return Ok(Arc::clone(beside));
        }
        let read = |name: &str, max| self.looked.read(&directory.join(name), max);
        let model = read(MODEL_SIGNATURE_FILE, BUNDLE_MAX)?;
        let claims = read(CLAIMS_FILE, CLAIMS_MAX)?;
        let beside = Arc::new(Beside::parse(model.as_deref(), claims.as_deref()));
        self.beside.insert(directory.to_path_buf(), Arc::clone(&beside));
        Ok(beside)
    }

    /// The absolute path of what has this one in the tree, as statements spell it.
    fn spelled(&self, relative: &Path) -> String {
        let is_root = relative.as_os_str().is_empty();
        spelled(&if is_root { self.tree.to_owned() } else { self.tree.join(relative) })
    }
}
