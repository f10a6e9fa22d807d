//! Which digests of a file have to be computed to verify it. SHA-256 is what statements are compared by,
//! and BLAKE3 is some four times as fast, on each core. A statement that gives both lets the one stand for the
//! other: whoever signed it vouches for the pair.

use std::collections::BTreeMap;

use attestfs_digest::{Blake3, Digests, Sha256};

use crate::verify::{Place, Signer, Subjects, Verifier, Vouched, candidate::Candidates};

/// What a believed signer says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub(super) signer: Signer,
    pub(super) sha256: Sha256,
    pub(super) blake3: Option<Blake3>,
}

impl Said {
    /// The content that it says the file has.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }
}

/// The digests of a file that have to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Nobody gives its BLAKE3.
    Sha256,
    /// BLAKE3, and SHA-256 only when the BLAKE3 is in none of these pairs. Of each pair whoever speaks of
    /// its SHA-256 is the same signer.
    Blake3(Vec<Digests>),
    /// Both.
    Both,
}

impl Needed {
    /// When this is all that can be held against the file.
    fn by(said: &[Said]) -> Self {
        if said.iter().all(|said| said.blake3.is_none()) {
            return Self::Sha256;
        }
        let mut of_each: BTreeMap<Sha256, Vec<&Said>> = BTreeMap::new();
        for said in said {
            of_each.entry(said.sha256).or_default().push(said);
        }
        let pairs: Vec<_> =
            of_each.into_iter().filter_map(|(sha256, said)| pair(sha256, &said)).collect();
        if pairs.is_empty() { Self::Both } else { Self::Blake3(pairs) }
    }
}

/// The BLAKE3 that may stand for a SHA-256. Nobody's word counts for what another one signed, and nobody's
/// who contradicts himself.
fn pair(sha256: Sha256, said: &[&Said]) -> Option<Digests> {
    let is_by_one = said.iter().all(|other| other.signer == said[0].signer);
    let mut given = said.iter().filter_map(|said| said.blake3);
    let blake3 = given.next()?;
    (is_by_one && given.all(|other| other == blake3)).then_some(Digests { sha256, blake3 })
}

/// Attestations that passed checks 1 to 6, asked what they say of files that nobody has read yet.
#[expect(missing_debug_implementations, reason = "candidates need not be printable")]
pub struct Speaking(Candidates);

impl Verifier<'_> {
    /// Those that may speak of these contents.
    pub fn speaking(&self, contents: impl IntoIterator<Item = Sha256>) -> Speaking {
        Speaking(Candidates::naming(contents, self))
    }
}

impl Speaking {
    /// The digests that are needed of a file of which `said` is said. Where there are more attestations than
    /// anybody looks at, those that nobody looked at may say something else.
    pub fn needed(&self, said: &[Said]) -> Needed {
        if self.0.are_cut() { Needed::Both } else { Needed::by(said) }
    }

    /// What they say of the file at this place.
    pub fn of(&self, place: &Place) -> Vec<Said> {
        let say = |(vouched, subjects): (&Vouched, &Subjects)| {
            let (sha256, blake3) = subjects.digests_at(place)?;
            Some(Said { signer: vouched.signer().clone(), sha256, blake3 })
        };
        self.0.all_vouched().filter_map(say).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        bundle::{Bundle, BundleError},
        verify::{Attestations, TrustedSigners},
    };

    /// Has so many names, and nothing under them.
    struct Index(usize);

    impl Attestations for Index {
        fn naming(&self, _content: Sha256) -> Vec<Sha256> {
            let name = |number: usize| Sha256::of(&number.to_le_bytes());
            (0..self.0).map(name).collect()
        }

        fn came_along(&self, _name: Sha256) -> bool {
            false
        }

        fn attestation(&self, _name: Sha256) -> Vec<Result<Bundle, BundleError>> {
            Vec::new()
        }

        fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
            None
        }
    }

    #[test]
    fn where_there_are_more_attestations_than_are_looked_at_both_digests_are_computed() {
        let signers = TrustedSigners::default();
        let most = Verifier::CANDIDATES_MAX;
        for (names, needed) in
            [(0, Needed::Sha256), (most, Needed::Sha256), (most + 1, Needed::Both)]
        {
            let index = Index(names);
            let verifier = Verifier::new(&signers, &index, Timestamp::UNIX_EPOCH);
            assert_eq!(verifier.speaking([Sha256([0; 32])]).needed(&[]), needed, "{names} names");
        }
    }
}
