//! The rules. Knows of the scheduler only what it does, never what it thinks.

use std::collections::{BTreeMap, BTreeSet};

use super::universe::Universe;
use super::world::{Flight, Save};
use super::{Plan, Summary};
use crate::cache_key::CacheKey;
use crate::job::{JobId, JobOutcome, Limits};
use crate::progress::{CacheHit, Completion, VertexProgress};
use crate::scheduler::Task;

pub(super) struct Checker {
    universe: Universe,
    plan: Plan,
    limits: Limits,
    initial: BTreeMap<CacheKey, Vec<u64>>,
    jobs: BTreeMap<JobId, SimJob>,
    /// How often each class ran to a result.
    executed: BTreeMap<CacheKey, usize>,
    /// Of them, those that nobody made ignore the cache.
    executed_plainly: BTreeSet<CacheKey>,
    /// Classic and content keys of what failed.
    failed: BTreeSet<CacheKey>,
    pub(super) summary: Summary,
}

struct SimJob {
    targets: Vec<(usize, u32)>,
    needed: BTreeSet<usize>,
    /// Vertices that ignore the cache, or have an ancestor that does.
    fresh: BTreeSet<usize>,
    /// Keys of the vertices whose value the job may ask for.
    wanted: BTreeSet<CacheKey>,
    /// Keys of all its vertices.
    known: BTreeSet<CacheKey>,
    stage: Stage,
    cancelled: bool,
    completed: BTreeMap<usize, Completion>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Live,
    /// It was cancelled or heard of a failure.
    Dead,
    Finished,
}

type Checked = Result<(), String>;

impl Checker {
    pub(super) fn new(
        universe: Universe,
        plan: Plan,
        limits: Limits,
        initial: BTreeMap<CacheKey, Vec<u64>>,
    ) -> Self {
        Self {
            universe,
            plan,
            limits,
            initial,
            jobs: BTreeMap::new(),
            executed: BTreeMap::new(),
            executed_plainly: BTreeSet::new(),
            failed: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    pub(super) fn submit(
        &mut self,
        job: JobId,
        targets: Vec<(usize, u32)>,
        ignored: &BTreeSet<usize>,
        cache: &BTreeMap<CacheKey, Vec<u64>>,
    ) {
        let needed = self.universe.closure(&targets);
        let mut fresh = BTreeSet::new();
        for index in &needed {
            let inputs = &self.universe.vertices[*index].inputs;
            if ignored.contains(index) || inputs.iter().any(|(input, _)| fresh.contains(input)) {
                fresh.insert(*index);
            }
        }
        let may_be_lost = self.plan.loss_percent > 0;
        let wanted = self.universe.reach(&targets, |index| {
            let classic = self.universe.vertices[index].classic;
            !may_be_lost && !fresh.contains(&index) && cache.contains_key(&classic)
        });
        let sim_job = SimJob {
            wanted: self.keys(&wanted),
            known: self.keys(&needed),
            targets,
            needed,
            fresh,
            stage: Stage::Live,
            cancelled: false,
            completed: BTreeMap::new(),
        };
        self.jobs.insert(job, sim_job);
    }

    fn keys(&self, vertices: &BTreeSet<usize>) -> BTreeSet<CacheKey> {
        let vertices = vertices.iter().map(|index| &self.universe.vertices[*index]);
        vertices
            .flat_map(|vertex| [Some(vertex.classic), vertex.content])
            .flatten()
            .collect()
    }

    fn is_among(&self, vertex: usize, keys: &BTreeSet<CacheKey>) -> bool {
        let vertex = &self.universe.vertices[vertex];
        keys.contains(&vertex.classic) || vertex.content.is_some_and(|key| keys.contains(&key))
    }

    pub(super) fn cancel(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.cancelled = true;
            job.stage = Stage::Dead;
        }
    }

    pub(super) fn live(&self) -> Vec<JobId> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.stage == Stage::Live)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn unfinished(&self) -> Vec<JobId> {
        let unfinished = self
            .jobs
            .iter()
            .filter(|(_, job)| job.stage != Stage::Finished);
        unfinished.map(|(id, _)| *id).collect()
    }

