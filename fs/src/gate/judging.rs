//! Whether attestations admit a content under a name. What was judged before is not judged again, as
//! long as nothing that it depends on has changed.

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
};

use attestfs_attestation::{
    Admission, Content, PolicyRefusal, Question, Refusal, Rule, Unavailable,
};
use attestfs_digest::Sha256;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::{
    demands::Guarded,
    evidence::{Beneath, Evidence, Exhibit, Library, path_of},
    recent::Recent,
    verdict::Stop,
    wanted::{Patience, Wanted},
};
use crate::{fact::TreePath, port::BundleSource};

#[derive(Debug)]
pub(super) struct Judging {
    library: Library,
    judgements: Mutex<Recent<Case, Judgement>>,
}

/// Somebody wants to read what has this content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) content: Content,
    pub(super) source: &'a dyn BundleSource,
    pub(super) now: Timestamp,
    pub(super) patience: Patience<'a>,
}

/// What a judgement depends on, besides the policy and the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Case {
    rule: usize,
    name: TreePath,
    content: Sha256,
    objections: u64,
    evidence: Vec<Beneath>,
}

#[derive(Clone, Debug)]
struct Judgement {
    outcome: Outcome,
    /// How much had been published: a refusal counts no longer than this stays.
    generation: u64,
    made: Timestamp,
    until: Timestamp,
}

/// On what a name was found to be attested, when somebody looked.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) objections: u64,
    pub(super) exhibits: Vec<Exhibit>,
    pub(super) made: Timestamp,
    pub(super) until: Timestamp,
}

pub(super) type Outcome = Result<Arc<Admission>, Refusal>;

impl Default for Judging {
    fn default() -> Self {
        let judgements = Mutex::new(Recent::new(JUDGEMENTS_MAX));
        Self { library: Library::default(), judgements }
    }
}

impl Judging {
    /// Whether one of a file's names is attested with this content.
    ///
    /// # Errors
    /// [`Stop::Later`]: it was not judged before, and whoever asks has no patience.
    pub(super) fn judge(
        &self,
        guarded: &Guarded<'_>,
        asked: &Asked<'_>,
    ) -> Result<Result<(), Refusal>, Stop> {
        let Guarded { guarding, tree, .. } = guarded;
        let judged = guarding.judge(|name| {
            let name = TreePath { tree: *tree, path: name.to_owned() };
            self.judge_name(guarding.rule, &name, asked)
        })?;
        Ok(judged.map(|_admission| ()))
    }

    /// On what a name is attested, if it was judged before and still is.
    pub(super) fn ground(&self, rule: &Rule, name: &TreePath, asked: &Asked<'_>) -> Option<Ground> {
        let relative = name.relative();
        let (evidence, case) = look(rule, name, &relative, asked).ok()?;
        let Judgement { outcome, made, until, .. } = self.judgements.lock().get(&case)?;
        outcome.ok()?;
        let exhibits = evidence.exhibits().ok()?;
        Some(Ground { objections: case.objections, exhibits, made, until })
    }

    fn judge_name(&self, rule: &Rule, name: &TreePath, asked: &Asked<'_>) -> Result<Outcome, Stop> {
        let Asked { wanted, content, source, now, patience } = *asked;
        let relative = name.relative();
        let (evidence, case) = match look(rule, name, &relative, asked) {
            Ok(looked) => looked,
            Err(unavailable) => return Ok(Err(unavailable.into())),
        };
        let known = self.judgements.lock().get(&case);
        let known = known.filter(|judgement| judgement.counts_at(now));
        if let Some(Judgement { outcome: Ok(admission), .. }) = known {
            return Ok(Ok(admission));
        }
        let generation = match source.generation() {
            Ok(generation) => generation,
            Err(unavailable) => return Ok(Err(unavailable.into())),
        };
        if let Some(judgement) = known.filter(|judgement| judgement.generation == generation) {
            return Ok(judgement.outcome);
        }
        if matches!(patience, Patience::None) {
            return Err(Stop::Later);
        }
        let around = match evidence.read(wanted.origin, &self.library, now) {
            Ok(around) => around,
            Err(unavailable) => return Ok(Err(unavailable.into())),
        };
        let (name, path) = (name.path.as_str(), &path_of(wanted.origin, &relative));
        let question = Question { name, path, content, around: &around, store: source, now };
        let outcome = judge_without_panic(rule, &question).map(Arc::new);
        if !matches!(outcome, Err(Refusal::Unavailable(_))) && evidence.is_settled(now) {
            let judgement = Judgement::new(outcome.clone(), generation, now);
            self.judgements.lock().insert(case, judgement, 1);
        }
        Ok(outcome)
    }
}

/// Looks at all that a judgement depends on.
fn look<'a>(
    rule: &Rule,
    name: &TreePath,
    relative: &'a Path,
    asked: &Asked<'a>,
) -> Result<(Evidence<'a>, Case), Unavailable> {
    let evidence = Evidence::around(asked.wanted.opened.backing.as_ref(), relative)?;
    let case = Case {
        rule: rule.number(),
        name: name.clone(),
        content: asked.content.sha256(),
        objections: asked.source.objections()?,
        evidence: evidence.identities(),
    };
    Ok((evidence, case))
}

impl Judgement {
    /// Certificates begin and end.
    fn new(outcome: Outcome, generation: u64, made: Timestamp) -> Self {
        let a_while = made.saturating_add(AGE_MAX).unwrap_or(made);
        let end = outcome.as_ref().ok().and_then(|admission| admission.valid_until);
        Self { outcome, generation, made, until: end.map_or(a_while, |end| end.min(a_while)) }
    }

    /// The clock may be set.
    fn counts_at(&self, now: Timestamp) -> bool {
        (self.made..=self.until).contains(&now)
    }
}

/// What is read here came from strangers: a fault of ours in reading it must not open the gate.
fn judge_without_panic(rule: &Rule, question: &Question<'_>) -> Result<Admission, Refusal> {
    let judged = panic::catch_unwind(AssertUnwindSafe(|| rule.judge(question)));
    judged.unwrap_or_else(|_panic| {
        let reason = "the program broke off while it was judged: please report this".to_owned();
        Err(PolicyRefusal::Unverified { name: question.name.to_owned(), reason }.into())
    })
}

/// Judgements that are remembered; each takes about a kilobyte.
const JUDGEMENTS_MAX: u64 = 64 * 1024;

const AGE_MAX: SignedDuration = SignedDuration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(valid_until: Option<Timestamp>) -> Arc<Admission> {
        let (attestations, signers) = (Vec::new(), Vec::new());
        Arc::new(Admission { attestations, signers, valid_until, stage: None, run: None })
    }

    #[test]
    fn a_judgement_counts_for_a_minute_and_no_longer_than_the_certificates() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let refused = Err(Refusal::Unattested { name: String::new() });
        for (outcome, until) in [
            (refused, 1060),
            (Ok(admitted(None)), 1060),
            (Ok(admitted(Some(at(2000)))), 1060),
            (Ok(admitted(Some(at(1001)))), 1001),
            (Ok(admitted(Some(at(1000)))), 1000),
        ] {
            let judgement = Judgement::new(outcome, 0, at(1000));
            assert!(judgement.counts_at(at(1000)) && judgement.counts_at(at(until)));
            assert!(!judgement.counts_at(at(until + 1)), "{judgement:?}");
            assert!(!judgement.counts_at(at(999)), "the clock was set back");
        }
    }
}
