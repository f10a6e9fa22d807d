use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::Around;
use crate::{oms::Content, verify::Publications};

/// May this file be opened?
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "stores need not be printable")]
pub struct Question<'a> {
    /// The path relative to the mount, as [`crate::escaped`] spells it: for messages.
    pub name: &'a str,
    /// The absolute path in the backing tree, as [`crate::escaped`] spells it: what the artifact
    /// roots of statements are compared with.
    pub path: &'a str,
    /// What the file holds, as it was found.
    pub content: Content,
    /// The directories that it lies in, the nearest first.
    pub around: &'a [Around],
    /// What is published.
    pub store: &'a dyn Publications,
    /// The time.
    pub now: Timestamp,
}

/// Why a file may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The attestations that counted: model signatures first, then provenance.
    pub attestations: Vec<Sha256>,
    /// Who vouched, by their names in the policy, sorted. A signature that fits several stands for one.
    pub signers: Vec<String>,
    /// Until when all of that counts: certificates end.
    pub valid_until: Option<Timestamp>,
    /// The stage that made it, if provenance tells.
    pub stage: Option<String>,
    /// The run that made it, if provenance tells.
    pub run: Option<String>,
}
