//! One test per threat, named as the threat, against the real program. Each says which check it stands
//! on: with that check taken out, it fails.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/ended.rs"]
mod ended;
#[path = "../common/guarded.rs"]
mod guarded;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/lab.rs"]
mod lab;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/mounted.rs"]
mod mounted;
#[path = "../common/needs.rs"]
mod needs;
#[path = "../common/require.rs"]
mod require;

mod disk;
mod forging;
mod scene;

mod bytes;
mod evidence;
mod forgery;
mod full_disk;
mod laundering;
mod links;
mod loaders;
mod places;
mod replay;
mod strangers;
mod swaps;
mod writing;
