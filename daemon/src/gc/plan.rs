//! Deciding what can be freed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
};

use attestfs_attestation::Bundle;
use attestfs_digest::Sha256;

use super::{
    GcError,
    needed::Needed,
    presence::{Lookout, Presence},
    report::{Amount, GarbageReport, Kept},
    scope::Scope,
};
use crate::{
    commit::{REPORT_SUFFIX, Room},
    config::is_plain_name,
    journal,
    lineage::{Attestation, AttestationQuery, RunId},
    publication::Mentions,
};

/// What is freed, each file with its length.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) bundles: BTreeMap<Sha256, u64>,
    pub(super) manifests: BTreeMap<Sha256, u64>,
    pub(super) runs: Vec<RunFiles>,
    /// Bytes of the indexes.
    pub(super) repeated: u64,
    gone: BTreeSet<String>,
    spared: Kept,
    unseen: Kept,
    away: Kept,
}

/// What is freed of a run.
#[derive(Debug)]
pub(super) struct RunFiles {
    pub(super) run: RunId,
    journal: Option<u64>,
    reports: BTreeMap<String, u64>,
}

impl Plan {
    pub(super) fn make(room: &Room, scope: &Scope) -> Result<Self, GcError> {
        let mut plan = Self::default();
        let needed = Needed::of(room)?;
        plan.choose_runs(room, scope, &needed)?;
        let shelved = room.shelf.bundles()?;
        let candidates = plan.candidates(room, scope, &shelved)?;
        plan.choose_bundles(room, scope, &needed, candidates, shelved)?;
        if !scope.is_named() {
            plan.repeated = room.shelf.repeated()?;
        }
        Ok(plan)
    }

    /// The attestations nothing of which is left.
    fn candidates(
        &mut self,
        room: &Room,
        scope: &Scope,
        shelved: &BTreeMap<Sha256, u64>,
    ) -> Result<BTreeMap<Sha256, Attestation>, GcError> {
        let mut candidates = BTreeMap::new();
        for attestation in room.store.attestations(AttestationQuery::All, usize::MAX)? {
            let is_shelved = shelved.contains_key(&attestation.statement);
            if !is_shelved || !scope.covers(&attestation.artifact_root) {
                continue;
            }
            match presence(room, &attestation)? {
                Presence::Here => {}
                Presence::Away => self.away.take(&attestation),
                Presence::Unseen if !scope.is_named() => self.unseen.take(&attestation),
                Presence::Unseen | Presence::Gone => {
                    candidates.insert(attestation.statement, attestation);
                }
            }
        }
        Ok(candidates)
    }

    /// Of the candidates, those that no attestation needs that stays, as far as the user wants them to
    /// go; and the manifests that only these mention.
    fn choose_bundles(
        &mut self,
        room: &Room,
        scope: &Scope,
        needed: &Needed,
        mut candidates: BTreeMap<Sha256, Attestation>,
        shelved: BTreeMap<Sha256, u64>,
    ) -> Result<(), GcError> {
        let mut kept_manifests = needed.manifests.clone();
        let staying = shelved.keys().filter(|name| !candidates.contains_key(name)).copied();
        let mut staying: VecDeque<Sha256> = staying.collect();
        let needed = needed.attestations.iter();
        staying.extend(needed.filter(|name| candidates.remove(*name).is_some()));
        while let Some(statement) = staying.pop_front() {
            let Mentions { attestations, manifests } = mentions(room, statement)?;
            kept_manifests.extend(manifests);
            let ancestors = attestations.iter();
            // An ancestor that was marked as freed is on its way out, whoever mentions it.
            staying.extend(ancestors.filter(|name| {
                candidates.get(name).is_some_and(|it| !it.freed)
                    && candidates.remove(name).is_some()
            }));
        }
        let mut own_manifests = BTreeSet::new();
        for (statement, attestation) in candidates {
            let manifests = mentions(room, statement)?.manifests;
            if !attestation.freed && !scope.frees_bundles() {
                kept_manifests.extend(manifests);
                self.spared.take(&attestation);
                continue;
            }
            own_manifests.extend(manifests);
            self.bundles.insert(statement, shelved.get(&statement).copied().unwrap_or_default());
            self.gone.insert(attestation.artifact_root);
        }
        self.manifests = room.shelf.manifests()?;
        self.manifests.retain(|manifest, _| {
            // What nobody mentions was left by a commit that was never frozen.
            let is_chosen = !scope.is_named() || own_manifests.contains(manifest);
            is_chosen && !kept_manifests.contains(manifest)
        });
        Ok(())
    }

