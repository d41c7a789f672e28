//! What an ended task means for its node, and what a value means for those who wait for it.

use std::sync::Arc;

use crate::cache_key::{self, CacheKey};
use crate::error::{GraphError, OpError};
use crate::job::{JobId, JobOutcome, Phase};
use crate::progress::{CacheHit, Completion, VertexProgress};
use crate::scheduler::lanes::LaneKind;
use crate::scheduler::{Action, Scheduler, TaskResult};
use crate::state::{Evaluated, Keys, NodeId, State, Step, Turn};
use crate::vertex::VertexId;

impl<V: Clone> Scheduler<V> {
    /// A task has ended. What it found is used even if it was told to leave: it is true anyway.
    pub(super) fn ended(&mut self, id: NodeId, result: TaskResult<V>) {
        let Some(node) = self.nodes.get(&id) else {
            debug_assert!(false, "a task ended for a node that does not exist");
            return;
        };
        if let Some(kind) = LaneKind::of(&node.state) {
            self.lanes.ended(kind, id);
        }
        let state = node.state.clone();
        match (state, result) {
            (State::Mapping { turn }, TaskResult::CacheMap(result)) => {
                self.mapped(id, turn, result);
            }
            (State::Probing { keys, .. }, TaskResult::Lookup(found)) => {
                self.probed(id, keys, found);
            }
            (
                State::Evaluated {
                    keys,
                    inputs,
                    step,
                    turn,
                },
                result,
            ) => {
                self.evaluated(id, keys, Work { inputs, step, turn }, result);
            }
            (
                State::Rebasing {
                    keys,
                    evaluated,
                    hit,
                    ..
                },
                TaskResult::Rebase(values),
            ) => self.rebased(id, keys, evaluated, (values, hit)),
            _ => debug_assert!(false, "a task ended that was not begun"),
        }
        for job in self.jobs.values_mut() {
            if let Phase::Ending { waits_for, .. } = &mut job.phase {
                waits_for.remove(&id);
            }
        }
    }

    fn mapped(&mut self, id: NodeId, turn: Turn, result: Result<CacheKey, OpError>) {
        self.agenda.push_back(id);
        match result {
            Ok(definition) => {
                self.node_mut(id).state = State::Mapped {
                    definition,
                    keyed_inputs: 0,
                };
            }
            Err(error) => {
                self.node_mut(id).state = State::Unkeyed;
                if self.is_believed(turn) {
                    let vertex = self.node(id).vertex;
                    for job in self.live_jobs(id) {
                        self.conclude_failed(job, vertex, &error);
                    }
                }
            }
        }
    }

    /// A record with fewer outputs than are asked for is broken: it counts as a miss.
    fn probed(&mut self, id: NodeId, keys: Keys, found: Option<Vec<V>>) {
        match found.filter(|values| values.len() >= self.node(id).outputs_wanted) {
            Some(values) => {
                let completion = Completion::Cached(CacheHit::Classic);
                self.complete(id, keys, values.into(), completion, Vec::new());
            }
            None if self.is_wanted(id) => {
                self.begin_collecting(id, keys);
            }
            None => {
                self.revert(id);
            }
        }
    }

    fn evaluated(&mut self, id: NodeId, keys: Keys, work: Work<V>, result: TaskResult<V>) {
        let failed = match (work.step, result) {
            (Step::ContentKey, TaskResult::ContentKey(Ok(content))) => {
                self.content_known(id, keys, work.inputs, content);
                return;
            }
            (Step::Lookup { content }, TaskResult::Lookup(found)) => {
                self.content_probed(
                    id,
                    keys,
                    Evaluated {
                        inputs: work.inputs,
                        content,
                    },
                    found,
                );
                return;
            }
            (Step::Execute { content }, TaskResult::Execute(Ok(values))) => {
                let saves = std::iter::once(keys.classic).chain(content).collect();
                self.complete(id, keys, values.into(), Completion::Executed, saves);
                return;
            }
            (Step::ContentKey, TaskResult::ContentKey(Err(error)))
            | (Step::Execute { .. }, TaskResult::Execute(Err(error))) => error,
            _ => {
                debug_assert!(false, "a task ended with the result of another");
                return;
            }
        };
        if self.is_believed(work.turn) {
            self.fail(id, &failed);
        } else if self.is_wanted(id) {
            let Work { inputs, step, .. } = work;
            self.node_mut(id).state = State::Evaluated {
                keys,
                inputs,
                step,
                turn: Turn::Queued,
            };
            self.queue(id);
        } else {
            self.revert(id);
        }
    }

