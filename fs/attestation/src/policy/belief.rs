use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use attestfs_digest::Sha256;

use super::{Around, Question, around::Travelling, memory::Memory, rule::Rule};
use crate::{
    bundle::{Bundle, BundleError},
    oms::ModelManifest,
    verify::{
        Attestations, Place, Publications, Refusal, Subjects, TrustedSigners, Unverified, Verifier,
        Vouched,
    },
};

/// Attestations as the rule sees them: checks 1 to 6, each made once.
pub(super) struct Beliefs<'a> {
    rule: &'a Rule,
    question: &'a Question<'a>,
    recalls: bool,
    has_recalled: bool,
    runs: HashMap<Sha256, Option<Result<Arc<RunClaim>, Refusal>>>,
}

/// Who vouches, by the names in the policy.
#[derive(Debug, Default)]
pub(super) struct Vouchers {
    /// Those whom the rule accepts.
    pub(super) accepted: BTreeSet<String>,
    /// If there is none: somebody whom the policy knows for other files.
    pub(super) other: Option<String>,
}

/// What a run says.
#[derive(Debug)]
pub(super) struct RunClaim {
    pub(super) attestation: Sha256,
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

/// What the files of a directory have in common is believed once for all of them.
#[derive(Debug, Default)]
pub(super) struct Memories {
    runs: Memory<RunClaim>,
    models: Memory<ModelClaim>,
}

impl<'a> Beliefs<'a> {
    pub(super) fn new(rule: &'a Rule, question: &'a Question<'a>, recalls: bool) -> Self {
        Self { rule, question, recalls, has_recalled: false, runs: HashMap::new() }
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
        if let Some(claim) = self.recall(&self.rule.memories.runs, attestation) {
            return Some(Ok(claim));
        }
        if let Some(known) = self.runs.get(&attestation) {
            return known.clone();
        }
        let claim = self.check_run(attestation);
        if let Some(Ok(claim)) = &claim {
            let files = claim.subjects.files();
            self.rule.memories.runs.keep(attestation, claim, files, self.question.now);
        }
        self.runs.insert(attestation, claim.clone());
        claim
    }

    /// Checks 1 to 5 of the model signature of a directory.
    ///
    /// # Returns
    /// `None` when there is none.
    pub(super) fn model(&mut self, around: &Around) -> Option<Result<Arc<ModelClaim>, Refusal>> {
        let bundle = match around.beside.model()? {
            Ok(bundle) => bundle,
            Err(error) => return Some(Err(error.clone().into())),
        };
        let attestation = bundle.sha256();
        if let Some(claim) = self.recall(&self.rule.memories.models, attestation) {
            return Some(Ok(claim));
        }
        let claim = self.check_model(bundle);
        if let Ok(claim) = &claim {
            let files = claim.manifest.files();
            self.rule.memories.models.keep(attestation, claim, files, self.question.now);
        }
        Some(claim)
    }

    /// Whether an attestation that failed may have been meant for this file.
    pub(super) fn may_name(&self, attestation: Sha256, place: &Place) -> bool {
        Unverified::of(attestation, &self.source()).may_name(place)
    }

    fn recall<T>(&mut self, memory: &Memory<T>, attestation: Sha256) -> Option<Arc<T>> {
        let recalled = self.recalls.then(|| memory.recall(attestation, self.question.now))??;
        self.has_recalled = true;
        Some(recalled)
    }

    fn check_run(&self, attestation: Sha256) -> Option<Result<Arc<RunClaim>, Refusal>> {
        let source = self.source();
        let vouched =
            self.by_either(|signers| agreed(self.verifier(signers, &source).vouched(attestation)))?;
        Some(vouched.and_then(|(vouched, vouchers)| {
            let subjects = Subjects::of(&vouched, &source)?;
            Ok(Arc::new(RunClaim::new(&vouched, vouchers, subjects)))
        }))
    }

    fn check_model(&self, bundle: &Bundle) -> Result<Arc<ModelClaim>, Refusal> {
        let source = self.source();
        let signed = self.by_either(|signers| {
            let model = self.verifier(signers, &source).model(Ok(bundle.clone()));
            Some(model.map(|model| {
                let signers = BTreeSet::from([model.signer().name().to_owned()]);
                (model, signers)
            }))
        });
        let (model, vouchers) = signed.unwrap_or(Err(Refusal::NoModelSignature))?;
        Ok(Arc::new(ModelClaim {
            attestation: model.attestation(),
            vouchers,
            manifest: model.into_manifest(),
        }))
    }

    /// Asks those whom the rule accepts; and when a stranger to them signed, all whom the policy knows,
    /// to tell the two apart.
    fn by_either<T>(
        &self,
        check: impl Fn(&TrustedSigners) -> Option<Result<(T, BTreeSet<String>), Refusal>>,
    ) -> Option<Result<(T, Vouchers), Refusal>> {
        let refusal = match check(&self.rule.trusted)? {
            Ok((claim, accepted)) => {
                return Some(Ok((claim, Vouchers { accepted, other: None })));
            }
            Err(refusal) if refusal.is_about_stranger() => refusal,
            Err(refusal) => return Some(Err(refusal)),
        };
        Some(match check(self.rule.signers.trusted())? {
            Ok((claim, others)) => {
                let other = others.into_iter().next();
                Ok((claim, Vouchers { accepted: BTreeSet::new(), other }))
            }
            Err(_of_the_same_kind) => Err(of_policy(refusal)),
        })
    }

    fn verifier<'v>(
        &self,
        signers: &'v TrustedSigners,
        source: &'v dyn Attestations,
    ) -> Verifier<'v> {
        Verifier::new(signers, source, self.question.now)
    }

    /// What travels with the file, and then what the store has.
    fn source(&self) -> AtHand<'a> {
        AtHand { travelling: Travelling(self.question.around), store: self.question.store }
    }
}

impl RunClaim {
    fn new(vouched: &Vouched, vouchers: Vouchers, subjects: Subjects) -> Self {
        let provenance = vouched.provenance();
        Self {
            attestation: vouched.attestation(),
            vouchers,
            stage: provenance.build_definition.external_parameters.stage.clone(),
            run: provenance.run_details.metadata.invocation_id.clone(),
            subjects,
        }
    }
}

/// What travels with a file, and then what the store has.
struct AtHand<'a> {
    travelling: Travelling<'a>,
    store: &'a dyn Publications,
}

impl Attestations for AtHand<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        let travelling = self.travelling.naming(content);
        travelling.into_iter().chain(self.store.naming(content)).collect()
    }

    fn came_along(&self, name: Sha256) -> bool {
        self.travelling.came_along(name) || self.store.came_along(name)
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        let travelling = self.travelling.attestation(name);
        travelling.into_iter().chain(self.store.attestation(name)).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.travelling.manifest(digest).or_else(|| self.store.manifest(digest))
    }
}

/// All whose signature of an attestation is good, and what they signed.
fn agreed(
    bundles: impl Iterator<Item = Result<Vouched, Refusal>>,
) -> Option<Result<(Vouched, BTreeSet<String>), Refusal>> {
    let mut signers = BTreeSet::new();
    let (mut signed, mut refused) = (None, None);
    for vouched in bundles {
        match vouched {
            Ok(vouched) => {
                signers.insert(vouched.signer().name().to_owned());
                signed = signed.or(Some(vouched));
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match signed {
        Some(vouched) => Some(Ok((vouched, signers))),
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
