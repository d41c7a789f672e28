//! Decides what happens: [`Scheduler::apply`] takes an event and gives the actions to perform.
//! No IO, no clock, no async, no lock: one owner calls it, and tests feed it what they like.
//!
//! Here: the events, the actions, and how a node moves forward ([`Scheduler::advance`]). The rest
//! by topic: `results` (what an ended task means), `needs` (who wants what; what happens when
//! nobody does), `lanes` (what may start), and [`merge`](crate::merge).
//!
//! An event changes states and puts nodes on the *agenda*: those for which something may have
//! become possible. The agenda is worked off, then what nobody wants is let go, then free places
//! are filled. `advance` may be called for any node at any time: it does what is possible.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::cache_key::CacheKey;
use crate::error::{GraphError, OpError};
use crate::graph::Graph;
use crate::job::{Job, JobId, JobOutcome, Limits};
use crate::merge::Claims;
use crate::progress::{CacheHit, Completion, VertexProgress};
use crate::state::{Keys, Node, NodeId, State, Step, Turn};
use crate::vertex::VertexId;

mod lanes;
mod needs;
mod results;
#[cfg(test)]
mod tests;

use lanes::{LaneKind, Lanes};

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event<V> {
    /// A new job; its id is larger than all before.
    Submit { job: JobId, graph: Graph },
    /// Nobody waits for the job any more.
    Cancel { job: JobId },
    /// What [`Action::Start`] began has ended.
    Ended { node: NodeId, result: TaskResult<V> },
    /// What [`Action::Save`] began has ended, well or not.
    Saved { node: NodeId },
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Action<V> {
    /// Begin a task. `job` is the one whose operation is used. At most one task per node.
    Start {
        node: NodeId,
        vertex: VertexId,
        job: JobId,
        task: Task<V>,
    },
    /// Ask the running task of the node to end. `Ended` still comes.
    Cancel { node: NodeId },
    /// Remember the values under all keys.
    Save {
        node: NodeId,
        keys: Vec<CacheKey>,
        values: Arc<[V]>,
    },
    /// Tell a job's listener.
    Report {
        job: JobId,
        vertex: VertexId,
        progress: VertexProgress,
    },
    /// Answer whoever evaluates. Nothing that the job alone needed is in flight any more.
    Finish { job: JobId, outcome: JobOutcome<V> },
}

/// Work for the driver.
#[derive(Clone, Debug)]
pub(crate) enum Task<V> {
    CacheMap,
    Lookup { key: CacheKey },
    ContentKey { inputs: Arc<[V]> },
    Rebase { inputs: Arc<[V]>, found: Arc<[V]> },
    Execute { inputs: Arc<[V]> },
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum TaskResult<V> {
    CacheMap(Result<CacheKey, OpError>),
    Lookup(Option<Vec<V>>),
    ContentKey(Result<Option<CacheKey>, OpError>),
    /// `None` if that could not be done.
    Rebase(Option<Vec<V>>),
    Execute(Result<Vec<V>, OpError>),
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler<V> {
    pub(crate) nodes: BTreeMap<NodeId, Node<V>>,
    pub(crate) jobs: BTreeMap<JobId, Job<V>>,
    pub(crate) claims: Claims,
    pub(crate) lanes: Lanes,
    pub(crate) agenda: VecDeque<NodeId>,
    /// Jobs that were concluded and whose needs are not let go yet.
    concluded: Vec<JobId>,
    /// Nodes that no job has; they go when nothing refers to them.
    jobless: BTreeSet<NodeId>,
    pub(crate) actions: Vec<Action<V>>,
    /// Grows whenever the answer of [`Self::audience`] may have changed for some node.
    pub(crate) audience_epoch: u64,
}

impl<V: Clone> Scheduler<V> {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            nodes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            claims: Claims::default(),
            lanes: Lanes::new(limits),
            agenda: VecDeque::new(),
            concluded: Vec::new(),
            jobless: BTreeSet::new(),
            actions: Vec::new(),
            audience_epoch: 0,
        }
    }

    /// Takes note of an event and decides. The actions are to be performed in their order.
    pub(crate) fn apply(&mut self, event: Event<V>) -> Vec<Action<V>> {
        match event {
            Event::Submit { job, graph } => self.submit(job, &graph),
            Event::Cancel { job } => self.conclude(job, JobOutcome::Cancelled),
            Event::Ended { node, result } => self.ended(node, result),
            Event::Saved { node } => self.saved(node),
        }
        self.run_agenda();
        while !self.concluded.is_empty() {
            self.let_go();
        }
        self.start_tasks();
        self.finish_jobs();
        std::mem::take(&mut self.actions)
    }

    /// Whether there is no job and nothing in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.nodes.is_empty()
    }

    /// Whether an idle scheduler has kept nothing: no claim, no place.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_clean(&self) -> bool {
        self.claims.is_empty() && self.lanes.is_empty()
    }

    /// Breaks the bound on parallelism: what runs gives up its place.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn leak_places(&mut self) {
        for (id, node) in &self.nodes {
            if let Some(kind) = LaneKind::of(&node.state) {
                self.lanes.ended(kind, *id);
            }
        }
    }

    fn submit(&mut self, job: JobId, graph: &Graph) {
        for new in &graph.nodes {
            if let Some(known) = self.nodes.get(&new.node)
                && !known.inputs.iter().map(|(input, _)| input).eq(&new.inputs)
            {
                let error = GraphError::Conflict {
                    vertex: new.spec.id,
                };
                let outcome = JobOutcome::Graph(error);
                self.actions.push(Action::Finish { job, outcome });
                return;
            }
        }
        for new in &graph.nodes {
            let outputs = new.spec.inputs.iter().map(|edge| edge.output);
            let node = self.nodes.entry(new.node).or_insert_with(|| Node {
                vertex: new.spec.id,
                inputs: new.inputs.iter().copied().zip(outputs).collect(),
                ignore_cache: new.spec.ignore_cache,
                outputs_wanted: 0,
                jobs: BTreeSet::new(),
                dependents: BTreeSet::new(),
                followers: Vec::new(),
                state: State::Unkeyed,
            });
            node.jobs.insert(job);
            self.jobless.remove(&new.node);
            for (input, edge) in new.inputs.iter().zip(&new.spec.inputs) {
                self.node_mut(*input).dependents.insert(new.node);
                self.want_output(*input, edge.output);
            }
            self.report(job, new.spec.id, VertexProgress::Queued);
        }
        for (target, output) in &graph.targets {
            self.want_output(*target, *output);
        }
        self.jobs.insert(job, Job::new(graph));
        self.audience_epoch += 1;
        self.join(job, graph);
        self.check_targets(job);
    }

    fn want_output(&mut self, id: NodeId, output: u32) {
        let wanted = &mut self.node_mut(id).outputs_wanted;
        *wanted = (*wanted).max(output as usize + 1);
    }

    /// Tells a new job of what its nodes, known from other jobs, are and do already.
    fn join(&mut self, job: JobId, graph: &Graph) {
        for new in &graph.nodes {
            let id = new.node;
            if let State::Complete { saving, .. } = self.node(id).state {
                if saving {
                    self.job_mut(job).saves.insert(id);
                }
                self.settle(job, id, Completion::Cached(CacheHit::Shared));
            } else if self.node(self.root(id)).state.is_executing() {
                self.report_started(job, new.spec.id);
            }
            self.agenda.push_back(id);
        }
    }

    pub(crate) fn run_agenda(&mut self) {
        while let Some(id) = self.agenda.pop_front() {
            self.advance(id);
        }
    }

    /// Moves a node forward as far as is possible without an event.
    fn advance(&mut self, id: NodeId) {
        match &self.node(id).state {
            State::Unkeyed => {
                if self.owner(id).is_some() {
                    self.node_mut(id).state = State::Mapping { turn: Turn::Queued };
                    self.queue(id);
                }
            }
            State::Mapped {
                definition,
                keyed_inputs,
            } => {
                self.find_keys(id, *definition, *keyed_inputs);
            }
            State::Keyed { keys } => {
                let keys = *keys;
                if self.is_wanted(id) {
                    self.activate(id, keys);
                }
            }
            State::Collecting {
                keys,
                complete_inputs,
            } => {
                self.collect(id, *keys, *complete_inputs);
            }
            State::Following {
                keys,
                leader,
                evaluated,
            } => {
                let (keys, leader, evaluated) = (*keys, *leader, evaluated.clone());
                let Some(values) = self.node(leader).state.values().cloned() else {
                    return;
                };
                self.node_mut(leader)
                    .followers
                    .retain(|follower| *follower != id);
                let hit = CacheHit::Shared;
                match evaluated {
                    // By its merge key it has the leader's record, and its inputs are equal.
                    None => self.complete(id, keys, values, Completion::Cached(hit), Vec::new()),
                    Some(evaluated) => self.rebase(id, keys, evaluated, values, hit),
                }
            }
            State::Mapping { .. }
            | State::Probing { .. }
            | State::Evaluated { .. }
            | State::Rebasing { .. }
            | State::Complete { .. } => {}
        }
    }

    /// Combines the keys once those of all inputs are known.
    ///
    /// Called for each input that gets its key: it goes on where it stopped before, or a vertex
    /// with many inputs would take quadratic time. So does [`Self::collect`].
    fn find_keys(&mut self, id: NodeId, definition: CacheKey, known: usize) {
        let node = self.node(id);
        let has_keys = |(input, _): &&(NodeId, u32)| self.node(*input).state.keys().is_some();
        let keyed_inputs = known + node.inputs[known..].iter().take_while(has_keys).count();
        if keyed_inputs < node.inputs.len() {
            self.node_mut(id).state = State::Mapped {
                definition,
                keyed_inputs,
            };
            return;
        }
        let inputs = node.inputs.iter();
        let inputs: Vec<_> = inputs
            .filter_map(|(input, output)| Some((*self.node(*input).state.keys()?, *output)))
            .collect();
        let keys = Keys::new(definition, node.ignore_cache, &inputs);
        let readers: Vec<_> = node.dependents.iter().copied().collect();
        self.node_mut(id).state = State::Keyed { keys };
        self.agenda.extend(readers);
        self.agenda.push_back(id);
    }

    /// Asks for the values of the inputs.
    pub(crate) fn begin_collecting(&mut self, id: NodeId, keys: Keys) {
        self.node_mut(id).state = State::Collecting {
            keys,
            complete_inputs: 0,
        };
        self.want_inputs(id);
        self.agenda.push_back(id);
    }

    /// The node collects: those of its inputs that have not begun begin now, and after them those
    /// of the nodes that follow it, which follow in their turn.
    pub(crate) fn want_inputs(&mut self, id: NodeId) {
        let mut readers = VecDeque::from([id]);
        while let Some(reader) = readers.pop_front() {
            let Some(node) = self.nodes.get(&reader) else {
                continue;
            };
            self.agenda
                .extend(node.inputs.iter().map(|(input, _)| *input));
            readers.extend(&node.followers);
        }
    }

    /// Goes on once all inputs have values.
    fn collect(&mut self, id: NodeId, keys: Keys, known: usize) {
        if self.owner(id).is_none() {
            self.hand_over(id);
            return;
        }
        let node = self.node(id);
        let has_value = |(input, _): &&(NodeId, u32)| self.node(*input).state.values().is_some();
        let complete_inputs = known + node.inputs[known..].iter().take_while(has_value).count();
        if complete_inputs < node.inputs.len() {
            self.node_mut(id).state = State::Collecting {
                keys,
                complete_inputs,
            };
            return;
        }
        let inputs: Result<Arc<[V]>, _> = node
            .inputs
            .iter()
            .map(|(input, output)| self.output(*input, *output))
            .collect();
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(error) => {
                self.fail_graph(id, &error);
                return;
            }
        };
        // Without inputs the content key could say nothing that the classic key does not.
        let step = match inputs.is_empty() {
            true => Step::Execute { content: None },
            false => Step::ContentKey,
        };
        self.node_mut(id).state = State::Evaluated {
            keys,
            inputs,
            step,
            turn: Turn::Queued,
        };
        self.queue(id);
    }

    /// One output of a complete node.
    fn output(&self, id: NodeId, output: u32) -> Result<V, GraphError> {
        let node = self.node(id);
        let values = node.state.values().map_or(&[][..], |values| values);
        values
            .get(output as usize)
            .cloned()
            .ok_or(GraphError::OutputOutOfRange {
                vertex: node.vertex,
                output,
                available: values.len(),
            })
    }

    /// Lets the work of the node's state wait for a place, on the account of the first live job
    /// that has it. If there is none, who follows goes on instead.
    pub(crate) fn queue(&mut self, id: NodeId) {
        match (LaneKind::of(&self.node(id).state), self.owner(id)) {
            (Some(kind), Some(owner)) => self.lanes.enqueue(kind, id, owner),
            _ => self.hand_over(id),
        }
    }

    fn start_tasks(&mut self) {
        for kind in LaneKind::ALL {
            while let Some(id) = self.lanes.next(kind) {
                self.start(id);
            }
        }
    }

    fn start(&mut self, id: NodeId) {
        let job = self
            .owner(id)
            .expect("what nobody owns was withdrawn before places are filled");
        let node = self.node_mut(id);
        let vertex = node.vertex;
        if let Some(turn) = node.state.turn_mut() {
            *turn = Turn::Running { op_of: job };
        }
        let task = match &node.state {
            State::Mapping { .. } => Task::CacheMap,
            State::Probing { keys, .. } => Task::Lookup { key: keys.classic },
            State::Evaluated { inputs, step, .. } => {
                let inputs = Arc::clone(inputs);
                match step {
                    Step::ContentKey => Task::ContentKey { inputs },
                    Step::Lookup { content } => Task::Lookup { key: *content },
                    Step::Execute { .. } => Task::Execute { inputs },
                }
            }
            State::Rebasing {
                evaluated, found, ..
            } => Task::Rebase {
                inputs: Arc::clone(&evaluated.inputs),
                found: Arc::clone(found),
            },
            _ => unreachable!("only states with a turn wait in a lane"),
        };
        if matches!(task, Task::Execute { .. }) {
            for (job, vertex) in self.audience(id) {
                self.report_started(job, vertex);
            }
        }
        self.actions.push(Action::Start {
            node: id,
            vertex,
            job,
            task,
        });
    }

    pub(crate) fn report_started(&mut self, job: JobId, vertex: VertexId) {
        self.report(job, vertex, VertexProgress::Started);
    }

    fn report(&mut self, job: JobId, vertex: VertexId, progress: VertexProgress) {
        self.actions.push(Action::Report {
            job,
            vertex,
            progress,
        });
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node<V> {
        self.nodes
            .get(&id)
            .expect("a node stays as long as a job or another node refers to it")
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node<V> {
        self.nodes
            .get_mut(&id)
            .expect("a node stays as long as a job or another node refers to it")
    }

    fn job_mut(&mut self, id: JobId) -> &mut Job<V> {
        self.jobs
            .get_mut(&id)
            .expect("a job stays until it is finished")
    }
}
