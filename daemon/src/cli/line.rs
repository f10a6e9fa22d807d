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
    policy::PolicyCommand,
    sign::Sign,
    verify::Verify,
};
#[cfg(feature = "mount")]
use super::{daemon, doctor, gc, lineage, logs, mount, run, stage, status, umount};
use crate::config::Environment;
#[cfg(feature = "mount")]
use crate::mount::{Called, called_as};

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
    #[cfg(feature = "mount")]
    Mount(Box<mount::MountCommand>),
    #[cfg(feature = "mount")]
    Umount(umount::Umount),
    Verify(Verify),
    Policy(PolicyCommand),
    Explain(Explain),
    #[cfg(feature = "mount")]
    Lineage(lineage::Lineage),
    Attestation(Attestation),
    #[cfg(feature = "mount")]
    Stage(stage::Stage),
    #[cfg(feature = "mount")]
    Status(status::Status),
    Sign(Sign),
    Digest(Digest),
    Keygen(Keygen),
    #[cfg(feature = "mount")]
    Gc(gc::Gc),
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
    #[cfg(feature = "mount")]
    if let Some(called) = called_as(&arguments) {
        return as_helper(called, environment);
    }
    let line = match Line::try_parse_from(&arguments) {
        Ok(line) => line,
        Err(error) => return refuse(&error, wants_json(&arguments)),
    };
    let done = carry_out(line.command, Output::new(line.json), environment);
    done.unwrap_or_else(ExitCode::from)
}

/// Does what a line asks for, or says why not.
fn carry_out(
    command: Command,
    output: Output,
    environment: &Environment,
) -> Result<ExitCode, Exit> {
    #[cfg(feature = "mount")]
    let log = logs::begin(environment, command.serves());
    let done = command.carry_out(output, environment);
    #[cfg(feature = "mount")]
    if !log.finish() && !output.is_json() {
        // Whoever does not read the log does not read this either; the exit code tells.
        return done.map_err(|failure| failure.exit_code);
    }
    done.map_err(|failure| {
        output.failure(&failure);
        failure.exit_code
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

/// Does what `mount(8)` asks its helper for, with the exit codes that it knows.
#[cfg(feature = "mount")]
fn as_helper(called: Called, environment: &Environment) -> ExitCode {
    let output = Output::new(false);
    let refuse = |failure: Failure| {
        output.failure(&failure);
        Err(failure.exit_code)
    };
    let done = match called {
        Called::Nothing => return ExitCode::SUCCESS,
        Called::Wrong(message) => {
            refuse(Failure::usage(message).with_next_step("attestfs mount --help"))
        }
        Called::Line(words) => match Line::try_parse_from(&words) {
            Err(error) => refuse(usage(&error)),
            Ok(line) => carry_out(line.command, output, environment),
        },
    };
    done.unwrap_or_else(|code| {
        ExitCode::from(if code == Exit::Usage { MOUNT_USAGE } else { MOUNT_FAILED })
    })
}

/// Exit codes of `mount(8)`.
#[cfg(feature = "mount")]
const MOUNT_USAGE: u8 = 1;
#[cfg(feature = "mount")]
const MOUNT_FAILED: u8 = 32;

impl Command {
    /// Whether this process serves others, so that its log is what people look at later.
    #[cfg(feature = "mount")]
    fn serves(&self) -> bool {
        match self {
            Self::Daemon(_) => true,
            Self::Mount(mount) => mount.serves(),
            _ => false,
        }
    }

    fn carry_out(self, output: Output, environment: &Environment) -> Result<ExitCode, Failure> {
        let exit = match self {
            #[cfg(feature = "mount")]
            Self::Run(run) => return Ok(run.carry_out(output, environment)),
            #[cfg(feature = "mount")]
            Self::Mount(mount) => return mount.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Umount(umount) => umount.carry_out(output, environment),
            Self::Verify(verify) => verify.carry_out(output, environment),
            Self::Policy(policy) => policy.carry_out(output),
            Self::Explain(explain) => explain.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Lineage(lineage) => lineage.carry_out(output, environment),
            Self::Attestation(attestation) => attestation.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Stage(stage) => stage.carry_out(output, environment),
            #[cfg(feature = "mount")]
            Self::Status(status) => status.carry_out(output, environment),
            Self::Sign(sign) => sign.carry_out(output),
            Self::Digest(digest) => digest.carry_out(output),
            Self::Keygen(keygen) => keygen.carry_out(output),
            #[cfg(feature = "mount")]
            Self::Gc(gc) => gc.carry_out(output, environment),
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

    /// The parser wraps each line to the terminal: one that ends where a source line did would be wrapped
    /// twice.
    fn check_paragraphs(command: &clap::Command) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2) {
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            let is_whole = pair[0].ends_with(['.', ':']);
            let is_wrapped = is_prose(pair[0]) && !is_whole && is_prose(pair[1]);
            assert!(!is_wrapped, "{}: {pair:?}", command.get_name());
        }
        command.get_subcommands().for_each(check_paragraphs);
    }

    #[test]
    fn a_paragraph_of_help_is_one_line() {
        check_paragraphs(&Line::command());
    }
}
