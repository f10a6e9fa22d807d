//! The control socket: what is said on it, how it is framed, and who answers.

mod frame;
mod keys;
mod message;
mod mounts;
mod passing;
pub(crate) mod server;
pub(crate) mod service;
mod shown;
mod socket;
#[cfg(test)]
mod tests;
mod visitor;
mod watched;

pub use frame::{FRAME_BYTES_MAX, FrameError, FrameReader, encode, send, send_with};
pub use message::{
    Answer, ArtifactOrder, ArtifactReport, AttestationFilter, Code, CommitOrder, CommitReport,
    Condition, Failure, FromClient, FromDaemon, Hello, LineageQuestion, LineageRoot, LiveRun,
    ModelSignature, MountDescription, MountSummary, Overview, PendingCommit, Push, Pushed, Reply,
    Request, RunSummary, ServedMount, StageDetails, StageOrder, StatusReport, VERSION,
};
pub(crate) use shown::ShownReport;
pub use socket::{connect, listen, unlisten};
pub(crate) use watched::Watched;
