//! Seeded simulation: random graphs, several jobs, random order of everything, failures,
//! cancellations, pre-filled caches; and rules that must hold at every step.
//!
//! No runtime and no clock: `world` plays the driver, the operations and the cache store for a
//! real scheduler, and decides by the seed what ends next and how. `universe` makes the graphs
//! and knows the true keys and values; `checker` compares. The same seed is the same run, on any
//! machine: replay one with [`run`].
//!
//! The rules, each stated where it is checked in `checker`:
//! what runs is wanted, by a job that is still there; it runs with the true values of its inputs
//! and within the bounds; equal steps run once; jobs end, with the true values or with an error
//! that happened; when a job has ended nothing is left of it; when all have ended nothing at all.
//! Without failures and cancellations it is known in advance exactly which steps run, and no
//! others may: that is the cache, early cutoff and merging in one.
//!
//! A checker that never cries is worth nothing, so [`Sabotage`] breaks one rule at a time: the
//! test fails if that goes unnoticed.

use std::fmt;

mod checker;
mod universe;
mod world;

/// How rough a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Vertices of the graph that the jobs share.
    pub vertices: usize,
    /// Jobs, submitted at random times.
    pub jobs: usize,
    /// Percent of the vertices whose results are in the cache from the beginning.
    pub cached_percent: u32,
    /// Percent of the calls into operations that fail.
    pub failure_percent: u32,
    /// Percent of the steps of the world at which some job is cancelled.
    pub cancel_percent: u32,
    /// Percent of the vertices of each job that ignore the cache.
    pub ignore_percent: u32,
    /// Percent of look-ups that find nothing although there is a record, and of saves that get lost
    /// on the way.
    pub loss_percent: u32,
    /// Operations that run at the same time.
    pub max_parallel_execs: usize,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// Nothing goes wrong: which steps run is known exactly.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            vertices: 24,
            jobs: 3,
            cached_percent: 20,
            failure_percent: 0,
            cancel_percent: 0,
            ignore_percent: 0,
            loss_percent: 0,
            max_parallel_execs: 3,
            sabotage: None,
        }
    }

    /// One job that ignores the cache altogether.
    #[must_use]
    pub fn no_cache() -> Self {
        Self {
            jobs: 1,
            ignore_percent: 100,
            ..Self::calm()
        }
    }

    /// Everything goes wrong now and then, but the cache keeps its word.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            jobs: 6,
            failure_percent: 4,
            cancel_percent: 3,
            ..Self::calm()
        }
    }

    /// As rough, and the cache loses records, and some vertices ignore it.
    #[must_use]
    pub fn hostile() -> Self {
        Self {
            ignore_percent: 10,
            loss_percent: 10,
            ..Self::rough()
        }
    }

    /// Whether which steps run is known in advance.
    fn is_exact(&self) -> bool {
        let troubles = self.failure_percent + self.cancel_percent + self.loss_percent;
        troubles == 0
            && (self.ignore_percent == 0 || (self.ignore_percent == 100 && self.jobs == 1))
    }
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The scheduler forgets who stands for which key.
    ForgetClaims,
    /// The scheduler gives a place away that is still taken.
    LeakPlaces,
    /// Look-ups find nothing.
    HideHits,
    /// Operations are started twice.
    StartTwice,
    /// Operations get the wrong inputs.
    SpoilInputs,
    /// Operations are not told to end.
    LoseCancel,
    /// Jobs are not answered.
    LoseFinish,
}

/// What a run did: for tests that want to know that something happened at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations that ran to a result.
    pub executed: usize,
    /// Vertices that were reported as cached, over all jobs.
    pub cached: usize,
    /// Of them, those that had an equal step to follow.
    pub shared: usize,
    /// Of them, those found by their content: early cutoff.
    pub content_hits: usize,
    /// Of them, those that nobody asked for.
    pub skipped: usize,
    /// Jobs that gave values.
    pub succeeded: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// Jobs that were cancelled.
    pub cancelled: usize,
}

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Replays the run, with the same plan.
    pub seed: u64,
    /// The step of the world.
    pub step: usize,
    /// The rule, and who broke it.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, step {}: {}", self.seed, self.step, self.what)
    }
}