    /// A task starts: within the bounds, alone for its node, for a job that is there.
    pub(super) fn start(&mut self, flight: &Flight, flights: &[Flight]) -> Checked {
        let name = format!("vertex {} ({:?})", flight.vertex, flight.task);
        let lane = |task: &Task<u64>| match task {
            Task::CacheMap => 0,
            Task::Lookup { .. } | Task::ContentKey { .. } | Task::Rebase { .. } => 1,
            Task::Execute { .. } => 2,
        };
        let limit = [
            self.limits.max_parallel_cache_maps,
            self.limits.max_parallel_probes,
            self.limits.max_parallel_execs,
        ][lane(&flight.task)];
        let beside = flights
            .iter()
            .filter(|other| lane(&other.task) == lane(&flight.task));
        require(beside.count() < limit, || {
            format!("{name} starts beyond the bound of {limit}")
        })?;
        let alone = flights.iter().all(|other| other.node != flight.node);
        require(alone, || {
            format!("{name} starts while its node works already")
        })?;
        let job = self.jobs.get(&flight.job);
        let job = job.filter(|job| job.stage == Stage::Live && job.needed.contains(&flight.vertex));
        let Some(job) = job else {
            return Err(format!(
                "{name} starts for {:?}, which does not have it",
                flight.job
            ));
        };
        let fresh = job.fresh.contains(&flight.vertex);
        if let Task::Execute { inputs }
        | Task::ContentKey { inputs }
        | Task::Rebase { inputs, .. } = &flight.task
        {
            let truth = self.universe.inputs_of(flight.vertex);
            require(**inputs == *truth, || {
                format!("{name} starts with inputs not {truth:?}")
            })?;
        }
        match &flight.task {
            Task::Execute { .. } => self.execute(flight, fresh, flights, &name),
            _ => Ok(()),
        }
    }

    /// An operation runs: somebody wants it, and no equal one runs or has run.
    fn execute(&self, flight: &Flight, fresh: bool, flights: &[Flight], name: &str) -> Checked {
        require(self.is_wanted(flight.vertex), || {
            format!("{name} runs, but nobody needs it")
        })?;
        if fresh || self.plan.loss_percent > 0 {
            return Ok(());
        }
        let class = self.universe.vertices[flight.vertex].class();
        let ran = self.executed_plainly.contains(&class);
        require(!ran, || format!("{name} runs, but an equal step has run"))?;
        let runs = flights.iter().any(|other| {
            matches!(other.task, Task::Execute { .. })
                && self.universe.vertices[other.vertex].class() == class
                && !self.is_fresh(other)
        });
        require(!runs, || {
            format!("{name} runs, but an equal step is running")
        })
    }

    fn is_fresh(&self, flight: &Flight) -> bool {
        self.jobs
            .get(&flight.job)
            .is_some_and(|job| job.fresh.contains(&flight.vertex))
    }

    fn is_wanted(&self, vertex: usize) -> bool {
        let mut live = self.jobs.values().filter(|job| job.stage == Stage::Live);
        live.any(|job| self.is_among(vertex, &job.wanted))
    }

    pub(super) fn ended(&mut self, flight: &Flight, failed: bool) {
        let vertex = &self.universe.vertices[flight.vertex];
        let job = self.jobs.get(&flight.job);
        let is_its_job_there = job.is_some_and(|job| job.stage == Stage::Live);
        if failed && (flight.cancelled || !is_its_job_there) {
            // Nobody may be blamed for this: the operation may have lost what its job gave it.
        } else if failed {
            self.failed
                .extend([Some(vertex.classic), vertex.content].into_iter().flatten());
        } else if matches!(flight.task, Task::Execute { .. }) {
            let class = vertex.class_in(self.is_fresh(flight));
            *self.executed.entry(class).or_default() += 1;
            self.summary.executed += 1;
            if !self.is_fresh(flight) {
                self.executed_plainly
                    .insert(self.universe.vertices[flight.vertex].class());
            }
        }
    }

