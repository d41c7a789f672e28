//! Signals go to the process, and nothing is left of one whose varve was killed.

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::{cgroups, eventually, mounts, processes};
use support::workspace::{Outcome, Running, Varve, run};

use super::{SOON, varve};

fn send(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(running.id().cast_signed()).unwrap(), signal).unwrap();
}

/// A container that does `script` after it has said so in the directory that it is given.
fn start(varve: &Varve, name: &str, script: &str) -> Running {
    let directory = varve.path("said").display().to_string();
    let said = format!("{directory}:/said");
    let words = ["run", "-v", &said, "app", "sh", "-c", script, name];
    // The tests may run under nohup(1).
    let running = Running::start(&mut varve.command_under(&["--default-signal"], words));
    let file = varve.path(format!("said/{name}"));
    assert!(eventually(SOON, || file.exists()), "{name} runs");
    running
}

fn outcome(varve: &Varve, script: &str, signals: &[Signal]) -> Outcome {
    let running = start(varve, "ready", script);
    for signal in signals {
        send(&running, *signal);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let outcome = running.wait();
    std::fs::remove_file(varve.path("said/ready")).unwrap();
    outcome
}

#[test]
fn a_process_handles_signals_or_ends_by_them() {
    let varve = varve();
    let handles =
        "trap 'echo got; exit 5' TERM USR1; : > /said/ready; while :; do sleep 0.05; done";
    for signal in [Signal::TERM, Signal::USR1] {
        let ended = outcome(&varve, handles, &[signal]).code(5);
        assert_eq!(ended.stdout, "got\n");
    }
    // The first process of a container; the kernel would keep these from it.
    let seconds = 1_000_000 + std::process::id();
    let does_nothing = format!(": > /said/ready; exec sleep {seconds}");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let running = start(&varve, "ready", &does_nothing);
        // Until then it is a shell, which catches what it then forgets.
        let program = format!(": sleep {seconds}");
        let is_sleep = |line: &String| line.contains(&program);
        let sleeps = || processes(&program[2..]).iter().any(is_sleep);
        assert!(eventually(SOON, sleeps));
        send(&running, signal);
        let ended = running.wait().code(code);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        std::fs::remove_file(varve.path("said/ready")).unwrap();
    }
    let ignores = "trap '' INT TERM; : > /said/ready; while :; do sleep 0.05; done";
    outcome(&varve, ignores, &[Signal::INT; 3]).code(130);
}

#[test]
fn signals_that_the_caller_ignores_are_not_ignored_in_containers() {
    let varve = varve();
    let nohup = ["--ignore-signal=HUP,INT,QUIT,USR1,PIPE"];
    let ignored = |text: &str| {
        let (_, digits) = text.split_once("SigIgn:\t").unwrap();
        let all = u64::from_str_radix(&digits[..16], 16).unwrap();
        // 32 and 33 are the C library's own, which lets nobody change them.
        all & !(0b11 << 31)
    };
    let looks = ["grep", "SigIgn", "/proc/self/status"];
    let words = ["run", "app"].into_iter().chain(looks);
    let ran = run(&mut varve.command_under(&nohup, words)).success();
    assert_eq!(ignored(&ran.stdout), 0, "{ran}");
    varve.dockerfile(&format!("FROM app\nRUN {looks:?}\n"));
    let words = ["build", "--progress=plain", "context"];
    let built = run(&mut varve.command_under(&nohup, words)).success();
    assert_eq!(ignored(&built.stderr), 0, "{built}");
}

#[test]
fn nothing_is_left_of_a_container_whose_varve_was_killed() {
    let varve = varve();
    let marker = format!("varve-run-{}", std::process::id());
    let script = format!(": > /said/$0; : {marker}; while :; do sleep 0.05; done");
    let owner = start(&varve, "owner", &script);
    let guest = start(&varve, "guest", &script);
    let of_guest = || {
        let all = processes(&marker);
        all.iter().filter(|line| line.contains("guest")).count()
    };
    // The caller and the shell; for a moment also a `sleep` that is still called as the shell.
    assert!(eventually(SOON, || of_guest() == 2));
    send(&guest, Signal::KILL);
    guest.wait().code(137);
    let of = |name: &str| processes(&marker).iter().any(|line| line.contains(name));
    assert!(
        eventually(SOON, || !of("guest")),
        "{:?}",
        processes(&marker)
    );
    assert!(of("owner"));
    send(&owner, Signal::KILL);
    owner.wait().code(137);
    assert!(eventually(SOON, || processes(&marker).is_empty()));
    assert_eq!(mounts(&varve.root()), Vec::<String>::new());
    assert_eq!(varve.shell("app", "cat /srv/file"), "made\n");
}

#[test]
fn a_signal_is_not_lost_between_two_programs() {
    let varve = varve();
    let said = format!("{}:/said", varve.path("said").display());
    let script = ": > /said/ready; exec sleep 100000";
    for turn in 0..12 {
        let mut command = varve.command(["run", "-v", &said, "app", "sh", "-c", script]);
        let running = Running::start(&mut command);
        // At once: the shell is about to become the other program.
        while !varve.path("said/ready").exists() {
            std::hint::spin_loop();
        }
        let (signal, code) = [(Signal::INT, 130), (Signal::TERM, 143)][turn % 2];
        send(&running, signal);
        running.wait().code(code);
        std::fs::remove_file(varve.path("said/ready")).unwrap();
    }
}

#[test]
fn a_container_whose_helper_is_killed_fails_soon_and_leaves_nothing() {
    let varve = varve();
    let bundles = varve.root().display().to_string();
    for turn in 0..14 {
        let script = "while :; do sleep 0.05; done";
        let running = Running::start(&mut varve.command(["run", "app", "sh", "-c", script]));
        let helpers = || {
            let all = processes("__oci-run");
            all.into_iter()
                .filter(|line| line.contains(&bundles))
                .collect::<Vec<_>>()
        };
        let helper = loop {
            if let Some(line) = helpers().first() {
                break line.split(':').next().unwrap().parse().unwrap();
            }
        };
        std::thread::sleep(std::time::Duration::from_millis(turn * 4));
        kill_process(Pid::from_raw(helper).unwrap(), Signal::KILL).unwrap();
        let varve_id = running.id();
        let ended = running.wait().code(125);
        assert!(ended.stderr.contains("was it killed?"), "{ended}");
        assert_eq!(helpers(), [""; 0], "{turn}");
        assert_eq!(
            cgroups(varve_id),
            [""; 0].map(std::path::PathBuf::from),
            "{turn}"
        );
    }
    assert_eq!(mounts(&varve.root()), [""; 0]);
    assert_eq!(varve.shell("app", "cat /srv/file"), "made\n");
}
