//! type=cache: found again, shared, locked, private; never part of an image or a key.

use std::fs;
use std::path::Path;

use support::workspace::{Running, Varve};

use super::{last_layer, said};

/// Builds with a value that makes the steps after `ARG ROUND` run again.
fn round(varve: &Varve, number: usize) -> support::workspace::Outcome {
    let round = format!("ROUND={number}");
    varve.build(["-t", "app", "--build-arg", &round])
}

/// What the step whose name has `part` said in a build of that round.
#[track_caller]
fn heard(varve: &Varve, number: usize, part: &str) -> Vec<String> {
    let transcript = round(varve, number).success().transcript();
    transcript.step(part).output.clone()
}

#[test]
fn a_cache_is_found_again_and_is_in_no_image() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nARG ROUND\n\
         RUN --mount=type=cache,target=/var/cache/app echo $ROUND >> /var/cache/app/log && \
           mkdir -p /var/cache/app/d && ln -f /var/cache/app/log /var/cache/app/d/hard && \
           cat /var/cache/app/d/hard\n",
    );
    assert_eq!(heard(&varve, 1, "RUN --mount"), ["1"]);
    assert_eq!(heard(&varve, 2, "RUN --mount"), ["1", "2"]);
    assert_eq!(heard(&varve, 3, "RUN --mount"), ["1", "2", "3"]);
    assert_eq!(varve.shell("app", "ls / | grep -c var || true"), "0\n");
    assert_eq!(last_layer(&varve), [""; 0]);
    // Not run again: the content of a cache is in no key.
    assert_eq!(round(&varve, 3).success().transcript().executed(), [""; 0]);
}

#[test]
fn a_step_runs_again_when_one_before_it_that_has_its_cache_has_run() {
    let varve = Varve::new();
    // Neither step before the last changes the root, which is all that the last one's inputs are.
    varve.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=bind,target=/src --mount=type=cache,target=/c cp /src/app /c/app\n\
         RUN --mount=type=cache,target=/other true\n\
         RUN --mount=type=cache,target=/c cp /c/app /app\n",
    );
    for (content, again) in [("one", 3), ("two", 2), ("one", 0), ("three", 2)] {
        varve.write("context/app", content);
        let built = varve.build(["-t", "app"]).success().transcript();
        assert_eq!(varve.shell("app", "cat /app"), content);
        assert_eq!(built.executed().len(), again, "{built:#?}");
    }
    // The same words once more are another step.
    let mount = "RUN --mount=type=cache,target=/c";
    let lines = format!("{mount} echo x > /c/y\n{mount} rm -f /c/y\n{mount} echo x > /c/y\n");
    varve.dockerfile(&format!("FROM busybox\n{lines}{mount} cat /c/y > /y\n"));
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(varve.shell("app", "cat /y"), "x\n");
}

#[test]
fn a_cache_begins_anew_for_steps_without_cache_and_for_no_others() {
    let varve = Varve::new();
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nARG ROUND\nRUN --mount=type=cache,id={name},target=/c \
             echo x >> /c/{name}; wc -l < /c/{name}\n"
        )
    };
    let copies = "FROM busybox\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n";
    varve.dockerfile(&format!("{}{}{copies}", stage("a"), stage("b")));
    for (round, options, expected) in [
        ("1", vec![], ["1", "1"]),
        ("2", vec![], ["2", "2"]),
        ("3", vec!["--no-cache-filter", "a"], ["1", "3"]),
        ("4", vec!["--no-cache"], ["1", "1"]),
        ("5", vec![], ["2", "2"]),
    ] {
        let round = format!("ROUND={round}");
        let arguments = [&["-t", "app", "--build-arg", &round], &options[..]].concat();
        let built = varve.build(arguments).success().transcript();
        let said = ["/c/a", "/c/b"].map(|part| built.step(part).output.join(" "));
        assert_eq!(said, expected, "{round} {options:?}");
    }
}

