//! Plays everything around the scheduler: who submits and cancels, the operations, the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checker::Checker;
use super::universe::Universe;
use super::{Plan, Sabotage, Summary, Violation};
use crate::cache_key::CacheKey;
use crate::error::OpError;
use crate::graph::Graph;
use crate::job::{JobId, Limits};
use crate::scheduler::{Action, Event, Scheduler, Task, TaskResult};
use crate::state::NodeId;
use crate::vertex::Edge;

/// More steps than any run of a sane plan takes: beyond it the scheduler runs in a circle.
const STEPS_MAX: usize = 100_000;

/// A task that was started and has not ended.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) node: NodeId,
    pub(super) vertex: usize,
    pub(super) job: JobId,
    pub(super) task: Task<u64>,
    pub(super) cancelled: bool,
}

/// A save that was started and has not ended.
#[derive(Clone, Debug)]
pub(super) struct Save {
    pub(super) node: NodeId,
    pub(super) vertex: usize,
    keys: Vec<CacheKey>,
    values: Arc<[u64]>,
}

pub(super) struct World<'a> {
    seed: u64,
    plan: &'a Plan,
    rng: StdRng,
    step: usize,
    universe: Universe,
    limits: Limits,
    scheduler: Scheduler<u64>,
    cache: BTreeMap<CacheKey, Vec<u64>>,
    flights: Vec<Flight>,
    saves: Vec<Save>,
    vertex_of: BTreeMap<NodeId, usize>,
    submitted: usize,
    checker: Checker,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, plan: &'a Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let universe = Universe::random(&mut rng, plan.vertices);
        let mut cache = BTreeMap::new();
        for vertex in &universe.vertices {
            if percent(&mut rng, plan.cached_percent) {
                let keys = [Some(vertex.classic), vertex.content];
                // A record may stand under one of its keys only.
                let kept = rng.random_range(0..3);
                let keys = keys
                    .into_iter()
                    .enumerate()
                    .filter(|(which, _)| *which != kept);
                cache.extend(keys.filter_map(|(_, key)| Some((key?, vertex.values.clone()))));
            }
        }
        let limits = Limits {
            max_parallel_execs: plan.max_parallel_execs,
            max_parallel_cache_maps: 4,
            max_parallel_probes: 5,
            ..Limits::default()
        };
        let checker = Checker::new(
            universe.clone(),
            plan.clone(),
            limits.clone(),
            cache.clone(),
        );
        Self {
            seed,
            plan,
            rng,
            step: 0,
            universe,
            scheduler: Scheduler::new(&limits),
            limits,
            cache,
            flights: Vec::new(),
            saves: Vec::new(),
            vertex_of: BTreeMap::new(),
            submitted: 0,
            checker,
        }
    }

    pub(super) fn run(mut self) -> Result<Summary, Violation> {
        let result = self.steps();
        let (seed, step) = (self.seed, self.step);
        result.map_err(|what| Violation { seed, step, what })
    }

    fn steps(&mut self) -> Result<Summary, String> {
        loop {
            self.step += 1;
            if self.step > STEPS_MAX {
                return Err("the jobs do not end".into());
            }
            let Some(event) = self.next_event()? else {
                break;
            };
            let actions = self.scheduler.apply(event);
            for action in actions {
                self.perform(action)?;
            }
            self.checker.after_step(&self.flights)?;
            self.sabotage();
        }
        self.checker.at_end(&self.cache)?;
        if self.scheduler.is_idle() && self.scheduler.is_clean() {
            Ok(self.checker.summary)
        } else {
            Err("all jobs have ended, but the scheduler still keeps something".into())
        }
    }

    /// Chooses what happens next; `None` if nothing can and nothing has to.
    fn next_event(&mut self) -> Result<Option<Event<u64>>, String> {
        if percent(&mut self.rng, self.plan.cancel_percent)
            && let Some(job) = self.pick_live_job()
        {
            self.checker.cancel(job);
            return Ok(Some(Event::Cancel { job }));
        }
        let can_submit = usize::from(self.submitted < self.plan.jobs);
        let count = can_submit + self.flights.len() + self.saves.len();
        if count == 0 {
            let unfinished = self.checker.unfinished();
            return match unfinished.is_empty() {
                true => Ok(None),
                false => Err(format!(
                    "deadlock: nothing is in flight, but {unfinished:?} wait"
                )),
            };
        }
        let mut choice = self.rng.random_range(0..count);
        if choice < self.flights.len() {
            let flight = self.flights.swap_remove(choice);
            return Ok(Some(self.end(flight)));
        }
        choice -= self.flights.len();
        if choice < self.saves.len() {
            let save = self.saves.swap_remove(choice);
            if !percent(&mut self.rng, self.plan.loss_percent) {
                for key in &save.keys {
                    self.cache.insert(*key, save.values.to_vec());
                }
            }
            return Ok(Some(Event::Saved { node: save.node }));
        }
        self.submit().map(Some)
    }

    fn pick_live_job(&mut self) -> Option<JobId> {
        let live = self.checker.live();
        (!live.is_empty()).then(|| live[self.rng.random_range(0..live.len())])
    }

    fn submit(&mut self) -> Result<Event<u64>, String> {
        self.submitted += 1;
        let job = JobId(self.submitted as u64);
        let size = self.universe.vertices.len();
        let targets: Vec<_> = (0..self.rng.random_range(1..=3))
            .map(|_| {
                let index = self
                    .rng
                    .random_range(0..size)
                    .max(self.rng.random_range(0..size));
                let outputs = self.universe.vertices[index].values.len();
                // Below 4 outputs, so it fits.
                (
                    index,
                    u32::try_from(self.rng.random_range(0..outputs)).unwrap_or(0),
                )
            })
            .collect();
        let ignored: BTreeSet<_> = (0..size)
            .filter(|_| percent(&mut self.rng, self.plan.ignore_percent))
            .collect();
        let edges: Vec<_> = targets
            .iter()
            .map(|(index, output)| Edge {
                vertex: self.universe.vertices[*index].id,
                output: *output,
            })
            .collect();
        let graph = Graph::check(self.universe.specs(&ignored), &edges, &self.limits)
            .map_err(|error| format!("a good graph was refused: {error}"))?;
        for node in &graph.nodes {
            self.vertex_of
                .insert(node.node, self.universe.index(node.spec.id));
        }
        self.checker.submit(job, targets, &ignored, &self.cache);
        Ok(Event::Submit { job, graph })
    }

    /// How a task ends: well, unless the plan says otherwise; anyhow, if it was cancelled.
    fn end(&mut self, flight: Flight) -> Event<u64> {
        let op = self.universe.vertices[flight.vertex].op.clone();
        let gives_up = flight.cancelled && self.rng.random_bool(0.5);
        let fails = percent(&mut self.rng, self.plan.failure_percent);
        let failure =
            (gives_up || fails).then(|| OpError::new(if fails { "failed" } else { "cancelled" }));
        let fallible = failure.clone();
        let result = match flight.task.clone() {
            Task::CacheMap => {
                TaskResult::CacheMap(fallible.map_or_else(|| Ok(op.definition()), Err))
            }
            Task::ContentKey { inputs } => {
                TaskResult::ContentKey(fallible.map_or_else(|| Ok(op.content_key(&inputs)), Err))
            }
            Task::Execute { inputs } => {
                TaskResult::Execute(fallible.map_or_else(|| Ok(op.execute(&inputs)), Err))
            }
            Task::Rebase { found, .. } => {
                TaskResult::Rebase(failure.is_none().then(|| found.to_vec()))
            }
            Task::Lookup { key } => {
                let lost = percent(&mut self.rng, self.plan.loss_percent)
                    || self.plan.sabotage == Some(Sabotage::HideHits);
                TaskResult::Lookup(self.cache.get(&key).filter(|_| !lost).cloned())
            }
        };
        let cannot_fail = matches!(flight.task, Task::Lookup { .. } | Task::Rebase { .. });
        let failed = failure.is_some() && !cannot_fail;
        self.checker.ended(&flight, failed);
        Event::Ended {
            node: flight.node,
            result,
        }
    }

    fn perform(&mut self, action: Action<u64>) -> Result<(), String> {
        let sabotage = self.plan.sabotage;
        match action {
            Action::Start {
                node,
                vertex,
                job,
                mut task,
            } => {
                let vertex = self.universe.index(vertex);
                if let (Some(Sabotage::SpoilInputs), Task::Execute { inputs }) = (sabotage, &task) {
                    let spoiled = inputs.iter().map(|input| input.wrapping_add(1)).collect();
                    task = Task::Execute { inputs: spoiled };
                }
                let executes = matches!(task, Task::Execute { .. });
                let flight = Flight {
                    node,
                    vertex,
                    job,
                    task,
                    cancelled: false,
                };
                let times = if sabotage == Some(Sabotage::StartTwice) && executes {
                    2
                } else {
                    1
                };
                for _ in 0..times {
                    self.checker.start(&flight, &self.flights)?;
                    self.flights.push(flight.clone());
                }
            }
            Action::Cancel { .. } if sabotage == Some(Sabotage::LoseCancel) => {}
            Action::Cancel { node } => {
                let flight = self.flights.iter_mut().find(|flight| flight.node == node);
                flight
                    .ok_or("a task was cancelled that does not run")?
                    .cancelled = true;
            }
            Action::Save { node, keys, values } => {
                let vertex = self.vertex_of[&node];
                self.checker.save(vertex, &keys, &values)?;
                self.saves.push(Save {
                    node,
                    vertex,
                    keys,
                    values,
                });
            }
            Action::Report {
                job,
                vertex,
                progress,
            } => {
                self.checker
                    .report(job, self.universe.index(vertex), &progress)?;
            }
            Action::Finish { .. } if sabotage == Some(Sabotage::LoseFinish) => {}
            Action::Finish { job, outcome } => {
                self.checker
                    .finish(job, &outcome, &self.flights, &self.saves)?;
            }
        }
        Ok(())
    }

    fn sabotage(&mut self) {
        match self.plan.sabotage {
            Some(Sabotage::ForgetClaims) => {
                for node in self.vertex_of.keys() {
                    self.scheduler.claims.release(*node);
                }
            }
            Some(Sabotage::LeakPlaces) => self.scheduler.leak_places(),
            _ => {}
        }
    }
}

fn percent(rng: &mut StdRng, percent: u32) -> bool {
    percent > 0 && rng.random_ratio(percent.min(100), 100)
}
