//! Collections beside builds: they happen, nobody waits, and what somebody relies on stays.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::{eventually, processes};
use support::workspace::{Outcome, Running, Varve, run};

use super::{built, du, noise};

/// Bytes of the objects while others move them.
fn objects(varve: &Varve) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![varve.root().join("objects")];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => waiting.push(entry.path()),
                Ok(found) => bytes += found.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

/// A step starts by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

/// A build of its own file, whose first step waits for `seconds` before others follow it.
fn slow(varve: &Varve, name: &str, seconds: u32, then: &str) -> Running {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let marker = format!("varve-collected-{}-{number}", std::process::id());
    let text =
        format!("FROM busybox\nCOPY kept /kept\nRUN : {marker}; sleep {seconds}; : end\n{then}");
    varve.write(format!("context/Dockerfile.{name}"), text);
    let file = format!("context/Dockerfile.{name}");
    let build = Running::start(&mut varve.build_command(["-t", name, "-f", &file]));
    let runs = || {
        let found = processes(&marker);
        found.iter().any(|line| line.contains("/bin/sh"))
    };
    if !eventually(SOON, runs) {
        panic!("the step of {name}: {}", build.wait());
    }
    build
}

fn is_sound(varve: &Varve) {
    let checked = varve.varve(["fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}

fn with_rule(command: &mut std::process::Command, config: &Path) -> Outcome {
    run(command.env("VARVE_CONFIG", config))
}

#[test]
fn a_prune_waits_for_no_build_and_no_build_for_a_prune() {
    let varve = Varve::new();
    varve.write("context/kept", "kept");
    built(&varve, &[], "loose", 6);
    let endless = slow(&varve, "endless", 100_000, "");
    let before = du(&varve, "objects");
    let pruned = varve.varve(["prune", "--all", "--force"]).success();
    assert!(!pruned.stderr.contains("waiting"), "{pruned}");
    let after = du(&varve, "objects");
    assert!(after + (6 << 20) <= before, "{before} {after}: {pruned}");
    varve.write("context/Dockerfile.other", "FROM busybox\nRUN : other\n");
    let other = varve.build(["-f", "context/Dockerfile.other", "-t", "other"]);
    assert!(!other.success().stderr.contains("waiting"));
    kill_process(
        Pid::from_raw(endless.id().cast_signed()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    endless.wait().refused_with(130, &["ERROR: cancelled by"]);
    is_sound(&varve);
}

#[test]
fn what_a_build_relies_on_stays_though_all_is_pruned_beside_it() {
    let varve = Varve::new();
    varve.write("context/kept", "kept");
    varve.write("context/later", "later");
    let then = "RUN cat /kept /bin/busybox | md5sum\nCOPY later /later\n\
                RUN cat /later > /both; cat /kept >> /both\n";
    // Once before, so that all steps but the slow one are found in the cache.
    let text = format!("FROM busybox\nCOPY kept /kept\nRUN : other\n{then}");
    varve.write("context/Dockerfile.first", text);
    let first = varve.build(["-t", "first", "-f", "context/Dockerfile.first"]);
    first.succeeded();
    let build = slow(&varve, "second", 6, then);
    varve.varve(["rmi", "first"]).succeeded();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                varve.varve(["prune", "--all", "--force"]).succeeded();
            }
        });
        let built = build.wait();
        is_over.store(true, Ordering::SeqCst);
        built.succeeded();
    });
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(varve.shell("second", "cat /both"), "laterkept");
    is_sound(&varve);
}

#[test]
fn the_cache_keeps_to_its_size_though_builds_overlap_without_a_gap() {
    let varve = Varve::new();
    let rule = "[[gcpolicy]]\nall = true\nmaxUsedSpace = \"20MB\"\n";
    let config = varve.write("varve.toml", rule);
    varve.write("context/kept", "kept");
    let (mut largest, mut owners) = (0, std::collections::BTreeSet::new());
    let start = |round: u32| {
        let text = format!("RUN {}\n", noise(20, &format!("round{round}")));
        varve.write(
            format!("context/Dockerfile.{round}"),
            format!("FROM busybox\n{text}RUN sleep 3 # {round}\n"),
        );
        let file = format!("context/Dockerfile.{round}");
        let mut command = varve.build_command(["-f", &file]);
        Running::start(command.env("VARVE_CONFIG", &config))
    };
    let mut under_way = std::collections::VecDeque::new();
    for round in 0..16 {
        match round {
            0..3 => std::thread::sleep(Duration::from_millis(1_000)),
            // Others are in the middle of their steps.
            _ => under_way
                .pop_front()
                .map(Running::wait)
                .unwrap()
                .succeeded(),
        }
        under_way.push_back(start(round));
        owners.extend(varve.last_owner());
        largest = largest.max(objects(&varve));
    }
    for build in under_way {
        build.wait().succeeded();
    }
    assert!(owners.len() < 3, "there were gaps: {owners:?}");
    // 336 MB were made. It is looked at every 64 MiB, and what three builds make is in use.
    assert!(largest < 230 << 20, "{largest}");
    is_sound(&varve);
}