#[test]
fn ids_namespaces_seeds_and_owners_tell_caches_apart_and_targets_do_not() {
    let varve = Varve::new();
    let write = "RUN --mount=type=cache,id=one,target=/a echo one > /a/f\n";
    let read = |mount: &str| {
        format!(
            "FROM busybox AS seed\nRUN mkdir -p /s/d && echo seed > /s/d/f\nFROM busybox\n\
                 {write}RUN --mount=type=cache,{mount},target=/other/place \
                   cat /other/place/f 2>/dev/null || echo empty\n"
        )
    };
    for (mount, expect) in [
        ("id=one", "one"),
        ("id=one,uid=0", "empty"),
        ("id=two", "empty"),
        ("id=one,from=seed,source=/s/d", "seed"),
        ("id=one,from=scratch", "one"),
    ] {
        varve.dockerfile(&read(mount));
        let built = varve.build(["-t", "app", "--no-cache"]);
        let transcript = built.success().transcript();
        let found = &transcript.step("/other/place").output;
        assert_eq!(found, &[expect], "{mount}");
    }
    varve.dockerfile(&read("id=one"));
    let namespace = [
        "-t",
        "app",
        "--build-arg",
        "BUILDKIT_CACHE_MOUNT_NS=project",
        "--target",
    ];
    let lines = "FROM busybox AS read\nRUN --mount=type=cache,id=one,target=/x \
        cat /x/f 2>/dev/null || echo empty\n";
    varve.dockerfile(lines);
    let transcript = varve
        .build(namespace.iter().chain(&["read"]))
        .success()
        .transcript();
    assert_eq!(transcript.step("/x").output, ["empty"]);
}

#[test]
fn owner_and_mode_are_those_asked_for_and_variables_are_expanded() {
    let varve = Varve::new();
    let lines = "ARG ID=1234\nENV WHERE=/home/app/.cache\nUSER 1234\n\
        RUN --mount=type=cache,target=$WHERE,uid=${ID},gid=99,mode=0750 \
          stat -c '%u %g %a' $WHERE && touch $WHERE/mine\n\
        RUN --mount=type=cache,target=$WHERE,uid=1234,gid=99,mode=0750,ro ls $WHERE && \
          ! touch $WHERE/x 2>/dev/null\n";
    let varve_said = said(&varve, lines, &[]);
    assert_eq!(varve_said, ["mine"]);
    let again = varve
        .build(["--no-cache", "-t", "app"])
        .success()
        .transcript();
    assert_eq!(again.step("stat -c").output, ["1234 99 750"]);
}

#[test]
fn writes_of_a_failed_step_stay_unless_the_cache_is_private() {
    for (sharing, expect) in [("shared", "kept"), ("locked", "kept"), ("private", "empty")] {
        let varve = Varve::new();
        let mount = format!("RUN --mount=type=cache,target=/c,sharing={sharing}");
        varve.dockerfile(&format!("FROM busybox\n{mount} echo kept > /c/f; exit 3\n"));
        varve.build(["-t", "app"]).code(1);
        let read = format!("{} cat /c/f 2>/dev/null || echo empty\n", mount);
        assert_eq!(said(&varve, &read, &[]), [expect], "{sharing}");
    }
}

