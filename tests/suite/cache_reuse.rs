//! What is not done again.

use std::fs;
use std::time::{Duration, SystemTime};

use support::transcript::Transcript;
use support::workspace::Varve;

/// Builds and keeps the result.
#[track_caller]
fn build(varve: &Varve, arguments: &[&str]) -> Transcript {
    let arguments = ["-t", "app"].iter().chain(arguments);
    varve.build(arguments).success().transcript()
}

/// A context and a Dockerfile with two branches that meet.
fn branches() -> Varve {
    let varve = Varve::new();
    varve.write("context/left.txt", "left");
    varve.write("context/right.txt", "right");
    varve.dockerfile(
        "FROM busybox AS left\nCOPY left.txt /in\nRUN cat /in > /out\n\
         FROM busybox AS right\nCOPY right.txt /in\nRUN tr a-z A-Z < /in > /out\n\
         FROM busybox\nCOPY --from=left /out /left\nCOPY --from=right /out /right\n\
         RUN cat /left /right > /both\n",
    );
    varve
}

#[test]
fn a_second_build_executes_nothing() {
    let varve = branches();
    let first = build(&varve, &[]);
    assert_eq!(
        (first.executed().len(), first.cached().len()),
        (7, 0),
        "{first:#?}"
    );
    let second = build(&varve, &[]);
    assert_eq!(
        (second.executed().len(), second.cached().len()),
        (0, 7),
        "{second:#?}"
    );
}

#[test]
fn a_rebuild_with_nothing_changed_gives_the_same_image_id() {
    let varve = branches();
    let ids = [(), ()].map(|()| varve.build(["-t", "app", "-q"]).success().stdout);
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_changed_file_runs_only_what_depends_on_it() {
    let varve = branches();
    build(&varve, &[]);
    varve.write("context/left.txt", "changed");
    let again = build(&varve, &[]);
    assert_eq!(
        again.executed(),
        [
            "COPY --from=left /out /left",
            // With another tree below it, it is another step, though its source is the same.
            "COPY --from=right /out /right",
            "COPY left.txt /in",
            "RUN cat /in > /out",
            "RUN cat /left /right > /both",
        ]
    );
    assert_eq!(
        again.cached(),
        ["COPY right.txt /in", "RUN tr a-z A-Z < /in > /out"]
    );
    assert_eq!(varve.shell("app", "cat /both"), "changedRIGHT");
}

#[test]
fn a_file_that_was_only_touched_changes_nothing() {
    let varve = branches();
    build(&varve, &[]);
    let past = SystemTime::now() - Duration::from_secs(1000);
    fs::File::open(varve.path("context/left.txt"))
        .unwrap()
        .set_modified(past)
        .unwrap();
    assert_eq!(build(&varve, &[]).executed(), [""; 0]);
}

#[test]
fn a_file_of_the_same_size_and_time_but_other_content_is_noticed() {
    let varve = branches();
    let file = varve.path("context/left.txt");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    build(&varve, &[]);
    fs::write(&file, "LEFT").unwrap();
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(before)
        .unwrap();
    build(&varve, &[]);
    assert_eq!(varve.shell("app", "cat /left"), "LEFT");
}

#[test]
fn a_step_that_ran_again_with_the_same_result_stops_the_rebuild() {
    let varve = Varve::new();
    varve.write("context/code", "1 # a comment");
    varve.dockerfile(
        "FROM busybox AS compile\nCOPY code /code\nRUN cut -c1 /code > /out; rm /code\n\
         FROM busybox\nCOPY --from=compile /out /out\nRUN cat /out > /expensive\n",
    );
    build(&varve, &[]);
    varve.write("context/code", "1 # another comment");
    let again = build(&varve, &[]);
    assert_eq!(
        again.executed(),
        ["COPY code /code", "RUN cut -c1 /code > /out; rm /code"]
    );
    assert_eq!(
        again.cached(),
        ["COPY --from=compile /out /out", "RUN cat /out > /expensive"]
    );
}

#[test]
fn without_cache_everything_runs_again_and_the_next_build_uses_it() {
    let varve = branches();
    build(&varve, &[]);
    let again = build(&varve, &["--no-cache"]);
    assert_eq!(
        (again.executed().len(), again.cached().len()),
        (7, 0),
        "{again:#?}"
    );
    assert_eq!(build(&varve, &[]).executed(), [""; 0]);
}

#[test]
fn only_the_stages_that_are_named_run_again_without_cache() {
    let varve = branches();
    build(&varve, &[]);
    let again = build(&varve, &["--no-cache-filter", "left"]);
    let executed = again.executed();
    assert!(executed.contains(&"COPY left.txt /in"), "{executed:?}");
    assert!(executed.contains(&"RUN cat /in > /out"), "{executed:?}");
    assert!(
        !executed.contains(&"RUN tr a-z A-Z < /in > /out"),
        "{executed:?}"
    );
}

#[test]
fn another_root_knows_nothing_of_the_first() {
    let varve = branches();
    build(&varve, &[]);
    let other = varve.path("other-root").display().to_string();
    assert_eq!(build(&varve, &["--root", &other]).executed().len(), 7);
    assert_eq!(build(&varve, &["--root", &other]).executed(), [""; 0]);
}

#[test]
fn a_failed_build_keeps_what_was_finished() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo done > /f\nRUN exit 1\n");
    varve.build(["-t", "app"]).code(1);
    varve.dockerfile("FROM busybox\nRUN echo done > /f\nRUN exit 0\n");
    let again = build(&varve, &[]);
    assert_eq!(again.cached(), ["RUN echo done > /f"]);
    assert_eq!(again.executed(), ["RUN exit 0"]);
}

