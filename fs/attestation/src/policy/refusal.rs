use attestfs_digest::Sha256;

/// Why a policy does not accept what is attested: check 11.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// The rule refuses everything that it has.
    #[error("rule {rule} refuses '{name}': {reason}")]
    Forbidden {
        /// The number of the rule.
        rule: usize,
        /// The file.
        name: String,
        /// In the words of the policy.
        reason: String,
    },
    /// Good, and of a kind that does not count.
    #[error("vouched for by {kind}, and rule {rule} wants {accepted}")]
    Kind {
        /// The number of the rule.
        rule: usize,
        /// What vouches for it.
        kind: &'static str,
        /// What would count.
        accepted: &'static str,
    },
    /// Good, and by somebody whom the policy knows for other files.
    #[error("signed by '{signer}', and rule {rule} wants {}", one_of(.accepted))]
    Signer {
        /// The number of the rule.
        rule: usize,
        /// The name in the policy.
        signer: String,
        /// Who would count.
        accepted: Vec<String>,
    },
    /// Made by a stage that should not have made it.
    #[error("made by the stage '{stage}', and rule {rule} wants {}", one_of(.accepted))]
    Stage {
        /// The number of the rule.
        rule: usize,
        /// Which made it.
        stage: String,
        /// Which should have made it.
        accepted: Vec<String>,
    },
    /// A model signature says nothing of stages.
    #[error("vouched for by a model signature, which names no stage, and rule {rule} wants {}", one_of(.accepted))]
    NoStage {
        /// The number of the rule.
        rule: usize,
        /// Which should have made it.
        accepted: Vec<String>,
    },
    /// Some vouch for it, and more must.
    #[error("vouched for by {}, and rule {rule} wants {least} of {}", listed(.signed), listed(.accepted))]
    TooFew {
        /// The number of the rule.
        rule: usize,
        /// Who vouches for it.
        signed: Vec<String>,
        /// How many must.
        least: usize,
        /// Who would count.
        accepted: Vec<String>,
    },
    /// Good, and not the one that the rule names.
    #[error("published by attestation {attestation}, and rule {rule} is pinned to {pinned}")]
    Pinned {
        /// The number of the rule.
        rule: usize,
        /// Which speaks of the file.
        attestation: Sha256,
        /// Which should.
        pinned: Sha256,
    },
    /// Whether the content is what was attested cannot be said as surely as the rule wants it.
    #[error("'{name}' cannot be verified: {reason}")]
    Unverified {
        /// The file.
        name: String,
        /// A sentence.
        reason: String,
    },
    /// Good by the name that it has, and whoever wants it may be coming by the one that it had.
    #[error("it was called '{former}' a moment ago, and nobody vouches for that name")]
    Renamed {
        /// The name that it had.
        former: String,
    },
    /// It is a symbolic link to where nothing is guarded.
    #[error(
        "'{name}' is a link out of the tree, to where nothing is guarded, or to nobody knows where"
    )]
    LeadsOut {
        /// The link.
        name: String,
    },
}

impl PolicyRefusal {
    /// What whoever reads this can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => {
                "use another format, or take the path out of the rule if whoever owns the policy agrees"
            }
            Self::Kind { .. } => {
                "make it under 'attestfs run' for provenance, or sign its directory with 'attestfs sign'; or add the kind to 'kinds' of the rule"
            }
            Self::Signer { .. } => "have it signed by one of those, or add the signer to the rule",
            Self::Stage { .. } | Self::NoStage { .. } => {
                "use what such a stage made, or add the stage to 'stages' of the rule"
            }
            Self::TooFew { .. } => {
                "have the others sign, too: 'attestfs sign' for a directory, or a run under their key"
            }
            Self::Pinned { .. } => {
                "restore what was pinned, or write the new attestation into the rule"
            }
            Self::Renamed { .. } => "try again in 3 seconds",
            Self::LeadsOut { .. } => {
                "let it lead to a file inside the tree, by a relative path that goes up at its beginning only, or put the file in its place"
            }
            Self::Unverified { .. } => {
                "try again when nobody writes to it; if it stays so, see to the storage below or choose another level for the rule"
            }
        }
    }
}

fn one_of(names: &[String]) -> String {
    match names {
        [one] => format!("'{one}'"),
        names => format!("one of {}", listed(names)),
    }
}

/// Names, but not at any length.
fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<_> = names.iter().take(SHOWN_MAX).map(|name| format!("'{name}'")).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
