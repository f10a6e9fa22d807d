use std::collections::{BTreeSet, HashSet};

use attestfs_digest::Sha256;
use serde::Deserialize;

use crate::{
    bundle::Bundle,
    statement::{Payload, ResourceDescriptor},
    verify::{
        Attestations, Found, Place, Refusal, Stranger, Subjects, Verifier, Vouched,
        subjects::suffixes,
    },
};

/// Attestations that may speak of some files, each judged once, in the order in which the sources
/// name them.
#[derive(Default)]
pub(super) struct Candidates {
    known: HashSet<Sha256>,
    judged: Vec<Candidate>,
    /// Whether there were more than are looked at.
    is_cut: bool,
}

enum Candidate {
    Vouched(Vouched, Subjects),
    Refused(Refused),
}

struct Refused {
    attestation: Sha256,
    refusal: Refusal,
    says: Unverified,
}

impl Candidates {
    pub(super) fn of(files: &[Found], verifier: &Verifier<'_>) -> Self {
        Self::naming(files.iter().map(|found| found.content.sha256()), verifier)
    }

    /// Those that may speak of these contents.
    pub(super) fn naming(
        contents: impl IntoIterator<Item = Sha256>,
        verifier: &Verifier<'_>,
    ) -> Self {
        let mut candidates = Self::default();
        for content in contents {
            let names = verifier.source().naming(content);
            candidates.is_cut |= names.len() > Verifier::CANDIDATES_MAX;
            for name in names.into_iter().take(Verifier::CANDIDATES_MAX) {
                candidates.judge(name, verifier);
            }
        }
        candidates
    }

    /// Checks 7 and 8 with each candidate, until one passes.
    ///
    /// # Returns
    /// The candidate's position, and the subject's name.
    ///
    /// # Errors
    /// Of all refusals the one that came furthest: it says most about this file.
    pub(super) fn attesting(&self, found: &Found) -> Result<(usize, &str), Refusal> {
        let mut refusal = Refusal::Unattested { name: found.place.name().to_owned() };
        for (position, candidate) in self.judged.iter().enumerate() {
            match candidate.attests(found) {
                Ok(name) => return Ok((position, name)),
                Err(other) => refusal = refusal.or_further(other),
            }
        }
        Err(refusal)
    }

    /// Takes out what strangers signed and only an index led to.
    ///
    /// # Returns
    /// Those of them that may name one of the files.
    pub(super) fn pass_over_strangers(
        &mut self,
        files: &[Found],
        source: &dyn Attestations,
    ) -> Vec<Stranger> {
        let strangers = self.judged.extract_if(.., |candidate| candidate.is_by_stranger(source));
        strangers.filter_map(|candidate| candidate.stranger_to(files)).collect()
    }

    /// Whether there were more than are looked at.
    pub(super) fn are_cut(&self) -> bool {
        self.is_cut
    }

    /// Those that passed checks 1 to 6, with their subjects.
    pub(super) fn all_vouched(&self) -> impl Iterator<Item = (&Vouched, &Subjects)> {
        self.judged.iter().filter_map(|candidate| match candidate {
            Candidate::Vouched(vouched, subjects) => Some((vouched, subjects)),
            Candidate::Refused(_) => None,
        })
    }

    pub(super) fn vouched(&self, position: usize) -> Option<&Vouched> {
        match self.judged.get(position)? {
            Candidate::Vouched(vouched, _) => Some(vouched),
            Candidate::Refused(_) => None,
        }
    }

    pub(super) fn subjects(&self, position: usize) -> Option<&Subjects> {
        match self.judged.get(position)? {
            Candidate::Vouched(_, subjects) => Some(subjects),
            Candidate::Refused(_) => None,
        }
    }

    fn judge(&mut self, name: Sha256, verifier: &Verifier<'_>) {
        if !self.known.insert(name) {
            return;
        }
        if self.judged.len() >= Verifier::CANDIDATES_MAX {
            self.is_cut = true;
            return;
        }
        let candidate = verifier.first_vouched(name).map(|verdict| match verdict {
            Ok((vouched, subjects)) => Candidate::Vouched(vouched, subjects),
            Err(refusal) => {
                let says = Unverified::of(name, verifier.source());
                Candidate::Refused(Refused { attestation: name, refusal, says })
            }
        });
        self.judged.extend(candidate);
    }
}

impl Candidate {
    fn attests(&self, found: &Found) -> Result<&str, Refusal> {
        match self {
            Self::Vouched(_, subjects) => subjects.check(found),
            Self::Refused(refused) if refused.says.may_name(&found.place) => {
                Err(refused.refusal.clone())
            }
            Self::Refused(_) => Err(Refusal::Unattested { name: found.place.name().to_owned() }),
        }
    }

    fn is_by_stranger(&self, source: &dyn Attestations) -> bool {
        match self {
            Self::Vouched(..) => false,
            Self::Refused(refused) => {
                refused.refusal.is_about_stranger() && !source.came_along(refused.attestation)
            }
        }
    }

    fn stranger_to(self, files: &[Found]) -> Option<Stranger> {
        let Self::Refused(Refused { attestation, refusal, says }) = self else { return None };
        let may_name = files.iter().any(|found| says.may_name(&found.place));
        may_name.then_some(Stranger { attestation, refusal })
    }
}

/// What a refused attestation claims to name. Only decides whose refusal is shown: that a stranger
/// signed something about another file is no news about this one.
pub(crate) struct Unverified(Option<BTreeSet<String>>);

#[derive(Deserialize)]
struct SubjectsOnly {
    subject: Vec<ResourceDescriptor>,
}

impl Unverified {
    pub(crate) fn of(name: Sha256, source: &dyn Attestations) -> Self {
        let bundles = source.attestation(name);
        let bundle = bundles.iter().find_map(|bundle| bundle.as_ref().ok());
        Self(bundle.map(Bundle::payload).and_then(Self::names))
    }

    /// `None` when it cannot be told: unreadable, or in a manifest.
    fn names(payload: &Payload) -> Option<BTreeSet<String>> {
        let statement: SubjectsOnly = serde_json::from_slice(payload.bytes()).ok()?;
        statement
            .subject
            .into_iter()
            .map(|subject| match subject.annotation("manifest") {
                Some(_) => None,
                None => subject.name,
            })
            .collect()
    }

    pub(crate) fn may_name(&self, place: &Place) -> bool {
        let Some(names) = &self.0 else { return true };
        match place {
            Place::Below(name) | Place::Beside { name, .. } => names.contains(name),
            Place::Anywhere(path) => suffixes(path).any(|suffix| names.contains(suffix)),
        }
    }
}
