//! What a person sees of a build: steps that start, write, and end.
//!
//! Steps of the graph come from the engine; steps around it (reading the Dockerfile, resolving
//! images, exporting) are opened here with [`Progress::step`]. Both become one stream of
//! [`Event`]s, which a display turns into lines.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engine::{
    CacheHit, Completion, Listener, OpOutput, OutputSink as OpOutputSink, OutputStream, VertexId,
    VertexInfo, VertexProgress,
};
use store::Tally;

use crate::content::Digest;
use crate::error::without_error_numbers;

/// Identifies a step within one build, in the form of a sha256 digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(Arc<str>);

impl StepId {
    /// The id that a record of a build holds.
    pub(crate) fn from_record(digest: &str) -> Self {
        StepId(digest.into())
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened to a step.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// To which step.
    pub step: StepId,
    /// The step's name: `[build 2/5] RUN make`.
    pub name: Arc<str>,
    /// What.
    pub kind: EventKind,
}

/// Where a step stands in a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is a vertex of the graph.
    Graph {
        /// The steps whose results it reads, each once.
        inputs: Vec<StepId>,
    },
    /// It is something around the graph: reading the Dockerfile, writing an archive.
    Beside,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The step belongs to the build. Always its first event.
    Queued(Place),
    /// It began to work.
    Started,
    /// It wrote to its log.
    Log {
        /// Whether to standard error.
        is_stderr: bool,
        /// Bytes as they came, not cut into lines.
        bytes: Vec<u8>,
    },
    /// A part of it has come so far (a transfer, a layer).
    Status {
        /// The part.
        id: String,
        /// How much is done, in bytes.
        current: u64,
        /// Of how much, if known.
        total: Option<u64>,
        /// Whether the part is finished.
        completed: bool,
    },
    /// Something worth knowing.
    Warning {
        /// The sentence.
        message: String,
    },
    /// It ended well. Ends the step, as do the following.
    Done,
    /// Its result was already known.
    Cached,
    /// It failed.
    Failed {
        /// Why.
        message: String,
    },
    /// The build ended before it did.
    Cancelled,
}

/// Takes events, in order, from many threads. Must be quick.
pub trait Display: Send + Sync + 'static {
    /// Shows an event.
    fn show(&self, event: Event);
}

/// A display that shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDisplay;

impl Display for NoDisplay {
    fn show(&self, _: Event) {}
}

/// Hands events to a display.
#[derive(Clone)]
pub struct Progress {
    display: Arc<dyn Display>,
    steps: Arc<AtomicU64>,
    downloaded: Arc<AtomicU64>,
    tally: Arc<Tally>,
    /// Vertices without a name, which nobody is shown, and what they read.
    hidden: Arc<Mutex<HashMap<VertexId, Vec<VertexId>>>>,
    /// Vertices that are at work.
    started: Arc<Mutex<HashSet<VertexId>>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Shows everything on `display`.
    pub fn new(display: Arc<dyn Display>) -> Self {
        Progress {
            display,
            steps: Arc::default(),
            downloaded: Arc::default(),
            tally: Arc::default(),
            hidden: Arc::default(),
            started: Arc::default(),
        }
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Progress::new(Arc::new(NoDisplay))
    }

    /// Counts bytes that came over a network, for the summary.
    pub fn count_downloaded(&self, bytes: u64) {
        self.downloaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted so far.
    pub fn downloaded(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }

    /// Counts what is brought into the store for this, and not what others bring in meanwhile.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Whether the vertex was at work until now.
    fn ends(&self, vertex: VertexId) -> bool {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.remove(&vertex)
    }

    fn starts(&self, vertex: VertexId) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.insert(vertex);
    }

    fn hidden(&self) -> MutexGuard<'_, HashMap<VertexId, Vec<VertexId>>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens and starts a step that is not part of the graph. It fails unless it is ended.
    pub fn step(&self, name: impl Into<Arc<str>>) -> Step {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        // Tools that read `--progress=rawjson` expect digests.
        let id = Digest::of(format!("varve: step {number} beside the graph").as_bytes());
        let id = StepId(id.to_string().into());
        let step = Step {
            progress: self.clone(),
            id,
            name: name.into(),
            ended: false,
        };
        step.show(EventKind::Queued(Place::Beside));
        step.show(EventKind::Started);
        step
    }
}

/// A running step outside of the graph.
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    id: StepId,
    name: Arc<str>,
    ended: bool,
}

impl Step {
    /// Shows something of this step.
    pub fn show(&self, kind: EventKind) {
        let (step, name) = (self.id.clone(), self.name.clone());
        self.progress.display.show(Event {
            at: Instant::now(),
            step,
            name,
            kind,
        });
    }

    /// Shows how far a part is.
    pub fn status(&self, id: impl Into<String>, current: u64, total: Option<u64>, completed: bool) {
        self.show(EventKind::Status {
            id: id.into(),
            current,
            total,
            completed,
        });
    }

