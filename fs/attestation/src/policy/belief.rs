use std::{collections::HashMap, sync::Arc};

use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::{
    Around, Question,
    around::Travelling,
    memory::{Believable, Memory},
    signers::Signers,
    votes::Votes,
};
use crate::{
    bundle::Bundle,
    oms::ModelManifest,
    verify::{
        Attestations, Place, Refusal, Several, Signer, Subjects, Unverified, Verifier, Vouched,
    },
};

/// Attestations as the policy sees them: checks 1 to 6, each made once.
pub(super) struct Beliefs<'a> {
    signers: &'a Signers,
    question: &'a Question<'a>,
    travelling: Travelling<'a>,
    recalls: bool,
    has_recalled: bool,
    runs: HashMap<Sha256, Option<Result<Arc<RunClaim>, Refusal>>>,
}

/// Whoever of those whom the policy knows made a signature.
#[derive(Debug, Default)]
pub(super) struct Vouchers {
    pub(super) votes: Votes,
    /// Until when all of their signatures count.
    pub(super) valid_until: Option<Timestamp>,
}

/// What a run says.
#[derive(Debug)]
pub(super) struct RunClaim {
    pub(super) vouchers: Vouchers,
    pub(super) stage: String,
    pub(super) run: String,
    pub(super) subjects: Subjects,
}

/// What a model signature says.
#[derive(Debug)]
pub(super) struct ModelClaim {
    pub(super) attestation: Sha256,
    pub(super) vouchers: Vouchers,
    pub(super) manifest: ModelManifest,
}

/// What the files of a directory have in common is believed once for all of them: attestations of runs
/// by their names, whoever signed them; model signatures by the digests of their files, for the
/// statement in one names no place, and may lie elsewhere under a signature that does not count.
#[derive(Debug, Default)]
pub(super) struct Memories {
    runs: Memory<RunClaim>,
    models: Memory<ModelClaim>,
}

impl<'a> Beliefs<'a> {
    pub(super) fn new(signers: &'a Signers, question: &'a Question<'a>, recalls: bool) -> Self {
        let travelling = Travelling(question.around);
        let runs = HashMap::new();
        Self { signers, question, travelling, recalls, has_recalled: false, runs }
    }

    /// Whether anything was taken from memory.
    pub(super) fn have_recalled(&self) -> bool {
        self.has_recalled
    }

    /// Checks 1 to 6, and the subjects, of an attestation of a run.
    ///
    /// # Returns
    /// `None` when there is no bundle of this name.
    pub(super) fn run(&mut self, attestation: Sha256) -> Option<Result<Arc<RunClaim>, Refusal>> {
        if let Some(claim) = self.recall(&self.signers.memories.runs, attestation) {
            return Some(Ok(claim));
        }
        if let Some(known) = self.runs.get(&attestation) {
            return known.clone();
        }
        let claim = self.check_run(attestation);
        if let Some(Ok(claim)) = &claim {
            self.signers.memories.runs.keep(attestation, claim, self.question.now);
        }
        self.runs.insert(attestation, claim.clone());
        claim
    }

    /// Checks 1 to 5 of the model signature of a directory.
    ///
    /// # Returns
    /// `None` when there is none.
    pub(super) fn model(&mut self, around: &Around) -> Option<Result<Arc<ModelClaim>, Refusal>> {
        let file = around.beside.model()?;
        let bundle = match &file.bundle {
            Ok(bundle) => bundle,
            Err(error) => return Some(Err(error.clone().into())),
        };
        if let Some(claim) = self.recall(&self.signers.memories.models, file.sha256) {
            return Some(Ok(claim));
        }
        let claim = self.check_model(bundle);
        if let Ok(claim) = &claim {
            self.signers.memories.models.keep(file.sha256, claim, self.question.now);
        }
        Some(claim)
    }

    /// Whether an attestation that failed may have been meant for this file.
    pub(super) fn may_name(&self, attestation: Sha256, place: &Place) -> bool {
        Unverified::of(attestation, &self.source()).may_name(place)
    }

    fn recall<T: Believable>(&mut self, memory: &Memory<T>, digest: Sha256) -> Option<Arc<T>> {
        let recalled = self.recalls.then(|| memory.recall(digest, self.question.now))??;
        self.has_recalled = true;
        Some(recalled)
    }

    fn check_run(&self, attestation: Sha256) -> Option<Result<Arc<RunClaim>, Refusal>> {
        let source = self.source();
        let agreed = agreed(self.verifier(&source).vouched(attestation))?;
        Some(agreed.map_err(of_policy).and_then(|(vouched, vouchers)| {
            let subjects = Subjects::of(&vouched, &source)?;
            Ok(Arc::new(RunClaim::new(&vouched, vouchers, subjects)))
        }))
    }

    fn check_model(&self, bundle: &Bundle) -> Result<Arc<ModelClaim>, Refusal> {
        let model = self.verifier(&self.source()).model(Ok(bundle.clone())).map_err(of_policy)?;
        let mut vouchers = Vouchers::default();
        vouchers.add(model.signer());
        Ok(Arc::new(ModelClaim {
            attestation: model.attestation(),
            vouchers,
            manifest: model.into_manifest(),
        }))
    }

    fn verifier<'v>(&'v self, source: &'v dyn Attestations) -> Verifier<'v> {
        Verifier::new(self.signers.trusted(), source, self.question.now)
    }

    /// What travels with the file, and then what the store has.
    fn source(&self) -> Several<'_> {
        Several(vec![&self.travelling, self.question.store])
    }
}

impl Vouchers {
    fn add(&mut self, signer: &Signer) {
        self.votes.add(signer);
        self.valid_until = self.valid_until.into_iter().chain(signer.valid_until()).min();
    }
}

impl RunClaim {
    fn new(vouched: &Vouched, vouchers: Vouchers, subjects: Subjects) -> Self {
        let provenance = vouched.provenance();
        Self {
            vouchers,
            stage: provenance.build_definition.external_parameters.stage.clone(),
            run: provenance.run_details.metadata.invocation_id.clone(),
            subjects,
        }
    }
}

impl Believable for RunClaim {
    fn files(&self) -> usize {
        self.subjects.files()
    }

    fn valid_until(&self) -> Option<Timestamp> {
        self.vouchers.valid_until
    }
}

impl Believable for ModelClaim {
    fn files(&self) -> usize {
        self.manifest.files()
    }

    fn valid_until(&self) -> Option<Timestamp> {
        self.vouchers.valid_until
    }
}

/// What is signed under one name, and all whose signatures of it are good.
fn agreed(
    bundles: impl Iterator<Item = Result<Vouched, Refusal>>,
) -> Option<Result<(Vouched, Vouchers), Refusal>> {
    let mut vouchers = Vouchers::default();
    let (mut signed, mut refused) = (None, None);
    for vouched in bundles {
        match vouched {
            Ok(vouched) => {
                vouchers.add(vouched.signer());
                signed = signed.or(Some(vouched));
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match signed {
        Some(vouched) => Some(Ok((vouched, vouchers))),
        None => refused.map(Err),
    }
}

/// The words for whoever wrote the policy.
fn of_policy(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::UntrustedSigner { hint } => Refusal::UnknownToPolicy { signer: hint },
        other => other,
    }
}
