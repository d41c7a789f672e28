//! What a person sees of a build: the displays, and the thread that feeds them.
//!
//! Events come from many threads of the build and must be taken quickly, so [`Output`] hands them
//! over a bounded channel to a thread of its own. That thread owns the display and is the only one
//! that writes progress to standard error.

mod failed_steps;
pub(crate) mod format;
mod log;
mod plain;
mod raw_json;
pub(crate) mod replay;
#[cfg(test)]
mod script;
mod size;
mod steps;
mod style;
mod summary;
pub(crate) mod template;
mod terminal;
pub(crate) mod text;

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use solver::progress::{Display, Event};

use crate::caller::Caller;
use crate::environment::Environment;

use self::failed_steps::{Left, Reader};
use self::plain::Plain;
use self::raw_json::RawJson;
use self::steps::Steps;
use self::style::Style;
use self::terminal::screen::Screen;
use self::terminal::{Look, Size};

pub(crate) use self::size::size;
pub(crate) use self::summary::{seconds, summary};
pub(crate) use self::text::{cut, harmless};

/// Shortest time between two frames, or two looks at what is due: BuildKit's own.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Events that wait for the display; then the build waits too.
const EVENTS_WAITING_MAX: usize = 4_096;

/// Lines of log kept for a failure where the live view showed only the last few.
const TERMINAL_TAIL_LINES: usize = 1_000;

/// Bytes of such a log.
const TERMINAL_TAIL_BYTES: usize = 1 << 20;

/// What is said when somebody cancels a build.
pub(crate) const CANCELLING: &str = "cancelling; Ctrl-C again ends it at once";

/// Size of a terminal that does not tell.
const SIZE_DEFAULT: Size = Size {
    columns: 80,
    rows: 24,
};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A live view if standard error is a terminal, else plain lines.
    #[default]
    Auto,
    /// Lines that are only added, in BuildKit's form.
    Plain,
    /// A live view; an error if standard error is no terminal.
    Tty,
    /// Nothing but errors and the output of failed steps.
    Quiet,
    /// JSON lines for programs, in BuildKit's form.
    Rawjson,
}

impl Mode {
    /// Whether sentences of ours may stand among the progress.
    pub(crate) fn is_for_people(self) -> bool {
        !matches!(self, Mode::Quiet | Mode::Rawjson)
    }
}

/// Standard error is no terminal, but a live view was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--progress=tty needs a terminal, and standard error is none; use --progress=plain")]
pub(crate) struct NoTerminal;

/// A display at work.
pub(crate) struct Output {
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

enum Message {
    Event(Event),
    Cancelling,
    Finish,
}

/// Says on the display that the build is being cancelled. From any thread, never waits.
#[derive(Clone)]
pub(crate) struct Canceller(SyncSender<Message>);

impl Canceller {
    /// Says so.
    pub(crate) fn say(&self) {
        if self.0.try_send(Message::Cancelling).is_err() {
            tracing::debug!("the display is too busy to say that the build is cancelled");
        }
    }
}

/// The end of the channel that the build holds.
struct Sender(SyncSender<Message>);

impl Display for Sender {
    fn show(&self, event: Event) {
        if self.0.send(Message::Event(event)).is_err() {
            tracing::debug!("an event came after the end of the display");
        }
    }
}

impl Output {
    /// Starts to show progress on standard error, as the environment likes it.
    ///
    /// # Errors
    /// [`NoTerminal`].
    pub(crate) fn start(mode: Mode, environment: &Environment) -> Result<Self, NoTerminal> {
        let caller = Caller::current();
        let is_terminal = caller.stderr().is_terminal();
        let view = match mode {
            Mode::Tty if !is_terminal => return Err(NoTerminal),
            Mode::Auto | Mode::Tty if is_terminal => {
                View::Terminal(Live::new(Style::of(environment)))
            }
            Mode::Auto | Mode::Tty | Mode::Plain => View::Plain(Plain::default()),
            Mode::Quiet => View::Quiet(Steps::default()),
            Mode::Rawjson => View::RawJson(RawJson::default()),
        };
        let (messages, receiver) = sync_channel(EVENTS_WAITING_MAX);
        let thread = std::thread::spawn(move || caller.serve(|| show(view, &receiver)));
        Ok(Output { messages, thread })
    }

    /// Where the build sends its events.
    pub(crate) fn display(&self) -> Arc<dyn Display> {
        Arc::new(Sender(self.messages.clone()))
    }

