use std::{error::Error, path::PathBuf};

use attestfs_fs::RunVersion;

use super::{CommitId, RunId};

/// Why the lineage store did not do what it was asked for. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// Another process holds the database.
    #[error(
        "the lineage store in {} is in use: another daemon owns it; stop that one, or use another --state",
        path.display()
    )]
    Locked {
        /// Its folder.
        path: PathBuf,
    },
    /// The database was written by another version of attestfs.
    #[error(
        "the lineage store in {} has schema {found}, this attestfs reads schema {expected}; use the attestfs that wrote it, or another --state",
        path.display()
    )]
    Schema {
        /// Its folder.
        path: PathBuf,
        /// What it says of itself.
        found: String,
        /// What we read.
        expected: u32,
    },
    /// No run of that name began here.
    #[error("this store knows no run '{0}'")]
    UnknownRun(RunId),
    /// The name of a run is empty or too long.
    #[error("'{name}' cannot be the name of a {what}: expected 1 to {bytes_max} bytes")]
    BadName {
        /// Run or commit.
        what: &'static str,
        /// The first characters of it.
        name: String,
        /// The bound.
        bytes_max: usize,
    },
    /// Two runs claim one name.
    #[error("run '{0}' is known and was described differently; a run id is used once")]
    RunDiffers(RunId),
    /// The run is over.
    #[error("run '{0}' has ended; nothing more can be recorded of it")]
    RunEnded(RunId),
    /// Two ends are claimed for one run.
    #[error("run '{0}' has ended already, with another outcome or at another time")]
    EndDiffers(RunId),
    /// A part of the journal is missing, or overlaps what was taken in.
    #[error(
        "the journal of run '{run}' was read up to byte {ingested}, but facts from byte {start} to {end} were given; continue at {ingested}"
    )]
    JournalGap {
        /// Whose journal.
        run: RunId,
        /// Where the last ingested range ended.
        ingested: u64,
        /// Of the range that was given.
        start: u64,
        /// Of the range that was given.
        end: u64,
    },
    /// A fact contradicts an earlier one of its run: the journal is damaged.
    #[error(
        "fact {index} after byte {start} of the journal of run '{run}' cannot be: version {} {problem}",
        version.0
    )]
    BadFact {
        /// Whose journal.
        run: RunId,
        /// Where the ingested range starts.
        start: u64,
        /// Of the fact within the range, from 0.
        index: usize,
        /// The version it speaks of.
        version: RunVersion,
        /// What is wrong.
        problem: FactProblem,
    },
    /// Other bytes were frozen for this commit.
    #[error("commit '{0}' is frozen with other content; a commit id is used once")]
    FrozenDiffers(CommitId),
    /// The commit is published, so nothing is left to freeze.
    #[error("commit '{0}' is published already; a commit id is used once")]
    AlreadyPublished(CommitId),
    /// Nothing was frozen under this name.
    #[error("commit '{0}' was never frozen, so it cannot be published")]
    NotFrozen(CommitId),
    /// More bytes than one record may have.
    #[error("{what} has {bytes} bytes, more than the {bytes_max} that the lineage store keeps")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A record cannot be what it should be.
    #[error(
        "the lineage store is damaged: {what}; move its folder away and start again, signed bundles are not affected"
    )]
    Damaged {
        /// Which record, and how it looks.
        what: String,
    },
    /// The database itself failed.
    #[error("the lineage database failed: {0}")]
    Database(#[source] Box<dyn Error + Send + Sync>),
}

/// How a fact contradicts an earlier one of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactProblem {
    /// `Opened` or `Written` again.
    #[error("is introduced a second time")]
    Known,
    /// Spoken of before it was opened or written.
    #[error("was neither opened nor written before")]
    Unknown,
    /// Sealed, unsealed or gone, but it was opened and not written.
    #[error("was opened by this run, not written")]
    Material,
    /// Hashed or not hashed, but it was written and not opened.
    #[error("was written by this run, not opened")]
    Output,
    /// The path names a `--dir` that the run does not have.
    #[error("lies in a tree that the run does not have")]
    Tree,
    /// The digest is said to be of another file.
    #[error("is said to be another file than before")]
    File,
}
