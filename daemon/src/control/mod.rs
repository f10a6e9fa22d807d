//! The control socket: what is said on it, how it is framed, and who answers.

mod frame;
mod keys;
mod message;
pub(crate) mod server;
pub(crate) mod service;
mod socket;
#[cfg(test)]
mod tests;
mod visitor;

pub use frame::{FRAME_BYTES_MAX, FrameError, FrameReader, encode, send};
pub use message::{
    Answer, ArtifactOrder, ArtifactReport, AttestationFilter, Code, CommitOrder, CommitReport,
    Failure, FromClient, FromDaemon, Hello, LineageQuestion, LineageRoot, ModelSignature,
    PendingCommit, Push, Reply, Request, RunSummary, StageDetails, StatusReport, VERSION,
};
pub use socket::{connect, listen, unlisten};