#[test]
fn a_step_that_failed_is_tried_again() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN exit 3\n");
    for _ in 0..2 {
        let failed = varve.build(["-t", "app"]).code(1);
        assert!(failed.stderr.contains("exit code: 3"), "{failed}");
    }
}

#[test]
fn a_rebuild_has_the_same_layers_also_where_only_the_config_changed() {
    let varve = branches();
    let first = varve.image([""; 0]);
    let second = varve.image(["--label", "a=1"]);
    assert_eq!(first.layer_digests(), second.layer_digests());
    assert_ne!(first.digest(), second.digest());
    assert_eq!(second.config()["config"]["Labels"]["a"], "1");
}

#[test]
fn arguments_count_only_where_they_can_be_seen() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo before\nARG V\nRUN echo after > /f\nARG UNUSED=1\n");
    build(&varve, &["--build-arg", "V=1"]);
    let again = build(&varve, &["--build-arg", "V=2"]);
    assert_eq!(again.cached(), ["RUN echo before"]);
    assert_eq!(again.executed(), ["RUN echo after > /f"]);
    let unused = build(&varve, &["--build-arg", "V=2", "--build-arg", "UNUSED=2"]);
    assert_eq!(unused.executed(), [""; 0]);
}

#[test]
fn a_step_is_found_in_the_cache_by_another_dockerfile_and_for_another_image() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo shared > /f\nRUN echo one\n");
    build(&varve, &[]);
    varve.dockerfile("FROM busybox AS other\nRUN echo shared > /f\nRUN echo two\n");
    let other = varve.build(["-t", "second"]).success().transcript();
    assert_eq!(other.cached(), ["RUN echo shared > /f"]);
    assert_eq!(other.executed(), ["RUN echo two"]);
}

#[test]
fn equal_steps_of_one_build_run_once() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS a\nRUN cat /proc/uptime /proc/sys/kernel/random/uuid > /f\n\
         FROM busybox AS b\nRUN cat /proc/uptime /proc/sys/kernel/random/uuid > /f\n\
         FROM scratch\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n",
    );
    let files = varve.files([""; 0]);
    let [a, b] = ["a", "b"].map(|name| fs::read_to_string(files.join(name)).unwrap());
    assert_eq!(a, b);
}

#[test]
fn what_was_pruned_is_built_again() {
    let varve = branches();
    build(&varve, &[]);
    varve.varve(["rmi", "app"]).succeeded();
    varve.varve(["prune", "--all"]).succeeded();
    assert_eq!(build(&varve, &[]).executed().len(), 7);
    varve.varve(["fsck"]).succeeded();
}
