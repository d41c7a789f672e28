//! Wrong contexts, and files of a context that cannot be read.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use support::leftovers::eventually;
use support::workspace::{Running, Varve, run};

use super::NOTHING;

/// A build that only looks at a file is done by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_context_that_is_missing_or_no_directory_is_refused_by_its_path() {
    let varve = Varve::new();
    varve.write("file", "");
    varve
        .varve(["build", "absent"])
        .refused_with(1, &["absent", "not found"]);
    varve
        .varve(["build", "file"])
        .refused_with(1, &["file", "not a directory"]);
    varve
        .varve(["build"])
        .refused_with(2, &["<CONTEXT>", "--help"]);
}

#[test]
fn a_missing_dockerfile_is_refused_by_its_path() {
    let varve = Varve::new();
    let missing = ["failed to read dockerfile", "context/Dockerfile"];
    varve.build(NOTHING).refused_with(1, &missing);
    varve
        .build(["-f", "other"])
        .refused_with(1, &["failed to read dockerfile", "other"]);
}

#[test]
fn a_dockerfile_that_is_no_file_is_refused_and_not_waited_for() {
    let varve = Varve::new();
    let dockerfile = varve.path("context/Dockerfile");
    let makers: [(&str, &dyn Fn()); 3] = [
        ("a directory", &|| fs::create_dir(&dockerfile).unwrap()),
        ("a link to itself", &|| {
            symlink("Dockerfile", &dockerfile).unwrap()
        }),
        ("a pipe that nobody writes", &|| fifo(&dockerfile)),
    ];
    for (what, make) in makers {
        make();
        let running = Running::start(&mut varve.build_command(NOTHING));
        let id = running.id();
        let ended = eventually(SOON, || !Path::new(&format!("/proc/{id}/exe")).exists());
        if !ended {
            kill(id);
        }
        let outcome = running.wait();
        assert!(ended, "varve waits for {what}\n{outcome}");
        outcome.refused_with(1, &["failed to read dockerfile", "context/Dockerfile"]);
        fs::remove_file(&dockerfile)
            .or_else(|_| fs::remove_dir(&dockerfile))
            .unwrap();
    }
}

fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_dockerignore_that_cannot_be_used_is_refused_by_its_name() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nCOPY . /\n");
    varve.write("context/.dockerignore", "good\n[a-\n");
    varve
        .build(NOTHING)
        .refused_with(1, &[".dockerignore", "syntax error in pattern"]);
    fs::remove_file(varve.path("context/.dockerignore")).unwrap();
    fs::create_dir(varve.path("context/.dockerignore")).unwrap();
    varve.build(NOTHING).refused_with(1, &[".dockerignore"]);
}

/// Root reads everything, so varve runs here without the capabilities that make it so.
#[test]
fn an_unreadable_file_of_the_context_is_refused_by_its_path() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY readable secret /\n");
    varve.write("context/readable", "text");
    let secret = varve.write("context/secret", "hidden");
    chown(&secret, Some(65_534), Some(65_534)).unwrap();
    rustix::fs::chmod(&secret, Mode::empty()).unwrap();
    let build = varve.build_command(NOTHING);
    let mut limited = Command::new("setpriv");
    let without = "-dac_override,-dac_read_search";
    limited
        .args(["--inh-caps", without, "--bounding-set", without])
        .arg(build.get_program())
        .args(build.get_args())
        .env("VARVE_ROOT", varve.root())
        .current_dir(varve.path(""));
    run(&mut limited).refused_with(1, &["context/secret", "Permission denied"]);
    // Root with all capabilities reads it, and the store is none the worse.
    varve.build(NOTHING).succeeded();
}

#[test]
fn what_copy_names_but_dockerignore_leaves_out_is_not_found() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nCOPY a /\n");
    varve.write("context/a", "");
    varve.write("context/.dockerignore", "a\n");
    varve.build(NOTHING).refused_with(1, &["\"/a\": not found"]);
}

#[test]
fn a_circle_of_links_in_the_context_is_refused_and_not_walked() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nCOPY one /x\n");
    symlink("two", varve.path("context/one")).unwrap();
    symlink("one", varve.path("context/two")).unwrap();
    varve
        .build(NOTHING)
        .refused_with(1, &["one", "too many levels of symbolic links"]);
}
