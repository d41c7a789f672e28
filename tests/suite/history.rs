//! What is remembered of builds: complete, bounded, without values of arguments, never in the way.

mod browser;
mod image;

use serde_json::Value;
use support::workspace::{Outcome, Running, Varve};

fn listed(varve: &Varve, filters: &[&str]) -> Vec<Value> {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let words = ["history", "ls", "--format", "json"]
        .into_iter()
        .chain(filters);
    let text = varve.varve(words).success().stdout;
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn inspected(varve: &Varve, build: &str) -> Value {
    let words = ["history", "inspect", build, "--format", "json"];
    serde_json::from_str(&varve.varve(words).success().stdout).unwrap()
}

fn steps(record: &Value) -> &[Value] {
    record["details"]["steps"].as_array().unwrap()
}

fn step<'r>(record: &'r Value, part: &str) -> &'r Value {
    let mut found = steps(record)
        .iter()
        .filter(|step| step["name"].as_str().unwrap().contains(part));
    found
        .next()
        .unwrap_or_else(|| panic!("no step {part}: {record:#}"))
}

#[test]
fn a_build_leaves_its_steps_times_logs_sizes_and_digests() {
    let varve = Varve::new();
    varve.write("context/f", "0123456789");
    varve.dockerfile("FROM busybox AS a\nCOPY f /\nRUN sleep 0.3; echo told; cp /f /g\n");
    let built = varve.build(["-t", "app", "--target", "a"]).success();
    let record = inspected(&varve, "1");
    let summary = &record["summary"];
    assert_eq!(summary["status"], "completed");
    assert_eq!(summary["asked"]["target"], "a");
    assert!(
        summary["asked"]["context"]
            .as_str()
            .unwrap()
            .ends_with("/context")
    );
    assert!(
        summary["critical_path_us"].as_u64().unwrap() >= 300_000,
        "{summary}"
    );
    assert!(
        summary["traffic"]["written"].as_u64().unwrap() > 10,
        "{summary}"
    );
    let run = step(&record, "RUN sleep");
    let took = run["ended_us"].as_u64().unwrap() - run["started_us"].as_u64().unwrap();
    assert!(took >= 300_000, "{run}");
    assert_eq!(run["log"]["lines"][0]["text"], "told");
    let input = run["inputs"][0].as_u64().unwrap();
    let input = &steps(&record)[usize::try_from(input).unwrap()];
    assert!(
        input["name"].as_str().unwrap().contains("COPY f"),
        "{input}"
    );
    let layers = record["details"]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3, "base, COPY, RUN: {layers:?}");
    assert!(
        layers
            .iter()
            .all(|layer| layer["size"].as_u64().unwrap() > 0)
    );
    assert!(
        record["details"]["manifest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let logs = varve.varve(["history", "logs"]).success();
    for line in ["told", "DONE 0."] {
        assert!(
            logs.stdout.contains(line) && built.stderr.contains(line),
            "{logs}"
        );
    }
    let raw = varve
        .varve(["history", "logs", "1", "--progress=rawjson"])
        .success()
        .stdout;
    assert!(
        raw.contains("dG9sZAo=") && raw.lines().all(|line| line.starts_with('{')),
        "{raw}"
    );
    let pretty = varve.varve(["history", "inspect"]).success().stdout;
    for part in [
        "Status:               Completed",
        "RUN sleep",
        "COPY f / # buildkit",
    ] {
        assert!(pretty.contains(part), "{part}: {pretty}");
    }
}

#[test]
fn a_build_is_listed_while_it_runs_and_after_it_was_killed() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", "app"]).succeeded();
    varve.dockerfile("FROM busybox\nRUN sleep 60\n");
    let running = Running::start(&mut varve.build_command(["-t", "app"]));
    let wait_for = |status: &str| {
        let filter = format!("status={status}");
        for _ in 0..200 {
            if let Some(build) = listed(&varve, &[&filter]).pop() {
                return build;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("no build is {status}");
    };
    let build = wait_for("running");
    assert_eq!(
        (&build["ref"], &build["completed_at"]),
        (&"2".into(), &Value::Null)
    );
    // The last one that has something to show.
    assert_eq!(inspected(&varve, "^0")["summary"]["number"], 1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(running.wait());
    assert_eq!(wait_for("killed")["ref"], "2");
    varve.dockerfile("FROM busybox\nRUN true\n");
    let built = varve.build(["-t", "app"]).success();
    assert!(built.stderr.contains("build 3: "), "{built}");
    varve.varve(["history", "rm", "2"]).succeeded();
    assert_eq!(listed(&varve, &["status=killed"]), [Value::Null; 0]);
}

#[test]
fn failed_and_cancelled_builds_are_remembered_too() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo last words; exit 3\n");
    varve.build(["-t", "app"]).code(1);
    varve.build(["-f", "nothing", "-t", "app"]).code(1);
    varve.dockerfile("FROM busybox\nRUN echo begun; sleep 60\n");
    let running = Running::start(&mut varve.build_command(["-t", "app"]));
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let canceled = running.wait().code(130);
    assert!(
        canceled.stderr.contains("cancelling; Ctrl-C again"),
        "{canceled}"
    );
    let status = |filter: &[&str]| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let builds = listed(&varve, filter);
        builds
            .iter()
            .map(|build| (text(&build["ref"]), text(&build["status"])))
            .collect()
    };
    let told = |number: &str, status: &str| (number.to_owned(), status.to_owned());
    let (first, second, third) = (
        told("1", "Error"),
        told("2", "Error"),
        told("3", "Canceled"),
    );
    assert_eq!(status(&[]), [third.clone(), second.clone(), first.clone()]);
    assert_eq!(status(&["status=error"]), [second, first]);
    assert_eq!(status(&["status!=error", "duration>500ms"]), [third]);
    assert_eq!(status(&["duration>1h"]), []);
    let failed = inspected(&varve, "1");
    assert!(
        failed["details"]["error"]
            .as_str()
            .unwrap()
            .contains("exit code: 3")
    );
    assert!(
        failed["details"]["excerpt"]
            .as_str()
            .unwrap()
            .contains(">>> RUN echo last")
    );
    assert_eq!(
        step(&failed, "RUN")["log"]["lines"][0]["text"],
        "last words"
    );
    let logs = varve.varve(["history", "logs", "^2"]).success().stdout;
    assert!(
        logs.contains("ERROR: ") && logs.contains("last words"),
        "{logs}"
    );
    assert_eq!(step(&inspected(&varve, "3"), "RUN")["outcome"], "canceled");
}

#[test]
fn arguments_that_are_secrets_by_name_are_nowhere_in_the_history() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nARG TOKEN MODE\nRUN test -n \"$TOKEN\" && echo tested as $MODE\n",
    );
    let token = "s3cr3t-value-of-a-token";
    let argument = format!("TOKEN={token}");
    varve
        .build([
            "-t",
            "app",
            "--build-arg",
            &argument,
            "--build-arg=MODE=test",
        ])
        .succeeded();
    let record = inspected(&varve, "1");
    assert_eq!(
        record["summary"]["asked"]["build_args"],
        serde_json::json!(["MODE", "TOKEN"])
    );
    let logs = varve.varve(["history", "logs", "1"]).success().stdout;
    assert!(logs.contains("tested as test"), "{logs}");
    assert!(!record.to_string().contains(token), "{record:#}");
    let layers = record["details"]["layers"].as_array().unwrap();
    let made = layers.last().unwrap()["created_by"].as_str().unwrap();
    assert!(made.starts_with("RUN /bin/sh -c test"), "{made}");
}