    /// The runs that have ended, of which nothing is about to be published.
    fn choose_runs(&mut self, room: &Room, scope: &Scope, needed: &Needed) -> Result<(), GcError> {
        for entry in fs::read_dir(room.state.runs())? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| is_plain_name(name)) else {
                continue;
            };
            let run = RunId(name.to_owned());
            let Some(known) = room.store.run(&run)? else {
                continue;
            };
            let covered = known.description.trees.iter().any(|tree| scope.covers(tree));
            if known.end.is_some() && covered && !needed.runs.contains(&run) {
                self.runs.extend(RunFiles::of(room, run)?);
            }
        }
        self.runs.sort_by(|one, other| one.run.cmp(&other.run));
        Ok(())
    }

    pub(super) fn report(&self) -> GarbageReport {
        let amount = |files: &BTreeMap<Sha256, u64>| Amount::of(files.values().copied());
        let reports = self.runs.iter().flat_map(|run| run.reports.values().copied());
        let mut gone: Vec<_> = self.gone.iter().cloned().collect();
        gone.truncate(GarbageReport::ROOTS_MAX);
        GarbageReport {
            plan: self.name(),
            freed: false,
            journals: Amount::of(self.runs.iter().filter_map(|run| run.journal)),
            reports: Amount::of(reports),
            empty: self.runs.iter().filter(|run| run.names().is_empty()).count() as u64,
            bundles: amount(&self.bundles),
            manifests: amount(&self.manifests),
            repeated: self.repeated,
            gone,
            spared: self.spared.clone(),
            unseen: self.unseen.clone(),
            away: self.away.clone(),
        }
    }

    fn name(&self) -> Sha256 {
        let bundles = self.bundles.keys().map(|name| format!("bundle {name}\n"));
        let manifests = self.manifests.keys().map(|name| format!("manifest {name}\n"));
        let runs =
            self.runs.iter().map(|run| format!("run {} {}\n", run.run, run.names().join(" ")));
        let repeated = (self.repeated > 0).then(|| format!("repeated {}\n", self.repeated));
        let all = bundles.chain(manifests).chain(runs).chain(repeated);
        Sha256::of(all.collect::<String>().as_bytes())
    }
}

impl RunFiles {
    /// None when its process lives, or there is something in its directory and nothing to free.
    fn of(room: &Room, run: RunId) -> Result<Option<Self>, GcError> {
        let directory = room.state.run(&run.0);
        let mut files = Self { journal: None, reports: BTreeMap::new(), run };
        match journal::is_live(&directory) {
            Ok(true) => return Ok(None),
            Ok(false) => files.journal = taken_in(room, &files.run)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let mut is_empty = true;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.ends_with(REPORT_SUFFIX) {
                files.reports.insert(name, entry.metadata()?.len());
            }
            is_empty = false;
        }
        Ok((is_empty || !files.names().is_empty()).then_some(files))
    }

    /// In the run's directory.
    pub(super) fn names(&self) -> Vec<String> {
        let journal = self.journal.iter().flat_map(|_| journal::FILES.map(str::to_owned));
        journal.chain(self.reports.keys().cloned()).collect()
    }
}

/// The length of a journal of which the store knows every fact. Another one tells more than the store
/// does, and stays.
fn taken_in(room: &Room, run: &RunId) -> Result<Option<u64>, GcError> {
    let length = journal::whole_length(&room.state.run(&run.0))?;
    Ok((room.store.ingested(run)? >= length).then_some(length))
}

impl Kept {
    fn take(&mut self, attestation: &Attestation) {
        self.attestations += 1;
        let root = &attestation.artifact_root;
        if let Err(place) = self.roots.binary_search(root) {
            self.roots.insert(place, root.clone());
            self.roots.truncate(GarbageReport::ROOTS_MAX);
        }
    }
}

/// Whether anything is left of what an attestation speaks of.
fn presence(room: &Room, attestation: &Attestation) -> Result<Presence, GcError> {
    if attestation.freed {
        // An earlier attempt got so far.
        return Ok(Presence::Gone);
    }
    let lookout = Lookout { store: room.store.as_ref(), lent: &room.trees };
    let run = room.store.run(&attestation.run)?;
    let trees = run.map(|run| run.description.trees).unwrap_or_default();
    let subjects = room.store.subjects(&attestation.statement)?;
    Ok(lookout.artifact(&trees, &attestation.artifact_root, &subjects)?)
}

/// What a bundle on the shelf mentions; nothing if it is damaged.
fn mentions(room: &Room, statement: Sha256) -> Result<Mentions, GcError> {
    let bundle = room.shelf.bundle(statement)?;
    let bundle = bundle.and_then(|bundle| Bundle::parse(&bundle).ok());
    Ok(bundle.map(|bundle| Mentions::of(bundle.payload())).unwrap_or_default())
}
