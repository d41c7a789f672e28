//! kill -9 in the middle of a step, a COPY, an import, an export, a commit.

use std::thread;
use std::time::{Duration, Instant};

use super::{
    Running, Signal, Varve, endless_step, has_no_files, is_sound, no_cgroup_is_left, nothing_runs,
    send, unique_sleep, wait_for_step,
};

/// Moments of one build that are tried.
const MOMENTS: u32 = 12;

/// Says the same on every machine; the moments of a build never are.
const SEED: u64 = 0x5eed_0002;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    /// A moment before `limit`.
    fn moment(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        limit.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[test]
fn a_build_killed_in_a_step_keeps_the_finished_steps_and_leaves_nothing_else() {
    let varve = Varve::new();
    let sleep = unique_sleep();
    varve.dockerfile(&endless_step(&sleep));
    let running = Running::start(&mut varve.build_command(["-o", "out"]));
    wait_for_step(&sleep);
    let id = varve.owner();
    send(&running, Signal::KILL);
    assert_eq!(running.wait().code, 128 + 9);
    nothing_runs(&varve, &sleep);
    assert!(!varve.path("out").exists());
    is_sound(&varve);
    super::the_finished_step_is_cached(&varve);
    no_cgroup_is_left(id);
    has_no_files(&varve.root().join("snapshots"));
    has_no_files(&varve.root().join("run"));
}

#[test]
fn a_build_killed_at_any_moment_is_as_if_it_had_not_been() {
    let varve = Varve::new();
    let sleep = unique_sleep();
    for number in 0..8_u8 {
        varve.write(format!("context/files/{number}"), vec![number; 1 << 20]);
    }
    varve.dockerfile(&format!(
        "FROM busybox\n\
         ARG ROUND\n\
         RUN echo $ROUND > /round; ({sleep} &); yes | head -c 3000000 > /data\n\
         COPY files /files-$ROUND\n\
         RUN cat /files-$ROUND/* > /all; rm /data; echo $ROUND > /end\n"
    ));
    let build = |round: u32| {
        let round = format!("ROUND={round}");
        let words = [
            "--build-arg",
            &round,
            "-t",
            "app",
            "-o",
            "type=oci,dest=image.tar",
        ];
        varve.build_command(words)
    };
    let started = Instant::now();
    Running::start(&mut build(0)).wait().succeeded();
    let whole = started.elapsed();
    println!("seed {SEED:#x}, a whole build takes {whole:?}");
    let mut random = Random(SEED);
    let mut killed = Vec::new();
    for round in 1..=MOMENTS {
        std::fs::remove_file(varve.path("image.tar")).ok();
        let moment = random.moment(whole);
        let running = Running::start(&mut build(round));
        thread::sleep(moment);
        send(&running, Signal::KILL);
        let outcome = running.wait();
        killed.extend(varve.last_owner());
        println!(
            "round {round}: killed after {moment:?}, exit code {}",
            outcome.code
        );
        nothing_runs(&varve, &sleep);
        if varve.path("image.tar").exists() {
            varve.tool("tar", ["-tf", "image.tar"]).succeeded();
        }
        is_sound(&varve);
    }
    let last = MOMENTS + 1;
    Running::start(&mut build(last)).wait().succeeded();
    let expected = format!("{last}\n8388608\n");
    // A step of a later build removes what the killed ones could not.
    killed.into_iter().for_each(no_cgroup_is_left);
    assert_eq!(varve.shell("app", "cat /end; wc -c < /all"), expected);
    assert_eq!(varve.shell("app", "cat /round"), format!("{last}\n"));
    is_sound(&varve);
    has_no_files(&varve.root().join("snapshots"));
    has_no_files(&varve.root().join("run"));
}

#[test]
fn an_import_killed_at_any_moment_is_whole_or_not_there() {
    let varve = Varve::new();
    let base = varve.base();
    let import = |name: &str| varve.command(["import", base.to_str().unwrap(), name]);
    let started = Instant::now();
    Running::start(&mut import("whole")).wait().succeeded();
    let whole = started.elapsed();
    let mut random = Random(SEED);
    for round in 0..6 {
        std::fs::remove_dir_all(varve.root()).unwrap();
        let running = Running::start(&mut import("base"));
        thread::sleep(random.moment(whole));
        send(&running, Signal::KILL);
        let outcome = running.wait();
        let listed = varve.varve(["images"]).success();
        if listed.stdout.contains("base") {
            varve.shell("base", "true");
        }
        is_sound(&varve);
        Running::start(&mut import("base")).wait().succeeded();
        assert_eq!(
            varve.shell("base", "echo well"),
            "well\n",
            "{round}: {outcome}"
        );
    }
}

#[test]
fn an_output_that_is_killed_at_any_moment_leaves_only_whole_files() {
    let varve = Varve::new();
    for number in 0..6_u8 {
        varve.write(format!("context/files/{number}"), vec![number; 4 << 20]);
    }
    varve.dockerfile("FROM busybox\nRUN echo step > /step\nFROM scratch\nCOPY files /\n");
    let build = || varve.build_command(["-o", "out", "-o", "type=tar,dest=out.tar"]);
    let started = Instant::now();
    Running::start(&mut build()).wait().succeeded();
    let whole = started.elapsed();
    // What processes have left that were killed where files cannot be without a name.
    let left = ["out/.0.varve-1073741824-3", ".out.tar.varve-1073741824-4"];
    let mut random = Random(SEED);
    for _ in 0..6 {
        for name in left {
            varve.write(name, "part of a file");
        }
        let running = Running::start(&mut build());
        thread::sleep(random.moment(whole));
        send(&running, Signal::KILL);
        running.wait();
        for number in 0..6_u8 {
            let found = std::fs::read(varve.path(format!("out/{number}"))).unwrap();
            assert_eq!(found.len(), 4 << 20);
        }
        Running::start(&mut build()).wait().succeeded();
        let beside = std::fs::read_dir(varve.path("out")).unwrap();
        let beside = beside.chain(std::fs::read_dir(varve.path("")).unwrap());
        let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<_> = names.filter(|name| name.contains(".varve-")).collect();
        assert!(names.is_empty(), "{names:?}");
    }
    let mounts = varve.root().join("mounts");
    std::fs::create_dir(mounts.join("0123456789abcdef")).unwrap();
    varve.varve(["images"]).succeeded();
    assert_eq!(std::fs::read_dir(mounts).unwrap().count(), 0);
    is_sound(&varve);
}

#[test]
fn builds_killed_at_any_moment_leave_nothing_beside_the_files_that_they_write_for_programs() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo made > /made\n");
    let words = [
        "--iidfile",
        "out/id",
        "--metadata-file",
        "out/meta",
        "-t",
        "app",
    ];
    std::fs::create_dir(varve.path("out")).unwrap();
    let began = Instant::now();
    varve.build(words).succeeded();
    let whole = began.elapsed();
    let (id, meta) = (varve.read("out/id"), varve.read("out/meta"));
    let mut random = Random(SEED);
    for _ in 0..MOMENTS {
        let running = Running::start(&mut varve.build_command(words));
        // Most often near its end, where they are written.
        thread::sleep(whole.mul_f64(0.5) + random.moment(whole.mul_f64(0.6)));
        send(&running, Signal::KILL);
        running.wait();
        for entry in std::fs::read_dir(varve.path("out")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let expected = match name.as_str() {
                "id" => &id,
                "meta" => &meta,
                other => panic!("{other} was left"),
            };
            assert_eq!(varve.read(format!("out/{name}")).len(), expected.len());
        }
    }
    varve.build(words).succeeded();
    is_sound(&varve);
}