#[test]
fn everything_goes_on_while_others_prune_again_and_again() {
    let varve = Varve::new();
    let rule = "[[gcpolicy]]\nall = true\nmaxUsedSpace = \"1MB\"\n";
    let config = varve.write("varve.toml", rule);
    for file in 0..200 {
        varve.write(format!("context/many/{file}"), format!("{file}").repeat(99));
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::SeqCst) {
                varve.varve(["prune", "--all", "--force"]).succeeded();
                rounds += 1;
            }
            rounds
        });
        let builder = |name: &'static str| {
            let (varve, config) = (&varve, &config);
            move || {
                for round in 0..6 {
                    let file = format!("context/Dockerfile.{name}");
                    let text = format!(
                        "FROM busybox AS a\nCOPY many /many\nRUN cat /many/* | md5sum > /sum\n\
                         FROM busybox\nCOPY --from=a /many /again\nCOPY --from=a /sum /sum\n\
                         RUN --mount=type=cache,target=/c cat /again/* >> /c/x; echo {round} > /r\n\
                         RUN {}\n",
                        noise(3, &format!("{name}{}", round / 2))
                    );
                    varve.write(&file, text);
                    let mut build = varve.build_command(["-t", name, "-f", &file]);
                    with_rule(&mut build, config).succeeded();
                    let saved = format!("{name}.tar");
                    let save = &mut varve.command(["save", "-o", &saved, name]);
                    with_rule(save, config).succeeded();
                    let found = varve.shell(name, "cat /r; cat /again/* | md5sum | cmp - /sum");
                    assert_eq!(found, format!("{round}\n"));
                    let out = format!("out-{name}-{round}");
                    let copied = format!("{name}:/again");
                    varve.varve(["cp", &copied, &out]).succeeded();
                    varve.varve(["rmi", name]).succeeded();
                    varve.varve(["load", "-i", &saved]).succeeded();
                    let ran = varve.varve(["run", name, "md5sum", "/bin/busybox"]);
                    ran.succeeded();
                }
            }
        };
        let builders = [scope.spawn(builder("one")), scope.spawn(builder("two"))];
        let ended: Vec<_> = builders.into_iter().map(|one| one.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(pruner.join().unwrap() > 3);
        for one in ended {
            if let Err(panic) = one {
                std::panic::resume_unwind(panic);
            }
        }
    });
    is_sound(&varve);
}

#[test]
fn a_collection_beside_builds_that_is_killed_leaves_what_is_whole() {
    let varve = Varve::new();
    varve.write("context/kept", "kept");
    built(&varve, &["-t", "named"], "named", 1);
    for round in 0..8_u32 {
        built(&varve, &[], &format!("loose{round}"), 2);
        let build = |name: &str| {
            let text = format!(
                "FROM busybox\nCOPY kept /kept\nRUN {}\nRUN cat /noise.* | md5sum > /sum # {round}\n",
                noise(2, name)
            );
            let file = format!("context/Dockerfile.{name}");
            varve.write(&file, text);
            Running::start(&mut varve.build_command(["-t", name, "-f", &file]))
        };
        let builds = [build("one"), build("two")];
        let prunes = [(); 2].map(|()| {
            let words = ["prune", "--all", "--force"];
            Running::start(&mut varve.command(words))
        });
        // Each time in the middle of something else.
        std::thread::sleep(Duration::from_millis(u64::from(150 + round * 97)));
        if let Some(owner) = varve.last_owner()
            && let Some(owner) = Pid::from_raw(owner.cast_signed())
            && processes("varve")
                .iter()
                .any(|line| line.starts_with(&format!("{}:", owner.as_raw_nonzero())))
        {
            kill_process(owner, Signal::KILL).ok();
        }
        for one in builds.into_iter().chain(prunes) {
            one.wait();
        }
        is_sound(&varve);
        let kept = varve.shell("named", "head -c 5 /noise.named");
        assert_eq!(kept, "named", "round {round}");
    }
    varve.varve(["prune", "--all", "--force"]).succeeded();
    is_sound(&varve);
}

/// Does `work` while prunes and looks at what there is come one after the other.
fn beside_prunes(varve: &Varve, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for words in [&["prune", "-af"][..], &["prune", "-af"], &["du"]] {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    varve.varve(words).succeeded();
                }
            });
        }
        work();
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_image_that_is_being_mounted_or_unmounted_is_not_taken_for_one_that_is_gone() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo mounted > /f\n");
    varve.build(["-t", "app"]).succeeded();
    let directory = varve.path("here");
    std::fs::create_dir(&directory).unwrap();
    let on = directory.to_str().unwrap();
    beside_prunes(&varve, || {
        for round in 0..15 {
            varve.varve(["mount", "app", on]).succeeded();
            let text = std::fs::read_to_string(directory.join("f"));
            assert_eq!(text.unwrap(), "mounted\n", "{round}");
            varve.varve(["umount", on]).succeeded();
        }
    });
    is_sound(&varve);
}

#[test]
fn what_is_known_of_a_context_goes_with_the_files_that_it_names() {
    let varve = Varve::new();
    for number in 0..200 {
        varve.write(format!("context/f{number}"), number.to_string());
    }
    let fails = varve.write("fails", "FROM busybox\nCOPY . /x\nRUN exit 3\n");
    let copies = varve.write("copies", "FROM scratch\nCOPY . /x\n");
    beside_prunes(&varve, || {
        for round in 0..8 {
            varve.write("context/f7", format!("round {round}"));
            let file = fails.to_str().unwrap();
            varve.build(["--no-cache", "-f", file]).code(1);
            let file = copies.to_str().unwrap();
            varve
                .build(["-f", file, "-o", "type=tar,dest=x.tar"])
                .succeeded();
        }
    });
    is_sound(&varve);
}
