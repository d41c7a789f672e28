//! Decisions one by one: what the simulation covers by chance stands here by name.

use super::*;
use crate::graph::VertexSpec;
use crate::vertex::Edge;

/// A scheduler and what it has begun, by the names of vertices.
struct Desk {
    scheduler: Scheduler<String>,
    begun: Vec<(NodeId, String, JobId, Task<String>)>,
    cancelled: Vec<String>,
    saves: Vec<NodeId>,
    reports: Vec<(JobId, String, VertexProgress)>,
    finished: Vec<(JobId, JobOutcome<String>)>,
    names: BTreeMap<VertexId, String>,
}

fn id(name: &str) -> VertexId {
    VertexId::from_bytes(*blake3::hash(name.as_bytes()).as_bytes())
}

impl Desk {
    fn new(max_parallel_execs: usize) -> Self {
        let limits = Limits {
            max_parallel_execs,
            ..Limits::default()
        };
        Self {
            scheduler: Scheduler::new(&limits),
            begun: Vec::new(),
            cancelled: Vec::new(),
            saves: Vec::new(),
            reports: Vec::new(),
            finished: Vec::new(),
            names: BTreeMap::new(),
        }
    }

    /// Vertices are `name <- inputs`, each input is output 0 of a vertex.
    fn submit(&mut self, job: u64, vertices: &[(&str, &[&str])], target: &str) {
        self.submit_ignoring(job, vertices, target, false);
    }

    fn submit_ignoring(
        &mut self,
        job: u64,
        vertices: &[(&str, &[&str])],
        target: &str,
        ignore_cache: bool,
    ) {
        let edge = |name: &str| Edge {
            vertex: id(name),
            output: 0,
        };
        let spec = |(name, inputs): &(&str, &[&str])| VertexSpec {
            id: id(name),
            inputs: inputs.iter().map(|input| edge(input)).collect(),
            ignore_cache,
        };
        self.names.extend(
            vertices
                .iter()
                .map(|(name, _)| (id(name), (*name).to_string())),
        );
        let specs = vertices.iter().map(spec).collect();
        let graph = Graph::check(specs, &[edge(target)], &Limits::default()).unwrap();
        self.apply(Event::Submit {
            job: JobId(job),
            graph,
        });
    }

    fn apply(&mut self, event: Event<String>) {
        for action in self.scheduler.apply(event) {
            match action {
                Action::Start {
                    node,
                    vertex,
                    job,
                    task,
                } => {
                    self.begun
                        .push((node, self.names[&vertex].clone(), job, task));
                }
                Action::Cancel { node } => {
                    let name = self.names[&self.scheduler.node(node).vertex].clone();
                    self.cancelled.push(name);
                }
                Action::Save { node, .. } => self.saves.push(node),
                Action::Report {
                    job,
                    vertex,
                    progress,
                } => {
                    self.reports
                        .push((job, self.names[&vertex].clone(), progress));
                }
                Action::Finish { job, outcome } => self.finished.push((job, outcome)),
            }
        }
    }

    /// Ends everything but operations: no key is in the cache, and vertices whose names begin with
    /// the same letter have the same definition.
    fn settle_keys(&mut self) {
        let is_exec = |task: &Task<String>| matches!(task, Task::Execute { .. });
        while let Some(at) = self.begun.iter().position(|(.., task)| !is_exec(task)) {
            let (node, name, _, task) = self.begun.remove(at);
            let key = |bytes: &[u8]| CacheKey::builder("test").bytes(bytes).finish();
            let result = match task {
                Task::CacheMap => TaskResult::CacheMap(Ok(key(&name.as_bytes()[..1]))),
                Task::Lookup { .. } => TaskResult::Lookup(None),
                Task::ContentKey { inputs } => {
                    TaskResult::ContentKey(Ok(Some(key(inputs.join(",").as_bytes()))))
                }
                Task::Rebase { found, .. } => TaskResult::Rebase(Some(found.to_vec())),
                Task::Execute { .. } => unreachable!("filtered above"),
            };
            self.apply(Event::Ended { node, result });
        }
    }