    /// After every step: whatever is in flight is wanted, or was told to end.
    pub(super) fn after_step(&self, flights: &[Flight]) -> Checked {
        for flight in flights.iter().filter(|flight| !flight.cancelled) {
            let mut live = self.jobs.values().filter(|job| job.stage == Stage::Live);
            let wanted = match flight.task {
                Task::CacheMap => live.any(|job| job.needed.contains(&flight.vertex)),
                _ => self.is_wanted(flight.vertex),
            };
            require(wanted, || {
                format!("vertex {} works for nobody", flight.vertex)
            })?;
        }
        Ok(())
    }

    /// What is remembered is true, under the right keys.
    pub(super) fn save(&self, vertex: usize, keys: &[CacheKey], values: &[u64]) -> Checked {
        let truth = &self.universe.vertices[vertex];
        let keys_are_true = keys
            .iter()
            .all(|key| *key == truth.classic || Some(*key) == truth.content);
        require(keys_are_true, || {
            format!("vertex {vertex} is saved under a foreign key")
        })?;
        require(values == truth.values, || {
            format!("vertex {vertex} is saved with wrong values")
        })
    }

    /// Each vertex completes once in each job; what ran or matched by content comes after its
    /// inputs; what is skipped has only readers that did not need it.
    pub(super) fn report(&mut self, job: JobId, vertex: usize, what: &VertexProgress) -> Checked {
        let took_over = self.may_take_over(vertex);
        let Some(sim_job) = self.jobs.get_mut(&job) else {
            return Err(format!("a report to {job:?}, which does not exist"));
        };
        require(sim_job.needed.contains(&vertex), || {
            format!("{job:?} hears of foreign {vertex}")
        })?;
        let VertexProgress::Completed(completion) = what else {
            return Ok(());
        };
        let name = format!("vertex {vertex} in {job:?}, {completion:?},");
        let again = sim_job
            .completed
            .insert(vertex, completion.clone())
            .is_some();
        require(!again, || format!("{name} completes twice"))?;
        match completion {
            Completion::Failed(_) => sim_job.stage = Stage::Dead,
            Completion::Cancelled => return Err(format!("{name}: that is not the scheduler's")),
            Completion::Executed | Completion::Cached(CacheHit::Content) => {
                let inputs = &self.universe.vertices[vertex].inputs;
                let after = inputs
                    .iter()
                    .all(|(input, _)| sim_job.completed.contains_key(input));
                require(after || took_over, || {
                    format!("{name} completes before its inputs")
                })?;
            }
            Completion::Cached(_) => {}
        }
        if let Completion::Cached(hit) = completion {
            self.summary.cached += 1;
            match hit {
                CacheHit::Shared => self.summary.shared += 1,
                CacheHit::Content => self.summary.content_hits += 1,
                CacheHit::Skipped => self.summary.skipped += 1,
                CacheHit::Classic => {}
            }
        }
        Ok(())
    }

