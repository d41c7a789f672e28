//! Who wants what, and what happens when nobody does any more.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::job::{Job, JobId, JobOutcome, Phase};
use crate::scheduler::{Action, Scheduler};
use crate::state::{NodeId, State, Turn};
use crate::vertex::VertexId;

impl<V: Clone> Scheduler<V> {
    /// Who hears of the work of a node: each live job that has it, under its own vertex; and each
    /// live job that only has a follower of it, under the follower's vertex. A vertex that is
    /// settled for a job (skipped, though another job wants it) hears nothing there.
    pub(crate) fn audience(&self, id: NodeId) -> BTreeMap<JobId, VertexId> {
        let mut audience = BTreeMap::new();
        let mut nodes = VecDeque::from([id]);
        while let Some(id) = nodes.pop_front() {
            let node = self.node(id);
            for job in &node.jobs {
                let hears = |job: &Job<V>| job.is_live() && !job.is_settled(id);
                if self.jobs.get(job).is_some_and(hears) {
                    audience.entry(*job).or_insert(node.vertex);
                }
            }
            nodes.extend(&node.followers);
        }
        audience
    }

    /// The live jobs that have the node in their graph.
    pub(super) fn live_jobs(&self, id: NodeId) -> Vec<JobId> {
        let jobs = self.node(id).jobs.iter().copied();
        jobs.filter(|job| self.jobs.get(job).is_some_and(|job| job.is_live()))
            .collect()
    }

    /// The job whose operation is used if the node starts now.
    pub(super) fn owner(&self, id: NodeId) -> Option<JobId> {
        let mut jobs = self.node(id).jobs.iter().copied();
        jobs.find(|job| self.jobs.get(job).is_some_and(|job| job.is_live()))
    }

    /// Whether somebody waits for the node's value: a target, a reader that collects its inputs
    /// (see [`Self::collects`]), or a follower. Exact except between the end of a job and
    /// [`Self::let_go`].
    pub(super) fn is_wanted(&self, id: NodeId) -> bool {
        let node = self.node(id);
        let is_target = |job: &JobId| {
            self.jobs
                .get(job)
                .is_some_and(|job| job.is_live() && job.has_target(id))
        };
        !node.followers.is_empty()
            || node.dependents.iter().any(|reader| self.collects(*reader))
            || node.jobs.iter().any(is_target)
    }

    /// Whether the node waits for its inputs: itself, or through the equal step that it follows.
    ///
    /// A follower could do without: the leader has equal inputs. But whoever watches its job is to
    /// see them made, and which of them fails; so they follow the leader's inputs in their turn.
    pub(crate) fn collects(&self, id: NodeId) -> bool {
        match &self.node(id).state {
            State::Collecting { .. } => true,
            State::Following { evaluated, .. } => {
                let root = &self.node(self.root(id)).state;
                evaluated.is_none() && matches!(root, State::Collecting { .. })
            }
            _ => false,
        }
    }

    /// The nodes whose value the job waits for, and on behalf of which vertex of its own: leaders
    /// of its followers, and what those wait for, may be other jobs' nodes. The job's own nodes are
    /// walked first, so that a leader stands for the follower nearest to it.
    pub(super) fn demand(&self, id: JobId) -> BTreeMap<NodeId, VertexId> {
        let Some(job) = self.jobs.get(&id) else {
            return BTreeMap::new();
        };
        let targets = job.targets.iter();
        let mut demand: BTreeMap<_, _> = targets
            .map(|(target, _)| (*target, self.node(*target).vertex))
            .collect();
        let mut own: Vec<_> = demand.iter().map(|(id, vertex)| (*id, *vertex)).collect();
        let mut others = Vec::new();
        while let Some((id, on_behalf_of)) = own.pop().or_else(|| others.pop()) {
            for next in self.waits_for(id) {
                let Entry::Vacant(entry) = demand.entry(next) else {
                    continue;
                };
                let is_own = job.has(next) && !job.is_settled(next);
                let (list, vertex) = match is_own {
                    true => (&mut own, self.node(next).vertex),
                    false => (&mut others, on_behalf_of),
                };
                entry.insert(vertex);
                list.push((next, vertex));
            }
        }
        demand
    }