    /// The progress that this step is part of.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tells of this step from elsewhere; what is told after its end is shown nevertheless.
    pub fn reporter(&self) -> Reporter {
        let (progress, step, name) = (self.progress.clone(), self.id.clone(), self.name.clone());
        Reporter(Arc::new(move |kind| {
            let (step, name) = (step.clone(), name.clone());
            progress.display.show(Event {
                at: Instant::now(),
                step,
                name,
                kind,
            });
        }))
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.ended = true;
        self.show(EventKind::Done);
    }

    /// Ends the step as its result was known.
    pub fn cached(mut self) {
        self.ended = true;
        self.show(EventKind::Cached);
    }

    /// Ends the step with the outcome of what it did.
    pub fn end<T, E: fmt::Display>(mut self, outcome: Result<T, E>) -> Result<T, E> {
        self.ended = true;
        self.show(match &outcome {
            Ok(_) => EventKind::Done,
            Err(error) => EventKind::Failed {
                message: without_error_numbers(&error.to_string()),
            },
        });
        outcome
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.show(EventKind::Cancelled);
        }
    }
}

/// Tells of work that does not know which step it is a part of.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(EventKind) + Send + Sync>);

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Reporter {
    /// Tells nobody.
    pub fn silent() -> Self {
        Reporter(Arc::new(|_| {}))
    }

    /// Tells of an operation of the graph.
    pub(crate) fn of_operation(output: OpOutputSink) -> Self {
        Reporter(Arc::new(move |kind| match kind {
            EventKind::Status {
                id,
                current,
                total,
                completed,
            } => output.status(id, current, total, completed),
            EventKind::Warning { message } => output.warn(message),
            EventKind::Log { is_stderr, bytes } => {
                let stream = match is_stderr {
                    true => OutputStream::Stderr,
                    false => OutputStream::Stdout,
                };
                output.log(stream, bytes);
            }
            // The engine tells how a vertex starts and ends.
            _ => {}
        }))
    }

    /// How far a part is, in bytes.
    pub fn status(&self, id: impl Into<String>, current: u64, total: Option<u64>, completed: bool) {
        (self.0)(EventKind::Status {
            id: id.into(),
            current,
            total,
            completed,
        });
    }

    /// Something that a program printed.
    pub(crate) fn log(&self, bytes: impl Into<Vec<u8>>) {
        (self.0)(EventKind::Log {
            is_stderr: false,
            bytes: bytes.into(),
        });
    }

    /// Something worth knowing.
    pub fn warn(&self, message: impl Into<String>) {
        (self.0)(EventKind::Warning {
            message: message.into(),
        });
    }
}

impl Listener for Progress {
    fn vertex(&self, vertex: &VertexInfo, progress: &VertexProgress) {
        if vertex.name.is_empty() {
            let mut hidden = self.hidden();
            if !hidden.contains_key(&vertex.id) {
                let inputs = shown_inputs(vertex, &hidden);
                hidden.insert(vertex.id, inputs);
            }
            return;
        }
        let kind = match progress {
            VertexProgress::Queued => {
                EventKind::Queued(place(shown_inputs(vertex, &self.hidden())))
            }
            VertexProgress::Started => {
                self.starts(vertex.id);
                EventKind::Started
            }
            VertexProgress::Completed(Completion::Executed) => EventKind::Done,
            // It was waited for as long as it ran, for another build.
            VertexProgress::Completed(Completion::Cached(CacheHit::Shared))
                if self.ends(vertex.id) =>
            {
                EventKind::Done
            }
            VertexProgress::Completed(Completion::Cached(_)) => EventKind::Cached,
            VertexProgress::Completed(Completion::Failed(error)) => EventKind::Failed {
                message: without_error_numbers(&error.to_string()),
            },
            VertexProgress::Completed(Completion::Cancelled) => EventKind::Cancelled,
        };
        self.display.show(event(vertex, kind));
    }

    fn output(&self, vertex: &VertexInfo, output: &OpOutput) {
        if vertex.name.is_empty() {
            return;
        }
        let kind = match output.clone() {
            OpOutput::Log { stream, bytes } => EventKind::Log {
                is_stderr: stream == OutputStream::Stderr,
                bytes,
            },
            OpOutput::Status {
                id,
                current,
                total,
                completed,
            } => EventKind::Status {
                id,
                current,
                total,
                completed,
            },
            OpOutput::Warning { message } => EventKind::Warning { message },
        };
        self.display.show(event(vertex, kind));
    }
}

fn step_id(vertex: engine::VertexId) -> StepId {
    StepId(format!("sha256:{vertex}").into())
}

/// What a vertex reads of those that are shown: through those that are not.
fn shown_inputs(vertex: &VertexInfo, hidden: &HashMap<VertexId, Vec<VertexId>>) -> Vec<VertexId> {
    let inputs = vertex.inputs.iter();
    let shown = inputs.flat_map(|input| match hidden.get(input) {
        Some(behind) => behind.clone(),
        None => vec![*input],
    });
    shown.collect()
}

fn place(read: Vec<VertexId>) -> Place {
    let mut inputs = Vec::new();
    for input in read.into_iter().map(step_id) {
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    Place::Graph { inputs }
}

fn event(vertex: &VertexInfo, kind: EventKind) -> Event {
    Event {
        at: Instant::now(),
        step: step_id(vertex.id),
        name: vertex.name.as_str().into(),
        kind,
    }
}
