use attestfs_digest::Sha256;
use jiff::Timestamp;

use crate::{
    bundle::{Bundle, BundleError},
    verify::{
        Attestations, Claim, Covered, Examined, Found, ModelReport, Refusal, Signed, SignedModel,
        Subjects, TrustedSigners, Verified, Vouched, candidate::Candidates, chain::Chain,
        examined::Named,
    },
};

/// Makes the checks of this module, with these signers and these attestations at hand, at one
/// moment.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "sources need not be printable")]
pub struct Verifier<'a> {
    signers: &'a TrustedSigners,
    source: &'a dyn Attestations,
    now: Timestamp,
}

impl<'a> Verifier<'a> {
    /// Most attestations that are looked at as possibly naming the files; what follows is ignored.
    pub const CANDIDATES_MAX: usize = 4096;

    /// A verifier that believes these signers, as far as their certificates are valid `now`, and
    /// knows of these attestations.
    pub fn new(signers: &'a TrustedSigners, source: &'a dyn Attestations, now: Timestamp) -> Self {
        Self { signers, source, now }
    }

    /// Checks 1 to 5 of the content of a `model.sig`.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn model_signature(&self, bytes: &[u8]) -> Result<SignedModel, Refusal> {
        self.model(Bundle::parse(bytes))
    }

    /// Checks 1 to 5 of a model signature.
    pub(crate) fn model(
        &self,
        bundle: Result<Bundle, BundleError>,
    ) -> Result<SignedModel, Refusal> {
        match self.claim(bundle)? {
            Claim::Model(model) => Ok(model),
            Claim::Provenance(..) | Claim::Incomplete(..) => Err(Refusal::NoModelSignature),
        }
    }

    /// Checks files that no model signature covers: each must be named by an attestation.
    ///
    /// # Errors
    /// The first file that fails, by the check that it fails.
    pub fn files(&self, files: &[Found]) -> Result<Verified, Refusal> {
        let candidates = Candidates::of(files, self);
        let mut named = Named::default();
        for found in files {
            named.add(candidates.attesting(found)?);
        }
        self.report(None, named, &candidates)
    }

    /// Checks files that a model signature covers. Nobody needs to have attested how they were
    /// made; but an attestation that names them and fails is refused, unless it is a stranger's that
    /// did not come along with them.
    ///
    /// # Errors
    /// The first file that fails, by the check that it fails.
    pub fn covered(&self, covered: &Covered) -> Result<Examined<'a>, Refusal> {
        let mut candidates = Candidates::of(covered.files(), self);
        let passed_over = candidates.pass_over_strangers(covered.files(), self.source);
        let mut named = Named::default();
        for found in covered.files() {
            match candidates.attesting(found) {
                Ok(attesting) => named.add(attesting),
                Err(refusal) if is_about_other_content(&refusal) => {
                    named.without_provenance.push(found.place.name().to_owned());
                }
                Err(refusal) => return Err(refusal),
            }
        }
        let model = ModelReport::of(covered.model());
        Ok(Examined { verifier: *self, model, candidates, named, passed_over })
    }

    /// Checks 1 to 6, and reads the subjects, of what is kept under the name of an attestation: of
    /// several bundles one must pass.
    ///
    /// # Returns
    /// `None` when there is no bundle.
    pub(super) fn first_vouched(
        &self,
        name: Sha256,
    ) -> Option<Result<(Vouched, Subjects), Refusal>> {
        let mut first_refusal = None;
        for vouched in self.vouched(name) {
            let with_subjects =
                |vouched| Subjects::of(&vouched, self.source).map(|subjects| (vouched, subjects));
            match vouched.and_then(with_subjects) {
                Ok(vouched) => return Some(Ok(vouched)),
                Err(refusal) => first_refusal = first_refusal.or(Some(Err(refusal))),
            }
        }
        first_refusal
    }

    /// Checks 1 to 6 of each bundle that is kept under the name of an attestation: several signers may
    /// have signed it.
    pub(crate) fn vouched(&self, name: Sha256) -> impl Iterator<Item = Result<Vouched, Refusal>> {
        let bundles = self.source.attestation(name).into_iter();
        bundles.map(move |bundle| {
            let vouched = self.claim(bundle)?.vouched()?;
            let found = vouched.attestation();
            if found == name { Ok(vouched) } else { Err(Refusal::WrongAttestation { found }) }
        })
    }

    pub(super) fn source(&self) -> &'a dyn Attestations {
        self.source
    }

    /// Checks 1 to 5.
    fn claim(&self, bundle: Result<Bundle, BundleError>) -> Result<Claim, Refusal> {
        let signed = Signed::check(bundle?, self.signers, self.now)?;
        Claim::read(signed)
    }

    /// Check 10 for every attestation that names a file.
    pub(super) fn report(
        &self,
        model: Option<ModelReport>,
        named: Named,
        candidates: &Candidates,
    ) -> Result<Verified, Refusal> {
        let mut chain = Chain::new(self);
        let attestations = named
            .files
            .into_iter()
            .filter_map(|(position, files)| Some((candidates.vouched(position)?, files)))
            .map(|(vouched, files)| chain.follow(vouched, files))
            .collect::<Result<_, _>>()?;
        let without_provenance = named.without_provenance;
        Ok(Verified { model, attestations, without_provenance, passed_over: Vec::new() })
    }
}

/// Under a model signature this only means that nobody says how the file was made: equal content
/// (an empty file, `{}`) or an older version of it is attested elsewhere.
fn is_about_other_content(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Unattested { .. }
            | Refusal::WrongSubject { .. }
            | Refusal::DigestMismatch { .. }
            | Refusal::ManifestNotSeen { .. }
    )
}
