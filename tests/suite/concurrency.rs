//! Several varve at once on one root: all succeed, none corrupts what another does.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::{eventually, processes};
use support::tree;
use support::workspace::{Running, Varve};

/// A step starts by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

fn is_sound(varve: &Varve) {
    let checked = varve.varve(["fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}

/// A build with a step that does not end; returns what its command line has in it.
fn endless(varve: &Varve, name: &str) -> (Running, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let marker = format!("varve-beside-{}-{number}", std::process::id());
    let file = varve.write(
        format!("context/Dockerfile.{name}"),
        format!("FROM busybox\nRUN : {marker}; sleep 100000; echo one > /one\n"),
    );
    let file = file.to_str().unwrap();
    let build = Running::start(&mut varve.build_command(["-t", name, "-f", file]));
    assert!(
        eventually(SOON, || is_running(&marker)),
        "the step of {name}"
    );
    (build, marker)
}

/// Whether a step with this in its command line runs.
fn is_running(marker: &str) -> bool {
    processes(marker)
        .iter()
        .any(|line| line.contains("/bin/sh"))
}

fn send(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn commands_go_on_beside_a_build_that_does_not_end() {
    let varve = Varve::new();
    let (endless, marker) = endless(&varve, "endless");
    varve.write("context/second", "FROM busybox\nRUN echo two > /two\n");
    let second = varve
        .build(["-t", "second", "-f", "context/second"])
        .success();
    assert!(!second.stderr.contains("waiting"), "{second}");
    let listed = varve.varve(["images"]).success();
    assert!(listed.stdout.contains("second"), "{listed}");
    for words in [&["du"][..], &["system", "df"]] {
        let counted = varve.varve(words).success();
        assert!(!counted.stderr.contains("waiting"), "{counted}");
    }
    varve.varve(["tag", "second", "third"]).succeeded();
    assert_eq!(varve.shell("third", "cat /two"), "two\n");
    varve
        .varve(["rmi", "second", "absent"])
        .refused_with(1, &["absent"]);
    assert!(is_running(&marker));
    send(endless.id(), Signal::INT);
    endless.wait().refused_with(130, &["ERROR: cancelled by"]);
    assert_eq!(varve.shell("third", "cat /two"), "two\n");
    is_sound(&varve);
}

#[test]
fn a_step_that_two_builds_have_in_common_runs_once() {
    let varve = Varve::new();
    let step = "FROM busybox\nRUN head -c 20 /dev/urandom | md5sum > /once; sleep 3\n";
    for name in ["a", "b", "c"] {
        varve.write(
            format!("context/{name}"),
            format!("{step}LABEL name={name}\n"),
        );
    }
    let builds: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let file = format!("context/{name}");
            Running::start(&mut varve.build_command(["-t", name, "-f", &file]))
        })
        .collect();
    for build in builds {
        build.wait().succeeded();
    }
    let made = ["a", "b", "c"].map(|name| varve.shell(name, "cat /once"));
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    is_sound(&varve);
}

#[test]
fn a_build_that_waits_for_the_steps_of_an_equal_one_shows_them() {
    let varve = Varve::new();
    let marker = format!("varve-equal-{}", std::process::id());
    varve.dockerfile(&format!(
        "FROM busybox\nRUN echo early $((40 + 2)); : {marker}; sleep 4; : end\n\
         RUN echo late $((40 + 3)); sleep 2\nRUN : third\n"
    ));
    let first = Running::start(&mut varve.build_command(["-t", "first"]));
    assert!(eventually(SOON, || is_running(&marker)), "the first step");
    let second = Running::start(&mut varve.build_command(["-t", "second"]));
    first.wait().succeeded();
    let waited = second.wait().success();
    for line in ["early 42", "late 43", "RUN : third"] {
        assert!(waited.stderr.contains(line), "{waited}");
    }
    // They took their time here too.
    let late = waited.stderr.find("late 43").unwrap();
    let (done, _) = waited.stderr[late..].split_once(" DONE ").expect("its end");
    assert!(!done.contains("CACHED"), "{waited}");
}

#[test]
fn the_same_name_means_another_directory_in_another_build() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nCOPY file /file\nRUN sleep 1\nRUN cat /file > /read\n");
    let builds: Vec<_> = (0..4)
        .map(|number| {
            let context = varve.path(format!("context{number}"));
            varve.write(format!("context{number}/file"), format!("{number}"));
            let mut command = varve.command(["build", "-f", "context/Dockerfile"]);
            command
                .arg("--build-context")
                .arg(varve.base_context())
                .args(["-t", &format!("app{number}")])
                .arg(context);
            Running::start(&mut command)
        })
        .collect();
    for build in builds {
        build.wait().succeeded();
    }
    for number in 0..4 {
        let read = varve.shell(&format!("app{number}"), "cat /read");
        assert_eq!(read, number.to_string());
    }
    is_sound(&varve);
}

#[test]
fn relative_paths_and_standard_streams_are_those_of_who_asked() {
    let varve = Varve::new();
    let (endless, _) = endless(&varve, "endless");
    varve.write(
        "elsewhere/context/Dockerfile",
        "FROM scratch\nCOPY Dockerfile /f\n",
    );
    let mut build = varve.command(["build", "-o", "out", "-o", "type=oci,dest=image.tar"]);
    build.args(["--iidfile", "id", "context"]);
    let directory = varve.path("elsewhere");
    support::workspace::run(build.current_dir(&directory)).succeeded();
    assert!(directory.join("out/f").exists() && directory.join("id").exists());
    let mut build = varve.command(["build", "-o", "-", "-"]);
    let build = build.current_dir(&directory);
    let built = support::workspace::run_with_input(build, b"FROM scratch\nCOPY <<x /f\ntext\nx\n");
    assert!(built.stdout.contains("ustar"), "{built}");
    let mut build = varve.command(["build", "--build-arg", "FROM_OUTSIDE", "-o", "out2", "-"]);
    let build = build.env("FROM_OUTSIDE", "value");
    let dockerfile = b"FROM scratch\nARG FROM_OUTSIDE\nCOPY <<x /f\n$FROM_OUTSIDE\nx\n";
    support::workspace::run_with_input(build, dockerfile).succeeded();
    assert_eq!(varve.read("out2/f"), "value\n");
    send(endless.id(), Signal::TERM);
    endless.wait().code(143);
}

#[test]
fn who_came_first_may_end_first() {
    for signal in [Signal::INT, Signal::KILL] {
        let varve = Varve::new();
        let (first, first_marker) = endless(&varve, "first");
        let (second, marker) = endless(&varve, "second");
        send(first.id(), signal);
        // Also if it is killed, and though somebody else's command still runs in its process.
        assert_eq!(first.wait().code, 128 + signal.as_raw());
        assert!(eventually(SOON, || !is_running(&first_marker)));
        assert!(is_running(&marker));
        varve.varve(["images"]).succeeded();
        send(second.id(), Signal::INT);
        second.wait().refused_with(130, &["ERROR: cancelled by"]);
        assert!(eventually(SOON, || !is_running(&marker)));
        is_sound(&varve);
    }
}

#[test]
fn a_guest_goes_by_its_own_environment() {
    let varve = Varve::new();
    let (endless, _marker) = endless(&varve, "endless");
    varve.write("context/second", "FROM busybox\nRUN echo two\n");
    let base = varve.base_context();
    let words = ["-f", "context/second", "context"].map(OsStr::new);
    let words = [
        &["build", "--build-context"].map(OsStr::new)[..],
        &[&base],
        &words,
    ]
    .concat();
    let mut guest = varve.command(words);
    guest.env("BUILDKIT_PROGRESS", "rawjson");
    let built = support::workspace::run(&mut guest).success();
    assert!(built.stderr.starts_with('{'), "{built}");
    guest.env("BUILDKIT_PROGRESS", "loud");
    support::workspace::run(&mut guest).refused_with(2, &["'loud'", "BUILDKIT_PROGRESS"]);
    send(endless.id(), Signal::TERM);
    endless.wait().code(143);
}

#[test]
fn a_guest_that_is_killed_takes_its_step_along_and_nothing_else() {
    let varve = Varve::new();
    let (first, first_marker) = endless(&varve, "first");
    let (second, marker) = endless(&varve, "second");
    send(second.id(), Signal::KILL);
    assert_eq!(second.wait().code, 128 + 9);
    assert!(eventually(SOON, || !is_running(&marker)));
    assert!(is_running(&first_marker));
    send(first.id(), Signal::INT);
    first.wait().code(130);
    is_sound(&varve);
}

#[test]
fn when_the_owner_of_the_root_is_killed_its_guests_are_told_and_nothing_is_broken() {
    let varve = Varve::new();
    let (first, _) = endless(&varve, "first");
    let (second, marker) = endless(&varve, "second");
    send(varve.owner(), Signal::KILL);
    assert_eq!(first.wait().code, 128 + 9);
    second
        .wait()
        .refused_with(1, &["was killed", "run it again"]);
    assert!(eventually(SOON, || !is_running(&marker)));
    varve.write("context/third", "FROM busybox\nRUN echo three > /three\n");
    varve
        .build(["-t", "third", "-f", "context/third"])
        .succeeded();
    assert_eq!(varve.shell("third", "cat /three"), "three\n");
    is_sound(&varve);
}

#[test]
fn a_command_that_must_be_alone_waits_and_says_so() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN sleep 4; echo one > /one\n");
    let build = Running::start(&mut varve.build_command(["-t", "app"]));
    let started = || varve.root().join("guests.sock").exists();
    assert!(eventually(SOON, started), "the build has not begun");
    let others = [["fsck"], ["fsck"]];
    let others = others.map(|words| Running::start(&mut varve.command(words)));
    let build = build.wait().success();
    assert!(!build.stderr.contains("waiting for"), "{build}");
    for other in others {
        let other = other.wait().success();
        assert!(other.stderr.contains("waiting for"), "{other}");
    }
    assert_eq!(varve.shell("app", "cat /one"), "one\n");
}

