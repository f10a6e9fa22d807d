use std::{
    fs,
    path::{Path, PathBuf},
};

use attestfs_digest::Sha256;
use attestfs_fs::Identity;
use clap::ValueEnum;

use super::{
    digits::refuse_upper_case,
    exit::Exit,
    failure::Failure,
    output::{Output, print},
    progress::Progress,
    query::{Store, known_path},
};
use crate::{
    artifact::{content_at, open_file},
    client::{Client, ClientError},
    config::Environment,
    control::{Code, LineageQuestion, LineageRoot, Reply, Request},
    lineage::{self, Direction, Graph},
};

/// Show where a file came from, or what became of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs lineage model/model.safetensors                  back to the raw data
  attestfs lineage data/raw/poisoned.csv --descendants      what it touched
  attestfs lineage --latest model --format mermaid
  attestfs lineage sha256:2cacb0ae68aaa64da65b59e51b449ae39982d0f5173a7425b318e1e966e91b6e")]
pub(super) struct Lineage {
    /// A file, or a SHA-256; with --latest a directory
    #[arg(value_name = "PATH|DIGEST")]
    root: PathBuf,

    /// What became of it, instead of where it came from
    #[arg(long)]
    descendants: bool,

    /// Begin at what was last published at or below PATH
    #[arg(long)]
    latest: bool,

    /// How many runs to follow at most
    #[arg(long, value_name = "RUNS")]
    depth: Option<usize>,

    /// How it is shown; --json means json
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,

    #[command(flatten)]
    store: Store,
}

/// `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Tree,
    Json,
    Dot,
    Mermaid,
}

impl Lineage {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let root = self.root()?;
        let daemon = self.store.daemon(environment)?;
        let graph = self.ask(&daemon, root)?;
        let format = if output.is_json() { Format::Json } else { self.format };
        print(lineage::render(&graph, format.into()).as_bytes())?;
        Ok(Exit::Yes)
    }

    fn root(&self) -> Result<LineageRoot, Failure> {
        if self.latest {
            return Ok(LineageRoot::Latest(known_path(&self.root)?));
        }
        let found = fs::metadata(&self.root);
        if let (Err(_), Some(digest)) = (&found, digest(&self.root)) {
            return Ok(LineageRoot::Digest(digest));
        }
        refuse_upper_case(&self.root)?;
        if found.is_ok_and(|found| found.is_dir()) {
            let message = format!("{}: lineage begins at a file", self.root.display());
            return Err(Failure::usage(message).with_next_step(
                "give --latest to begin at what was last published below the directory",
            ));
        }
        file(&self.root)
    }

    /// A file is hashed only when the store does not know it by what a `stat` says.
    fn ask(&self, daemon: &Client, root: LineageRoot) -> Result<Graph, Failure> {
        match (self.question(daemon, root.clone()), root) {
            (
                Err(ClientError::Refused(refusal)),
                LineageRoot::File { identity, path, sha256: None },
            ) if refusal.code == Code::NotFound => {
                let sha256 = Some(hash(&self.root)?);
                let root = LineageRoot::File { identity, path, sha256 };
                Ok(self.question(daemon, root)?)
            }
            (answer, _) => Ok(answer?),
        }
    }

    fn question(&self, daemon: &Client, root: LineageRoot) -> Result<Graph, ClientError> {
        let direction =
            if self.descendants { Direction::Descendants } else { Direction::Ancestors };
        let question = LineageQuestion { root, direction, depth: self.depth };
        match daemon.call(Request::Lineage { question })? {
            Reply::Lineage(graph) => Ok(graph),
            _ => Err(ClientError::Unexpected),
        }
    }
}

impl From<Format> for lineage::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Tree => Self::Tree,
            Format::Json => Self::Json,
            Format::Dot => Self::Dot,
            Format::Mermaid => Self::Mermaid,
        }
    }
}

fn file(path: &Path) -> Result<LineageRoot, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::environment(format_args!("{}: {error}", path.display()))
    };
    let file = open_file(path).map_err(|error| failed(&error))?;
    let identity = Identity::of(&file).map_err(|error| failed(&error))?;
    Ok(LineageRoot::File { identity, path: known_path(path)?, sha256: None })
}

fn hash(path: &Path) -> Result<Sha256, Failure> {
    let content = content_at(path, &Progress::new());
    content
        .map(|content| content.sha256())
        .map_err(|error| Failure::environment(format_args!("{}: {error}", path.display())))
}

/// The digest that somebody typed, with or without `sha256:`.
fn digest(text: &Path) -> Option<Sha256> {
    let text = text.to_str()?;
    text.strip_prefix("sha256:").unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_may_say_of_what_kind_it_is() {
        let hex = "2cacb0ae68aaa64da65b59e51b449ae39982d0f5173a7425b318e1e966e91b6e";
        assert!(digest(Path::new(hex)).is_some());
        assert_eq!(digest(Path::new(&format!("sha256:{hex}"))), digest(Path::new(hex)));
        for wrong in ["", "sha256:", "blake3:00", &hex[1..], "model"] {
            assert_eq!(digest(Path::new(wrong)), None, "{wrong:?}");
        }
    }
}
