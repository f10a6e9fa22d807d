//! A real classifier in three stages, each behind `attestfs run`: does this bearing sound healthy?
//!
//! `cargo run --release --example quickstart` tells the whole story in a directory of its own, and
//! removes it; with `-- --keep` it stays. The stages are this same program, started as
//! `quickstart clean`, `quickstart train` and `quickstart evaluate`: ordinary programs that read
//! and write ordinary files, and know nothing of attestfs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that tells a story")]

mod clean;
mod condition;
mod evaluate;
mod network;
mod random;
mod raw;
mod safetensors;
mod shell;
mod story;
mod table;
mod train;

use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => story::tell(story::Afterwards::Remove),
        ["--keep"] => story::tell(story::Afterwards::Keep),
        ["clean"] => stage(clean::run()),
        ["train"] => stage(train::run()),
        ["evaluate"] => stage(evaluate::run()),
        _ => {
            eprintln!("usage: quickstart [--keep]");
            ExitCode::from(2)
        }
    }
}

fn stage(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}
