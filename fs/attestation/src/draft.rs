//! From a commit to the bytes that are signed.

use std::collections::BTreeSet;

use attestfs_digest::Sha256;
use serde::Serialize;

use crate::{
    incomplete::{INCOMPLETE_TYPE, IncompleteRun},
    manifest::{LISTED_MAX, Manifest},
    name::{is_canonical, is_publication},
    provenance::{PROVENANCE_TYPE, Provenance, manifest_descriptor},
    run::{Commit, Output},
    statement::{Payload, ResourceDescriptor, Statement},
};

/// A statement that nobody has signed yet. The same commit gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What will be signed.
    pub payload: Payload,
    /// [`PROVENANCE_TYPE`] or [`INCOMPLETE_TYPE`].
    pub predicate_type: &'static str,
    /// Lists that the statement refers to; each is to be kept as `<its sha256>.manifest`.
    pub manifests: Vec<Manifest>,
    /// Files that the statement names, itself or in a manifest: name and digest, sorted.
    pub subjects: Vec<(String, Sha256)>,
}

/// Why a commit makes no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// A statement without subject says nothing about anything.
    #[error("the run wrote nothing below '{root}' that could be attested")]
    NothingWritten {
        /// Its path.
        root: String,
    },
    /// Absolute, empty, with `..`, or the like.
    #[error("'{name}' is no path relative to the artifact's root")]
    Name {
        /// As given.
        name: String,
    },
    /// Two contents cannot have one name.
    #[error("'{name}' is named twice")]
    Duplicate {
        /// As given.
        name: String,
    },
}

impl Commit {
    /// Writes the statement: SLSA provenance of what succeeded, an incomplete run of what did not.
    ///
    /// # Errors
    /// There is nothing to attest, or the names of the outputs are not those of files below the
    /// root.
    pub fn draft(&self) -> Result<Draft, DraftError> {
        let subjects = self.subjects()?;
        let (descriptors, subject_manifest) = self.describe(&subjects);
        let (provenance, mut manifests) = Provenance::of(self);
        manifests.extend(subject_manifest);
        let (payload, predicate_type) = if self.kind.vouches() {
            (payload(descriptors, PROVENANCE_TYPE, provenance), PROVENANCE_TYPE)
        } else {
            let incomplete = IncompleteRun::of(self.kind, provenance);
            (payload(descriptors, INCOMPLETE_TYPE, incomplete), INCOMPLETE_TYPE)
        };
        Ok(Draft {
            payload,
            predicate_type,
            manifests,
            subjects: subjects
                .iter()
                .map(|output| (output.name.clone(), output.digests.sha256))
                .collect(),
        })
    }

    /// The outputs in order, less the files that a commit itself writes.
    fn subjects(&self) -> Result<Vec<&Output>, DraftError> {
        let mut subjects: Vec<&Output> =
            self.outputs.iter().filter(|output| !is_publication(&output.name)).collect();
        subjects.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let mut names = BTreeSet::new();
        for Output { name, .. } in &subjects {
            if !is_canonical(name) {
                return Err(DraftError::Name { name: name.clone() });
            }
            if !names.insert(name) {
                return Err(DraftError::Duplicate { name: name.clone() });
            }
        }
        if subjects.is_empty() {
            return Err(DraftError::NothingWritten { root: self.root.path.clone() });
        }
        Ok(subjects)
    }

    fn describe(&self, subjects: &[&Output]) -> (Vec<ResourceDescriptor>, Option<Manifest>) {
        if subjects.len() <= LISTED_MAX {
            let descriptors = subjects
                .iter()
                .map(|output| ResourceDescriptor::file(&output.name, &output.digests, output.size))
                .collect();
            return (descriptors, None);
        }
        let manifest = Manifest::of(
            subjects.iter().map(|output| (output.name.as_str(), output.digests.sha256)),
        );
        let name = format!("{}.manifest", self.root.name);
        (vec![manifest_descriptor(&name, &manifest)], Some(manifest))
    }
}

