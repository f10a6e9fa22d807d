//! What may be signed: a statement, with any predicate or one of ours, and what it mentions.

use attestfs_attestation::{IncompleteRun, Payload, Provenance, Statement};
use attestfs_daemon::publication::Mentions;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::told::is_told;

target!("statement", holds);

fn holds(bytes: &[u8]) {
    let payload = Payload::new(bytes.to_vec());
    let any = read::<Value>(&payload);
    for narrower in
        [read::<Provenance>(&payload), read::<IncompleteRun>(&payload)].into_iter().flatten()
    {
        assert!(str::from_utf8(bytes).is_ok());
        // Whoever reads every field may be stricter, and reads no other statement.
        assert!(any.as_ref().is_none_or(|any| *any == narrower), "{any:?}, {narrower:?}");
    }
    if any.is_some() {
        payload.header().unwrap();
    }
    let mentioned = Mentions::of(&payload);
    assert!(mentioned.attestations.len() + mentioned.manifests.len() <= bytes.len() / 64);
}

/// What kind of statement it is, and about how much: the same when it is written and read again.
fn read<P: Serialize + DeserializeOwned>(payload: &Payload) -> Option<(String, String, usize)> {
    let statement: Statement<P> = match payload.statement() {
        Ok(statement) => statement,
        Err(error) => {
            is_told(&error);
            return None;
        }
    };
    let again = Payload::of(&statement);
    let twice = Payload::of(&again.statement::<P>().unwrap());
    assert_eq!(twice.bytes(), again.bytes());
    Some((statement.statement_type, statement.predicate_type, statement.subject.len()))
}
