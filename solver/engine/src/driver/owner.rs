//! The task that owns the scheduler: messages in, actions out.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::cache_key::CacheKey;
use crate::cache_store::CacheStore;
use crate::cancel::CancelToken;
use crate::driver::{Message, Reporter, Submission, tasks};
use crate::error::EvaluateError;
use crate::job::{JobId, JobOutcome, Limits};
use crate::progress::OutputSink;
use crate::scheduler::{Action, Event, Scheduler, Task};
use crate::state::NodeId;
use crate::vertex::{Op, OpContext, VertexId};

struct Owner<V> {
    scheduler: Scheduler<V>,
    store: Arc<dyn CacheStore<V>>,
    messages: mpsc::UnboundedSender<Message<V>>,
    jobs: HashMap<JobId, Job<V>>,
    running: HashMap<NodeId, OpContext>,
    save_places: Arc<Semaphore>,
    /// The audience of running tasks is up to date with this epoch of the scheduler.
    audience_epoch: u64,
    waiting_for_idle: Vec<oneshot::Sender<()>>,
}

struct Job<V> {
    ops: HashMap<VertexId, Arc<dyn Op<Value = V>>>,
    reporter: Arc<Reporter>,
    reply: oneshot::Sender<Result<Vec<V>, EvaluateError>>,
}

/// Runs until the engine is dropped and nothing is left to do.
pub(super) async fn run<V: Clone + Send + Sync + 'static>(
    store: Arc<dyn CacheStore<V>>,
    limits: Limits,
    messages: mpsc::UnboundedSender<Message<V>>,
    mut inbox: mpsc::UnboundedReceiver<Message<V>>,
) {
    let mut owner = Owner {
        scheduler: Scheduler::new(&limits),
        store,
        messages,
        jobs: HashMap::new(),
        running: HashMap::new(),
        save_places: Arc::new(Semaphore::new(limits.max_parallel_probes.max(1))),
        audience_epoch: 0,
        waiting_for_idle: Vec::new(),
    };
    let mut closed = false;
    while !(closed && owner.scheduler.is_idle()) {
        // The owner holds a sender itself, so the channel never ends.
        let Some(message) = inbox.recv().await else {
            break;
        };
        match message {
            Message::Submit(submission) => owner.submit(*submission),
            Message::Event(event) => owner.apply(event),
            Message::Idle(reply) => owner.waiting_for_idle.push(reply),
            Message::Close => closed = true,
        }
        owner.tell_idle();
    }
}

impl<V: Clone + Send + Sync + 'static> Owner<V> {
    fn submit(&mut self, submission: Submission<V>) {
        let Submission {
            job,
            graph,
            ops,
            reporter,
            reply,
        } = submission;
        self.jobs.insert(
            job,
            Job {
                ops,
                reporter,
                reply,
            },
        );
        self.apply(Event::Submit { job, graph });
    }

    fn apply(&mut self, event: Event<V>) {
        if let Event::Ended { node, .. } = &event
            && let Some(context) = self.running.remove(node)
        {
            // What the operation left behind writes to nobody.
            context.output.set_audience(Vec::new());
        }
        let actions = self.scheduler.apply(event);
        self.update_audiences();
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action<V>) {
        match action {
            Action::Start {
                node,
                vertex,
                job,
                task,
            } => self.start(node, vertex, job, task),
            Action::Cancel { node } => {
                if let Some(context) = self.running.get(&node) {
                    context.cancel.cancel();
                }
            }
            Action::Save { node, keys, values } => self.save(node, keys, values),
            Action::Report {
                job,
                vertex,
                progress,
            } => {
                if let Some(job) = self.jobs.get(&job) {
                    job.reporter.vertex(vertex, &progress);
                }
            }
            Action::Finish { job, outcome } => self.finish(job, outcome),
        }
    }

    fn start(&mut self, node: NodeId, vertex: VertexId, job: JobId, task: Task<V>) {
        let op = self
            .jobs
            .get(&job)
            .and_then(|job| job.ops.get(&vertex))
            .map(Arc::clone);
        let op = op.expect("the scheduler starts a vertex only for a live job that brought it");
        let context = OpContext {
            cancel: CancelToken::new(),
            output: OutputSink::discard(),
        };
        context.output.set_audience(self.audience(node));
        self.running.insert(node, context.clone());
        let (store, messages) = (Arc::clone(&self.store), self.messages.clone());
        tokio::spawn(async move {
            let result = tasks::perform(task, op, store, context).await;
            // The owner lives as long as something runs, unless the runtime shuts down.
            messages
                .send(Message::Event(Event::Ended { node, result }))
                .unwrap_or_default();
        });
    }

    fn save(&mut self, node: NodeId, keys: Vec<CacheKey>, values: Arc<[V]>) {
        let (store, messages) = (Arc::clone(&self.store), self.messages.clone());
        let places = Arc::clone(&self.save_places);
        tokio::spawn(async move {
            // The semaphore is never closed; if it were, saving unbounded would still be right.
            let place = places.acquire().await;
            tasks::save(store.as_ref(), &keys, &values).await;
            drop((place, values));
            messages
                .send(Message::Event(Event::Saved { node }))
                .unwrap_or_default();
        });
    }

    fn finish(&mut self, id: JobId, outcome: JobOutcome<V>) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let result = match outcome {
            JobOutcome::Values(values) => Ok(values),
            JobOutcome::Cancelled => Err(EvaluateError::Cancelled),
            JobOutcome::Graph(source) => Err(EvaluateError::Graph { source }),
            JobOutcome::Failed { vertex, error } => {
                let name = job.reporter.name(vertex);
                Err(EvaluateError::Op {
                    vertex,
                    name,
                    source: error,
                })
            }
        };
        job.reporter.finish();
        if job.reply.send(result).is_err() {
            tracing::debug!(?id, "an evaluation ended after its caller had left");
        }
    }

    fn audience(&self, node: NodeId) -> Vec<(Arc<Reporter>, VertexId)> {
        let audience = self.scheduler.audience(node).into_iter();
        audience
            .filter_map(|(job, vertex)| {
                self.jobs
                    .get(&job)
                    .map(|job| (Arc::clone(&job.reporter), vertex))
            })
            .collect()
    }

    fn update_audiences(&mut self) {
        if self.audience_epoch == self.scheduler.audience_epoch {
            return;
        }
        self.audience_epoch = self.scheduler.audience_epoch;
        for (node, context) in &self.running {
            context.output.set_audience(self.audience(*node));
        }
    }

    fn tell_idle(&mut self) {
        if self.scheduler.is_idle() {
            for waiting in self.waiting_for_idle.drain(..) {
                // Whoever asked may have left.
                waiting.send(()).unwrap_or_default();
            }
        }
    }
}
