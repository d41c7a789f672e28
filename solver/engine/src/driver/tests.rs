//! The engine as its users see it, on a real runtime with small operations that count.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::*;
use crate::cache_key::CacheKey;
use crate::cache_store::CacheStoreError;
use crate::error::GraphError;
use crate::progress::{Completion, OpOutput, OutputStream, Silent, VertexProgress};

mod endings;
mod fixture;

use fixture::{Act, Bench, TestOp, edge, id, waiting};

#[tokio::test]
async fn a_diamond_runs_every_step_once_and_gives_targets_in_their_order() {
    let bench = Bench::new();
    let graph = || {
        vec![
            bench.join("top", &["left", "right"]),
            bench.join("left", &["base"]),
            bench.join("right", &["base"]),
            bench.join("unneeded", &["base"]),
            bench.join("base", &[]),
        ]
    };
    let (values, lines) = bench.evaluate(graph(), &["top", "left"]).await;
    assert_eq!(
        values.unwrap(),
        ["top(left(base()),right(base()))", "left(base())"]
    );
    for name in ["top", "left", "right", "base"] {
        assert_eq!(bench.runs_of(name), 1, "{name}");
    }
    assert_eq!(bench.runs_of("unneeded"), 0);
    assert_eq!(
        lines[..3],
        ["base started", "base: running base", "base Executed"]
    );
    assert_eq!(lines.last().unwrap(), "top Executed");
    assert!(!lines.iter().any(|line| line.contains("unneeded")));
}

#[tokio::test]
async fn a_fully_cached_build_reports_every_step_cached_in_graph_order_and_runs_nothing() {
    let bench = Bench::new();
    let graph = || {
        vec![
            bench.join("top", &["left", "right"]),
            bench.join("left", &["base"]),
            bench.join("right", &["base"]),
            bench.join("base", &[]),
        ]
    };
    bench.evaluate(graph(), &["top"]).await.0.unwrap();
    let lookups = bench.store.lookup_count();
    let (values, lines) = bench.evaluate(graph(), &["top"]).await;
    assert_eq!(values.unwrap(), ["top(left(base()),right(base()))"]);
    let skipped = ["base", "left", "right"].map(|name| format!("{name} Cached(Skipped)"));
    assert_eq!(lines[..3], skipped);
    assert_eq!(lines[3..], ["top Cached(Classic)"]);
    assert_eq!(
        bench.store.lookup_count() - lookups,
        1,
        "only the target is looked up"
    );
    assert_eq!(bench.runs_of("base"), 1);
}

#[tokio::test]
async fn a_step_that_ran_anew_with_the_same_result_stops_the_rebuild_there() {
    let bench = Bench::new();
    let graph = |version: &str| {
        vec![
            bench.vertex("context", version, &[], Act::Join),
            bench.vertex("copy", "copy", &["context"], Act::Give("unchanged file")),
            bench.join("compile", &["copy"]),
            bench.join("link", &["compile"]),
        ]
    };
    bench.evaluate(graph("one"), &["link"]).await.0.unwrap();
    let (values, lines) = bench.evaluate(graph("two"), &["link"]).await;
    assert_eq!(values.unwrap(), ["link(compile(unchanged file))"]);
    assert_eq!((bench.runs_of("context"), bench.runs_of("copy")), (2, 2));
    assert_eq!((bench.runs_of("compile"), bench.runs_of("link")), (1, 1));
    assert_eq!(
        lines[lines.len() - 2..],
        ["compile Cached(Content)", "link Cached(Content)"]
    );
    // What was found by content is found without evaluating anything from now on.
    let (_, lines) = bench.evaluate(graph("two"), &["link"]).await;
    assert_eq!(lines.last().unwrap(), "link Cached(Classic)");
    assert_eq!(bench.runs_of("copy"), 2);
}

#[tokio::test]
async fn a_step_without_content_key_runs_when_its_ancestors_changed() {
    let bench = Bench::new();
    let graph = |version: &str| {
        vec![
            bench.vertex("context", version, &[], Act::Give("same")),
            bench.vertex("step", "opaque", &["context"], Act::Join),
        ]
    };
    bench.evaluate(graph("one"), &["step"]).await.0.unwrap();
    bench.evaluate(graph("two"), &["step"]).await.0.unwrap();
    assert_eq!(bench.runs_of("step"), 2);
}