/// Builds one after another, several at a time: there is always one.
struct Builds(Arc<AtomicBool>, Vec<JoinHandle<u32>>);

impl Builds {
    fn start(varve: &Arc<Varve>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let loops = ["one", "two", "three"].map(|name| {
            let file = varve.write(
                format!("context/{name}"),
                format!("FROM busybox\nARG N\nRUN sleep 1; echo $N > /{name}\n"),
            );
            let (varve, is_over) = (varve.clone(), is_over.clone());
            std::thread::spawn(move || {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    count += 1;
                    let number = format!("N={count}");
                    let file = file.to_str().unwrap();
                    let words = ["-t", name, "-f", file, "--build-arg", &number];
                    varve.build(words).succeeded();
                }
                count
            })
        });
        Builds(is_over, loops.into())
    }

    fn end(self) -> Vec<u32> {
        self.0.store(true, Ordering::Relaxed);
        self.1.into_iter().map(|one| one.join().unwrap()).collect()
    }
}

#[test]
fn builds_that_keep_coming_keep_nobody_waiting_for_ever() {
    let varve = Arc::new(Varve::new());
    varve.dockerfile("FROM busybox\nRUN echo mounted > /f\n");
    varve.build(["-t", "app"]).succeeded();
    let builds = Builds::start(&varve);
    let started = || varve.root().join("guests.sock").exists();
    assert!(eventually(SOON, started), "the builds have not begun");
    for _ in 0..2 {
        for words in [
            &["prune", "--all", "--force"][..],
            &["mount", "app"],
            &["mount"],
            &["fsck"],
            &["prune"],
            &["umount", "app"],
        ] {
            let command = Running::start(&mut varve.command(words));
            let (told, is_told) = channel();
            std::thread::spawn(move || told.send(command.wait()));
            let ended = is_told.recv_timeout(SOON);
            let ended = ended.unwrap_or_else(|_| panic!("{words:?} waits for ever"));
            let ended = ended.success();
            match words {
                ["mount", _] => {
                    let directory = Path::new(ended.stdout.trim());
                    let text = fs::read_to_string(directory.join("f"));
                    assert_eq!(text.unwrap(), "mounted\n");
                }
                ["mount"] => assert!(ended.stdout.contains("app:latest"), "{ended}"),
                _ => {}
            }
        }
    }
    let counts = builds.end();
    assert!(counts.iter().all(|count| *count > 1), "{counts:?}");
    for (name, count) in ["one", "two", "three"].into_iter().zip(counts) {
        assert_eq!(
            varve.shell(name, &format!("cat /{name}")),
            format!("{count}\n")
        );
    }
    is_sound(&varve);
}

