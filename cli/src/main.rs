//! `varve`, the program. Reading order: [`args`] (what can be said), [`commands`] (what it does),
//! [`daemon`] (what it is made of), [`connect`] (how a running one is asked), [`output`] (what it
//! shows).

mod args;
mod commands;
mod connect;
mod daemon;
mod environment;
mod error;
mod host;
mod interrupt;
mod output;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::observation::LogFormat;
use crate::args::{Arguments, Command};
use crate::daemon::Site;
use crate::environment::Environment;

/// The C library's allocator keeps what many threads have once needed: after a large layer the
/// daemon would stay four times as large as it is.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless asked for. RocksDB warns of what then arrives as an error anyway.
const LOG_DEFAULT: &str = "warn,store::key_value::rocks=error";

/// As [`LOG_DEFAULT`], where all that is said goes into the log.
const LOG_DEFAULT_JSON: &str = "info,store::key_value::rocks=error";

/// Names a place at which tests have the process end, see [`store::failpoint`].
const KILL_AT: &str = "VARVE_KILL_AT";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // First of all: a helper must do as little as possible before it clones.
    if executor::is_helper(&arguments) {
        return executor::helper_main(&arguments);
    }
    // Ends the process for --help and for a wrong command line.
    let arguments = Arguments::parse_from(arguments);
    let environment = Environment::of_this_process();
    match &arguments.command {
        Command::Daemon(options) if options.log_format == LogFormat::Json => {
            log_as_json(arguments.global.debug, &environment);
        }
        _ => log_to_stderr(arguments.global.debug, &environment),
    }
    if let Some(place) = environment.get(KILL_AT)
        && !store::failpoint::kill_at(place)
    {
        tracing::warn!("{KILL_AT}={place}: no build with debug assertions, or no place");
    }
    let done = Site::find(arguments.global, environment)
        .and_then(|site| commands::dispatch(&site, arguments.command));
    match done {
        Ok(code) => code,
        Err(error) => error::report(&error),
    }
}

/// Shows warnings, and with `--debug` what varve does; `VARVE_LOG` chooses more exactly.
fn log_to_stderr(is_debug: bool, environment: &Environment) {
    let level = if is_debug { "debug" } else { LOG_DEFAULT };
    let filter = EnvFilter::new(environment.get("VARVE_LOG").unwrap_or(level));
    let has_colour = environment.wants_colour() && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    log.with_ansi(has_colour)
        .with_target(is_debug)
        .without_time()
        .init();
}

/// As [`log_to_stderr`], in objects of JSON, one on a line; what is said to a person too.
fn log_as_json(is_debug: bool, environment: &Environment) {
    let level = if is_debug { "debug" } else { LOG_DEFAULT_JSON };
    let filter = EnvFilter::new(environment.get("VARVE_LOG").unwrap_or(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    log.json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .init();
    error::say_into_log();
}