#[tokio::test]
async fn a_vertex_that_ignores_the_cache_runs_again_and_its_new_result_is_used_and_saved() {
    let bench = Bench::new();
    let graph = |date: &'static str, ignore_cache: bool| {
        let mut step = bench.vertex("date", "date", &[], Act::Give(date));
        step.ignore_cache = ignore_cache;
        vec![step, bench.join("reader", &["date"])]
    };
    bench
        .evaluate(graph("monday", false), &["reader"])
        .await
        .0
        .unwrap();
    let (values, _) = bench.evaluate(graph("tuesday", true), &["reader"]).await;
    assert_eq!(
        values.unwrap(),
        ["reader(tuesday)"],
        "the old record of the reader is not used"
    );
    let (values, lines) = bench.evaluate(graph("tuesday", true), &["reader"]).await;
    assert_eq!(values.unwrap(), ["reader(tuesday)"]);
    assert_eq!(
        lines.last().unwrap(),
        "reader Cached(Content)",
        "equal content is still found"
    );
    let (values, lines) = bench.evaluate(graph("never run", false), &["reader"]).await;
    assert_eq!(
        values.unwrap(),
        ["reader(tuesday)"],
        "the new result was saved"
    );
    assert_eq!(lines, ["date Cached(Skipped)", "reader Cached(Classic)"]);
    assert_eq!(bench.runs_of("date"), 3);
}

#[tokio::test]
async fn equal_steps_of_one_graph_run_once() {
    let bench = Bench::new();
    let graph = vec![
        bench.vertex("one", "same", &[], Act::Join),
        bench.vertex("two", "same", &[], Act::Join),
        // Equal by content only: their inputs differ in definition, not in value.
        bench.vertex("left source", "left source", &[], Act::Give("equal")),
        bench.vertex("right source", "right source", &[], Act::Give("equal")),
        bench.vertex("left", "step", &["left source"], Act::Join),
        bench.vertex("right", "step", &["right source"], Act::Join),
    ];
    let (values, lines) = bench
        .evaluate(graph, &["one", "two", "left", "right"])
        .await;
    assert_eq!(
        values.unwrap(),
        ["same()", "same()", "step(equal)", "step(equal)"]
    );
    assert_eq!(bench.runs_of("one") + bench.runs_of("two"), 1);
    assert_eq!(bench.runs_of("left") + bench.runs_of("right"), 1);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with("Cached(Shared)"))
            .count(),
        2
    );
}

#[tokio::test]
async fn an_equal_step_of_another_evaluation_is_waited_for_and_heard_from_its_begin() {
    let bench = Bench::new();
    let (begun, go, act) = waiting();
    let first = bench.evaluate(vec![bench.vertex("mine", "make", &[], act)], &["mine"]);
    let second = async {
        begun.notified().await;
        let yours = vec![bench.vertex("yours", "make", &[], Act::Join)];
        let evaluation = bench.evaluate(yours, &["yours"]);
        let permission = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            go.notify_one();
        };
        futures::join!(evaluation, permission).0
    };
    let ((first, _), (second, lines)) = futures::join!(first, second);
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(bench.runs_of("yours"), 0);
    let heard = [
        "yours started",
        "yours: running make",
        "yours Cached(Shared)",
    ];
    assert_eq!(lines, heard);
}

#[tokio::test]
async fn a_failure_after_its_evaluation_has_left_is_not_believed() {
    let bench = Bench::new();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let act = Act::WaitThenFail {
        begun: Arc::clone(&begun),
        go: Arc::clone(&go),
    };
    let mut first =
        Box::pin(bench.evaluate(vec![bench.vertex("step", "step", &[], act)], &["step"]));
    let second_graph = vec![bench.join("step", &[])];
    let mut second = Box::pin(async {
        begun.notified().await;
        bench.evaluate(second_graph, &["step"]).await
    });
    tokio::select! {
        _ = &mut first => panic!("nobody permitted it to end"),
        _ = &mut second => panic!("nobody permitted it to end"),
        () = tokio::time::sleep(Duration::from_millis(30)) => {}
    }
    drop(first);
    go.notify_one();
    let (values, _) = second.await;
    assert_eq!(
        values.unwrap(),
        ["step()"],
        "it ran again, with the operation of the second"
    );
    assert_eq!(bench.runs_of("step"), 2);
}

