use std::collections::{BTreeSet, HashSet};

use attestfs_digest::Sha256;
use serde::Deserialize;

use crate::{
    bundle::Bundle,
    statement::{Payload, ResourceDescriptor},
    verify::{Found, Place, Refusal, Subjects, Verifier, Vouched, subjects::suffixes},
};

/// Attestations that may speak of some files, each judged once, in the order in which the sources
/// name them.
#[derive(Default)]
pub(super) struct Candidates {
    known: HashSet<Sha256>,
    judged: Vec<Candidate>,
}

enum Candidate {
    Vouched(Vouched, Subjects),
    Refused(Refusal, Unverified),
}

impl Candidates {
    pub(super) fn of(files: &[Found], verifier: &Verifier<'_>) -> Self {
        let mut candidates = Self::default();
        for found in files {
            let names = verifier.source().naming(found.content.digests.sha256);
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
                Err(other) => refusal = further(refusal, other),
            }
        }
        Err(refusal)
    }

    pub(super) fn vouched(&self, position: usize) -> Option<&Vouched> {
        match self.judged.get(position)? {
            Candidate::Vouched(vouched, _) => Some(vouched),
            Candidate::Refused(..) => None,
        }
    }

    fn judge(&mut self, name: Sha256, verifier: &Verifier<'_>) {
        if self.judged.len() >= Verifier::CANDIDATES_MAX || !self.known.insert(name) {
            return;
        }
        let candidate = verifier.first_vouched(name).map(|verdict| match verdict {
            Ok((vouched, subjects)) => Candidate::Vouched(vouched, subjects),
            Err(refusal) => Candidate::Refused(refusal, Unverified::of(name, verifier)),
        });
        self.judged.extend(candidate);
    }
}

impl Candidate {
    fn attests(&self, found: &Found) -> Result<&str, Refusal> {
        match self {
            Self::Vouched(_, subjects) => subjects.check(found),
            Self::Refused(refusal, says) if says.may_name(&found.place) => Err(refusal.clone()),
            Self::Refused(..) => Err(Refusal::Unattested { name: found.place.name().to_owned() }),
        }
    }
}

/// What a refused attestation claims to name. Only decides whose refusal is shown: that a stranger
/// signed something about another file is no news about this one.
struct Unverified(Option<BTreeSet<String>>);

#[derive(Deserialize)]
struct SubjectsOnly {
    subject: Vec<ResourceDescriptor>,
}

impl Unverified {
    fn of(name: Sha256, verifier: &Verifier<'_>) -> Self {
        let bundles = verifier.source().attestation(name);
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

    fn may_name(&self, place: &Place) -> bool {
        let Some(names) = &self.0 else { return true };
        match place {
            Place::Below(name) => names.contains(name),
            Place::Anywhere(path) => suffixes(path).any(|suffix| names.contains(suffix)),
        }
    }
}

fn further(one: Refusal, other: Refusal) -> Refusal {
    let distance = |refusal: &Refusal| match refusal {
        Refusal::Unattested { .. } => 0,
        refusal => refusal.check().0,
    };
    if distance(&other) > distance(&one) { other } else { one }
}