    fn running(&self) -> Vec<(&str, u64)> {
        let running = self.begun.iter();
        let running = running.filter(|(.., task)| matches!(task, Task::Execute { .. }));
        running
            .map(|(_, name, job, _)| (name.as_str(), job.0))
            .collect()
    }

    fn end(&mut self, name: &str, result: Result<&str, &str>) {
        let at = self
            .begun
            .iter()
            .position(|(_, begun, ..)| begun == name)
            .unwrap();
        let (node, ..) = self.begun.remove(at);
        let result = match result {
            Ok(value) => Ok(vec![value.to_string()]),
            Err(error) => Err(OpError::new(error)),
        };
        self.apply(Event::Ended {
            node,
            result: TaskResult::Execute(result),
        });
        self.settle_keys();
    }

    fn save_all(&mut self) {
        while let Some(node) = self.saves.pop() {
            self.apply(Event::Saved { node });
        }
    }

    fn cancel(&mut self, job: u64) {
        self.apply(Event::Cancel { job: JobId(job) });
    }

    /// The jobs that have ended, in the order of their numbers.
    fn ended(&self) -> Vec<u64> {
        let mut ended: Vec<_> = self.finished.iter().map(|(job, _)| job.0).collect();
        ended.sort_unstable();
        ended
    }
}

