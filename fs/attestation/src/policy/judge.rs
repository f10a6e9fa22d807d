use std::collections::HashSet;

use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::{
    Admission, Around, PolicyRefusal, Question,
    around::Travelling,
    belief::{Beliefs, ModelClaim, RunClaim, Vouchers},
    replay,
    rule::{Act, Demand, Rule},
    votes::Votes,
};
use crate::{
    name::unescaped,
    verify::{Found, Place, Refusal, Unavailable, Verifier},
};

impl Rule {
    /// Whether what lies there may be opened.
    ///
    /// What was believed of an attestation is remembered for a minute at most, so that the files of one
    /// directory do not have its signature checked each. It can only admit: a refusal is always found
    /// afresh.
    ///
    /// # Errors
    /// Of all checks that failed the one that came furthest; or, at once, that the store cannot tell
    /// what it published.
    pub fn judge(&self, question: &Question<'_>) -> Result<Admission, Refusal> {
        let demand = match &self.act {
            Act::Admit(demand) => demand,
            Act::Refuse(reason) => return Err(self.forbids(question, reason)),
        };
        let mut case = Case::new(self, demand, question, true);
        match case.verdict() {
            Err(_) if case.beliefs.have_recalled() => {
                Case::new(self, demand, question, false).verdict()
            }
            verdict => verdict,
        }
    }

    fn forbids(&self, question: &Question<'_>, reason: &str) -> Refusal {
        let (name, reason) = (question.name.to_owned(), reason.to_owned());
        PolicyRefusal::Forbidden { rule: self.number(), name, reason }.into()
    }
}

/// One question, while it is being answered.
struct Case<'a> {
    rule: usize,
    demand: &'a Demand,
    question: &'a Question<'a>,
    beliefs: Beliefs<'a>,
    passing: Vec<Passing>,
    /// Of what failed so far the furthest.
    refusal: Refusal,
    /// A model signature that counts lists the file with another content.
    contradiction: Option<Refusal>,
}

/// An attestation that admits the file.
struct Passing {
    attestation: Sha256,
    votes: Votes,
    valid_until: Option<Timestamp>,
    stage_and_run: Option<(String, String)>,
}

impl<'a> Case<'a> {
    fn new(rule: &'a Rule, demand: &'a Demand, question: &'a Question<'a>, recalls: bool) -> Self {
        Self {
            rule: rule.number(),
            demand,
            question,
            beliefs: Beliefs::new(&rule.signers, question, recalls),
            passing: Vec::new(),
            refusal: Refusal::Unattested { name: question.name.to_owned() },
            contradiction: None,
        }
    }

    fn verdict(&mut self) -> Result<Admission, Refusal> {
        let (model, provenance) = (self.models_count(), self.demand.kinds.provenance);
        if model {
            self.models()?;
        }
        if provenance {
            self.provenance()?;
        }
        if !self.is_enough() {
            self.look_for_reasons(!model, !provenance)?;
        }
        self.conclusion()
    }

    /// What does not count, and what should be there, is looked at only to say so.
    fn look_for_reasons(&mut self, model: bool, provenance: bool) -> Result<(), Refusal> {
        if model {
            self.models()?;
        }
        if provenance {
            self.provenance()?;
        }
        if matches!(self.refusal, Refusal::Unattested { .. }) {
            self.expected()?;
        }
        Ok(())
    }

    fn conclusion(&self) -> Result<Admission, Refusal> {
        if let Some(contradiction) = &self.contradiction
            && replay::newest_here(self.question)?.is_none()
        {
            return Err(contradiction.clone());
        }
        let votes = self.votes();
        let signers: Vec<_> = votes.signers().into_iter().map(ToOwned::to_owned).collect();
        if signers.is_empty() {
            return Err(self.refusal.clone());
        }
        if signers.len() < self.demand.least {
            return Err(PolicyRefusal::TooFew {
                rule: self.rule,
                signed: signers,
                least: self.demand.least,
                accepted: self.demand.signers.clone(),
            }
            .into());
        }
        self.unless_pinned(|| replay::not_replaced(self.question))?;
        let told = self.passing.iter().find_map(|passing| passing.stage_and_run.clone());
        let (stage, run) = told.unzip();
        let attestations = self.passing.iter().map(|passing| passing.attestation).collect();
        let valid_until = self.passing.iter().filter_map(|passing| passing.valid_until).min();
        Ok(Admission { attestations, signers, valid_until, stage, run })
    }

