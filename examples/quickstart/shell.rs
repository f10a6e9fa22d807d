//! Commands as somebody would type them, shown and then executed.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

/// A working directory and an environment of our own, so that nothing of the user's is touched.
pub(crate) struct Shell {
    directory: PathBuf,
    search_path: OsString,
}

/// The state directory, as seen from the project.
pub(crate) const STATE: &str = "../state";

/// Why the story cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// attestfs cannot work here, and has said why.
    #[error("this machine cannot run the example; `attestfs doctor` tells what it offers")]
    Environment,
    /// A command did something else than the story says.
    #[error("`{command}` ended with {status}, which is not what this example is about")]
    Unexpected { command: String, status: ExitStatus },
    /// A program is not there, or may not be executed.
    #[error("{program}: {source}")]
    NotStarted { program: String, source: io::Error },
    /// There is no attestfs to show.
    #[error("building attestfs failed: {0}")]
    NotBuilt(String),
    /// A file that should be there is not.
    #[error("{0} is missing")]
    Missing(PathBuf),
    /// Its state cannot be removed while somebody serves it.
    #[error("the store daemon of {} does not end", .0.display())]
    DaemonStays(PathBuf),
    /// The system says no.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Shell {
    /// `directory` is where the commands are executed.
    pub(crate) fn new(directory: PathBuf) -> Result<Self, Trouble> {
        let attestfs = built()?;
        let quickstart = env::current_exe()?;
        let folders = [&attestfs, &quickstart].map(|program| program.parent().map(Path::to_owned));
        let path = inherited_search_path();
        let folders = folders.into_iter().flatten().chain(env::split_paths(&path));
        let search_path = env::join_paths(folders).map_err(io::Error::other)?;
        Ok(Self { directory, search_path })
    }

    /// Shows a command and executes it.
    pub(crate) fn run(&self, line: &str) -> Result<(), Trouble> {
        self.run_expecting(line, 0)
    }

    /// Shows a command and executes it, which is to end with this code.
    pub(crate) fn run_expecting(&self, line: &str, code: i32) -> Result<(), Trouble> {
        println!("$ {line}");
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        let status = Command::new(program)
            .args(words)
            .current_dir(&self.directory)
            .env("PATH", &self.search_path)
            .env("ATTESTFS_STATE", STATE)
            .env("ATTESTFS_IDLE_SECONDS", "1")
            .status()
            .map_err(|source| Trouble::NotStarted { program: program.to_owned(), source })?;
        match status.code() {
            Some(found) if found == code => Ok(()),
            Some(125) => Err(Trouble::Environment),
            _ => Err(Trouble::Unexpected { command: line.to_owned(), status }),
        }
    }

    /// What a reader types to go on by hand.
    pub(crate) fn entrance(&self) -> String {
        let path = self.search_path.to_string_lossy();
        let ours: Vec<&str> = path.split(':').take(2).collect();
        format!(
            "cd {}\nexport ATTESTFS_STATE={STATE} PATH={}:$PATH",
            self.directory.display(),
            ours.join(":")
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "the rule is for the product, which has a config")]
fn inherited_search_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// Has cargo build the program, if it is not there or older than its sources, and say where it is.
/// An example is built without the programs of its package.
fn built() -> Result<PathBuf, Trouble> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--bin", "attestfs", "--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Trouble::NotStarted { program: env!("CARGO").to_owned(), source })?;
    if !built.status.success() {
        return Err(Trouble::NotBuilt(format!("cargo ended with {}", built.status)));
    }
    executable(&built).ok_or_else(|| Trouble::NotBuilt("cargo names no program".to_owned()))
}

/// The program that cargo names in its messages, one JSON object a line.
fn executable(built: &Output) -> Option<PathBuf> {
    let messages = built.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice(line).ok());
    let executable =
        |message: serde_json::Value| Some(PathBuf::from(message["executable"].as_str()?));
    messages.rev().find_map(executable)
}