fn payload<P: Serialize>(subject: Vec<ResourceDescriptor>, kind: &str, predicate: P) -> Payload {
    Payload::of(&Statement::new(subject, kind, predicate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        manifest::Listing,
        run::{CommitKind, LeftOut, Material, MaterialDigests, Outcome},
        statement::sha256,
        testing::{commit, material, output},
    };

    fn trained() -> Commit {
        Commit {
            outputs: vec![output("b/weights.bin", "WEIGHTS"), output("a.json", "{}")],
            materials: vec![
                Material { attestation: Some(Sha256([9; 32])), ..material("raw.csv", "1,2") },
                Material {
                    digests: MaterialDigests::Unknown("it changed".to_owned()),
                    declared: false,
                    ..material("huge.bin", "")
                },
            ],
            left_out: vec![LeftOut {
                name: "log.txt".to_owned(),
                reason: "still open for writing".to_owned(),
            }],
            ..commit("train")
        }
    }

    fn statement(commit: &Commit) -> Value {
        serde_json::from_slice(commit.draft().unwrap().payload.bytes()).unwrap()
    }

    fn many<T>(count: usize, one: impl Fn(&str, &str) -> T) -> Vec<T> {
        (0..count).map(|number| one(&format!("f{number}"), &number.to_string())).collect()
    }

    #[test]
    fn a_commit_of_nothing_is_refused() {
        let nothing = commit("train").draft();
        assert!(matches!(nothing, Err(DraftError::NothingWritten { .. })));
        let only_published = Commit {
            outputs: vec![output("model.sig", "x"), output("sub/claims.jsonl", "y")],
            ..commit("train")
        };
        assert!(matches!(only_published.draft(), Err(DraftError::NothingWritten { .. })));
    }

    #[test]
    fn names_that_are_not_those_of_files_below_the_root_are_refused() {
        for name in ["", "/a", "../a", "a//b"] {
            let commit = Commit { outputs: vec![output(name, "x")], ..commit("train") };
            assert!(matches!(commit.draft(), Err(DraftError::Name { .. })), "{name}");
        }
        let twice = Commit { outputs: vec![output("a", "x"), output("a", "y")], ..commit("train") };
        assert_eq!(twice.draft(), Err(DraftError::Duplicate { name: "a".to_owned() }));
    }

    #[test]
    fn provenance_is_written_as_documented() {
        let expected: Value =
            serde_json::from_str(include_str!("../vectors/provenance.json")).unwrap();
        assert_eq!(statement(&trained()), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let draft = trained().draft().unwrap();
        let read: Statement<Provenance> = draft.payload.statement().unwrap();
        assert_eq!(Payload::of(&read), draft.payload);
        assert_eq!(draft.predicate_type, PROVENANCE_TYPE);
        let names: Vec<&str> = draft.subjects.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.json", "b/weights.bin"]);
    }

    #[test]
    fn a_checkpoint_is_provenance_of_a_run_that_goes_on() {
        let commit = Commit { kind: CommitKind::Checkpoint, ..trained() };
        let statement = statement(&commit);
        assert_eq!(statement["predicateType"], PROVENANCE_TYPE);
        let parameters = &statement["predicate"]["buildDefinition"]["internalParameters"];
        assert_eq!(parameters["commit"], "checkpoint");
        assert_eq!(parameters["outcome"], "running");
    }

    #[test]
    fn a_run_that_did_not_succeed_is_never_slsa_provenance() {
        let failed = Outcome::Failed { exit_code: None, signal: Some(9) };
        for (outcome, word, signal) in
            [(failed, "failed", json!(9)), (Outcome::Unknown, "unknown", Value::Null)]
        {
            let commit = Commit { kind: CommitKind::StageEnd(outcome), ..trained() };
            assert_eq!(commit.draft().unwrap().predicate_type, INCOMPLETE_TYPE);
            let statement = statement(&commit);
            assert_eq!(statement["predicateType"], INCOMPLETE_TYPE);
            assert_eq!(statement["predicate"]["signal"], signal);
            let run = &statement["predicate"]["run"]["buildDefinition"];
            assert_eq!(run["internalParameters"]["outcome"], word);
        }
    }

    #[test]
    fn a_thousand_subjects_are_listed_and_one_more_makes_a_manifest() {
        let listed = Commit { outputs: many(LISTED_MAX, output), ..commit("train") };
        assert_eq!(statement(&listed)["subject"].as_array().unwrap().len(), LISTED_MAX);

        let draft =
            Commit { outputs: many(LISTED_MAX + 1, output), ..commit("train") }.draft().unwrap();
        let [manifest] = draft.manifests.as_slice() else { panic!("one manifest") };
        let statement: Statement<Provenance> = draft.payload.statement().unwrap();
        let [subject] = statement.subject.as_slice() else { panic!("one subject") };
        assert_eq!(subject.name.as_deref(), Some("model.manifest"));
        assert_eq!(subject.digest.sha256(), Some(sha256(manifest.bytes())));
        assert_eq!(subject.annotation("files"), Some("1001"));
        let listing = Listing::parse(manifest.bytes()).unwrap();
        assert!(listing.files().any(|file| file == ("f1000", sha256(b"1000"))));
        assert_eq!(draft.subjects.len(), LISTED_MAX + 1);
    }

    #[test]
    fn many_materials_become_manifests_by_declaration_and_keep_their_attestations() {
        let mut commit = Commit { materials: many(LISTED_MAX + 1, material), ..trained() };
        commit.materials[0].declared = false;
        commit.materials[1].digests = MaterialDigests::Unknown("too large".to_owned());
        commit.materials[2].attestation = Some(Sha256([7; 32]));
        commit.materials[3].attestation = Some(Sha256([7; 32]));
        let draft = commit.draft().unwrap();
        let statement: Statement<Provenance> = draft.payload.statement().unwrap();
        let definition = statement.predicate.build_definition;
        let described: Vec<(&str, &str, Option<&str>)> = definition
            .resolved_dependencies
            .iter()
            .map(|dependency| {
                (
                    dependency.name.as_deref().unwrap(),
                    dependency.annotation("role").unwrap(),
                    dependency.annotation("files"),
                )
            })
            .collect();
        let attestation = "07".repeat(32);
        assert_eq!(
            described,
            [
                ("materials.declared.manifest", "materials", Some("999")),
                ("materials.undeclared.manifest", "materials", Some("1")),
                (attestation.as_str(), "attestation", None),
                ("python 3", "executable", None),
            ]
        );
        assert_eq!(definition.internal_parameters.materials_unlisted.as_deref(), Some("1"));
        assert_eq!(draft.manifests.len(), 2);
    }

    #[test]
    fn files_left_out_are_listed_up_to_the_bound_and_counted_beyond() {
        let left_out = many(LISTED_MAX + 3, |name, reason| LeftOut {
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
        let statement = statement(&Commit { left_out, ..trained() });
        let parameters = &statement["predicate"]["buildDefinition"]["internalParameters"];
        assert_eq!(parameters["leftOut"].as_array().unwrap().len(), LISTED_MAX);
        assert_eq!(parameters["leftOutUnlisted"], "3");
    }

    #[test]
    fn a_program_that_could_not_be_read_is_named_without_digest() {
        let mut commit = trained();
        commit.run.executable.as_mut().unwrap().sha256 = None;
        let statement = statement(&commit);
        let program = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][2];
        assert_eq!(program.get("digest"), None);
        assert_eq!(program["annotations"]["digestUnknown"], "it could not be read");
    }

    fn shuffled() -> impl Strategy<Value = Commit> {
        let mut commit = trained();
        commit.materials.push(material("raw.csv", "another version"));
        let outputs = Just(commit.outputs.clone()).prop_shuffle();
        let materials = Just(commit.materials.clone()).prop_shuffle();
        (Just(commit), outputs, materials).prop_map(|(commit, outputs, materials)| Commit {
            outputs,
            materials,
            ..commit
        })
    }

    proptest! {
        #[test]
        fn the_order_of_what_was_seen_does_not_change_the_statement(
            one in shuffled(),
            other in shuffled(),
        ) {
            prop_assert_eq!(one.draft().unwrap(), other.draft().unwrap());
        }
    }
}
