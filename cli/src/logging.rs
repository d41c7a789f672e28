//! What varve says of itself, to standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::environment::Environment;
use crate::error;

/// What is logged unless asked for. RocksDB warns of what then arrives as an error anyway.
const LOG_DEFAULT: &str = "warn,store::key_value::rocks=error";

/// As [`LOG_DEFAULT`], where all that is said goes into the log.
const LOG_DEFAULT_JSON: &str = "info,store::key_value::rocks=error";

/// Puts another filter into the place of the present one.
type Replace = dyn Fn(EnvFilter) + Send + Sync;

static REPLACE: OnceLock<Replacer> = OnceLock::new();

struct Replacer {
    replace: Box<Replace>,
    /// What `VARVE_LOG` asks for, whatever else is said.
    chosen: Option<String>,
    level: &'static str,
}

/// Shows warnings, and with `is_debug` what varve does; `VARVE_LOG` chooses more exactly.
pub(crate) fn to_stderr(is_debug: bool, environment: &Environment) {
    let has_colour = environment.wants_colour() && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(is_debug, environment.get("VARVE_LOG"), LOG_DEFAULT))
        .with_writer(std::io::stderr)
        .with_ansi(has_colour)
        .with_target(is_debug)
        .without_time()
        .with_filter_reloading();
    let handle = log.reload_handle();
    keep(environment, LOG_DEFAULT, move |filter| {
        handle.reload(filter).ok();
    });
    log.init();
}

/// As [`to_stderr`], in objects of JSON, one on a line; what is said to a person too.
pub(crate) fn as_json(is_debug: bool, environment: &Environment) {
    let chosen = environment.get("VARVE_LOG");
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(is_debug, chosen, LOG_DEFAULT_JSON))
        .with_writer(std::io::stderr)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    keep(environment, LOG_DEFAULT_JSON, move |filter| {
        handle.reload(filter).ok();
    });
    log.init();
    error::say_into_log();
}

/// Whether varve's doings are shown, from now on.
pub(crate) fn set_debug(is_debug: bool) {
    if let Some(replacer) = REPLACE.get() {
        let chosen = replacer.chosen.as_deref();
        (replacer.replace)(filter(is_debug, chosen, replacer.level));
    }
}

fn filter(is_debug: bool, chosen: Option<&str>, level: &str) -> EnvFilter {
    let level = if is_debug { "debug" } else { level };
    EnvFilter::new(chosen.unwrap_or(level))
}

fn keep(
    environment: &Environment,
    level: &'static str,
    replace: impl Fn(EnvFilter) + Send + Sync + 'static,
) {
    let replacer = Replacer {
        replace: Box::new(replace),
        chosen: environment.get("VARVE_LOG").map(str::to_owned),
        level,
    };
    // Only the first log of a process is one.
    REPLACE.get_or_init(|| replacer);
}
