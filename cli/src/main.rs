//! `varve`, the program. Reading order: [`args`] (what can be said), [`commands`] (what it does),
//! [`daemon`] (what it is made of), [`owner`] (what happens when several want it), [`connect`] (how
//! a running one is asked), [`output`] (what it shows).

mod args;
mod caller;
mod commands;
mod completion;
mod configuration;
mod connect;
mod container_proxies;
mod daemon;
mod engines;
mod environment;
mod error;
mod help;
mod host;
mod interrupt;
mod logging;
mod output;
mod owner;
mod registries;
mod rootless;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::observation::LogFormat;
use crate::args::{Arguments, Command};
use crate::daemon::Site;
use crate::environment::Environment;

/// The C library's allocator keeps what many threads have once needed: after a large layer the
/// daemon would stay four times as large as it is.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names a place at which tests have the process end, see [`store::failpoint`].
const KILL_AT: &str = "VARVE_KILL_AT";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // First of all: a helper must do as little as possible before it clones.
    if executor::is_helper(&words) {
        return executor::helper_main(&words);
    }
    // Started through /proc/self/exe, it would be called `exe` by the kernel.
    rustix::thread::set_name(c"varve").ok();
    let environment = Environment::of_this_process();
    let words = args::booleans::plain(words);
    let arguments = match Arguments::read(&words, &environment) {
        Ok(arguments) => arguments,
        Err(error) => explain(&error, &words, &environment),
    };
    match &arguments.command {
        Command::Daemon(options) if options.log_format == LogFormat::Json => {
            logging::as_json(arguments.global.debug, &environment);
        }
        _ => logging::to_stderr(arguments.global.debug, &environment),
    }
    if let Some(place) = environment.get(KILL_AT)
        && !store::failpoint::kill_at(place)
    {
        tracing::warn!("{KILL_AT}={place}: no build with debug assertions, or no place");
    }
    let done = Site::find(arguments.global, environment).and_then(|site| {
        match arguments.command.is_shared() {
            true => owner::front::carry_out(site, arguments.command, &words),
            false => {
                let site = match &arguments.command {
                    // It looks at what builds may do.
                    Command::Doctor(_) => site.with_rights()?,
                    command if command.uses_root() => site.with_rights_of_users()?,
                    _ => site,
                };
                commands::dispatch(&site, arguments.command)
            }
        }
    });
    ExitCode::from(done.unwrap_or_else(|error| error::report(&error)))
}

/// Ends the process, with `--help` as it was asked for or what is wrong with the command line.
fn explain(error: &clap::Error, words: &[OsString], environment: &Environment) -> ! {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        help::command(environment).get_matches_from(words);
    }
    error::wrong_command_line(error, words)
}
