//! The command line as a whole.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};

use super::{
    attestation::Attestation,
    digest::Digest,
    exit::Exit,
    explain::Explain,
    failure::Failure,
    keygen::Keygen,
    output::{Output, print},
    sign::Sign,
    verify::Verify,
};
#[cfg(feature = "mount")]
use super::{daemon, doctor, lineage, logs, run, stage};
use crate::config::Environment;

const EXIT_CODES: &str = "\
Exit codes: 0 yes, 1 refused or a check failed, 2 usage, 3 environment.
'run' returns the code of its command, or 125 when attestfs itself failed.";

/// Records which run made which file from what, signs it, and verifies it
#[derive(Debug, Parser)]
#[command(name = "attestfs", version, after_help = EXIT_CODES, max_term_width = 100, disable_help_subcommand = true)]
struct Line {
    /// Answer with one JSON object, errors included
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "mount")]
    Run(run::Run),
    Verify(Verify),
    Explain(Explain),
    #[cfg(feature = "mount")]
    Lineage(lineage::Lineage),
    Attestation(Attestation),
    #[cfg(feature = "mount")]
    Stage(stage::Stage),
    Sign(Sign),
    Digest(Digest),
    Keygen(Keygen),
    #[cfg(feature = "mount")]
    Doctor(doctor::Doctor),
    #[cfg(feature = "mount")]
    Daemon(daemon::Daemon),
}

/// Does what `arguments` ask for. The first of them is the name of the program.
pub(crate) fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    #[cfg(feature = "mount")]
    if let Some(code) = hidden(&arguments) {
        return code;
    }
    let line = match Line::try_parse_from(&arguments) {
        Ok(line) => line,
        Err(error) => return refuse(&error, wants_json(&arguments)),
    };
    let output = Output::new(line.json);
    #[cfg(feature = "mount")]
    logs::begin(environment, matches!(line.command, Command::Daemon(_)));
    line.command.carry_out(output, environment).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit_code.into()
    })
}

/// What this program starts itself for. No user types it, so the parser does not know of it.
#[cfg(feature = "mount")]
fn hidden(arguments: &[OsString]) -> Option<ExitCode> {
    match arguments.get(1)?.to_str()? {
        crate::run::HIDDEN_COMMAND => Some(crate::run::inside()),
        doctor::HIDDEN_COMMAND => Some(doctor::rehearsal()),
        _ => None,
    }
}

impl Command {
    fn carry_out(self, output: Output, environment: &Environment) -> Result<ExitCode, Failure> {
        let exit = match self {
            #[cfg(feature = "mount")]
            Self::Run(run) => return Ok(run.carry_out(output, environment)),
            Self::Verify(verify) => verify.carry_out(output, environment),
            Self::Explain(explain) => explain.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Lineage(lineage) => lineage.carry_out(output, environment),
            Self::Attestation(attestation) => attestation.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Stage(stage) => stage.carry_out(output, environment),
            Self::Sign(sign) => sign.carry_out(output),
            Self::Digest(digest) => digest.carry_out(output),
            Self::Keygen(keygen) => keygen.carry_out(output),
            #[cfg(feature = "mount")]
            Self::Doctor(doctor) => doctor.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Daemon(daemon) => daemon.carry_out(output, environment),
        };
        exit.map(ExitCode::from)
    }
}

/// What the parser has to say: help, the version, or what is wrong with the line.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let shown = print(error.render().to_string().as_bytes());
        return shown.map_or_else(|failure| failure.exit_code, |()| Exit::Yes).into();
    }
    Output::new(json).failure(&usage(error));
    Exit::Usage.into()
}

/// The first paragraph of the parser's message; the rest is in the help.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let paragraph: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => paragraph.join(" ").trim_start_matches("error: ").to_owned(),
    };
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    Failure::usage(message).with_next_step(
        usage.map_or_else(|| "attestfs --help".to_owned(), |usage| format!("{usage}; try --help")),
    )
}

/// Whether `--json` was asked for in a line that could not be parsed. What follows `--` is the
/// command of a run.
fn wants_json(arguments: &[OsString]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    own.into_iter().any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn line(arguments: &[&str]) -> Result<Line, clap::Error> {
        Line::try_parse_from([&["attestfs"], arguments].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let line = Line::command();
        let commands = line.get_subcommands().filter(|command| !command.is_hide_set());
        for command in commands {
            let leaves: Vec<_> = command.get_subcommands().collect();
            let shown = if leaves.is_empty() { vec![command] } else { leaves };
            for command in shown {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                assert!(help.contains("attestfs "), "{}", command.get_name());
            }
        }
    }

    #[test]
    fn a_usage_error_is_one_line_and_a_next_step() {
        for wrong in [&[][..], &["unknown"], &["--unknown"]] {
            let failure = usage(&line(wrong).unwrap_err());
            assert_eq!(failure.exit_code, Exit::Usage);
            assert!(!failure.message.contains('\n'), "{failure:?}");
            assert!(!failure.message.starts_with("error"), "{failure:?}");
            assert!(failure.next_step.is_some(), "{failure:?}");
        }
    }

    #[test]
    fn json_after_the_dashes_belongs_to_the_command() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(wants_json(&arguments(&["attestfs", "x", "--json"])));
        assert!(!wants_json(&arguments(&["attestfs", "run", "--", "x", "--json"])));
    }
}
