use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use crate::{
    key::KeyHint,
    verify::{Signer, SignerIdentity},
};

/// Who vouches for a file. Whoever signed is one voice, whatever it signed and with however many
/// certificates, and counts for one signer of the policy, even if several of them fit.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes(Vec<Voice>);

#[derive(Clone, Debug)]
struct Voice {
    /// Signatures that share one of these are by the same.
    marks: BTreeSet<Mark>,
    /// For whom it may count, by their names in the policy.
    signers: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Key(KeyHint),
    /// In a certificate.
    Name(String),
}

impl Votes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds whoever made a signature.
    pub(super) fn add(&mut self, signer: &Signer) {
        let name = match signer.identity() {
            SignerIdentity::Key(_) => None,
            SignerIdentity::Certificate(identity) => Some(Mark::Name(identity.name.clone())),
        };
        let marks = iter::once(Mark::Key(signer.key())).chain(name).collect();
        let signers = signer.names().map(ToOwned::to_owned).collect();
        self.hear(Voice { marks, signers });
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|voice| self.hear(voice.clone()));
    }

    /// As far as they count for one of these.
    pub(super) fn only(&self, is_accepted: impl Fn(&str) -> bool) -> Self {
        let accepted = self.0.iter().map(|Voice { marks, signers }| {
            let signers = signers.iter().filter(|signer| is_accepted(signer)).cloned().collect();
            Voice { marks: marks.clone(), signers }
        });
        Self(accepted.filter(|voice| !voice.signers.is_empty()).collect())
    }

    /// For whom they count: each voice for one signer, each signer once, and as many as can be.
    pub(super) fn signers(&self) -> BTreeSet<&str> {
        let mut spoken_for = BTreeMap::new();
        for voice in 0..self.0.len() {
            self.speaks(voice, &mut spoken_for, &mut BTreeSet::new());
        }
        spoken_for.into_keys().collect()
    }

    /// Finds somebody for whom this voice can speak, if need be by finding another one for the voice
    /// that does: an augmenting path of a bipartite matching.
    fn speaks<'a>(
        &'a self,
        voice: usize,
        spoken_for: &mut BTreeMap<&'a str, usize>,
        tried: &mut BTreeSet<&'a str>,
    ) -> bool {
        let speaks_for = self.0[voice].signers.iter().find(|signer| {
            tried.insert(signer)
                && match spoken_for.get(signer.as_str()).copied() {
                    Some(other) => self.speaks(other, spoken_for, tried),
                    None => true,
                }
        });
        speaks_for.is_some_and(|signer| {
            spoken_for.insert(signer, voice);
            true
        })
    }

    fn hear(&mut self, mut voice: Voice) {
        let is_same = |known: &mut Voice| !known.marks.is_disjoint(&voice.marks);
        let same: Vec<_> = self.0.extract_if(.., is_same).collect();
        for Voice { marks, signers } in same {
            voice.marks.extend(marks);
            voice.signers.extend(signers);
        }
        self.0.push(voice);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voice(marks: &[u8], signers: &[u8]) -> Voice {
        Voice {
            marks: marks.iter().map(|mark| Mark::Name(mark.to_string())).collect(),
            signers: signers.iter().map(ToString::to_string).collect(),
        }
    }

    fn votes(voices: &[(&[u8], &[u8])]) -> Votes {
        let mut votes = Votes::default();
        for (marks, signers) in voices {
            votes.hear(voice(marks, signers));
        }
        votes
    }

    #[test]
    fn nobody_counts_for_nobody() {
        assert!(votes(&[]).signers().is_empty());
        assert!(votes(&[(&[1], &[1])]).only(|_| false).is_empty());
    }

    #[test]
    fn one_voice_counts_for_one_signer() {
        assert_eq!(votes(&[(&[1], &[1, 2])]).signers().len(), 1);
        assert_eq!(votes(&[(&[1], &[1]), (&[1], &[2])]).signers().len(), 1);
        assert_eq!(votes(&[(&[1], &[1]), (&[2], &[1])]).signers().len(), 1);
    }

    #[test]
    fn voices_that_a_later_one_shows_to_be_the_same_are_one() {
        assert_eq!(votes(&[(&[1], &[1]), (&[2], &[2]), (&[1, 2], &[3])]).signers().len(), 1);
    }

    #[test]
    fn a_voice_makes_room_for_one_that_has_no_choice() {
        for voices in [[(&[1][..], &[1, 2][..]), (&[2], &[1])], [(&[2], &[1]), (&[1], &[1, 2])]] {
            assert_eq!(votes(&voices).signers().into_iter().collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    /// The same by trying each signer for each voice.
    fn by_trying(voices: &[Voice], taken: &mut BTreeSet<String>) -> usize {
        let Some((voice, rest)) = voices.split_first() else { return taken.len() };
        let silent = by_trying(rest, taken);
        let each = voice.signers.iter().map(|signer| {
            if !taken.insert(signer.clone()) {
                return 0;
            }
            let most = by_trying(rest, taken);
            taken.remove(signer);
            most
        });
        each.fold(silent, usize::max)
    }

    proptest! {
        #[test]
        fn as_many_count_as_trying_everything_finds(
            voices in prop::collection::vec(prop::collection::btree_set(0u8..5, 0..4), 0..6),
        ) {
            let mut votes = Votes::default();
            for (mark, signers) in (0u8..).zip(voices) {
                votes.hear(voice(&[mark], &signers.into_iter().collect::<Vec<_>>()));
            }
            prop_assert_eq!(votes.signers().len(), by_trying(&votes.0, &mut BTreeSet::new()));
        }
    }
}
