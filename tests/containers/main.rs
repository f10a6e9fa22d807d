//! Where attestfs is delivered to: containers, made by podman of Debian in a root filesystem of
//! debootstrap; the manifests for Kubernetes; the units for systemd.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/ended.rs"]
mod ended;
#[path = "../common/require.rs"]
mod require;

mod lab;
mod models;
mod needs;
mod node;
mod podman;

mod host;
mod kubernetes;
mod sidecar;
mod systemd;
