//! `--metrics`: what a process counts, as Prometheus asks for it. `begin` serves it from a thread of
//! its own until the process ends; nothing else waits for whoever looks.

mod address;
mod counts;
mod page;
mod server;

pub use address::{Address, MetricsError};
pub(crate) use address::{VARIABLE, wanted};
pub(crate) use counts::{CommitTimer, counts};
pub(crate) use page::Page;
pub(crate) use server::{Server, begin};
