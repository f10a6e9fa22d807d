//! A policy, with the keys and certificates that it names or has in it.

use attestfs_attestation::Policy;

use crate::{corpus, told::is_told};

target!("policy", holds);

/// A name that rules may have.
const PATH: &str = "model.safetensors";

fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let policy = match Policy::parse(text, &mut read) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(
                error.line.is_none_or(|line| (1..=text.lines().count() + 1).contains(&line)),
                "{error}"
            );
            return is_told(&error);
        }
    };
    assert!((1..=Policy::RULES_MAX).contains(&policy.rules().len()));
    // What was read is kept in one file.
    let written = policy.to_string();
    let again =
        Policy::parse(&written, &mut |file| Err(format!("{file} was to be within"))).unwrap();
    assert_eq!(again.to_string(), written);
    assert_eq!(again.mode(), policy.mode());
    assert!(again.signers().eq(policy.signers()));
    let number =
        |policy: &Policy| policy.rule_for(PATH).map(|rule| (rule.number(), rule.demands()));
    assert_eq!(number(&again), number(&policy));
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    match file {
        "key.pub" | "authority.pem" => Ok(corpus::read(&format!("trusted/{file}"))),
        _ => Err("it is not there".to_owned()),
    }
}
