//! `varve build`: from the command line to a request, from the result to what is printed.

mod keys;
mod outputs;
mod request;
mod result;
mod steps;

use solver::history::History;
use solver::history::record::{Asked, BuildRecord};
use solver::history::recorder::{Outcome, Recorder};
use solver::history::redaction::Redaction;
use solver::progress::Progress;
use solver::request::{BuildRequest, Built};
use solver::{BuildFailure, CancelToken};

use crate::args;
use crate::caller::Caller;
use crate::configuration::Configuration;
use crate::daemon::{Service, Site};
use crate::error::{EXIT_FAILED, Told, say, sentence};
use crate::interrupt::Interrupts;
use crate::output::{Mode, Output, harmless, size, summary};

/// What buildx says when a result goes nowhere.
const NO_OUTPUT: &str = "WARNING: No output was asked for: the result stays in the build cache \
    only. Name the image with -t, or write it with -o";

/// Builds.
///
/// # Errors
/// The request makes no sense; the build failed ([`Told`]: it has been printed); those of writing
/// `--iidfile` and `--metadata-file`.
pub(super) fn build(site: &Site, options: args::Build) -> anyhow::Result<()> {
    if options.outputs.iter().any(args::exports::Export::is_stdout)
        && Caller::current().stdout().is_terminal()
    {
        anyhow::bail!("an archive is not written to a terminal: give dest=FILE, or redirect it");
    }
    let without_effect = options.familiar.without_effect();
    if request::reads_stdin(&options) {
        // Before that: who has read standard input cannot be carried out elsewhere any more.
        site.open_store()?;
    }
    let (request, mut asked) = request::make(options, &site.environment)?;
    if !without_effect.is_empty() && !asked.is_quiet {
        say(&format!(
            "WARNING: steps have no limits of this kind, as with BuildKit: no effect has {}",
            without_effect.join(", ")
        ));
    }
    result::forget(&asked)?;
    let service = Service::open(site, &asked.runtime)?;
    let mode = if asked.is_quiet {
        Mode::Quiet
    } else {
        asked.progress
    };
    let output = Output::start(mode, &site.environment)?;
    let store = service.solver().snapshots().store().clone();
    let history = History::new(store);
    let number = begin(&history, &request);
    let recorder = Recorder::new(
        output.display(),
        Asked::of(&request),
        Redaction::of(&request.build_args, &request.steps.secrets),
    );
    let progress = Progress::new(recorder.clone());
    let built = service.block_on(async {
        let cancel = CancelToken::new();
        let (switch, canceller) = (cancel.clone(), output.canceller());
        let interrupts = Interrupts::watch(move || {
            switch.cancel();
            canceller.say();
        });
        let built = service.solver().build(request, &progress, &cancel).await;
        anyhow::Ok((built, interrupts.came()))
    });
    output.finish();
    drop(std::mem::take(&mut asked.agents));
    let (built, interrupted) = built?;
    let outcome = outcome(&built, interrupted.is_some());
    let mut record = recorder.finish(number, &outcome, &progress);
    keep(&history, &mut record);
    collect_garbage(&asked.configuration, &service);
    if mode.is_for_people() {
        say(&summary(&record.summary));
    }
    let built = match (built, interrupted) {
        (Ok(built), _) => built,
        (Err(_), Some(interrupted)) => return Err(interrupted.into()),
        (Err(failure), None) => return Err(tell(&failure).into()),
    };
    for warning in &built.warnings {
        say(&format!("WARNING: {warning}"));
    }
    if asked.goes_nowhere && !asked.is_quiet {
        say(NO_OUTPUT);
    }
    result::write(&built, &asked)
}

/// Remembers that a build runs; gives its number, or 0.
fn begin(history: &History, request: &BuildRequest) -> u64 {
    history.begin(Asked::of(request)).unwrap_or_else(|error| {
        // Whether it can be kept is told when it is over.
        tracing::warn!(%error, "that a build runs is not in the history");
        0
    })
}

/// Remembers how it was.
fn keep(history: &History, record: &mut BuildRecord) {
    if let Err(error) = history.save(record) {
        say(&format!(
            "WARNING: this build is not in the history: {}",
            sentence(&error)
        ));
    }
}

/// Keeps the build cache as small as the configuration has it. A build is as good without that.
fn collect_garbage(configuration: &Configuration, service: &Service) {
    let solver = service.solver();
    let collect = || -> anyhow::Result<_> {
        let (_, total) = solver.snapshots().store().disk_bytes()?;
        Ok(solver.collect_garbage(&configuration.rules(total)?)?)
    };
    match collect() {
        Ok(None) => {}
        Ok(Some(collected)) => tracing::info!(
            freed = size(collected.store.disk_bytes + collected.image_bytes),
            "the build cache was made smaller"
        ),
        Err(error) => say(&format!(
            "WARNING: the build cache was not looked through: {}",
            sentence(error.as_ref())
        )),
    }
}

/// How a build ended, for its record.
fn outcome(built: &Result<Built, BuildFailure>, is_interrupted: bool) -> Outcome<'_> {
    match built {
        Ok(built) => Outcome::Completed(built),
        Err(_) if is_interrupted => Outcome::Canceled,
        Err(failure) => Outcome::Failed {
            error: sentence(&failure.error),
            excerpt: failure.excerpt(),
        },
    }
}

/// Prints a failure below the progress: the lines of the Dockerfile, then the sentence. Both quote
/// the Dockerfile, and nothing in that moves the cursor of a terminal.
fn tell(failure: &BuildFailure) -> Told {
    let is_terminal = Caller::current().stderr().is_terminal();
    let shown = |text: &str| match is_terminal {
        true => text
            .lines()
            .map(|line| harmless(line.as_bytes()) + "\n")
            .collect(),
        false => text.to_owned(),
    };
    let excerpt = failure.excerpt();
    if !excerpt.is_empty() {
        say(&shown(&excerpt));
    }
    let sentence = shown(&sentence(&failure.error));
    say(&format!("ERROR: failed to solve: {sentence}"));
    if let Some(hint) = &failure.hint {
        say(&shown(hint));
    }
    Told { code: EXIT_FAILED }
}