#[test]
fn a_command_that_waits_for_its_turn_is_given_up_when_asked_to() {
    let varve = Varve::new();
    let (endless, marker) = endless(&varve, "endless");
    let checking = Running::start(&mut varve.command(["fsck"]));
    std::thread::sleep(Duration::from_secs(1));
    varve.write("context/later", "FROM busybox\nRUN echo later > /later\n");
    let later = ["-t", "later", "-f", "context/later"];
    let later = Running::start(&mut varve.build_command(later));
    std::thread::sleep(Duration::from_secs(2));
    let listed = varve.varve(["images"]).success();
    assert!(
        !listed.stdout.contains("later"),
        "it is not its turn: {listed}"
    );
    send(checking.id(), Signal::INT);
    checking.wait().refused_with(130, &["ERROR: cancelled by"]);
    let later = later.wait().success();
    assert!(later.stderr.contains("for itself"), "{later}");
    assert!(is_running(&marker));
    send(endless.id(), Signal::INT);
    endless.wait().refused_with(130, &["ERROR: cancelled by"]);
    is_sound(&varve);
}

#[test]
fn a_program_or_a_choice_that_differs_waits_for_its_turn() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN sleep 3\n");
    let build = Running::start(&mut varve.build_command(["-t", "app"]));
    let started = || varve.root().join("guests.sock").exists();
    assert!(eventually(SOON, started), "the build has not begun");
    let other = varve.varve(["--mounts", "dirs", "images"]).success();
    assert!(
        other.stderr.contains("waiting for another varve"),
        "{other}"
    );
    build.wait().succeeded();
}

