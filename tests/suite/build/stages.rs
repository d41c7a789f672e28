//! Which stages are built, and that those which do not need each other run at the same time.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use support::workspace::{Running, Varve};

/// A build that has not got to both steps by then runs one after the other.
const MEETING_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn stages_that_do_not_need_each_other_run_at_the_same_time() {
    let varve = Varve::new();
    // Each step waits until this listener has heard from both: no order of them one by one ends.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    varve.dockerfile(&format!(
        "FROM busybox AS left\nRUN echo left | nc 127.0.0.1 {port} > /met && cat /met\n\
         FROM busybox AS right\nRUN echo right | nc 127.0.0.1 {port} > /met && cat /met\n\
         FROM scratch\nCOPY --from=left /met /left\nCOPY --from=right /met /right\n"
    ));
    let build = Running::start(&mut varve.build_command(["-o", "out"]));

    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + MEETING_LIMIT;
    let mut callers = Vec::new();
    while callers.len() < 2 && Instant::now() < deadline {
        match listener.accept() {
            Ok((caller, _)) => callers.push(caller),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    let mut heard = Vec::new();
    let met = callers.len() == 2;
    for caller in &mut callers {
        caller.set_nonblocking(false).unwrap();
        let mut name = [0; 4];
        caller.read_exact(&mut name).unwrap();
        heard.push(name);
        caller
            .write_all(if met { b"both\n" } else { b"only\n" })
            .unwrap();
    }
    drop((callers, listener));

    build.wait().succeeded();
    assert!(met, "only {heard:?} had started when the other was due");
    assert_eq!(varve.read("out/left"), "both\n");
    assert_eq!(varve.read("out/right"), "both\n");
}

#[test]
fn steps_of_two_stages_are_told_apart_in_plain_progress() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS one\nRUN echo from one\nFROM busybox\nCOPY --from=one /etc/passwd /\n\
         RUN echo from two\n",
    );
    let transcript = varve.build(["-t", "x"]).success().transcript();
    assert_eq!(transcript.step("[one ").output, ["from one"]);
    assert_eq!(transcript.step("RUN echo from two").output, ["from two"]);
    assert!(
        transcript
            .step("RUN echo from two")
            .name
            .starts_with("[stage-1 ")
    );
}

#[test]
fn a_stage_that_the_target_does_not_need_never_runs() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS unused\nRUN exit 9\n\
         FROM busybox AS needed\nRUN echo needed > /f\n\
         FROM scratch\nCOPY --from=needed /f /\n",
    );
    let built = varve.build(["-o", "out"]).success();
    assert_eq!(varve.read("out/f"), "needed\n");
    assert!(!built.stderr.contains("exit 9"), "{built}");
}

#[test]
fn a_target_is_built_by_name_in_any_case() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS Test\nRUN echo test > /f\nFROM busybox AS release\nRUN exit 9\n",
    );
    for target in ["Test", "test", "TEST"] {
        let out = format!("out-{target}");
        varve.build(["--target", target, "-o", &out]).succeeded();
        assert_eq!(varve.read(format!("{out}/f")), "test\n");
    }
    let failed = varve.build(["--target", "absent", "-o", "out"]).code(1);
    let message = "ERROR: failed to solve: target stage \"absent\" could not be found";
    assert!(failed.stderr.contains(message), "{failed}");
    assert!(
        !failed.stderr.contains("-----"),
        "an excerpt of no lines: {failed}"
    );
}

#[test]
fn a_stage_goes_on_from_another_with_its_files_and_its_config() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS parent\nENV A=1\nWORKDIR /w\nRUN echo p > f\n\
         FROM parent AS child\nENV B=${A}2\nRUN echo $A $B >> f\nCMD [\"cat\", \"f\"]\n",
    );
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.varve(["run", "child"]).success().stdout, "p\n1 12\n");
}

#[test]
fn a_copy_can_name_a_stage_by_its_number_and_a_later_stage_can_be_named_like_an_image() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN echo zero > /f\nFROM busybox AS second\nRUN echo second > /g\n\
         FROM scratch\nCOPY --from=0 /f /\nCOPY --from=second /g /\nCOPY --from=busybox /etc/group /\n",
    );
    let files = varve.files([""; 0]);
    for (name, text) in [("f", "zero\n"), ("g", "second\n")] {
        assert_eq!(std::fs::read_to_string(files.join(name)).unwrap(), text);
    }
    assert!(
        std::fs::read_to_string(files.join("group"))
            .unwrap()
            .starts_with("root:")
    );
}