impl std::error::Error for Violation {}

/// Runs one seed to its end.
///
/// # Errors
/// The first broken rule.
pub fn run(seed: u64, plan: &Plan) -> Result<Summary, Violation> {
    world::World::new(seed, plan).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_seeds(plan: &Plan, seeds: std::ops::Range<u64>) -> Summary {
        let mut sum = Summary::default();
        for seed in seeds {
            let ran = run(seed, plan).unwrap_or_else(|violation| {
                panic!("{violation}; replay: engine::simulation::run({seed}, &{plan:?})")
            });
            sum.executed += ran.executed;
            sum.cached += ran.cached;
            sum.shared += ran.shared;
            sum.content_hits += ran.content_hits;
            sum.skipped += ran.skipped;
            sum.succeeded += ran.succeeded;
            sum.failed += ran.failed;
            sum.cancelled += ran.cancelled;
        }
        sum
    }

    #[test]
    fn without_trouble_exactly_the_needed_steps_run_once() {
        let sum = run_seeds(&Plan::calm(), 0..300);
        assert_eq!((sum.failed, sum.cancelled), (0, 0));
        for happened in [sum.executed, sum.shared, sum.content_hits, sum.skipped] {
            assert!(
                happened > 100,
                "the plan does not exercise everything: {sum:?}"
            );
        }
    }

    #[test]
    fn a_job_that_ignores_the_cache_runs_every_different_step_once() {
        let sum = run_seeds(&Plan::no_cache(), 0..100);
        assert_eq!(sum.content_hits, 0);
        assert!(sum.shared > 50, "equal steps are still merged: {sum:?}");
    }

    #[test]
    fn failures_and_cancellations_leave_nothing_behind_and_spoil_nothing() {
        let sum = run_seeds(&Plan::rough(), 0..500);
        for happened in [sum.succeeded, sum.failed, sum.cancelled] {
            assert!(
                happened > 100,
                "the plan does not exercise everything: {sum:?}"
            );
        }
    }

    #[test]
    fn a_forgetful_cache_and_ignored_vertices_never_change_a_result() {
        let sum = run_seeds(&Plan::hostile(), 1000..1400);
        assert!(
            sum.succeeded > 100,
            "the plan does not exercise everything: {sum:?}"
        );
    }

    #[test]
    fn large_graphs_on_one_place_end_as_well() {
        let plan = Plan {
            vertices: 150,
            max_parallel_execs: 1,
            ..Plan::rough()
        };
        run_seeds(&plan, 0..20);
        run_seeds(
            &Plan {
                vertices: 150,
                max_parallel_execs: 1,
                ..Plan::calm()
            },
            0..20,
        );
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        assert_eq!(
            run(7, &Plan::hostile()).unwrap(),
            run(7, &Plan::hostile()).unwrap()
        );
    }

    #[test]
    fn canary_every_broken_rule_is_noticed() {
        let broken = [
            (Sabotage::ForgetClaims, Plan::calm()),
            (Sabotage::LeakPlaces, Plan::calm()),
            (Sabotage::HideHits, Plan::calm()),
            (Sabotage::StartTwice, Plan::calm()),
            (Sabotage::SpoilInputs, Plan::calm()),
            (Sabotage::LoseCancel, Plan::rough()),
            (Sabotage::LoseFinish, Plan::calm()),
        ];
        for (sabotage, plan) in broken {
            let plan = Plan {
                sabotage: Some(sabotage),
                ..plan
            };
            let noticed = (0..100).filter(|seed| run(*seed, &plan).is_err()).count();
            assert!(noticed > 0, "{sabotage:?} went unnoticed in 100 runs");
        }
    }
}
