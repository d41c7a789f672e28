//! `-t`: a real terminal, of the caller's size, also for the guest of another varve. script(1)
//! plays the caller's terminal.

use std::process::Command;

use support::leftovers::eventually;
use support::workspace::{Outcome, Running, Varve, run_with_input};

use super::{SOON, varve};

/// Does `script` in a shell on a terminal of 33 lines, which has `$RUN` for `varve run`.
fn on_terminal(varve: &Varve, script: &str, typed: &str) -> Outcome {
    let run = varve.command(["run"]);
    let words: Vec<_> = [run.get_program()]
        .into_iter()
        .chain(run.get_args())
        .collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let script = format!("stty rows 33 cols 77; RUN='{}'; {script}", words.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &script, "/dev/null"]);
    command.env("SHELL", "/bin/sh");
    command.envs(
        run.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    run_with_input(&mut command, typed.as_bytes())
}

/// A line without the ends that a terminal gives it, and without what script(1) types at the end of
/// its input.
fn bare(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || "^@\u{8}\0".contains(c))
}

/// What is checked for an owner and for a guest.
fn check(varve: &Varve) {
    let said = on_terminal(
        varve,
        "$RUN -it -u nobody app sh -c \
         'tty; stty size; echo $TERM; echo own > /dev/tty; echo by name > /dev/stdout; exit 6'; \
         echo code $?; stty -a | grep -o -- '-\\?icanon'",
        "",
    );
    let lines: Vec<_> = said.stdout.lines().map(bare).collect();
    let expect = [
        "/dev/pts/0",
        "33 77",
        "xterm",
        "own",
        "by name",
        "code 6",
        "icanon",
    ];
    assert!(lines.ends_with(&expect), "{said}");
    let typed = on_terminal(varve, "$RUN -it app sh", "echo $((6*7))\nexit 3\n");
    assert!(typed.stdout.contains("\n42\r"), "{typed}");
    assert_eq!(typed.code, 3);
    // The caller's terminal changes while the process runs.
    let resized = on_terminal(
        varve,
        "(sleep 3; stty rows 44 cols 99 < /dev/tty) & \
         $RUN -it app sh -c 'trap \"stty size; exit 0\" WINCH; while :; do sleep 0.05; done'",
        "",
    );
    assert!(resized.success().stdout.contains("44 99"));
}

#[test]
fn the_process_has_a_terminal_like_the_callers() {
    check(&varve());
}

#[test]
fn a_guests_process_has_one_too() {
    let varve = varve();
    let said = format!("{}:/said", varve.path("said").display());
    let until = ": > /said/runs; while [ ! -e /said/enough ]; do sleep 0.05; done";
    let mut command = varve.command(["run", "-v", &said, "app", "sh", "-c", until]);
    let owner = Running::start(&mut command);
    assert!(eventually(SOON, || varve.path("said/runs").exists()));
    check(&varve);
    varve.write("said/enough", "");
    owner.wait().succeeded();
}
