use std::collections::BTreeSet;

use attestfs_attestation::{Payload, ResourceDescriptor};
use attestfs_digest::Sha256;
use serde_json::Value;

/// What else of a shelf an attestation speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Those that published its materials.
    pub attestations: BTreeSet<Sha256>,
    /// The manifests that stand for its subjects or materials.
    pub manifests: BTreeSet<Sha256>,
}

/// Where a predicate has its materials: provenance, and the provenance inside an incomplete run.
const DEPENDENCIES: [&str; 2] =
    ["/buildDefinition/resolvedDependencies", "/run/buildDefinition/resolvedDependencies"];

impl Mentions {
    /// What this statement mentions. Nothing of it is checked.
    pub fn of(payload: &Payload) -> Self {
        let mut mentions = Self::default();
        let Ok(statement) = payload.statement::<Value>() else {
            return mentions;
        };
        let dependencies = DEPENDENCIES.iter().filter_map(|place| {
            let list = statement.predicate.pointer(place)?;
            serde_json::from_value::<Vec<ResourceDescriptor>>(list.clone()).ok()
        });
        let dependencies: Vec<_> = dependencies.flatten().collect();
        for described in statement.subject.iter().chain(&dependencies) {
            mentions.take(described);
        }
        mentions
    }

    fn take(&mut self, described: &ResourceDescriptor) {
        if described.annotation("manifest").is_some() {
            self.manifests.extend(described.digest.sha256());
        }
        if described.annotation("role") == Some("attestation") {
            self.attestations.extend(described.digest.sha256());
        }
        let published = described.annotation("attestation");
        self.attestations.extend(published.and_then(|name| name.parse::<Sha256>().ok()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mentions(statement: &Value) -> Mentions {
        Mentions::of(&Payload::new(statement.to_string().into_bytes()))
    }

    fn descriptor(byte: u8, annotations: &Value) -> Value {
        let sha256 = Sha256([byte; 32]).to_string();
        json!({"name": "x", "digest": {"sha256": sha256}, "annotations": annotations})
    }

    #[test]
    fn what_a_statement_was_made_from_is_found_in_each_kind_of_predicate() {
        let subject = descriptor(1, &json!({"manifest": "sha256sum"}));
        let published = Sha256([2; 32]).to_string();
        let dependencies = json!([
            descriptor(9, &json!({"role": "material", "attestation": published})),
            descriptor(3, &json!({"role": "attestation"})),
            descriptor(4, &json!({"role": "materials", "manifest": "sha256sum"})),
            descriptor(9, &json!({"role": "material", "attestation": "no digest"})),
        ]);
        let provenance = json!({"buildDefinition": {"resolvedDependencies": dependencies}});
        for predicate in [provenance.clone(), json!({"run": provenance})] {
            let found = mentions(&json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [subject], "predicateType": "x", "predicate": predicate,
            }));
            let digests = |bytes: [u8; 2]| bytes.map(|byte| Sha256([byte; 32])).into();
            assert_eq!(found.attestations, digests([2, 3]));
            assert_eq!(found.manifests, digests([1, 4]));
        }
    }

    #[test]
    fn what_is_no_statement_mentions_nothing() {
        for text in ["", "{}", "[[[["] {
            assert_eq!(Mentions::of(&Payload::new(text.into())), Mentions::default());
        }
    }
}
