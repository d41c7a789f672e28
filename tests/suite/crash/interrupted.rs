//! Ctrl-C and SIGTERM.

use std::time::Duration;

use rustix::process::{Pid, kill_process};
use support::leftovers::eventually;

use super::{
    CLEAN_SOON, Running, Signal, Varve, endless_step, is_sound, nothing_is_left, send,
    unique_sleep, wait_for_step,
};

fn running_step() -> (Varve, Running, String) {
    let varve = Varve::new();
    let sleep = unique_sleep();
    varve.dockerfile(&endless_step(&sleep));
    let build = ["-t", "app", "-o", "type=oci,dest=image.tar"];
    let running = Running::start(&mut varve.build_command(build));
    wait_for_step(&sleep);
    (varve, running, sleep)
}

#[test]
fn one_signal_ends_the_build_with_all_its_processes_mounts_and_cgroups() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (varve, running, sleep) = running_step();
        let id = varve.owner();
        send(&running, signal);
        let outcome = running
            .wait()
            .refused(code, &["CANCELED", "ERROR: cancelled by"]);
        nothing_is_left(&varve, id, &sleep);
        assert!(!varve.path("image.tar").exists(), "{outcome}");
        is_sound(&varve);
        super::the_finished_step_is_cached(&varve);
        super::has_no_files(&varve.root().join("snapshots"));
        super::has_no_files(&varve.root().join("run"));
    }
}

#[test]
fn two_signals_end_the_build_at_once_and_it_still_leaves_no_process() {
    let (varve, running, sleep) = running_step();
    let id = varve.owner();
    send(&running, Signal::INT);
    send(&running, Signal::INT);
    let outcome = running.wait();
    assert_eq!(outcome.code, 130, "{outcome}");
    nothing_is_left(&varve, id, &sleep);
    is_sound(&varve);
}

#[test]
fn a_build_that_waits_for_another_can_be_interrupted() {
    let (varve, running, sleep) = running_step();
    let waiting = Running::start(&mut varve.command(["images"]));
    let mut ended = Running::start(&mut varve.command(["build", "context"]));
    for signal in [Signal::INT, Signal::KILL] {
        // Both may be waiting for the lock by now, or not yet; neither must need it to end.
        send(&ended, signal);
        if signal == Signal::INT {
            let id = ended.id();
            let gone = || !std::path::Path::new(&format!("/proc/{id}/exe")).exists();
            assert!(
                eventually(CLEAN_SOON, gone),
                "Ctrl-C does not end a waiting build"
            );
            let outcome = ended.wait();
            assert!([130, 128 + 2].contains(&outcome.code), "{outcome}");
            ended = Running::start(&mut varve.command(["build", "context"]));
        }
    }
    assert_eq!(ended.wait().code, 128 + 9);
    let id = varve.owner();
    send(&running, Signal::TERM);
    assert_eq!(running.wait().code, 143);
    waiting.wait().succeeded();
    nothing_is_left(&varve, id, &sleep);
}

#[test]
fn a_signal_at_any_moment_of_the_start_ends_it_quietly() {
    let varve = Varve::new();
    varve.varve(["images"]).succeeded();
    for round in 0..90_u64 {
        let running = Running::start(&mut varve.command(["images", "-q"]));
        std::thread::sleep(Duration::from_millis(round));
        let signal = [Signal::INT, Signal::TERM, Signal::HUP][round as usize % 3];
        let id = Pid::from_raw(running.id().cast_signed()).unwrap();
        kill_process(id, signal).ok();
        let outcome = running.wait();
        let expected = [0, 128 + signal.as_raw()];
        assert!(expected.contains(&outcome.code), "{round}: {outcome}");
        assert_eq!(outcome.stderr, "", "{round}: {outcome}");
    }
    is_sound(&varve);
}