#[test]
fn steps_that_share_a_cache_see_each_other_and_steps_that_lock_it_do_not_meet() {
    let varve = Varve::new();
    let stages = |sharing: &str, script: &str| {
        let stage = |number: usize| {
            format!(
                "FROM busybox AS s{number}\nRUN --mount=type=cache,target=/c,id={sharing},\
                 sharing={sharing} N={number}; {script}\n"
            )
        };
        let copies = (0..3).map(|number| format!("COPY --from=s{number} /out /out{number}\n"));
        let stages: String = (0..3).map(stage).collect();
        format!("{stages}FROM busybox\n{}", copies.collect::<String>())
    };
    // Each waits until all three are there.
    varve.dockerfile(&stages(
        "shared",
        "touch /c/$N; i=0; while [ $(ls /c | wc -l) -lt 3 ] && [ $i -lt 600 ]; do \
           sleep 0.1; i=$((i+1)); done; ls /c | wc -l > /out",
    ));
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(varve.shell("app", "cat /out0 /out1 /out2"), "3\n3\n3\n");
    // Each fails if another one is there.
    varve.dockerfile(&stages(
        "locked",
        "mkdir /c/busy && sleep 0.5 && rmdir /c/busy && echo $N >> /c/log && wc -l < /c/log > /out",
    ));
    varve.build(["-t", "app"]).succeeded();
    let mut seen: Vec<_> = varve
        .shell("app", "cat /out0 /out1 /out2")
        .lines()
        .map(str::to_owned)
        .collect();
    seen.sort();
    assert_eq!(seen, ["1", "2", "3"]);
    // Nobody waits, and nobody sees the others.
    varve.dockerfile(&stages(
        "private",
        "touch /c/$N; sleep 0.5; ls /c | wc -l > /out",
    ));
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(varve.shell("app", "cat /out0 /out1 /out2"), "1\n1\n1\n");
}

#[test]
fn twenty_parallel_steps_on_one_shared_cache_lose_nothing() {
    let varve = Varve::new();
    let mut text = String::new();
    let mut copies = String::from("FROM busybox\n");
    for number in 0..20 {
        text.push_str(&format!(
            "FROM busybox AS s{number}\nRUN --mount=type=cache,target=/c mkdir -p /c/{number} && \
               for i in 1 2 3 4 5; do echo $i > /c/{number}/$i; echo {number}.$i >> /c/log; \
               done && touch /out\n"
        ));
        copies.push_str(&format!("COPY --from=s{number} /out /out{number}\n"));
    }
    copies.push_str(
        "RUN --mount=type=cache,target=/c find /c -type f | wc -l && sort -u /c/log | wc -l\n",
    );
    varve.dockerfile(&format!("{text}{copies}"));
    let transcript = varve.build(["-t", "app"]).success().transcript();
    assert_eq!(transcript.step("sort -u").output, ["101", "100"]);
}

#[test]
fn several_locked_caches_in_any_order_never_wait_for_each_other() {
    let varve = Varve::new();
    let mut text = String::new();
    let mut copies = String::from("FROM busybox\n");
    for number in 0..6 {
        let (first, second) = if number % 2 == 0 {
            ("x", "y")
        } else {
            ("y", "x")
        };
        text.push_str(&format!(
            "FROM busybox AS s{number}\n\
             RUN --mount=type=cache,id={first},target=/1,sharing=locked \
               --mount=type=cache,id={second},target=/2,sharing=locked \
               --mount=type=cache,id={second},target=/again \
               echo {number} >> /1/log && echo {number} >> /2/log && cmp /2/log /again/log && \
               touch /out\n"
        ));
        copies.push_str(&format!("COPY --from=s{number} /out /out{number}\n"));
    }
    let last = "RUN --mount=type=cache,id=x,target=/1 wc -l < /1/log\n";
    varve.dockerfile(&format!("{text}{copies}{last}"));
    let transcript = varve.build(["-t", "app"]).success().transcript();
    assert_eq!(transcript.step("wc -l").output, ["6"]);
}

#[test]
fn two_varves_use_one_cache() {
    let varve = Varve::new();
    let contexts = ["one", "two"].map(|name| {
        varve.write(
            format!("{name}/Dockerfile"),
            format!(
                "FROM busybox\nRUN --mount=type=cache,target=/c echo {name} >> /c/log && \
                 wc -l < /c/log\n"
            ),
        );
        name
    });
    let base = format!("busybox=oci-layout://{}:latest", varve.base().display());
    let running = contexts
        .map(|name| Running::start(&mut varve.command(["build", "--build-context", &base, name])));
    for one in running {
        one.wait().succeeded();
    }
    let read = "RUN --mount=type=cache,target=/c sort /c/log\n";
    assert_eq!(said(&varve, read, &[]), ["one", "two"]);
}

