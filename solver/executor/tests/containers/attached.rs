//! Processes that somebody is attached to: input, bytes as they are, a terminal, signals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use executor::{Asked, Attached, Cancel, Error, Exit, Process, RunRequest, Stdio, WindowSize};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, shell, unique_id, with_each_runtime};

/// The other ends of what a process is attached to.
struct Caller {
    types: File,
    sees: File,
    asks: mpsc::UnboundedSender<Asked>,
}

/// Starts a process with its standard error among its output.
fn attach(
    fixture: &std::sync::Arc<Fixture>,
    process: Process,
    cancel: &Cancel,
) -> (Caller, tokio::task::JoinHandle<executor::Result<Exit>>) {
    let (input, types) = std::io::pipe().unwrap();
    let (sees, output) = std::io::pipe().unwrap();
    let errors = output.try_clone().unwrap();
    let (asks, asked) = mpsc::unbounded_channel();
    let request = RunRequest {
        id: unique_id(),
        rootfs: fixture.root(),
        process,
        stdio: Stdio::Attached(Attached {
            input: Some(input.into()),
            output: output.into(),
            errors: errors.into(),
            asked,
        }),
        cancel: cancel.clone(),
    };
    let fixture = std::sync::Arc::clone(fixture);
    let run = tokio::spawn(async move { fixture.executor.run(request).await });
    let file = |end: OwnedFd| File::from(end);
    let caller = Caller {
        types: file(types.into()),
        sees: file(sees.into()),
        asks,
    };
    (caller, run)
}

/// Reads until it has seen `text`.
fn wait_for(sees: &mut File, text: &str) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(text) {
        assert_eq!(sees.read(&mut byte).unwrap(), 1, "{text} after {seen:?}");
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn input_arrives_and_its_end_too() {
    with_each_runtime(|fixture| async move {
        let (mut caller, run) = attach(&fixture, shell("cat; exit 6"), &Cancel::new());
        caller.types.write_all(b"no line").unwrap();
        drop(caller.types);
        let mut seen = String::new();
        caller.sees.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "no line");
        assert_eq!(run.await.unwrap().unwrap(), Exit::Code(6));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_the_users_and_changes_its_size() {
    with_each_runtime(|fixture| async move {
        let script = "echo by name > /dev/stdout; stty size; read line; stty size; exit 3";
        let process = Process {
            terminal: Some(WindowSize {
                rows: 11,
                columns: 22,
            }),
            user: "ada".to_owned(),
            ..shell(script)
        };
        let (mut caller, run) = attach(&fixture, process, &Cancel::new());
        let begin = wait_for(&mut caller.sees, "11 22\r\n");
        assert_eq!(begin, "by name\r\n11 22\r\n");
        let size = WindowSize {
            rows: 33,
            columns: 44,
        };
        caller.asks.send(Asked::Resize(size)).unwrap();
        // What is asked comes another way than what is typed.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        caller.types.write_all(b"x\n").unwrap();
        // The terminal shows what is typed.
        assert_eq!(wait_for(&mut caller.sees, "44\r\n"), "x\r\n33 44\r\n");
        assert_eq!(run.await.unwrap().unwrap(), Exit::Code(3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_handled_or_end_the_first_process() {
    with_each_runtime(|fixture| async move {
        let handles = "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
        let (mut caller, run) = attach(&fixture, shell(handles), &Cancel::new());
        wait_for(&mut caller.sees, "ready\n");
        caller.asks.send(Asked::Signal(15)).unwrap();
        assert_eq!(run.await.unwrap().unwrap(), Exit::Code(4));
        let (mut caller, run) = attach(
            &fixture,
            shell("echo ready; exec sleep 600"),
            &Cancel::new(),
        );
        wait_for(&mut caller.sees, "ready\n");
        caller.asks.send(Asked::Signal(15)).unwrap();
        assert_eq!(run.await.unwrap().unwrap(), Exit::Signal(15));
        let cancel = Cancel::new();
        let (mut caller, run) = attach(&fixture, shell("echo ready; exec sleep 600"), &cancel);
        wait_for(&mut caller.sees, "ready\n");
        cancel.cancel();
        assert!(matches!(run.await.unwrap(), Err(Error::Cancelled)));
    })
    .await;
}
