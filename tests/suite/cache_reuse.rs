//! What is not done again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use support::layout::Layout;
use support::leftovers::{eventually, processes};
use support::transcript::Transcript;
use support::workspace::{Running, Varve};

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
fn a_filtered_copy_sees_directories_come_change_and_go() {
    let varve = Varve::new();
    varve.write("context/src/a", "1");
    varve.write("context/src/b.md", "2");
    varve.dockerfile(
        "FROM busybox AS from\nCOPY src /src\n\
         FROM busybox\nCOPY --exclude=*.md src /x\nCOPY --parents src /p\n\
         COPY --exclude=*.md src/* /w/\nCOPY --from=from --exclude=*.md /src /s\n\
         RUN cd / && find x p w s | sort | xargs stat -c '%n %a' > /list\n",
    );
    let list = || {
        build(&varve, &[]);
        varve.shell("app", "cat /list")
    };
    let before = list();
    assert!(
        !before.contains("new") && before.contains("p/src/b.md 644"),
        "{before}"
    );
    // One that is empty, and one that has nothing but what is left out.
    fs::create_dir_all(varve.path("context/src/new")).unwrap();
    varve.write("context/src/text/only.md", "3");
    let after = list();
    for place in ["x", "p/src", "s"] {
        for name in ["new", "text"] {
            assert!(after.contains(&format!("{place}/{name} 755\n")), "{after}");
        }
    }
    fs::set_permissions(varve.path("context/src/new"), Permissions::from_mode(0o700)).unwrap();
    let narrow = list();
    for place in ["x", "p/src", "s"] {
        assert!(narrow.contains(&format!("{place}/new 700\n")), "{narrow}");
    }
    fs::remove_dir(varve.path("context/src/new")).unwrap();
    fs::remove_dir_all(varve.path("context/src/text")).unwrap();
    assert_eq!(list(), before);
    let unchanged = build(&varve, &[]);
    assert_eq!(unchanged.executed().len(), 0, "{unchanged:#?}");
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
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(build(&varve, &[]).executed().len(), 7);
    varve.varve(["fsck"]).succeeded();
}

/// What a result that was found by the content of its inputs came from when it was made.
const WITH_KEY: &str = "FROM busybox\nCOPY key /key\nRUN test -s /key && rm /key\n";

/// No blob of the layout has this in it, and it has so many layers, as its history says.
#[track_caller]
fn assert_layers(image: &Layout, count: usize) {
    let with_layer = image.history().iter().filter(|(_, empty)| !empty).count();
    assert_eq!(
        (image.layer_digests().len(), with_layer),
        (count, count),
        "{:?}",
        image.history()
    );
    for layer in 0..count {
        let entries = image.layer(layer);
        assert!(entries.iter().all(|entry| entry.path != "key"), "{layer}");
    }
}

#[test]
fn an_image_has_no_layer_of_a_step_that_its_dockerfile_has_not() {
    let varve = Varve::new();
    varve.write("context/key", "TOP SECRET");
    varve.dockerfile(&format!("{WITH_KEY}RUN echo built > /app\n"));
    build(&varve, &[]);
    varve.dockerfile("FROM busybox\nRUN echo built > /app\nRUN cat /app > /copy\n");
    let first = build(&varve, &[]);
    assert_eq!(first.cached(), ["RUN echo built > /app"]);
    assert_layers(&varve.image([""; 0]), 3);
    assert_eq!(varve.shell("app", "cat /app /copy"), "built\nbuilt\n");
}

#[test]
fn nor_has_one_that_waited_for_an_equal_step_of_another_build() {
    let varve = Varve::new();
    varve.write("context/key", "TOP SECRET");
    let marker = format!("rebase-{}", std::process::id());
    let step = format!("RUN : {marker}; sleep 3; echo built > /app\n");
    varve.dockerfile(&format!("{WITH_KEY}{step}"));
    let first = Running::start(&mut varve.build_command(["-t", "first"]));
    let is_running = || {
        processes(&marker)
            .iter()
            .any(|line| !line.contains("varve"))
    };
    let soon = Duration::from_secs(60);
    assert!(eventually(soon, is_running), "the step runs");
    varve.dockerfile(&format!("FROM busybox\n{step}"));
    let second = Running::start(&mut varve.build_command(["-o", "type=oci,dest=out,tar=false"]));
    first.wait().succeeded();
    let second = second.wait().success();
    assert!(second.stderr.contains("CACHED"), "{second}");
    assert_layers(&Layout::open(&varve.path("out")), 2);
}

