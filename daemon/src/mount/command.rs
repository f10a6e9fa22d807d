//! The ways in which a mount is begun.

use super::{
    background::{self, Answer, Asker},
    failure::ServeError,
    options::Options,
    serve::{Served, catch_signals, prepare_process},
};
use crate::{config::Environment, notify};

/// Starts a process that serves, and comes back with it when the mount answers.
///
/// # Errors
/// Whatever is in the way.
pub(crate) fn background(options: Options, environment: &Environment) -> Result<u32, ServeError> {
    background::start(options, environment)
}

/// Serves in this process until the mount ends. systemd is told when it answers.
///
/// # Errors
/// Whatever is in the way, or went wrong at the end.
pub(crate) fn foreground(options: Options, environment: &Environment) -> Result<(), ServeError> {
    let options = options.absolute().map_err(ServeError::system("the working directory"))?;
    let causes = catch_signals()?;
    prepare_process();
    let served = Served::begin(&options, environment)?;
    notify::ready();
    served.see_through(&causes)
}

/// The same as the process in the background, which tells on its standard input how it goes.
///
/// # Errors
/// What went wrong at the end; before that, whoever started this process is told.
pub(crate) fn answer(options: &Options, environment: &Environment) -> Result<(), ServeError> {
    let untold = |error: &ServeError| tracing::error!(%error, "not served");
    let asker = Asker::take().inspect_err(untold)?;
    let causes = catch_signals().inspect_err(untold)?;
    prepare_process();
    match Served::begin(options, environment) {
        Ok(served) => {
            asker.answer(&Answer::Serving(std::process::id()));
            served.see_through(&causes)
        }
        Err(error) => {
            tracing::error!(%error, "not served");
            let (message, next_step) = (error.to_string(), error.next_step());
            let usage = error.is_usage();
            asker.answer(&Answer::Failed { message, next_step, usage });
            Err(error)
        }
    }
}