    /// A failure counts if the task was not told to leave and the job whose operation it was is
    /// still there. Otherwise it may just mean that the job took something with it (a session).
    fn is_believed(&self, turn: Turn) -> bool {
        match turn {
            Turn::Running { op_of } => self.jobs.get(&op_of).is_some_and(|job| job.is_live()),
            Turn::Queued | Turn::Leaving => false,
        }
    }

    fn content_known(
        &mut self,
        id: NodeId,
        keys: Keys,
        inputs: Arc<[V]>,
        content: Option<CacheKey>,
    ) {
        if !self.is_wanted(id) {
            self.revert(id);
            return;
        }
        match content {
            Some(content) => {
                let content = cache_key::content(&keys.definition, &content);
                self.with_content(id, keys, Evaluated { inputs, content });
            }
            None => self.execute(id, keys, inputs, None),
        }
    }

    fn content_probed(
        &mut self,
        id: NodeId,
        keys: Keys,
        evaluated: Evaluated<V>,
        found: Option<Vec<V>>,
    ) {
        match found.filter(|values| values.len() >= self.node(id).outputs_wanted) {
            Some(values) if self.is_wanted(id) => {
                self.rebase(id, keys, evaluated, values.into(), CacheHit::Content);
            }
            None if self.is_wanted(id) => {
                self.execute(id, keys, evaluated.inputs, Some(evaluated.content));
            }
            _ => {
                self.revert(id);
            }
        }
    }

    /// Values of equal content were found: they are to become those of the node's own inputs.
    pub(super) fn rebase(
        &mut self,
        id: NodeId,
        keys: Keys,
        evaluated: Evaluated<V>,
        found: Arc<[V]>,
        hit: CacheHit,
    ) {
        let turn = Turn::Queued;
        self.node_mut(id).state = State::Rebasing {
            keys,
            evaluated,
            found,
            hit,
            turn,
        };
        self.queue(id);
    }

    fn rebased(
        &mut self,
        id: NodeId,
        keys: Keys,
        evaluated: Evaluated<V>,
        (values, hit): (Option<Vec<V>>, CacheHit),
    ) {
        match values.filter(|values| values.len() >= self.node(id).outputs_wanted) {
            Some(values) => {
                let completion = Completion::Cached(hit);
                self.complete(id, keys, values.into(), completion, vec![keys.classic]);
            }
            None if self.is_wanted(id) => {
                self.execute(id, keys, evaluated.inputs, Some(evaluated.content));
            }
            None => {
                self.revert(id);
            }
        }
    }

    /// Nothing is known that would save it.
    fn execute(&mut self, id: NodeId, keys: Keys, inputs: Arc<[V]>, content: Option<CacheKey>) {
        self.node_mut(id).state = State::Evaluated {
            keys,
            inputs,
            step: Step::Execute { content },
            turn: Turn::Queued,
        };
        self.queue(id);
    }