#[test]
fn a_secret_that_a_step_prints_is_shown_and_not_remembered() {
    let varve = Varve::new();
    let secret = "p4ssw0rd-of-somebody";
    varve.write("secret", format!("{secret}\n"));
    varve.dockerfile("FROM busybox\nRUN --mount=type=secret,id=key cat /run/secrets/key; exit 3\n");
    let failed = varve
        .build(["-t", "app", "--secret", "id=key,src=secret"])
        .code(1);
    assert!(
        failed.stderr.contains(secret),
        "the step printed it: {failed}"
    );
    let record = inspected(&varve, "1");
    assert_eq!(
        step(&record, "RUN")["log"]["lines"][0]["text"],
        "[secret key]"
    );
    assert!(!record.to_string().contains(secret), "{record:#}");
    let found = varve.tool(
        "grep",
        ["-r", "-l", "--", secret, varve.root().to_str().unwrap()],
    );
    assert_eq!(found.stdout, "", "nowhere in the root directory");
}

#[test]
fn a_killed_build_leaves_a_complete_record_or_one_that_says_so() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN --network=none echo \"$(date +%N)\" > /f\n");
    let mut ended = 0;
    for delay in (0..12).map(|number| number * 35) {
        let running = Running::start(&mut varve.build_command(["-t", "app", "--no-cache"]));
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
        // It may be over already.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        ended += usize::from(running.wait().code == 0);
    }
    varve.build(["-t", "app"]).succeeded();
    let builds = listed(&varve, &[]);
    assert!(builds.len() > ended, "{ended} ended, {builds:?}");
    let whole = builds.iter().filter(|build| build["status"] == "Completed");
    assert!(whole.count() > ended, "{ended} ended, {builds:?}");
    for build in builds {
        let record = inspected(&varve, build["ref"].as_str().unwrap());
        if record["summary"]["status"] == "killed" {
            assert_eq!(record["details"]["steps"], serde_json::json!([]));
            continue;
        }
        assert_eq!(record["summary"]["status"], "completed", "{record:#}");
        assert!(step(&record, "exporting to image")["ended_us"].is_number());
    }
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn builds_are_forgotten_one_by_one_and_all_at_once_and_numbers_never_come_back() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    for _ in 0..4 {
        varve.build(["-t", "app"]).succeeded();
    }
    let numbers = || varve.varve(["history", "-q"]).success().stdout;
    assert_eq!(numbers(), "4\n3\n2\n1\n");
    let refused = varve.varve(["history", "rm", "1", "9"]).code(1);
    assert!(refused.stderr.contains("no build 9"), "{refused}");
    assert_eq!(numbers(), "4\n3\n2\n1\n", "all or none");
    varve.varve(["history", "rm", "1", "^1"]).succeeded();
    assert_eq!(numbers(), "4\n2\n");
    varve.varve(["history", "rm", "--all"]).succeeded();
    assert_eq!(numbers(), "");
    for (words, told) in [
        (&["history", "logs"][..], "there is no build in the history"),
        (
            &["history", "open", "4"],
            "there is no build in the history",
        ),
    ] {
        let outcome: Outcome = varve.varve(words).code(1);
        assert!(outcome.stderr.contains(told), "{outcome}");
    }
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(numbers(), "5\n");
    varve.varve(["history", "rm"]).code(2);
    varve.varve(["history", "logs", "app"]).code(2);
}
