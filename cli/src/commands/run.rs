//! `varve run`: a process in an image.

mod request;
mod terminal;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use executor::{Asked, Attached, Cancel, Stdio};
use solver::progress::Progress;
use solver::{CancelToken, ReadyContainer};
use tokio::sync::mpsc;

use self::terminal::{Raw, window_size};
use super::images::not_here;
use crate::args::run as args;
use crate::caller::{Caller, Sent};
use crate::daemon::{Service, Site};
use crate::error::{EXIT_NOT_RUN, EXIT_SIGNAL, Interrupted, report, say};
use crate::interrupt::Interrupts;
use crate::output::{Mode, Output};
use crate::owner::shared::BeGuest;
use crate::owner::turns::Turn;
use crate::registries;

/// So often the same signal within [`KILLING_TIME`] kills, whatever the process does about it.
const KILLING_SIGNALS: usize = 3;

/// See [`KILLING_SIGNALS`]. Nobody who uses a program types as fast.
const KILLING_TIME: Duration = Duration::from_secs(1);

/// Number of the signal that a process has ended by whose starter is gone.
const SIGKILL: u8 = 9;

/// Number of the signal that tells of another size of the terminal.
const SIGWINCH: u8 = 28;

/// Runs the process; gives its exit code. `turn` is given back while it runs.
///
/// # Errors
/// [`BeGuest`]; everything else is told and an exit code.
pub(super) fn run(site: &Site, options: args::Run, turn: Option<Turn<'_>>) -> anyhow::Result<u8> {
    let error = match carry_out(site, options, turn) {
        Err(error) if !error.is::<BeGuest>() => error,
        done => return done,
    };
    if let Some(solver::Error::Executor(executor)) = error.downcast_ref()
        && let Some(code) = executor.exit_code()
    {
        // A program that is missing or cannot be executed.
        say(&format!("ERROR: {executor}"));
        return Ok(u8::try_from(code).unwrap_or(EXIT_NOT_RUN));
    }
    let error = match error.downcast::<solver::Error>() {
        Ok(error) => not_here(error),
        Err(error) => error,
    };
    let code = report(&error);
    Ok(match error.is::<Interrupted>() {
        true => code,
        false => EXIT_NOT_RUN,
    })
}

fn carry_out(site: &Site, options: args::Run, turn: Option<Turn<'_>>) -> anyhow::Result<u8> {
    tracing::debug!(rm = options.rm, "the container is removed in any case");
    if let Some(reason) = options.refused.reason() {
        bail!("{reason}");
    }
    let caller = Caller::current();
    let (is_interactive, has_terminal) = (options.interactive, options.tty);
    if is_interactive && has_terminal && !caller.terminal_of_stdin().is_terminal() {
        bail!(
            "-t with -i needs a terminal, and standard input is none; leave out -t to read from a \
             file or pipe"
        );
    }
    let registries = registries::configured(&site.environment)?;
    let runtime = options.runtime.choice().clone();
    let is_quiet = options.quiet;
    let (image, mut request) = request::make(options, &site.environment)?;
    let service = Service::open(site, &runtime)?;
    service.block_on(async {
        let solver = service.solver();
        // Nothing else of what is done here is worth a display.
        let mode = match is_quiet || !solver.is_pulled_for(&image).await? {
            true => Mode::Quiet,
            false => Mode::Auto,
        };
        let output = Output::start(mode, &site.environment)?;
        let progress = Progress::new(output.display());
        let cancel = CancelToken::new();
        let (switch, canceller) = (cancel.clone(), output.canceller());
        let interrupts = Interrupts::watch(move || {
            switch.cancel();
            canceller.say();
        });
        let ready = solver.container(&image, &registries, &progress, &cancel);
        let ready = ready.await;
        output.finish();
        if let Some(interrupted) = interrupts.came() {
            return Err(interrupted.into());
        }
        let ready = ready?;
        if let Some((own, host)) = ready.unlike() {
            say(&format!(
                "WARNING: The requested image's platform ({own}) does not match the detected host \
                 platform ({host}) and no specific platform was requested"
            ));
        }
        // The container's own snapshot keeps its files from here on.
        drop(turn);
        let _raw = match has_terminal {
            true => {
                request.terminal = Some(window_size(&caller).unwrap_or_default());
                is_interactive.then(|| Raw::enter(&caller)).transpose()?
            }
            false => None,
        };
        attend(ready, request, is_interactive, &caller).await
    })
}