    /// The model signature of the nearest directory that has one which counts and lists the file: it
    /// decides for all model signatures. Those of strangers, and those that say nothing of the file,
    /// are passed over.
    fn models(&mut self) -> Result<(), Refusal> {
        for around in self.question.around {
            let Some(name) = listable(around) else { continue };
            let Some(model) = self.beliefs.model(around) else { continue };
            match model {
                Err(refusal) => self.note(refusal)?,
                Ok(model) if !model.manifest.lists(&name) => {}
                Ok(model) => match self.counts(&model) {
                    Err(refusal) => self.note(refusal)?,
                    Ok(votes) => {
                        let result = self.model((around, &name), &model, votes);
                        return result.or_else(|refusal| self.note(refusal));
                    }
                },
            }
        }
        Ok(())
    }

    /// Check 11.
    fn counts(&self, model: &ModelClaim) -> Result<Votes, PolicyRefusal> {
        let votes = self.signed(&model.vouchers)?;
        self.pinned(model.attestation)?;
        Ok(votes)
    }

    /// Checks 8, 11 and 12 of a model signature that lists the file.
    fn model(
        &mut self,
        (around, name): (&Around, &str),
        model: &ModelClaim,
        votes: Votes,
    ) -> Result<(), Refusal> {
        if let Err(difference) = model.manifest.compare_file(name, &self.question.content) {
            let refusal = Refusal::from(difference).about(self.question.name);
            self.contradiction = Some(refusal.clone()).filter(|_| self.models_count());
            return Err(refusal);
        }
        self.accept_model()?;
        let attestation = model.attestation;
        self.unless_pinned(|| replay::newest_model(self.question, attestation, &around.root))?;
        let valid_until = model.vouchers.valid_until;
        self.passing.push(Passing { attestation, votes, valid_until, stage_and_run: None });
        Ok(())
    }

    /// Each attestation of a run that may speak of the file: first the one that should be it, then
    /// those that travel with it, then those that the store has of its content. Of contents that lie
    /// in very many places not all attestations are looked at.
    fn provenance(&mut self) -> Result<(), Refusal> {
        let mut seen = HashSet::new();
        let candidates = self.candidates()?;
        for (attestation, place) in candidates.into_iter().take(Verifier::CANDIDATES_MAX) {
            if self.is_enough() && self.has_provenance() {
                break;
            }
            if seen.insert((attestation, place.name().to_owned())) {
                self.run(attestation, place).or_else(|refusal| self.note(refusal))?;
            }
        }
        Ok(())
    }

    /// Nothing speaks of this content. What the store last published under this path tells what should
    /// be there.
    fn expected(&mut self) -> Result<(), Refusal> {
        if let Some(attestation) = replay::last_published(self.question)? {
            let place = Place::Anywhere(self.question.path.to_owned());
            self.run(attestation, place).or_else(|refusal| self.note(refusal))?;
        }
        Ok(())
    }

    fn candidates(&self) -> Result<Vec<(Sha256, Place)>, Unavailable> {
        let path = || self.question.path.to_owned();
        let likely = match self.demand.pin {
            Some(pinned) => Some(pinned),
            None => replay::newest_here(self.question)?,
        };
        let beside = Travelling(self.question.around).names().map(|(around, attestation)| {
            (attestation, Place::Beside { name: around.name.clone(), path: path() })
        });
        let indexed = self.question.store.naming(self.question.content.sha256());
        let anywhere = |attestation| (attestation, Place::Anywhere(path()));
        let indexed = indexed.into_iter().map(anywhere);
        Ok(likely.map(anywhere).into_iter().chain(beside).chain(indexed).collect())
    }

    /// Checks 1 to 8, 11 and 12 of one attestation.
    fn run(&mut self, attestation: Sha256, place: Place) -> Result<(), Refusal> {
        let Some(claim) = self.beliefs.run(attestation) else { return Ok(()) };
        let claim = match claim {
            Ok(claim) => claim,
            Err(refusal) if self.beliefs.may_name(attestation, &place) => return Err(refusal),
            Err(_about_another_file) => return Ok(()),
        };
        let found = Found { place, content: self.question.content };
        let name = claim.subjects.check(&found)?;
        let votes = self.signed(&claim.vouchers)?;
        self.pinned(attestation)?;
        self.accept_run(&claim)?;
        let place = (claim.subjects.root(), name);
        self.unless_pinned(|| replay::newest(self.question, attestation, place))?;
        self.in_its_place(&claim, name)?;
        let stage_and_run = Some((claim.stage.clone(), claim.run.clone()));
        let valid_until = claim.vouchers.valid_until;
        self.passing.push(Passing { attestation, votes, valid_until, stage_and_run });
        Ok(())
    }

