//! One evaluation's listener, and the protocol that it is promised.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::progress::{Completion, Listener, OpOutput, VertexInfo, VertexProgress};
use crate::vertex::VertexId;

/// Keeps the order `Queued`, at most one `Started`, one `Completed` for each vertex, whatever it is
/// told, and calls the listener one call at a time.
pub(crate) struct Reporter {
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` after a panic.
    listener: Option<Arc<dyn Listener>>,
    /// In graph order: inputs before those that read them.
    order: Vec<VertexId>,
    vertices: HashMap<VertexId, (VertexInfo, Station)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Station {
    Unknown,
    Queued,
    Started,
    Completed,
}

impl Reporter {
    /// For the vertices that the evaluation needs, in graph order.
    pub(crate) fn new(listener: Arc<dyn Listener>, vertices: Vec<VertexInfo>) -> Self {
        let order = vertices.iter().map(|vertex| vertex.id).collect();
        let vertices = vertices
            .into_iter()
            .map(|vertex| (vertex.id, (vertex, Station::Unknown)))
            .collect();
        Self {
            inner: Mutex::new(Inner {
                listener: Some(listener),
                order,
                vertices,
            }),
        }
    }

    /// A vertex reached a station; what comes twice or too late is left out.
    pub(crate) fn vertex(&self, vertex: VertexId, progress: &VertexProgress) {
        self.lock().vertex(vertex, progress);
    }

    /// An operation wrote something; that starts its vertex, if it had not started.
    pub(crate) fn output(&self, vertex: &VertexId, output: &OpOutput) {
        let mut inner = self.lock();
        inner.vertex(*vertex, &VertexProgress::Started);
        let Some((info, Station::Started)) = inner.vertices.get(vertex) else {
            return;
        };
        let info = info.clone();
        inner.call(|listener| listener.output(&info, output));
    }

    /// The evaluation has ended: so have all its vertices.
    pub(crate) fn finish(&self) {
        let mut inner = self.lock();
        for vertex in inner.order.clone() {
            inner.vertex(vertex, &VertexProgress::Completed(Completion::Cancelled));
        }
    }

    /// The name of a vertex, for errors.
    pub(crate) fn name(&self, vertex: VertexId) -> String {
        let inner = self.lock();
        inner
            .vertices
            .get(&vertex)
            .map_or_else(|| vertex.to_string(), |(info, _)| info.name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn vertex(&mut self, vertex: VertexId, progress: &VertexProgress) {
        let next = match progress {
            VertexProgress::Queued => Station::Queued,
            VertexProgress::Started => Station::Started,
            VertexProgress::Completed(_) => Station::Completed,
        };
        let Some((info, station)) = self.vertices.get_mut(&vertex) else {
            return;
        };
        // An evaluation that is refused at once (a conflict) has queued nothing.
        if *station >= next || (*station == Station::Unknown && next != Station::Queued) {
            return;
        }
        *station = next;
        let info = info.clone();
        self.call(|listener| listener.vertex(&info, progress));
    }

    fn call(&mut self, call: impl FnOnce(&dyn Listener)) {
        let Some(listener) = &self.listener else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| call(listener.as_ref()))).is_err() {
            tracing::error!("a progress listener panicked, which is a bug; it hears nothing more");
            self.listener = None;
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}