/// Runs the process with the caller's streams, and passes on what the caller is sent.
async fn attend(
    ready: ReadyContainer,
    request: solver::RunOptions,
    is_interactive: bool,
    caller: &Caller,
) -> anyhow::Result<u8> {
    let own = |stream: crate::caller::Stream<'_>| {
        let file = std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned();
        file.context("cannot connect the container to the standard streams")
    };
    let has_terminal = request.terminal.is_some();
    let (asks, asked) = mpsc::unbounded_channel();
    let stdio = Stdio::Attached(Attached {
        input: is_interactive.then(|| own(caller.stdin())).transpose()?,
        output: own(caller.stdout())?,
        errors: own(caller.stderr())?,
        asked,
    });
    let mut sent = caller
        .take_signals()
        .context("whoever started this is gone")?;
    let cancel = Cancel::new();
    let mut signals = Signals::default();
    let watch = async {
        while let Some(sent) = sent.recv().await {
            let asked = match sent {
                Sent::Gone => {
                    // Nobody is left to be told anything.
                    signals.killed_by.get_or_insert(SIGKILL);
                    cancel.cancel();
                    continue;
                }
                Sent::Signal(SIGWINCH) => match window_size(caller).filter(|_| has_terminal) {
                    Some(size) => Asked::Resize(size),
                    None => continue,
                },
                Sent::Signal(signal) => {
                    if signals.note(signal, Instant::now()) {
                        cancel.cancel();
                    }
                    Asked::Signal(signal)
                }
            };
            if asks.send(asked).is_err() {
                tracing::debug!("the process has ended");
            }
        }
        std::future::pending::<()>().await;
    };
    let exit = tokio::select! {
        exit = ready.run(request, stdio, cancel.clone()) => exit,
        () = watch => unreachable!("watching never ends"),
    };
    match (exit, signals.killed_by) {
        (Ok(exit), _) => Ok(u8::try_from(exit.code()).unwrap_or(u8::MAX)),
        (Err(_), Some(signal)) => Ok(EXIT_SIGNAL.saturating_add(signal)),
        (Err(error), None) => Err(error.into()),
    }
}

/// The signals that were passed on lately.
#[derive(Debug, Default)]
struct Signals {
    last: VecDeque<(u8, Instant)>,
    /// The one that was too much.
    killed_by: Option<u8>,
}

impl Signals {
    /// Whether the process is to be killed now.
    fn note(&mut self, signal: u8, now: Instant) -> bool {
        self.last
            .retain(|(other, when)| *other == signal && now - *when < KILLING_TIME);
        self.last.push_back((signal, now));
        let kills = self.last.len() >= KILLING_SIGNALS;
        if kills {
            self.killed_by = Some(signal);
        }
        kills
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_kills_when_it_comes_three_times_within_a_second() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let check = |sent: &[(u8, u64)], killed_by| {
            let mut signals = Signals::default();
            for (signal, when) in sent {
                signals.note(*signal, at(*when));
            }
            assert_eq!(signals.killed_by, killed_by, "{sent:?}");
        };
        check(&[(2, 0), (2, 400), (2, 900)], Some(2));
        check(
            &[(15, 0), (15, 600), (15, 1_700), (15, 1_800), (15, 1_900)],
            Some(15),
        );
        check(&[(2, 0), (2, 600), (2, 1_100)], None);
        check(&[(2, 0), (15, 100), (2, 200)], None);
    }
}
