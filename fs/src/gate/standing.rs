//! Admissions that go on without being judged again, as long as what they follow from is the same.
//!
//! To judge a file once more mostly finds what was found the last time, by two looks at each directory above it. What
//! an admission follows from is looked at here when the file is opened again, and from then on only asked whether it is
//! the same still:
//!
//! | an admission follows from | it is the same while |
//! |---|---|
//! | the names of the file | none came, none went, none was seen after the last one and no directory moved; there is one that is guarded, and no link to any |
//! | the attestations around it | nothing came or went there ([`Surroundings`]), and what is there has its identity |
//! | what was published | nothing was that may speak against it |
//! | the judgement | its minute is not over, and no certificate has ended |
//! | the content, and who else has it open | it has its identity when it is held |
//!
//! Where anything else counts (a lock, a level that verifies more, another run) each open is judged as ever.

use std::sync::Arc;

use attestfs_attestation::Level;
use attestfs_digest::Digests;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    judging::Ground,
    links::Links,
    recent::Recent,
    surroundings::{Season, Surroundings},
    wanted::Wanted,
};
use crate::{
    identity::{FileKey, Identity},
    names::{NamesState, Place},
    port::BundleSource,
    run::Owner,
};

/// The admissions of which it is known what they follow from.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) surroundings: Surroundings,
    admissions: Mutex<Recent<FileKey, Arc<Foundation>>>,
    /// Files that were admitted once. Most of them are not opened again.
    once: Mutex<Recent<FileKey, Identity>>,
}

/// An admission, with what it follows from.
#[derive(Debug)]
pub(super) struct Foundation {
    pub(super) identity: Identity,
    pub(super) digests: Digests,
    pub(super) level: Level,
    pub(super) names: Naming,
    pub(super) season: Season,
    pub(super) ground: Ground,
}

/// By which names a file is known, and in whose run: another one as soon as any name may be another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Naming {
    owner: Owner,
    names: NamesState,
    directories: u64,
    links: u64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            surroundings: Surroundings::default(),
            admissions: Mutex::new(Recent::new(EXHIBITS_MAX)),
            once: Mutex::new(Recent::new(ONCE_MAX)),
        }
    }
}

impl Standing {
    /// What is known of a file.
    pub(super) fn of(&self, file: FileKey) -> Option<Arc<Foundation>> {
        self.admissions.lock().get(&file)
    }

    /// A file was judged and admitted.
    ///
    /// # Returns
    /// Whether that happens again and again, so that it is worth to know what it follows from.
    pub(super) fn is_frequent(&self, identity: &Identity) -> bool {
        let mut once = self.once.lock();
        let is_frequent = once.get(&identity.file) == Some(*identity);
        once.insert(identity.file, *identity, 1);
        is_frequent
    }

    pub(super) fn add(&self, foundation: Foundation) {
        let (file, weight) =
            (foundation.identity.file, foundation.ground.exhibits.len() as u64 + 1);
        self.admissions.lock().insert(file, Arc::new(foundation), weight);
    }
}

impl Foundation {
    /// Whether all of it is the same, but for the content.
    pub(super) fn stands(
        &self,
        wanted: &Wanted<'_>,
        (standing, links): (&Standing, &Links),
        (source, now): (&dyn BundleSource, Timestamp),
    ) -> bool {
        let Ground { objections, exhibits, made, until } = &self.ground;
        let backing = wanted.opened.backing.as_ref();
        (made..=until).contains(&&now)
            && self.names == Naming::of(wanted, links)
            && standing.surroundings.season() == Some(self.season)
            && exhibits.iter().all(|exhibit| exhibit.is_unchanged(backing))
            && source.objections().is_ok_and(|number| number == *objections)
    }
}

impl Naming {
    pub(super) fn of(wanted: &Wanted<'_>, links: &Links) -> Self {
        Self {
            owner: wanted.run.owner(),
            names: wanted.tracked.names().state(),
            directories: Place::moves(),
            links: links.additions(),
        }
    }
}

/// So many attestations are kept at hand, each by a descriptor.
const EXHIBITS_MAX: u64 = 512;

/// So many files that were admitted once are remembered.
const ONCE_MAX: u64 = 4096;