#[test]
fn four_builds_that_share_steps_and_layers_all_succeed() {
    let varve = Varve::new();
    for number in 0..4 {
        varve.write(
            format!("context/Dockerfile.{number}"),
            format!(
                "FROM busybox\nRUN echo shared > /shared\nCOPY shared /copied\n\
                 RUN echo {number} > /own\n"
            ),
        );
    }
    varve.write("context/shared", "text");
    let builds: Vec<_> = (0..4)
        .map(|number| {
            let (name, file) = (
                format!("app{number}"),
                format!("context/Dockerfile.{number}"),
            );
            Running::start(&mut varve.build_command(["-t", &name, "-f", &file]))
        })
        .collect();
    for build in builds {
        build.wait().succeeded();
    }
    for number in 0..4 {
        let said = varve.shell(&format!("app{number}"), "cat /own /shared /copied");
        assert_eq!(said, format!("{number}\nshared\ntext"));
    }
    is_sound(&varve);
}

#[test]
fn builds_that_read_standard_input_run_at_once_like_others() {
    let varve = Varve::new();
    let builds: Vec<_> = (0..4)
        .map(|number| {
            // Longer than it takes until somebody who waits says so.
            let text = format!("FROM busybox\nRUN sleep 4; echo {number}\n");
            let file = varve.write(format!("Dockerfile.{number}"), text);
            let words = ["build", "-t", "app", "--build-context"];
            let mut command = varve.command(words);
            command.arg(varve.base_context()).arg("-");
            command.stdin(std::fs::File::open(file).unwrap());
            Running::start(&mut command)
        })
        .collect();
    for build in builds {
        let built = build.wait().success();
        assert!(!built.stderr.contains("waiting for another"), "{built}");
    }
    is_sound(&varve);
}

#[test]
fn one_image_exported_by_several_at_once_is_the_same_in_each() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN seq 1 20000 > /numbers; mkdir /d; ln /numbers /d/hard\n");
    let exports: Vec<_> = (0..3)
        .map(|number| {
            let (archive, out) = (
                format!("type=oci,dest={number}.tar"),
                format!("out{number}"),
            );
            Running::start(&mut varve.build_command(["-o", &archive, "-o", &out]))
        })
        .collect();
    for export in exports {
        export.wait().succeeded();
    }
    let first = fs::read(varve.path("0.tar")).unwrap();
    for number in 1..3 {
        assert!(fs::read(varve.path(format!("{number}.tar"))).unwrap() == first);
        let trees = [0, number].map(|number| tree::list(&varve.path(format!("out{number}"))));
        tree::assert_same(&trees[0], &trees[1]);
    }
    is_sound(&varve);
}

#[test]
fn prune_and_rmi_beside_builds_take_nothing_that_these_need() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo old > /old\n");
    varve.build(["-t", "old"]).succeeded();
    varve.dockerfile("FROM busybox\nRUN echo old > /old\nRUN sleep 1; echo new > /new\n");
    let build = Running::start(&mut varve.build_command(["-t", "new"]));
    let others: Vec<_> = [["rmi", "old"].as_slice(), &["prune"], &["prune"]]
        .into_iter()
        .map(|words| Running::start(&mut varve.command(words)))
        .collect();
    build.wait().succeeded();
    for other in others {
        other.wait().succeeded();
    }
    assert_eq!(varve.shell("new", "cat /old /new"), "old\nnew\n");
    is_sound(&varve);
}