/// A store where everything goes wrong.
struct Broken {
    panics: bool,
}

impl CacheStore<String> for Broken {
    fn lookup<'a>(
        &'a self,
        _: &'a CacheKey,
    ) -> BoxFuture<'a, Result<Option<Vec<String>>, CacheStoreError>> {
        assert!(!self.panics, "the database is upside down");
        // A record with too few outputs is as good as none.
        Box::pin(async {
            if self.panics {
                Ok(None)
            } else {
                Ok(Some(Vec::new()))
            }
        })
    }

    fn save<'a>(
        &'a self,
        _: &'a CacheKey,
        _: &'a [String],
    ) -> BoxFuture<'a, Result<(), CacheStoreError>> {
        assert!(!self.panics, "the database is upside down");
        Box::pin(async { Err("disk full".into()) })
    }
}

#[tokio::test]
async fn a_broken_cache_store_costs_time_but_no_build() {
    for panics in [true, false] {
        let engine = Engine::new(Arc::new(Broken { panics }), Limits::default());
        let bench = Bench {
            engine,
            ..Bench::new()
        };
        let graph = || vec![bench.join("base", &[]), bench.join("top", &["base"])];
        for _ in 0..2 {
            let (values, _) = bench.evaluate(graph(), &["top"]).await;
            assert_eq!(values.unwrap(), ["top(base())"]);
        }
        assert_eq!(bench.runs_of("top"), 2);
    }
}

#[tokio::test]
async fn a_graph_without_sense_is_refused() {
    let bench = Bench::new();
    let missing = bench
        .evaluate(vec![bench.join("top", &["base"])], &["top"])
        .await
        .0;
    let needed_by = Some(id("top"));
    let expected = GraphError::MissingVertex {
        vertex: id("base"),
        needed_by,
    };
    assert!(matches!(missing, Err(EvaluateError::Graph { source }) if source == expected));

    let out_of_range = GraphError::OutputOutOfRange {
        vertex: id("base"),
        output: 1,
        available: 1,
    };
    let far = Edge {
        vertex: id("base"),
        output: 1,
    };
    let mut top = bench.join("top", &[]);
    top.inputs.push(far);
    let graph = vec![bench.join("base", &[]), top];
    let result = bench.evaluate(graph, &["top"]).await.0;
    assert!(matches!(result, Err(EvaluateError::Graph { source }) if source == out_of_range));
    let graph = vec![bench.join("base", &[])];
    let cancel = CancelToken::new();
    let result = bench
        .engine
        .evaluate(graph, &[far], Arc::new(Silent), &cancel)
        .await;
    assert!(matches!(result, Err(EvaluateError::Graph { source }) if source == out_of_range));
}

