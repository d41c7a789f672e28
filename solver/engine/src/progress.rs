//! What a person may see of an evaluation: the life of each vertex and the output of operations.
//!
//! No clock here: a listener stamps what it hears with its own.

mod backlog;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::backlog::Backlog;
use crate::driver::Reporter;
use crate::error::OpError;
use crate::vertex::VertexId;

/// A vertex as progress shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VertexInfo {
    /// Its id in the graph of this evaluation.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// The vertices it reads, in the order of its inputs, repeated ones included.
    pub inputs: Vec<VertexId>,
}

/// A station in the life of a vertex.
#[derive(Clone, Debug)]
pub enum VertexProgress {
    /// It belongs to the sub-graph that the targets need. Always the first station.
    Queued,
    /// It began to run, or wrote its first output while its definition key was asked.
    Started,
    /// It needs nothing any more. Always the last station.
    Completed(Completion),
}

/// How a vertex ended, for this evaluation.
#[derive(Clone, Debug)]
pub enum Completion {
    /// It ran.
    Executed,
    /// It did not have to run: a display says `CACHED`.
    Cached(CacheHit),
    /// It failed, and this evaluation with it.
    Failed(OpError),
    /// The evaluation ended before it did. It may never have started.
    Cancelled,
}

/// Why a vertex did not have to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheHit {
    /// Its definition and those of all its ancestors are known to the cache.
    Classic,
    /// Its definition is known to the cache with inputs of this content.
    Content,
    /// An equal step of this or another evaluation gave the result while it was wanted.
    Shared,
    /// Nobody had to ask for its value: everything that reads it was cached, or went on from what
    /// an equal step of another evaluation had already evaluated.
    Skipped,
}

/// What an operation writes while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpOutput {
    /// Bytes of a log, as they come: not cut into lines, not checked to be text.
    Log {
        /// Which stream.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// How far a part of the work is (`transferring context`, a layer). A later one with the same
    /// id replaces it.
    Status {
        /// Identifies the part within the vertex.
        id: String,
        /// How much is done, in the unit that the operation chose (bytes, mostly).
        current: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
        /// Whether this part is finished.
        completed: bool,
    },
    /// Something that a person should know although the step goes on.
    Warning {
        /// The sentence.
        message: String,
    },
}

/// The stream of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Hears what happens in one evaluation.
///
/// For every vertex of the needed sub-graph, exactly: `Queued` (all of them before anything else,
/// inputs before those that read them), then at most one `Started`, then one `Completed`, the last
/// of them before `evaluate` returns. A vertex that was found in the cache has no `Started`
/// unless it wrote output before. Skipped ancestors of a hit are completed right before it, in
/// graph order. Output comes only between `Started` and `Completed`.
///
/// Calls for one evaluation never overlap. They come from the engine's task and from operations,
/// so they must be short and must not block; a panic is logged and silences the listener.
pub trait Listener: Send + Sync + 'static {
    /// A vertex reached a station.
    fn vertex(&self, vertex: &VertexInfo, progress: &VertexProgress);

    /// An operation wrote something.
    fn output(&self, vertex: &VertexInfo, output: &OpOutput);
}

/// A listener that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {
    fn vertex(&self, _: &VertexInfo, _: &VertexProgress) {}
    fn output(&self, _: &VertexInfo, _: &OpOutput) {}
}

/// Where an operation writes its output: to everybody who waits for it, in each evaluation under
/// the vertex that it stands for there. Who comes later is told first what was written before.
/// After the call into the operation has ended, what is written goes nowhere.
#[derive(Clone)]
pub struct OutputSink {
    inner: Arc<Mutex<Inner>>,
}

/// Who hears an operation, and under which vertex.
pub(crate) type Audience = Vec<(Arc<Reporter>, VertexId)>;

#[derive(Default)]
struct Inner {
    audience: Audience,
    backlog: Backlog,
}

impl OutputSink {
    /// A sink without an audience: for calling an operation outside an engine, in tests.
    #[must_use]
    pub fn discard() -> Self {
        Self {
            inner: Arc::default(),
        }
    }

    /// Writes bytes of a log.
    pub fn log(&self, stream: OutputStream, bytes: impl Into<Vec<u8>>) {
        self.write(&OpOutput::Log {
            stream,
            bytes: bytes.into(),
        });
    }

    /// Tells how far a part of the work is.
    pub fn status(&self, id: impl Into<String>, current: u64, total: Option<u64>, completed: bool) {
        self.write(&OpOutput::Status {
            id: id.into(),
            current,
            total,
            completed,
        });
    }

    /// Warns.
    pub fn warn(&self, message: impl Into<String>) {
        self.write(&OpOutput::Warning {
            message: message.into(),
        });
    }

    /// Writes any output.
    pub fn write(&self, output: &OpOutput) {
        let mut inner = self.lock();
        inner.backlog.add(output);
        for (reporter, vertex) in &inner.audience {
            reporter.output(vertex, output);
        }
    }

    pub(crate) fn set_audience(&self, audience: Audience) {
        let mut inner = self.lock();
        for (reporter, vertex) in &audience {
            let mut before = inner.audience.iter();
            if !before.any(|(old, of)| Arc::ptr_eq(old, reporter) && of == vertex) {
                inner.backlog.tell(|output| reporter.output(vertex, output));
            }
        }
        inner.audience = audience;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OutputSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputSink").finish_non_exhaustive()
    }
}