#[test]
fn a_cache_with_many_generations_keeps_the_last_and_what_it_deleted_is_freed() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nARG ROUND\nRUN --mount=type=cache,target=/c rm -f /c/large-* && \
           head -c 300000 /dev/urandom > /c/large-$ROUND && echo $ROUND >> /c/log && ls /c && \
           wc -l < /c/log\n",
    );
    for number in 1..=20 {
        let output = heard(&varve, number, "RUN --mount");
        let large = format!("large-{number}");
        let count = number.to_string();
        assert_eq!(output, [large.as_str(), "log", count.as_str()]);
    }
    varve.varve(["prune"]).succeeded();
    varve.varve(["fsck"]).succeeded();
    let objects = bytes_below(&varve.root().join("objects"));
    let base = bytes_below(&varve.base());
    assert!(
        objects < base * 3 + 12 * 300_000,
        "{objects} bytes, the base has {base}"
    );
    assert_eq!(heard(&varve, 21, "RUN --mount").last().unwrap(), "21");
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(heard(&varve, 22, "RUN --mount").last().unwrap(), "1");
}

fn bytes_below(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let found = entry.metadata().unwrap();
        bytes += match found.is_dir() {
            true => bytes_below(&entry.path()),
            false => found.len(),
        };
    }
    bytes
}

#[test]
fn a_link_in_a_cache_leads_a_mount_of_a_part_of_it_to_no_place_outside() {
    let varve = Varve::new();
    varve.write("outside/secret", "of the host");
    let outside = varve.path("outside").display().to_string();
    let lines = format!(
        "FROM busybox AS seed\nRUN mkdir -p /s/part\nFROM busybox\n\
         RUN --mount=type=cache,id=x,from=seed,target=/c rmdir /c/s/part && \
           ln -s {outside} /c/s/part\n\
         RUN --mount=type=cache,id=x,from=seed,source=/s/part,target=/c cat /c/secret\n"
    );
    varve.dockerfile(&lines);
    let failed = varve.build(["-t", "x"]).code(1);
    assert!(failed.stderr.contains("\"/s/part\": not found"), "{failed}");
    assert!(!failed.stderr.contains("of the host"), "{failed}");
}

#[test]
fn a_step_that_waits_for_a_locked_cache_says_so() {
    let varve = Varve::new();
    let lock = "RUN --mount=type=cache,id=packages,target=/c,sharing=locked sleep 2";
    varve.dockerfile(&format!(
        "FROM busybox AS one\n{lock}; touch /1\nFROM busybox AS two\n{lock}; touch /2\n\
         FROM busybox\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n"
    ));
    let built = varve.build(["-t", "app"]).success();
    let says = "waiting for the cache mount \"/packages\"";
    assert_eq!(built.stderr.matches(says).count(), 1, "{built}");
}

#[test]
fn a_cache_that_has_lost_a_file_begins_anew_and_fails_no_step() {
    let varve = Varve::new();
    let mount = "RUN --mount=type=cache,target=/c";
    said(
        &varve,
        &format!("{mount} yes | head -c 34567 > /c/data && echo x > /c/other\n"),
        &[],
    );
    let lost = object_of(&varve.root().join("objects"), 34_567);
    fs::remove_file(lost.expect("the file of the cache")).unwrap();
    varve.dockerfile(&format!(
        "FROM busybox\n{mount} cat /c/* 2>/dev/null || echo empty\n"
    ));
    let built = varve.build(["-t", "app"]).success();
    assert_eq!(built.transcript().step("RUN").output, ["empty"], "{built}");
    assert!(
        built.stderr.contains("has lost a file and begins anew"),
        "{built}"
    );
}

/// The file of that length below a directory.
fn object_of(directory: &Path, length: u64) -> Option<std::path::PathBuf> {
    let mut entries = fs::read_dir(directory).unwrap().flatten();
    entries.find_map(|entry| {
        let found = entry.metadata().unwrap();
        match found.is_dir() {
            true => object_of(&entry.path(), length),
            false => (found.len() == length).then(|| entry.path()),
        }
    })
}