#[tokio::test]
async fn one_id_for_two_definitions_at_the_same_time_is_refused() {
    let bench = Bench::new();
    let (begun, go, act) = waiting();
    let first = bench.evaluate(vec![bench.vertex("step", "step", &[], act)], &["step"]);
    let second = async {
        begun.notified().await;
        let graph = vec![bench.join("step", &["base"]), bench.join("base", &[])];
        let result = bench.evaluate(graph, &["step"]).await;
        go.notify_one();
        result
    };
    let ((first, _), (second, lines)) = futures::join!(first, second);
    first.unwrap();
    let expected = GraphError::Conflict { vertex: id("step") };
    assert!(matches!(second, Err(EvaluateError::Graph { source }) if source == expected));
    assert_eq!(lines, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_wanted_is_nothing_done() {
    let bench = Bench::new();
    let (values, _) = bench.evaluate(vec![bench.join("step", &[])], &[]).await;
    assert_eq!(values.unwrap(), Vec::<String>::new());
    assert_eq!(bench.runs_of("step"), 0);
}

#[tokio::test]
async fn output_while_the_key_is_asked_starts_a_source_that_may_still_be_cached() {
    let bench = Bench::new();
    let graph = || {
        vec![
            bench.join("loud source", &[]),
            bench.join("step", &["loud source"]),
        ]
    };
    bench.evaluate(graph(), &["step"]).await.0.unwrap();
    let (_, lines) = bench.evaluate(graph(), &["step"]).await;
    assert_eq!(lines[0], "loud source started");
    assert_eq!(
        lines[1..],
        ["loud source Cached(Skipped)", "step Cached(Classic)"]
    );
}

#[tokio::test]
async fn what_an_operation_leaves_behind_writes_to_nobody() {
    let bench = Bench::new();
    let vertex = bench.join("step", &[]);
    let left_behind = TestOp {
        definition: "step".into(),
        act: Act::Join,
        runs: Arc::default(),
        running: Arc::default(),
        peak: Arc::default(),
        sink: Mutex::new(None),
    };
    let op = Arc::new(left_behind);
    let graph = vec![Vertex {
        op: Arc::clone(&op) as Arc<dyn Op<Value = String>>,
        ..vertex
    }];
    let (_, lines) = bench.evaluate(graph, &["step"]).await;
    let sink = op.sink.lock().unwrap().take().unwrap();
    sink.log(OutputStream::Stderr, "too late");
    assert_eq!(
        lines,
        ["step started", "step: running step", "step Executed"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_operations_run_at_once_than_the_limit_allows() {
    let bench = Bench::new();
    let names: Vec<_> = (0..40).map(|number| format!("step {number}")).collect();
    let graph = names.iter().map(|name| bench.join(name, &[])).collect();
    let targets: Vec<_> = names.iter().map(String::as_str).collect();
    bench.evaluate(graph, &targets).await.0.unwrap();
    assert_eq!(bench.peak.load(Ordering::SeqCst), 2);
}

/// Panics at the first completion.
struct Fragile(AtomicUsize);

impl Listener for Fragile {
    fn vertex(&self, _: &VertexInfo, progress: &VertexProgress) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let is_hit = matches!(progress, VertexProgress::Completed(Completion::Cached(_)));
        assert!(
            matches!(progress, VertexProgress::Queued) || is_hit,
            "a bug in a display"
        );
    }

    fn output(&self, _: &VertexInfo, _: &OpOutput) {
        panic!("it should be silent by now");
    }
}

#[tokio::test]
async fn a_listener_that_panics_is_silenced_and_the_evaluation_goes_on() {
    let bench = Bench::new();
    let graph = vec![bench.join("base", &[]), bench.join("top", &["base"])];
    let listener = Arc::new(Fragile(AtomicUsize::new(0)));
    let heard = Arc::clone(&listener) as Arc<dyn Listener>;
    let targets = [edge("top")];
    let cancel = CancelToken::new();
    let values = bench
        .engine
        .evaluate(graph, &targets, heard, &cancel)
        .await
        .unwrap();
    assert_eq!(values, ["top(base())"]);
    assert_eq!(
        listener.0.load(Ordering::SeqCst),
        3,
        "two queued, one started"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_evaluations_of_overlapping_random_graphs_agree_with_plain_recursion() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..20 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let bench = Bench::new();
        let mut inputs: Vec<Vec<usize>> = Vec::new();
        let mut truth: Vec<String> = Vec::new();
        for index in 0..12 {
            let count = if index == 0 {
                0
            } else {
                rng.random_range(0..3)
            };
            let own: Vec<_> = (0..count).map(|_| rng.random_range(0..index)).collect();
            let of = own
                .iter()
                .map(|input: &usize| truth[*input].clone())
                .collect::<Vec<_>>();
            truth.push(format!("{index}({})", of.join(",")));
            inputs.push(own);
        }
        let names: Vec<_> = (0..inputs.len()).map(|index| index.to_string()).collect();
        let graph = || {
            let vertices = inputs.iter().enumerate().map(|(index, own)| {
                let own: Vec<_> = own.iter().map(|input| names[*input].as_str()).collect();
                bench.join(&names[index], &own)
            });
            vertices.collect::<Vec<_>>()
        };
        let evaluations = (0..6).map(|_| {
            let target = rng.random_range(0..names.len());
            let (bench, graph, name) = (&bench, graph(), names[target].as_str());
            let expected = truth[target].clone();
            async move {
                let (values, _) = bench.evaluate(graph, &[name]).await;
                assert_eq!(values.unwrap(), [expected], "seed {seed}");
            }
        });
        futures::future::join_all(evaluations.collect::<Vec<_>>()).await;
        for name in &names {
            assert!(bench.runs_of(name) <= 1, "seed {seed}: {name} ran twice");
        }
    }
}
