use crate::statement::Malformed;

/// Why a statement is no model signature that we can check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OmsError {
    /// Fields are missing, or are of another kind.
    #[error("it does not read as a model signature: {0}")]
    Json(#[from] Malformed),
    /// It should name the directory, once.
    #[error("it has {count} subjects: a model signature has one, with a name")]
    Subjects {
        /// How many.
        count: usize,
    },
    /// The digest over all resources is another one: the list is not what its author meant.
    #[error("its root digest does not fit its list of files")]
    RootDigest,
    /// `shards`, or a method of the future.
    #[error(
        "it was made with method '{method}': attestfs checks 'files'; sign the model again with whole files"
    )]
    Method {
        /// As found.
        method: String,
    },
    /// `blake2b`, or a hash of the future.
    #[error("it was made with hash type '{hash_type}': attestfs checks 'sha256' and 'blake3'")]
    HashType {
        /// As found.
        hash_type: String,
    },
    /// A signature over nothing admits nothing.
    #[error("it lists no file")]
    Empty,
    /// A bare file was signed: `.`.
    #[error("it signs a single file, not a directory: put the file into a directory and sign that")]
    SingleFile,
    /// Two readers could take it for two files.
    #[error("it lists '{name}', which is no canonical path below the model")]
    Name {
        /// As found, clipped.
        name: String,
    },
    /// One name, two contents.
    #[error("it lists '{name}' twice")]
    Duplicate {
        /// As found.
        name: String,
    },
    /// Two readers could take it for two digests.
    #[error("the digest of '{name}' is not {expected} with 64 lower-case hexadecimal digits")]
    Digest {
        /// Of the resource.
        name: String,
        /// The statement's own hash type.
        expected: &'static str,
    },
    /// It would exclude more than it names.
    #[error("it ignores '{path}', which is no plain path below the model")]
    IgnorePath {
        /// As found, clipped.
        path: String,
    },
}