    fn demand_of_all(&self) -> BTreeSet<NodeId> {
        let live = self.jobs.values().filter(|job| job.is_live());
        let targets = live.flat_map(|job| job.targets.iter());
        let mut open: Vec<_> = targets.map(|(target, _)| *target).collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(self.waits_for(id));
            }
        }
        reached
    }

    /// The nodes whose values the node waits for right now.
    fn waits_for(&self, id: NodeId) -> Vec<NodeId> {
        let node = self.node(id);
        let leader = match node.state {
            State::Following { leader, .. } => Some(leader),
            _ => None,
        };
        let inputs = node.inputs.iter().map(|(input, _)| *input);
        let inputs = inputs.filter(|_| self.collects(id));
        leader.into_iter().chain(inputs).collect()
    }

    /// The job's outcome is known. From here on it wants nothing.
    pub(super) fn conclude(&mut self, id: JobId, outcome: JobOutcome<V>) {
        if !self.jobs.get(&id).is_some_and(|job| job.is_live()) {
            return;
        }
        let mut waits_for: BTreeSet<_> = self.demand(id).into_keys().collect();
        let job = self.job_mut(id);
        waits_for.extend(&job.nodes);
        job.phase = Phase::Ending { outcome, waits_for };
        self.concluded.push(id);
        self.audience_epoch += 1;
    }

    /// Lets go what was wanted only by jobs that were concluded: stops what waits, cancels what
    /// works, gives to followers what has lost its own jobs.
    pub(super) fn let_go(&mut self) {
        let concluded = std::mem::take(&mut self.concluded);
        loop {
            let wanted = self.demand_of_all();
            self.drop_unwanted(&wanted);
            let orphan = wanted.into_iter().find(|id| self.is_waiting_orphan(*id));
            let Some(orphan) = orphan else { break };
            self.hand_over(orphan);
            self.run_agenda();
        }
        for id in concluded {
            for node in self.lanes.queued_for(id) {
                match self.owner(node) {
                    Some(owner) => self.lanes.transfer(node, owner),
                    None => self.lanes.withdraw(node),
                }
            }
            let Some(mut job) = self.jobs.remove(&id) else {
                continue;
            };
            if let Phase::Ending { waits_for, .. } = &mut job.phase {
                waits_for.retain(|node| self.is_leaving(*node));
            }
            self.jobs.insert(id, job);
        }
    }

    fn is_leaving(&self, id: NodeId) -> bool {
        self.nodes
            .get(&id)
            .is_some_and(|node| node.state.turn() == Some(Turn::Leaving))
    }

    /// Whether the node waits for its turn or its inputs, but no live job has it.
    fn is_waiting_orphan(&self, id: NodeId) -> bool {
        let state = &self.node(id).state;
        let waits = matches!(state, State::Collecting { .. }) || state.turn() == Some(Turn::Queued);
        waits && self.owner(id).is_none()
    }

    fn drop_unwanted(&mut self, wanted: &BTreeSet<NodeId>) {
        let unwanted: Vec<_> = self
            .nodes
            .iter()
            .filter(|(id, node)| match node.state {
                // Its key is wanted by every job that has it, its value or not.
                State::Mapping { .. } => self.owner(**id).is_none(),
                _ => !wanted.contains(id),
            })
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            self.drop_one(id);
        }
    }

    fn drop_one(&mut self, id: NodeId) {
        let state = &mut self.node_mut(id).state;
        match state.turn() {
            Some(Turn::Running { .. }) => {
                if let Some(turn) = state.turn_mut() {
                    *turn = Turn::Leaving;
                }
                self.actions.push(Action::Cancel { node: id });
                return;
            }
            Some(Turn::Leaving) => return,
            Some(Turn::Queued) | None => {}
        }
        match state {
            State::Mapping { .. } => {
                *state = State::Unkeyed;
                self.lanes.withdraw(id);
            }
            State::Following { leader, .. } => {
                let leader = *leader;
                self.node_mut(leader)
                    .followers
                    .retain(|follower| *follower != id);
                self.audience_epoch += 1;
                self.revert(id);
            }
            State::Probing { .. }
            | State::Collecting { .. }
            | State::Evaluated { .. }
            | State::Rebasing { .. } => {
                self.revert(id);
            }
            State::Unkeyed
            | State::Mapped { .. }
            | State::Keyed { .. }
            | State::Complete { .. } => {}
        }
    }

    /// Answers for the jobs of which nothing is in flight any more, and forgets them and what only
    /// they had.
    pub(super) fn finish_jobs(&mut self) {
        let done: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| match &job.phase {
                Phase::Live => false,
                Phase::Ending { waits_for, .. } => waits_for.is_empty() && job.saves.is_empty(),
            })
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            let Some(job) = self.jobs.remove(&id) else {
                continue;
            };
            for node_id in job.nodes {
                let node = self.node_mut(node_id);
                node.jobs.remove(&id);
                if node.jobs.is_empty() {
                    self.jobless.insert(node_id);
                }
            }
            if let Phase::Ending { outcome, .. } = job.phase {
                self.actions.push(Action::Finish { job: id, outcome });
            }
        }
        self.forget_jobless();
    }

    fn forget_jobless(&mut self) {
        let mut open: Vec<_> = self.jobless.iter().copied().collect();
        while let Some(id) = open.pop() {
            let Some(node) = self.nodes.get(&id) else {
                continue;
            };
            let is_referred_to = !node.dependents.is_empty() || !node.followers.is_empty();
            if !node.jobs.is_empty() || is_referred_to || !node.state.is_idle() {
                continue;
            }
            let inputs = node.inputs.clone();
            self.claims.release(id);
            self.jobless.remove(&id);
            self.nodes.remove(&id);
            for (input, _) in inputs {
                self.node_mut(input).dependents.remove(&id);
                open.push(input);
            }
        }
    }
}