    /// A job ends once, with the truth, and nothing of it is left.
    pub(super) fn finish(
        &mut self,
        id: JobId,
        outcome: &JobOutcome<u64>,
        flights: &[Flight],
        saves: &[Save],
    ) -> Checked {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Err(format!("{id:?} ends, but does not exist"));
        };
        require(job.stage != Stage::Finished, || {
            format!("{id:?} ends twice")
        })?;
        job.stage = Stage::Finished;
        let job = &self.jobs[&id];
        match outcome {
            JobOutcome::Values(values) => {
                self.check_success(id, job, values)?;
                self.summary.succeeded += 1;
            }
            JobOutcome::Cancelled => {
                require(job.cancelled, || format!("{id:?} was not cancelled"))?;
                self.summary.cancelled += 1;
            }
            JobOutcome::Failed { vertex, .. } => {
                let vertex = self.universe.index(*vertex);
                let ancestors = self.universe.closure(&[(vertex, 0)]);
                let failed = ancestors
                    .iter()
                    .any(|index| self.is_among(*index, &self.failed));
                let is_true = job.needed.contains(&vertex) && failed;
                require(is_true, || {
                    format!("{id:?} blames {vertex}, which did not fail")
                })?;
                self.summary.failed += 1;
            }
            JobOutcome::Graph(error) => {
                return Err(format!("{id:?} refuses a good graph: {error}"));
            }
        }
        let of_others = |vertex: usize| {
            let mut others = self
                .jobs
                .values()
                .filter(|job| job.stage != Stage::Finished);
            others.any(|job| self.is_among(vertex, &job.known))
        };
        let left = flights.iter().map(|flight| flight.vertex);
        let left = left
            .chain(saves.iter().map(|save| save.vertex))
            .find(|left| !of_others(*left));
        require(left.is_none(), || {
            format!("{id:?} has ended, but {left:?} still works")
        })
    }

    /// Whether the vertex may have the inputs that an equal step of another job had evaluated: its
    /// own ones need not be complete then.
    fn may_take_over(&self, vertex: usize) -> bool {
        // With ignored vertices the same vertex may be two steps, one fresh and one plain.
        let has_twin = self.universe.has_twin(vertex) || self.plan.ignore_percent > 0;
        has_twin && !self.plan.is_exact()
    }

    fn check_success(&self, id: JobId, job: &SimJob, values: &[u64]) -> Checked {
        let truth: Vec<_> = job
            .targets
            .iter()
            .map(|(target, output)| self.universe.vertices[*target].values[*output as usize])
            .collect();
        require(*values == truth, || {
            format!("{id:?} gives {values:?}, the truth is {truth:?}")
        })?;
        for vertex in &job.needed {
            let completion = job.completed.get(vertex);
            let Some(completion) = completion else {
                return Err(format!("{id:?} ends well, but {vertex} was not reported"));
            };
            for (input, _) in &self.universe.vertices[*vertex].inputs {
                let needs = matches!(
                    completion,
                    Completion::Executed | Completion::Cached(CacheHit::Content)
                );
                let skipped = job.completed.get(input);
                let skipped = matches!(skipped, Some(Completion::Cached(CacheHit::Skipped)));
                let took_over = self.may_take_over(*vertex);
                require(!(needs && skipped) || took_over, || {
                    format!("{vertex} ran in {id:?}, but its input {input} was skipped")
                })?;
            }
        }
        Ok(())
    }

    /// When all jobs have ended: in a plan without trouble exactly the known steps ran, once each.
    pub(super) fn at_end(&self, cache: &BTreeMap<CacheKey, Vec<u64>>) -> Checked {
        for (index, completion) in self.jobs.values().flat_map(|job| &job.completed) {
            let has_value = match completion {
                Completion::Executed => true,
                Completion::Cached(hit) => *hit != CacheHit::Skipped,
                Completion::Failed(_) | Completion::Cancelled => false,
            };
            let known = cache.contains_key(&self.universe.vertices[*index].classic);
            require(!has_value || known || self.plan.loss_percent > 0, || {
                format!("vertex {index} had a value, but its classic key leads nowhere")
            })?;
        }
        if !self.plan.is_exact() {
            return Ok(());
        }
        let again = self.executed.iter().find(|(_, times)| **times != 1);
        require(again.is_none(), || {
            format!("a step ran more than once: {again:?}")
        })?;
        let ran: BTreeSet<_> = self.executed.keys().copied().collect();
        let expected = self.expected();
        require(ran == expected, || {
            let (missing, extra) = (expected.difference(&ran), ran.difference(&expected));
            let lists = (missing.collect::<Vec<_>>(), extra.collect::<Vec<_>>());
            format!("other steps ran than are needed (missing, extra): {lists:?}")
        })?;
        let remembered = ran.iter().all(|class| cache.contains_key(class));
        require(remembered, || "a step ran and was not remembered".into())
    }

    fn expected(&self) -> BTreeSet<CacheKey> {
        let mut expected = BTreeSet::new();
        for job in self.jobs.values() {
            let is_known = |index: usize, key: &CacheKey| {
                !job.fresh.contains(&index) && self.initial.contains_key(key)
            };
            let stops = |index: usize| is_known(index, &self.universe.vertices[index].classic);
            for index in self.universe.reach(&job.targets, stops) {
                let vertex = &self.universe.vertices[index];
                let by_content = vertex.content.is_some_and(|key| is_known(index, &key));
                if !stops(index) && !by_content {
                    expected.insert(vertex.class_in(job.fresh.contains(&index)));
                }
            }
        }
        expected
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}
