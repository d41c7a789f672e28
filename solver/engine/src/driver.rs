//! Does what the scheduler decides, on tokio.
//!
//! One task owns the scheduler (`owner`): it takes messages from those who evaluate and from the
//! tasks that it began, gives them to `apply` as events, and performs the actions. Every call into
//! an operation or the cache store is a task of its own (`tasks`), which sends one message when it
//! ends, panic or not. Progress goes through a `Reporter` per evaluation, which keeps the
//! listener's protocol.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::cache_store::CacheStore;
use crate::cancel::CancelToken;
use crate::error::EvaluateError;
use crate::graph::{Graph, VertexSpec};
use crate::job::{JobId, Limits};
use crate::progress::{Listener, VertexInfo};
use crate::scheduler::Event;
use crate::vertex::{Edge, Op, Vertex, VertexId};

mod owner;
mod reporter;
mod tasks;
#[cfg(test)]
mod tests;

pub(crate) use reporter::Reporter;

/// Evaluates graphs; evaluations that run at the same time share their work.
///
/// Dropping an engine lets what is still ending end in the background; [`Engine::idle`] waits for
/// it.
pub struct Engine<V> {
    messages: mpsc::UnboundedSender<Message<V>>,
    next_job: AtomicU64,
    limits: Limits,
}

/// What the owner is told. The channel is unbounded, but holds at most one message for each running
/// task and two for each evaluation.
enum Message<V> {
    Submit(Box<Submission<V>>),
    Event(Event<V>),
    /// Answer when nothing is left to do.
    Idle(oneshot::Sender<()>),
    /// The engine was dropped: end when nothing is left to do.
    Close,
}

/// A new evaluation.
struct Submission<V> {
    job: JobId,
    graph: Graph,
    ops: HashMap<VertexId, Arc<dyn Op<Value = V>>>,
    reporter: Arc<Reporter>,
    reply: oneshot::Sender<Result<Vec<V>, EvaluateError>>,
}

impl<V: Clone + Send + Sync + 'static> Engine<V> {
    /// An engine over a cache store.
    ///
    /// # Panics
    /// Outside a tokio runtime: the engine's task lives on the current one.
    #[must_use]
    pub fn new(cache_store: Arc<dyn CacheStore<V>>, limits: Limits) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        tokio::spawn(owner::run(
            cache_store,
            limits.clone(),
            messages.clone(),
            inbox,
        ));
        Self {
            messages,
            next_job: AtomicU64::new(1),
            limits,
        }
    }

    /// Evaluates the targets, one value for each in their order. Of the graph only what the targets
    /// need is looked at; vertices may come in any order.
    ///
    /// Ends when the values are there and saved, or after the first error or the cancellation, and
    /// in each case not before every task that only this evaluation needed has really ended.
    /// Dropping the future cancels too, but then nobody waits; [`Engine::idle`] does.
    ///
    /// # Errors
    /// See [`EvaluateError`]. A failing cache store is logged, never an error.
    pub async fn evaluate(
        &self,
        graph: Vec<Vertex<V>>,
        targets: &[Edge],
        listener: Arc<dyn Listener>,
        cancel: &CancelToken,
    ) -> Result<Vec<V>, EvaluateError> {
        let specs = graph
            .iter()
            .map(|vertex| VertexSpec {
                id: vertex.id,
                inputs: vertex.inputs.clone(),
                ignore_cache: vertex.ignore_cache,
            })
            .collect();
        let checked = Graph::check(specs, targets, &self.limits)?;
        let mut ops = HashMap::new();
        let mut infos = HashMap::new();
        for vertex in graph {
            let inputs = vertex.inputs.iter().map(|edge| edge.vertex).collect();
            infos.insert(
                vertex.id,
                VertexInfo {
                    id: vertex.id,
                    name: vertex.name,
                    inputs,
                },
            );
            ops.insert(vertex.id, vertex.op);
        }
        // Listeners hear of needed vertices only.
        let needed = checked
            .nodes
            .iter()
            .filter_map(|node| infos.remove(&node.spec.id))
            .collect();
        let job = JobId(self.next_job.fetch_add(1, Ordering::Relaxed));
        let (reply, mut answer) = oneshot::channel();
        let reporter = Arc::new(Reporter::new(listener, needed));
        let submission = Submission {
            job,
            graph: checked,
            ops,
            reporter,
            reply,
        };
        self.send(Message::Submit(Box::new(submission)))?;
        let mut guard = CancelOnDrop {
            messages: &self.messages,
            job: Some(job),
        };
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = cancel.cancelled() => {
                guard.cancel();
                answer.await
            }
        };
        guard.job = None;
        answered.unwrap_or(Err(EvaluateError::Stopped))
    }

    /// Resolves when nothing is being evaluated and nothing is left that ends in the background.
    pub async fn idle(&self) {
        let (reply, answer) = oneshot::channel();
        // If the owner is gone, nothing runs either.
        if self.send(Message::Idle(reply)).is_ok() {
            answer.await.unwrap_or_default();
        }
    }

    fn send(&self, message: Message<V>) -> Result<(), EvaluateError> {
        self.messages
            .send(message)
            .map_err(|_| EvaluateError::Stopped)
    }
}

impl<V> Drop for Engine<V> {
    fn drop(&mut self) {
        // A send error means that the owner is gone already.
        self.messages.send(Message::Close).unwrap_or_default();
    }
}

impl<V> fmt::Debug for Engine<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Cancels the job if the future that waits for it is dropped.
struct CancelOnDrop<'a, V> {
    messages: &'a mpsc::UnboundedSender<Message<V>>,
    job: Option<JobId>,
}

impl<V> CancelOnDrop<'_, V> {
    fn cancel(&mut self) {
        if let Some(job) = self.job.take() {
            // A send error means that the owner is gone, and with it the job.
            self.messages
                .send(Message::Event(Event::Cancel { job }))
                .unwrap_or_default();
        }
    }
}

impl<V> Drop for CancelOnDrop<'_, V> {
    fn drop(&mut self) {
        self.cancel();
    }
}