#[test]
fn a_waiting_leader_is_replaced_by_its_follower_when_its_job_leaves() {
    let mut desk = Desk::new(1);
    desk.submit(1, &[("busy", &[])], "busy");
    desk.settle_keys();
    desk.submit(2, &[("same, of 2", &[])], "same, of 2");
    desk.settle_keys();
    desk.submit(3, &[("same, of 3", &[])], "same, of 3");
    desk.settle_keys();
    assert_eq!(desk.running(), [("busy", 1)]);
    desk.cancel(2);
    assert_eq!(desk.ended(), [2]);
    desk.end("busy", Ok("value"));
    assert_eq!(desk.running(), [("same, of 3", 3)]);
    desk.end("same, of 3", Ok("value"));
    desk.save_all();
    assert_eq!(desk.ended(), [1, 2, 3]);
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

#[test]
fn a_running_leader_goes_on_for_its_follower_and_its_own_job_does_not_wait_for_it() {
    let mut desk = Desk::new(2);
    desk.submit(1, &[("same, of 1", &[])], "same, of 1");
    desk.settle_keys();
    desk.submit(2, &[("same, of 2", &[])], "same, of 2");
    desk.settle_keys();
    desk.cancel(1);
    assert_eq!(desk.ended(), [1]);
    assert_eq!(desk.running(), [("same, of 1", 1)]);
    assert!(desk.cancelled.is_empty());
    desk.end("same, of 1", Ok("value"));
    assert_eq!(desk.ended(), [1], "the second waits for the save");
    desk.save_all();
    assert!(matches!(&desk.finished[1].1, JobOutcome::Values(values) if values == &["value"]));
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

#[test]
fn a_cancelled_leader_whose_step_is_wanted_again_is_waited_for_then_replaced() {
    let mut desk = Desk::new(2);
    desk.submit(1, &[("same, of 1", &[])], "same, of 1");
    desk.settle_keys();
    desk.cancel(1);
    assert_eq!(
        (desk.cancelled.as_slice(), desk.ended()),
        (&["same, of 1".to_string()][..], vec![])
    );
    desk.submit(2, &[("same, of 2", &[])], "same, of 2");
    desk.settle_keys();
    assert_eq!(
        desk.running(),
        [("same, of 1", 1)],
        "two equal ones never run at once"
    );
    desk.end("same, of 1", Err("interrupted"));
    assert_eq!(desk.ended(), [1]);
    assert_eq!(desk.running(), [("same, of 2", 2)]);
}

#[test]
fn a_cancelled_operation_that_succeeds_all_the_same_is_used() {
    let mut desk = Desk::new(2);
    desk.submit(1, &[("step", &[])], "step");
    desk.settle_keys();
    desk.cancel(1);
    desk.submit(2, &[("step", &[])], "step");
    desk.settle_keys();
    desk.end("step", Ok("value"));
    desk.save_all();
    assert!(matches!(
        &desk.finished[..],
        [
            (JobId(1), JobOutcome::Cancelled),
            (JobId(2), JobOutcome::Values(_)),
        ]
    ));
}

#[test]
fn a_follower_takes_over_the_inputs_that_its_leader_had_evaluated() {
    let mut desk = Desk::new(1);
    desk.submit(1, &[("base", &[]), ("same, of 1", &["base"])], "same, of 1");
    desk.settle_keys();
    desk.end("base", Ok("base"));
    assert_eq!(desk.running(), [("same, of 1", 1)]);
    desk.cancel(1);
    desk.submit(
        2,
        &[("bottom", &[]), ("same, of 2", &["bottom"])],
        "same, of 2",
    );
    desk.settle_keys();
    desk.end("same, of 1", Err("interrupted"));
    // "bottom" is the same step as "base" and never runs.
    assert_eq!(desk.running(), [("same, of 2", 2)]);
    let Task::Execute { inputs } = &desk.begun[0].3 else {
        panic!("it executes")
    };
    assert_eq!(**inputs, ["base"]);
    desk.end("same, of 2", Ok("value"));
    desk.save_all();
    assert_eq!(desk.ended(), [1, 2]);
}

#[test]
fn a_step_that_ignores_the_cache_does_not_follow_one_that_does_not() {
    let graph: &[(&str, &[&str])] = &[("step", &[])];
    // In the other order the plain one may take the result that is being made.
    for (first, second, runs) in [
        (false, true, &[("step", 1), ("step", 2)][..]),
        (true, false, &[("step", 1)]),
    ] {
        let mut desk = Desk::new(2);
        desk.submit_ignoring(1, graph, "step", first);
        desk.settle_keys();
        desk.submit_ignoring(2, graph, "step", second);
        desk.settle_keys();
        assert_eq!(desk.running(), runs);
        for _ in runs {
            desk.end("step", Ok("value"));
        }
        desk.save_all();
        assert_eq!(desk.ended(), [1, 2]);
        assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
    }
}

#[test]
fn a_step_that_ignores_the_cache_does_not_follow_one_with_equal_content_either() {
    let mut desk = Desk::new(4);
    desk.submit(1, &[("x", &[]), ("step 1", &["x"])], "step 1");
    desk.settle_keys();
    desk.end("x", Ok("equal"));
    desk.submit_ignoring(2, &[("y", &[]), ("step 2", &["y"])], "step 2", true);
    desk.settle_keys();
    desk.end("y", Ok("equal"));
    assert_eq!(desk.running(), [("step 1", 1), ("step 2", 2)]);
    desk.submit(3, &[("z", &[]), ("step 3", &["z"])], "step 3");
    desk.settle_keys();
    desk.end("z", Ok("equal"));
    assert_eq!(
        desk.running(),
        [("step 1", 1), ("step 2", 2)],
        "a plain one follows"
    );
}

#[test]
fn readers_of_ignored_steps_are_merged_by_content_and_not_by_their_classic_key() {
    let graph: &[(&str, &[&str])] = &[("base", &[]), ("step", &["base"])];
    let mut desk = Desk::new(4);
    desk.submit(1, graph, "step");
    desk.settle_keys();
    desk.end("base", Ok("monday"));
    desk.submit_ignoring(2, &[("base", &[])], "base", true);
    desk.settle_keys();
    assert_eq!(desk.running(), [("step", 1), ("base", 2)]);
    desk.end("base", Ok("tuesday"));
    desk.submit_ignoring(3, graph, "step", true);
    desk.settle_keys();
    // The ignored base of job 2 is one that job 3 may share; its step is another one.
    assert_eq!(desk.running(), [("step", 1), ("step", 3)]);
    let Task::Execute { inputs } = &desk.begun[1].3 else {
        panic!("it executes")
    };
    assert_eq!(**inputs, ["tuesday"]);
}

#[test]
fn followers_of_a_failed_leader_fail_with_the_same_error() {
    let mut desk = Desk::new(2);
    desk.submit(1, &[("same, of 1", &[])], "same, of 1");
    desk.settle_keys();
    desk.submit(2, &[("same, of 2", &[])], "same, of 2");
    desk.settle_keys();
    desk.end("same, of 1", Err("exit code 1"));
    for (at, name) in [(0, "same, of 1"), (1, "same, of 2")] {
        let JobOutcome::Failed { vertex, error } = &desk.finished[at].1 else {
            panic!("{at}")
        };
        assert_eq!(
            (*vertex, error.to_string().as_str()),
            (id(name), "exit code 1")
        );
    }
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

/// Two jobs with the same two steps under names of their own; the first step of the first runs.
fn two_equal_builds() -> Desk {
    let mut desk = Desk::new(2);
    desk.submit(
        1,
        &[("below, of 1", &[]), ("top, of 1", &["below, of 1"])],
        "top, of 1",
    );
    desk.settle_keys();
    desk.submit(
        2,
        &[("below, of 2", &[]), ("top, of 2", &["below, of 2"])],
        "top, of 2",
    );
    desk.settle_keys();
    assert_eq!(desk.running(), [("below, of 1", 1)]);
    desk
}

#[test]
fn whoever_waits_for_an_equal_build_hears_of_all_its_steps_as_they_run() {
    let mut desk = two_equal_builds();
    let heard = |desk: &Desk| {
        let told = desk.reports.iter();
        let told = told.filter(|(job, _, progress)| {
            *job == JobId(2) && !matches!(progress, VertexProgress::Queued)
        });
        told.map(|(_, name, progress)| format!("{name}: {progress:?}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(heard(&desk), ["below, of 2: Started"]);
    desk.end("below, of 1", Ok("value"));
    assert_eq!(
        heard(&desk)[1..],
        [
            "below, of 2: Completed(Cached(Shared))",
            "top, of 2: Started"
        ]
    );
    desk.end("top, of 1", Ok("value"));
    desk.save_all();
    assert_eq!(heard(&desk)[3..], ["top, of 2: Completed(Cached(Shared))"]);
    assert_eq!(desk.ended(), [1, 2]);
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

#[test]
fn a_failed_input_of_a_leader_is_named_by_the_followers_own_equal_step() {
    let mut desk = two_equal_builds();
    desk.end("below, of 1", Err("exit code 1"));
    let failed = desk.finished.iter().map(|(job, outcome)| match outcome {
        JobOutcome::Failed { vertex, .. } => (job.0, *vertex),
        other => panic!("{other:?}"),
    });
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed, [(1, id("below, of 1")), (2, id("below, of 2"))]);
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

#[test]
fn an_equal_build_goes_on_with_the_steps_of_one_that_leaves() {
    let mut desk = two_equal_builds();
    desk.cancel(1);
    assert!(desk.cancelled.is_empty(), "the second waits for the step");
    desk.end("below, of 1", Ok("value"));
    assert_eq!(desk.running(), [("top, of 2", 2)]);
    desk.end("top, of 2", Ok("value"));
    desk.save_all();
    assert_eq!(desk.ended(), [1, 2]);
    assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
}

#[test]
fn after_a_failure_nothing_new_starts_for_the_job_and_other_jobs_go_on() {
    let mut desk = Desk::new(2);
    let graph: &[(&str, &[&str])] = &[
        ("a", &[]),
        ("b", &[]),
        ("c", &[]),
        ("top", &["a", "b", "c"]),
    ];
    desk.submit(1, graph, "top");
    desk.settle_keys();
    desk.submit(2, &[("b", &[])], "b");
    desk.settle_keys();
    assert_eq!(desk.running(), [("a", 1), ("b", 1)]);
    desk.end("a", Err("exit code 1"));
    assert_eq!(
        desk.running(),
        [("b", 1)],
        "c does not start, b is wanted by job 2"
    );
    assert_eq!(desk.ended(), [1]);
    desk.end("b", Ok("value"));
    desk.save_all();
    assert_eq!(desk.ended(), [1, 2]);
}

#[test]
fn a_failure_is_forgotten_when_the_jobs_that_it_ended_are_gone() {
    let mut desk = Desk::new(1);
    for job in 1..=2 {
        desk.submit(job, &[("step", &[])], "step");
        desk.settle_keys();
        assert_eq!(desk.running(), [("step", job)]);
        desk.end("step", Err("exit code 1"));
    }
    assert_eq!(desk.ended(), [1, 2]);
}

#[test]
fn a_hit_completes_its_skipped_ancestors_first_but_not_those_that_others_need() {
    let mut desk = Desk::new(1);
    let graph: &[(&str, &[&str])] = &[
        ("a", &[]),
        ("b", &["a"]),
        ("c", &["a"]),
        ("d", &["b"]),
        ("top", &["d", "c"]),
    ];
    desk.submit(1, graph, "top");
    // All look-ups miss, but that of "d".
    let is_exec = |task: &Task<String>| matches!(task, Task::Execute { .. });
    while let Some(at) = desk.begun.iter().position(|(.., task)| !is_exec(task)) {
        let (node, name, _, task) = desk.begun.remove(at);
        let result = match task {
            Task::CacheMap => {
                TaskResult::CacheMap(Ok(CacheKey::builder("test").bytes(&name).finish()))
            }
            Task::Lookup { .. } if name == "d" => TaskResult::Lookup(Some(vec!["d".into()])),
            _ => TaskResult::Lookup(None),
        };
        desk.apply(Event::Ended { node, result });
    }
    let cached: Vec<_> = desk
        .reports
        .iter()
        .filter_map(|(_, name, progress)| match progress {
            VertexProgress::Completed(Completion::Cached(hit)) => Some((name.as_str(), *hit)),
            _ => None,
        })
        .collect();
    assert_eq!(cached, [("b", CacheHit::Skipped), ("d", CacheHit::Classic)]);
}

#[test]
fn long_and_wide_graphs_take_neither_stack_nor_quadratic_time() {
    let names: Vec<_> = (0..3000).map(|number| format!("{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chain: Vec<_> = (0..names.len())
        .map(|index| (names[index], &names[index.saturating_sub(1)..index]))
        .collect();
    let mut wide: Vec<_> = names.iter().map(|name| (*name, &[][..])).collect();
    wide.push(("top", &names[..]));
    for (graph, target) in [(&chain, names[names.len() - 1]), (&wide, "top")] {
        let mut desk = Desk::new(4);
        desk.submit(1, graph, target);
        let mut steps = 0;
        while let Some((node, name, _, task)) = desk.begun.pop() {
            steps += 1;
            let key = CacheKey::builder("test").bytes(&name).finish();
            let result = match task {
                Task::CacheMap => TaskResult::CacheMap(Ok(key)),
                Task::Lookup { .. } => TaskResult::Lookup(None),
                Task::ContentKey { .. } => TaskResult::ContentKey(Ok(None)),
                Task::Rebase { found, .. } => TaskResult::Rebase(Some(found.to_vec())),
                Task::Execute { .. } => TaskResult::Execute(Ok(vec![name])),
            };
            desk.apply(Event::Ended { node, result });
            desk.save_all();
        }
        assert_eq!(desk.ended(), [1]);
        assert!(
            steps <= 4 * graph.len(),
            "{steps} steps for {} vertices",
            graph.len()
        );
        assert!(desk.scheduler.is_idle() && desk.scheduler.is_clean());
    }
}
