use std::fmt;

use crate::{certificate::AuthorityError, key::KeyError};

/// Why a text is no policy, and in which line. A policy with a fault is never used in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// From 1; none when the fault is in no line, such as one that is not there.
    pub line: Option<usize>,
    /// What is wrong there.
    pub fault: Box<Fault>,
}

/// What is wrong with a policy. `place` says where, in words: `rule 2`, `signers.hub`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody writes this by hand.
    #[error("the policy has {length} bytes, more than the {max} that are read", max = super::Policy::TEXT_MAX)]
    TooLarge {
        /// Bytes.
        length: usize,
    },
    /// The text is no TOML.
    #[error("this is no TOML: {0}")]
    Toml(String),
    /// Somebody meant something by it, and it would not be done.
    #[error("unknown key '{key}' in {place}: {}", meant.as_ref().map_or_else(|| format!("known are {known}"), |meant| format!("did you mean '{meant}'?")))]
    UnknownKey {
        /// As it stands there, clipped.
        key: String,
        /// Where.
        place: String,
        /// The key that looks most like it, if one does.
        meant: Option<String>,
        /// All that could stand there.
        known: String,
    },
    /// It has no default.
    #[error("{place} has no '{key}': {choose}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Where it belongs.
        place: String,
        /// What to write there.
        choose: &'static str,
    },
    /// Text where a number belongs, and the like.
    #[error("'{key}' of {place} is {found}: expected {expected}")]
    Type {
        /// The key.
        key: String,
        /// Where.
        place: String,
        /// What is there.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A value that means nothing.
    #[error("'{key}' of {place} is '{found}': {choose}")]
    Value {
        /// The key.
        key: &'static str,
        /// Where.
        place: String,
        /// What is there, clipped.
        found: String,
        /// What could be there.
        choose: String,
    },
    /// More than this are not read.
    #[error("{place} has more than {max} {what}")]
    TooMany {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
        /// How many are read.
        max: usize,
    },
    /// An empty list would mean nothing, or everything.
    #[error("'{key}' of {place} is empty: {choose}")]
    Empty {
        /// The key.
        key: &'static str,
        /// Where.
        place: String,
        /// What to write there.
        choose: &'static str,
    },
    /// The same text twice in a list.
    #[error("'{found}' stands twice in '{key}' of {place}")]
    Twice {
        /// What.
        found: String,
        /// The key.
        key: &'static str,
        /// Where.
        place: String,
    },
    /// Two keys that cannot both be meant.
    #[error("{place}: {why}")]
    Contradiction {
        /// Where.
        place: String,
        /// A sentence.
        why: &'static str,
    },
    /// A rule names somebody whom `[signers]` does not.
    #[error("{place} names the signer '{name}', of whom [signers] says nothing{}", meant.as_ref().map_or_else(String::new, |meant| format!(": did you mean '{meant}'?")))]
    UnknownSigner {
        /// The name.
        name: String,
        /// Where.
        place: String,
        /// The name that looks most like it, if one does.
        meant: Option<String>,
    },
    /// One of them would count as two.
    #[error("signers.{first} and signers.{second} are the same: one signature would count for two")]
    SameSigner {
        /// A name.
        first: String,
        /// Another name.
        second: String,
    },
    /// A file that the policy names.
    #[error("{place} names the file '{file}': {reason}")]
    Unreadable {
        /// Where.
        place: String,
        /// As it stands there.
        file: String,
        /// A sentence of whoever tried to read it.
        reason: String,
    },
    /// What is there is no key.
    #[error("the key of {place}: {source}")]
    Key {
        /// Whose.
        place: String,
        /// Why not.
        source: KeyError,
    },
    /// What is there are no certificates of an authority.
    #[error("the ca of {place}: {source}")]
    Authority {
        /// Whose.
        place: String,
        /// Why not.
        source: AuthorityError,
    },
}

impl Fault {
    pub(super) fn at(self, line: usize) -> PolicyError {
        PolicyError { line: Some(line), fault: Box::new(self) }
    }

    pub(super) fn anywhere(self) -> PolicyError {
        PolicyError { line: None, fault: Box::new(self) }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.fault),
            None => write!(f, "{}", self.fault),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}