    /// The node has values: remembers them, tells everybody, lets those who wait go on.
    pub(crate) fn complete(
        &mut self,
        id: NodeId,
        keys: Keys,
        values: Arc<[V]>,
        completion: Completion,
        saves: Vec<CacheKey>,
    ) {
        let saving = !saves.is_empty();
        if saving {
            let audience = self.audience(id);
            for (job_id, job) in &mut self.jobs {
                let waits = match &job.phase {
                    Phase::Live => job.has(id) || audience.contains_key(job_id),
                    Phase::Ending { waits_for, .. } => waits_for.contains(&id),
                };
                if waits {
                    job.saves.insert(id);
                }
            }
            let values = Arc::clone(&values);
            self.actions.push(Action::Save {
                node: id,
                keys: saves,
                values,
            });
        }
        let node = self.node_mut(id);
        node.state = State::Complete {
            keys,
            values,
            saving,
        };
        let followers = std::mem::take(&mut node.followers);
        let readers = node.dependents.iter().copied().collect::<Vec<_>>();
        self.agenda.extend(followers);
        self.agenda.extend(readers);
        self.audience_epoch += 1;
        for job in self.live_jobs(id) {
            self.settle(job, id, completion.clone());
            self.check_targets(job);
        }
    }

    /// Reports the node's completion to the job, after those of the ancestors that it made
    /// unnecessary.
    pub(super) fn settle(&mut self, job: JobId, id: NodeId, completion: Completion) {
        let Some(skipped) = self.job_mut(job).settle(id) else {
            return;
        };
        let hit = Completion::Cached(CacheHit::Skipped);
        for (node, completion) in skipped
            .into_iter()
            .map(|node| (node, hit.clone()))
            .chain([(id, completion)])
        {
            let vertex = self.node(node).vertex;
            self.report(job, vertex, VertexProgress::Completed(completion));
        }
    }

    /// Concludes the job if all its targets have values.
    pub(super) fn check_targets(&mut self, job: JobId) {
        let targets = self.job_mut(job).targets.clone();
        if targets
            .iter()
            .any(|(target, _)| self.node(*target).state.values().is_none())
        {
            return;
        }
        let values: Result<Vec<V>, _> = targets
            .iter()
            .map(|(target, output)| self.output(*target, *output))
            .collect();
        let outcome = values.map_or_else(JobOutcome::Graph, JobOutcome::Values);
        self.conclude(job, outcome);
    }

    pub(super) fn saved(&mut self, id: NodeId) {
        if let Some(State::Complete { saving, .. }) =
            self.nodes.get_mut(&id).map(|node| &mut node.state)
        {
            *saving = false;
        }
        for job in self.jobs.values_mut() {
            job.saves.remove(&id);
        }
    }

    /// The operation failed: so do all jobs that wait for the value, directly or through an equal
    /// step. What they wait for is not tried again on their own account: it would fail again.
    fn fail(&mut self, id: NodeId, error: &OpError) {
        let failing = self.waiting_jobs(id);
        self.revert(id);
        for (job, vertex) in failing {
            self.conclude_failed(job, vertex, error);
        }
    }

    /// The edges into the node make no sense: all jobs that wait for its value fail.
    pub(super) fn fail_graph(&mut self, id: NodeId, error: &GraphError) {
        let failing = self.waiting_jobs(id);
        self.revert(id);
        for (job, _) in failing {
            self.conclude(job, JobOutcome::Graph(error.clone()));
        }
    }

    /// The live jobs that wait for the node's value, and the vertex of theirs that needs it.
    fn waiting_jobs(&self, id: NodeId) -> Vec<(JobId, VertexId)> {
        let live = self.jobs.iter().filter(|(_, job)| job.is_live());
        live.filter_map(|(job, _)| Some((*job, *self.demand(*job).get(&id)?)))
            .collect()
    }

    fn conclude_failed(&mut self, job: JobId, vertex: VertexId, error: &OpError) {
        let completion = Completion::Failed(error.clone());
        self.report(job, vertex, VertexProgress::Completed(completion));
        self.conclude(
            job,
            JobOutcome::Failed {
                vertex,
                error: error.clone(),
            },
        );
    }
}

/// What an evaluated node was doing.
struct Work<V> {
    inputs: Arc<[V]>,
    step: Step,
    turn: Turn,
}