    /// Check 11. By somebody who counts.
    fn signed(&self, vouchers: &Vouchers) -> Result<Votes, PolicyRefusal> {
        let votes = vouchers.votes.only(|signer| self.demand.asks(signer));
        if !votes.is_empty() {
            return Ok(votes);
        }
        let (rule, accepted) = (self.rule, self.demand.signers.clone());
        let signer = vouchers.votes.signers().first().copied().unwrap_or_default().to_owned();
        Err(PolicyRefusal::Signer { rule, signer, accepted })
    }

    /// Check 11. The one that is pinned, if one is.
    fn pinned(&self, attestation: Sha256) -> Result<(), PolicyRefusal> {
        match self.demand.pin {
            Some(pinned) if pinned != attestation => {
                Err(PolicyRefusal::Pinned { rule: self.rule, attestation, pinned })
            }
            _ => Ok(()),
        }
    }

    /// Model signatures name no stage.
    fn models_count(&self) -> bool {
        self.demand.kinds.model && self.demand.stages.is_empty()
    }

    /// Check 11. Of model signatures.
    fn accept_model(&self) -> Result<(), PolicyRefusal> {
        let rule = self.rule;
        if !self.demand.kinds.model {
            let (kind, accepted) = ("a model signature", "SLSA provenance");
            return Err(PolicyRefusal::Kind { rule, kind, accepted });
        }
        if self.demand.stages.is_empty() {
            return Ok(());
        }
        Err(PolicyRefusal::NoStage { rule, accepted: self.demand.stages.clone() })
    }

    /// Check 11. Of runs.
    fn accept_run(&self, claim: &RunClaim) -> Result<(), PolicyRefusal> {
        let (rule, stages) = (self.rule, &self.demand.stages);
        if !self.demand.kinds.provenance {
            let (kind, accepted) = ("SLSA provenance", "a model signature");
            return Err(PolicyRefusal::Kind { rule, kind, accepted });
        }
        if stages.is_empty() || stages.contains(&claim.stage) {
            return Ok(());
        }
        let (stage, accepted) = (claim.stage.clone(), stages.clone());
        Err(PolicyRefusal::Stage { rule, stage, accepted })
    }

    /// Check 12. Nobody asks what is newer than a pin.
    fn unless_pinned(&self, newest: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.demand.pin.is_some() { Ok(()) } else { newest() }
    }

    /// Check 7. What speaks of another place may not lie where something else was published. That it
    /// came along says nothing: anybody can append it to the claims that lie there.
    fn in_its_place(&self, claim: &RunClaim, name: &str) -> Result<(), Refusal> {
        if claim.subjects.below_recorded_root(self.question.path).is_some() {
            return Ok(());
        }
        replay::free(self.question, &format!("{}/{name}", claim.subjects.root()))
    }

    fn is_enough(&self) -> bool {
        self.votes().signers().len() >= self.demand.least
    }

    fn votes(&self) -> Votes {
        let mut votes = Votes::default();
        self.passing.iter().for_each(|passing| votes.add_all(&passing.votes));
        votes
    }

    fn has_provenance(&self) -> bool {
        self.passing.iter().any(|passing| passing.stage_and_run.is_some())
    }

    /// Goes on with the next attestation, unless the store cannot tell: then nothing admits.
    fn note(&mut self, refusal: impl Into<Refusal>) -> Result<(), Refusal> {
        match refusal.into() {
            refusal @ Refusal::Unavailable(_) => Err(refusal),
            refusal => {
                let refusal = refusal.about(self.question.name);
                self.refusal = self.refusal.clone().or_further(refusal);
                Ok(())
            }
        }
    }
}

/// The name under which a model signature would list the file: it can only have names that are UTF-8.
fn listable(around: &Around) -> Option<String> {
    String::from_utf8(unescaped(&around.name)).ok()
}
