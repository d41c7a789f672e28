//! Evaluations that end otherwise than well: errors, panics, cancellations.

use super::fixture::{Act, Bench, edge, id, waiting};
use super::*;

#[tokio::test]
async fn the_first_error_ends_the_evaluation_after_its_other_steps_have_ended() {
    let bench = Bench::new();
    let (_, _, act) = waiting();
    let graph = vec![
        bench.join("good", &[]),
        bench.vertex("bad", "bad", &["good"], Act::Fail),
        bench.vertex("slow", "slow", &["good"], act),
        bench.join("after bad", &["bad"]),
        bench.join("top", &["after bad", "slow"]),
    ];
    let (result, lines) = bench.evaluate(graph, &["top"]).await;
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "bad: exit code 1");
    let EvaluateError::Op { vertex, source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(vertex, id("bad"));
    assert!(source.downcast_ref::<std::io::Error>().is_some());
    assert_eq!(
        bench.running.load(Ordering::SeqCst),
        0,
        "slow has really ended"
    );
    assert_eq!(bench.runs_of("after bad"), 0);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("bad Failed") && line.contains("code 1"))
    );
    assert!(lines.contains(&"slow Cancelled".to_string()));
    // What had finished is remembered.
    let (_, lines) = bench
        .evaluate(vec![bench.join("good", &[])], &["good"])
        .await;
    assert_eq!(lines, ["good Cached(Classic)"]);
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_operation_and_the_engine_goes_on() {
    let bench = Bench::new();
    for (definition, act) in [("runs badly", Act::Panic), ("panic at once", Act::Join)] {
        let graph = vec![bench.vertex("step", definition, &[], act)];
        let error = bench.evaluate(graph, &["step"]).await.0.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("step: the operation panicked"),
            "{error}"
        );
    }
    bench
        .evaluate(vec![bench.join("fine", &[])], &["fine"])
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn a_cancelled_evaluation_returns_when_its_operations_have_ended() {
    let bench = Bench::new();
    let (begun, _, act) = waiting();
    let cancel = CancelToken::new();
    let graph = vec![
        bench.vertex("slow", "slow", &[], act),
        bench.join("top", &["slow"]),
    ];
    let targets = [edge("top")];
    let evaluation = bench
        .engine
        .evaluate(graph, &targets, Arc::new(Silent), &cancel);
    let cancellation = async {
        begun.notified().await;
        cancel.cancel();
    };
    let (result, ()) = futures::join!(evaluation, cancellation);
    assert!(
        matches!(result, Err(EvaluateError::Cancelled)),
        "{result:?}"
    );
    assert_eq!(
        (bench.running.load(Ordering::SeqCst), bench.runs_of("slow")),
        (0, 1)
    );
    assert_eq!(bench.runs_of("top"), 0);
}

#[tokio::test]
async fn a_token_that_is_already_cancelled_runs_nothing() {
    let bench = Bench::new();
    let cancel = CancelToken::new();
    cancel.cancel();
    let graph = vec![bench.join("step", &[])];
    let targets = [edge("step")];
    let result = bench
        .engine
        .evaluate(graph, &targets, Arc::new(Silent), &cancel)
        .await;
    assert!(
        matches!(result, Err(EvaluateError::Cancelled)),
        "{result:?}"
    );
    assert_eq!(bench.runs_of("step"), 0);
}

#[tokio::test]
async fn dropping_the_evaluation_cancels_it_and_idle_waits_for_the_rest() {
    let bench = Bench::new();
    let (begun, _, act) = waiting();
    let graph = vec![bench.vertex("slow", "slow", &[], act)];
    tokio::select! {
        _ = bench.evaluate(graph, &["slow"]) => panic!("nobody permitted it to end"),
        () = begun.notified() => {}
    }
    assert_eq!(bench.running.load(Ordering::SeqCst), 1);
    bench.engine.idle().await;
    assert_eq!(bench.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_step_that_two_evaluations_want_survives_the_cancellation_of_one() {
    let bench = Bench::new();
    let (begun, go, act) = waiting();
    let first = bench.evaluate(vec![bench.vertex("slow", "slow", &[], act)], &["slow"]);
    let second_graph = vec![bench.join("slow", &[])];
    let second = async {
        begun.notified().await;
        bench.evaluate(second_graph, &["slow"]).await
    };
    let mut first = Box::pin(first);
    let mut second = Box::pin(second);
    tokio::select! {
        _ = &mut first => panic!("nobody permitted it to end"),
        _ = &mut second => panic!("nobody permitted it to end"),
        () = tokio::time::sleep(Duration::from_millis(30)) => {}
    }
    drop(first);
    go.notify_one();
    let (values, lines) = second.await;
    assert_eq!(values.unwrap(), ["slow()"]);
    assert_eq!(bench.runs_of("slow"), 1);
    assert_eq!(lines, ["slow started", "slow Executed"]);
}