    /// Says that the build is being cancelled, when somebody wants that.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(self.messages.clone())
    }

    /// Shows the rest, and the output of failed steps. What a display gets later is dropped.
    pub(crate) fn finish(self) {
        if self.messages.send(Message::Finish).is_err() || self.thread.join().is_err() {
            tracing::error!("the display of the progress broke down");
        }
    }
}

enum View {
    Plain(Plain),
    Terminal(Live),
    Quiet(Steps),
    RawJson(RawJson),
}

/// A live view on a terminal.
struct Live {
    steps: Steps,
    screen: Screen,
    log_lines: usize,
    is_cancelling: bool,
}

impl Live {
    fn new(style: Style) -> Self {
        Live {
            steps: Steps::default(),
            screen: Screen::new(style.colours),
            log_lines: style.log_lines,
            is_cancelling: false,
        }
    }

    fn look(&self) -> Look {
        Look {
            size: terminal_size(),
            log_lines: self.log_lines,
            is_cancelling: self.is_cancelling,
        }
    }
}

impl View {
    /// Takes in an event; tells whether it cannot wait to be drawn.
    fn apply(&mut self, event: Event) -> bool {
        match self {
            View::Plain(plain) => plain.apply(event),
            View::RawJson(raw) => raw.apply(event),
            View::Terminal(Live { steps, .. }) | View::Quiet(steps) => {
                let index = steps.apply(event);
                steps
                    .get_mut(index)
                    .log
                    .keep_last(TERMINAL_TAIL_LINES, TERMINAL_TAIL_BYTES);
                false
            }
        }
    }

    /// The build is being cancelled.
    fn cancelling(&mut self, out: &mut Vec<u8>) {
        match self {
            View::Plain(plain) => plain.say(CANCELLING, out),
            View::Terminal(live) => live.is_cancelling = true,
            View::Quiet(_) | View::RawJson(_) => {}
        }
    }

    fn draw(&mut self, now: Instant, out: &mut Vec<u8>) {
        match self {
            View::Plain(plain) => plain.print(now, out),
            View::Terminal(live) => {
                let look = live.look();
                let picture = terminal::render(&live.steps, now, &look);
                out.extend(live.screen.frame(&picture, look.size));
            }
            View::RawJson(raw) => raw.print(out),
            View::Quiet(_) => {}
        }
    }

    fn finish(&mut self, now: Instant, out: &mut Vec<u8>) {
        match self {
            View::Plain(plain) => plain.finish(now, out),
            View::Terminal(live) => {
                let look = live.look();
                let picture = terminal::render_all(&live.steps, now, &look);
                out.extend(live.screen.frame(&picture, look.size));
                failed_steps::print(&live.steps, Left::Say, Reader::Terminal, out);
            }
            View::Quiet(steps) => {
                let reader = match Caller::current().stderr().is_terminal() {
                    true => Reader::Terminal,
                    false => Reader::Pipe,
                };
                failed_steps::print(steps, Left::Say, reader, out);
            }
            View::RawJson(raw) => raw.print(out),
        }
    }
}

fn show(mut view: View, messages: &Receiver<Message>) {
    let mut out = Vec::new();
    let mut drawn: Option<Instant> = None;
    loop {
        let wait = drawn.map_or(Duration::ZERO, |at| {
            FRAME_INTERVAL.saturating_sub(at.elapsed())
        });
        let is_urgent = match messages.recv_timeout(wait) {
            Ok(Message::Event(event)) => view.apply(event),
            Ok(Message::Cancelling) => {
                view.cancelling(&mut out);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
        };
        let now = Instant::now();
        let is_due = drawn.is_none_or(|at| now.duration_since(at) >= FRAME_INTERVAL);
        if is_due || is_urgent {
            view.draw(now, &mut out);
            drawn = Some(now);
            flush(&mut out);
        }
    }
    view.finish(Instant::now(), &mut out);
    flush(&mut out);
}

/// Writes to standard error. Nobody can be told when that fails.
fn flush(out: &mut Vec<u8>) {
    if let Err(error) = Caller::current().stderr().write_all(out) {
        tracing::debug!(%error, "cannot write progress");
    }
    out.clear();
}

fn terminal_size() -> Size {
    match rustix::termios::tcgetwinsize(Caller::current().stderr()) {
        Ok(found) if found.ws_col > 0 && found.ws_row > 0 => Size {
            columns: found.ws_col.into(),
            rows: found.ws_row.into(),
        },
        _ => SIZE_DEFAULT,
    }
}