#[test]
fn a_step_that_changes_nothing_or_changes_it_back_has_its_own_layer() {
    let varve = Varve::new();
    varve.write("context/f", "f");
    varve.dockerfile(
        "FROM busybox\nRUN true\nRUN true\nCOPY f /x\nRUN rm /x\nCOPY f /x\nRUN echo 1 > /last\n",
    );
    let image = varve.image([""; 0]);
    assert_layers(&image, 7);
    let last = image.last_layer();
    assert!(last.iter().any(|entry| entry.path == "last"), "{last:?}");
    assert!(last.iter().all(|entry| entry.path != "x"), "{last:?}");
}

#[test]
fn what_is_found_by_content_changes_nothing_below_it() {
    let varve = Varve::new();
    for year in [2001, 2002] {
        varve.dockerfile(&format!(
            "FROM busybox\nRUN echo a > /f && touch -d '{year}-01-01 00:00:00' /f\n\
             RUN mkdir /d && echo b > /d/b && ln /d/b /d/link\n"
        ));
        build(&varve, &[]);
        let seen = varve.shell("app", "stat -c %y /f; stat -c %h /d/link; cat /d/b");
        assert_eq!(
            seen,
            format!("{year}-01-01 00:00:00.000000000 +0000\n2\nb\n")
        );
    }
}

#[test]
fn files_that_become_one_are_copied_again() {
    let varve = Varve::new();
    varve.write("context/d/a", "same");
    varve.write("context/d/b", "same");
    varve.write("context/a", "same");
    varve.write("context/b", "same");
    varve.dockerfile("FROM scratch\nCOPY d /d/\nCOPY a b /\nCOPY --exclude=x d /e/\n");
    let steps = |varve: &Varve| {
        let built = build(varve, &[]);
        (built.executed().len(), built.cached().len())
    };
    assert_eq!(steps(&varve).1, 0);
    let (executed, cached) = steps(&varve);
    assert_eq!(executed, 0);
    let link = |one: &str, other: &str| {
        fs::remove_file(varve.path(other)).unwrap();
        fs::hard_link(varve.path(one), varve.path(other)).unwrap();
    };
    // What is copied by itself is no link afterwards.
    link("context/a", "context/b");
    assert_eq!(steps(&varve), (0, cached));
    link("context/d/a", "context/d/b");
    let (again, _) = steps(&varve);
    assert!(again >= 2, "{again} steps");
    assert_eq!(steps(&varve), (0, cached));
    fs::remove_file(varve.path("context/d/b")).unwrap();
    varve.write("context/d/b", "same");
    assert_eq!(steps(&varve), (0, cached), "as it was at first");
}

#[test]
fn without_cache_every_step_runs_also_one_that_is_there_twice() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo one\nRUN echo two\nRUN echo one\nCOPY file /\n");
    let file = varve.write("context/file", "content");
    let time_of = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(year * 31_556_952);
    let touch = |year| fs::File::open(&file).unwrap().set_modified(time_of(year));
    touch(40).unwrap();
    build(&varve, &[]);
    touch(50).unwrap();
    let kept = build(&varve, &[]);
    assert_eq!(kept.executed(), [""; 0]);
    let time = "stat -c %Y /file";
    assert_eq!(varve.shell("app", time), format!("{}\n", 40 * 31_556_952));
    let again = build(&varve, &["--no-cache"]);
    assert_eq!(again.executed().len(), 4, "{again:#?}");
    assert_eq!(varve.shell("app", time), format!("{}\n", 50 * 31_556_952));
}
