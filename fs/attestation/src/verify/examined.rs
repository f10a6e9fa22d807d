use std::collections::BTreeMap;

use crate::verify::{
    Found, ModelReport, Refusal, Stranger, Subjects, Verified, Verifier, candidate::Candidates,
};

/// Files that a model signature covers, held against what attestations say of them. Files that the
/// signature leaves out may follow, before the chain of materials is followed. Only
/// [`Verifier::covered`] makes one.
#[expect(missing_debug_implementations, reason = "sources need not be printable")]
pub struct Examined<'a> {
    pub(super) verifier: Verifier<'a>,
    pub(super) model: ModelReport,
    pub(super) candidates: Candidates,
    pub(super) named: Named,
    pub(super) passed_over: Vec<Stranger>,
}

/// Which candidate names which files.
#[derive(Default)]
pub(super) struct Named {
    pub(super) files: BTreeMap<usize, Vec<String>>,
    pub(super) without_provenance: Vec<String>,
}

impl Examined<'_> {
    /// Whether an attestation that names the covered files names this one, too. Others say nothing
    /// of it: equal names occur in every directory.
    pub fn names(&self, name: &str) -> bool {
        self.subjects().any(|(_, subjects)| subjects.names(name))
    }

    /// Checks 7 and 8 of a file that the signature leaves out, with the attestations that name the
    /// covered files.
    ///
    /// # Errors
    /// None of them has the file like this under this name.
    pub fn compare(&mut self, found: &Found) -> Result<(), Refusal> {
        let mut refusal = Refusal::Unattested { name: found.place.name().to_owned() };
        let mut passed = None;
        for (position, subjects) in self.subjects() {
            match subjects.check(found) {
                Ok(name) => passed = passed.or(Some((position, name.to_owned()))),
                Err(other) => refusal = refusal.or_further(other),
            }
        }
        let (position, name) = passed.ok_or(refusal)?;
        self.named.add((position, &name));
        Ok(())
    }

    /// Check 10 for every attestation that names a file.
    ///
    /// # Errors
    /// The first material that fails.
    pub fn report(self) -> Result<Verified, Refusal> {
        let verified = self.verifier.report(Some(self.model), self.named, &self.candidates)?;
        Ok(Verified { passed_over: self.passed_over, ..verified })
    }

    fn subjects(&self) -> impl Iterator<Item = (usize, &Subjects)> {
        let positions = self.named.files.keys();
        positions.filter_map(|&position| Some((position, self.candidates.subjects(position)?)))
    }
}

impl Named {
    pub(super) fn add(&mut self, (position, name): (usize, &str)) {
        self.files.entry(position).or_default().push(name.to_owned());
    }
}
