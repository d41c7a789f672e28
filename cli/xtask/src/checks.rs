//! `cargo xtask test`: everything that must hold before a commit, step by step, each with its time.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::console;
use crate::containerd;
use crate::error::{Error, Result};
use crate::go_programs;
use crate::packages::{self, Purpose};
use crate::rocksdb_archive;
use crate::varve_binary;
use crate::workspace::{Workspace, is_ci};

/// Tests that need root live in a module of this name, wherever they are; `--unprivileged` skips
/// them.
const PRIVILEGED_MODULE: &str = "privileged::";

/// Tests that reach package registries live in a module of this name.
const NETWORK_MODULE: &str = "network::";

/// So many failed tests of a run are tried again.
const FLAKY_MAX: usize = 3;

/// Tests that run nerdctl live in a module of this name.
const NERDCTL_MODULE: &str = "nerdctl::";

/// Tests that run a browser live in a module of this name.
const BROWSER_MODULE: &str = "browser::";

/// The browser. It is not installed for one test: 300 MB.
const BROWSER: &str = "chromium";

/// Tests that run docker's engine live in a module of this name.
const DOCKER_MODULE: &str = "dockerd::";

/// The engine. It is not installed for one test, which would start a service.
const DOCKER: &str = "dockerd";

/// Tells tests where it is.
const NERDCTL_VARIABLE: &str = "VARVE_TEST_NERDCTL";

/// Tells tests where this program is.
const XTASK_VARIABLE: &str = "VARVE_TEST_XTASK";

/// Tells the tests' own support code that it runs without root on purpose.
const UNPRIVILEGED_VARIABLE: &str = "VARVE_TEST_UNPRIVILEGED";

/// Runs all checks.
///
/// # Errors
/// The first step that fails, by name; without root and without `unprivileged`, before any step.
pub(crate) fn run(workspace: &Workspace, unprivileged: bool) -> Result<()> {
    if !unprivileged && !packages::is_root()? {
        return Err(Error::new(
            "the tests mount file systems and run containers, so they need root.\n\
             Run them as root, or leave those out: cargo xtask test --unprivileged",
        ));
    }
    let started = Instant::now();
    let mut times = Vec::new();

    let nerdctl = step(&mut times, "install", || install(workspace, unprivileged))?;
    let lib_dir = step(&mut times, "rocksdb", || rocksdb_archive::ensure(workspace))?;
    let cargo = |arguments: &[&str]| {
        let mut command = workspace.cargo(&lib_dir);
        command.args(arguments);
        if is_ci() && arguments[0] != "fmt" {
            command.arg("--locked");
        }
        if unprivileged {
            command.env(UNPRIVILEGED_VARIABLE, "1");
        }
        command
    };

    step(&mut times, "fmt", || {
        run_to_end(&mut cargo(&["fmt", "--all", "--check"]))
    })?;
    step(&mut times, "clippy", || {
        let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
        run_to_end(clippy.args(["--", "-D", "warnings"]))
    })?;
    // `--workspace` with a target name, not `-p suite`: another package selection is another set of
    // features, and cargo would build a hundred crates again.
    step(&mut times, "tidy", || {
        run_to_end(&mut cargo(&["test", "--workspace", "--test", "tidy"]))
    })?;
    // `cargo test` compiles a binary as its unit tests only; the suite runs the real one.
    let binary = step(&mut times, "build", || {
        varve_binary::build(workspace, &lib_dir, false)
    })?;
    let test = |selection: &[&str], words: &[&str]| {
        let cargo_test = |words: &[&str]| {
            let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
            tests.envs(programs(&binary));
            tests.envs(nerdctl.as_ref().map(|path| (NERDCTL_VARIABLE, path)));
            tests.args(selection).arg("--").args(words);
            tests
        };
        let ran = run_and_count(&mut cargo_test(words))?;
        try_again(ran, &mut |name| {
            run_and_count(&mut cargo_test(&["--exact", name]))
        })
    };
    let mut totals = step(&mut times, "test", || {
        let mut words = vec!["--skip", NETWORK_MODULE];
        if unprivileged {
            words.extend(["--skip", PRIVILEGED_MODULE]);
        }
        if nerdctl.is_none() {
            words.extend(["--skip", NERDCTL_MODULE]);
        }
        words.extend(without_programs());
        test(&[], &words)
    })?;
    if !unprivileged && !offline() {
        // Apart from the others: they install Debian packages inside a build.
        totals.add(step(&mut times, "network", || {
            test(&["--test", "suite"], &[NETWORK_MODULE])
        })?);
    }

    summary(&times, started.elapsed(), totals);
    if unprivileged {
        console::note("tests that need root were left out (--unprivileged)");
    }
    Ok(())
}

/// Where tests find what they run.
fn programs(varve: &Path) -> Vec<(&'static str, PathBuf)> {
    let own = std::env::current_exe().ok();
    let own = own.map(|xtask| (XTASK_VARIABLE, xtask));
    let varve = (varve_binary::VARIABLE, varve.to_owned());
    std::iter::once(varve).chain(own).collect()
}

fn summary(times: &[(&'static str, Duration)], total: Duration, totals: Totals) {
    console::heading("all checks passed");
    let all = [("total", total)];
    for (name, took) in times.iter().chain(&all) {
        console::note(&format!("{name:<8} {:>7}", console::seconds(*took)));
    }
    console::note(&totals.to_string());
}

/// Everything that tests run; only those that need root run containerd 2 and nerdctl, whose path it
/// tells.
fn install(workspace: &Workspace, unprivileged: bool) -> Result<Option<PathBuf>> {
    packages::ensure(Purpose::Test)?;
    if unprivileged {
        return Ok(None);
    }
    containerd::ensure(workspace)?;
    let directory = go_programs::NERDCTL.ensure(workspace)?;
    Ok(directory.map(|directory| directory.join("nerdctl")))
}

/// What leaves out the tests whose programs are not here.
fn without_programs() -> Vec<&'static str> {
    let mut words = Vec::new();
    for (program, module, what) in [
        (BROWSER, BROWSER_MODULE, "the test of pages in a browser"),
        (DOCKER, DOCKER_MODULE, "the test of docker's own engine"),
    ] {
        if !has(program, what) {
            words.extend(["--skip", module]);
        }
    }
    words
}

/// Whether a program is here; says what is left out if it is not.
fn has(program: &str, what: &str) -> bool {
    let started = Command::new(program).arg("--version").output();
    let is_here = started.is_ok_and(|output| output.status.success());
    if !is_here {
        console::note(&format!("no {program}: {what} is left out"));
    }
    is_here
}

/// Tests that fetch packages are left out with `VARVE_TEST_OFFLINE=1`.
pub(crate) fn offline() -> bool {
    std::env::var_os("VARVE_TEST_OFFLINE").is_some_and(|value| value == "1")
}

fn step<T>(
    times: &mut Vec<(&'static str, Duration)>,
    name: &'static str,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    console::heading(name);
    let started = Instant::now();
    let value = action().map_err(|error| Error::new(format!("step {name} failed: {error}")))?;
    times.push((name, started.elapsed()));
    console::done(name, started.elapsed());
    Ok(value)
}

/// Runs a command whose output goes to the terminal.
pub(crate) fn run_to_end(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|cause| Error::new(format!("cannot run {}: {cause}", shown(command))))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "`{}` ended with {status}",
        shown(command)
    )))
}

/// The command line as a person would type it.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the `test result:` lines of all test binaries add up to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Totals {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Failed among the others and passed alone.
    flaky: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.binaries += other.binaries;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.flaky += other.flaky;
    }

    /// Counts a line like `test result: ok. 12 passed; 0 failed; 1 ignored; …`; others count
    /// nothing.
    fn add_line(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|r| r.split_once(". "))
        else {
            return;
        };
        self.binaries += 1;
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            binaries,
            passed,
            failed,
            ignored,
            flaky,
        } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {ignored} ignored in {binaries} binaries"
        )?;
        if *flaky > 0 {
            write!(f, ", {flaky} flaky")?;
        }
        Ok(())
    }
}

/// What a run of `cargo test` did.
#[derive(Debug, Default)]
struct Ran {
    totals: Totals,
    /// Names of the tests that failed.
    failed: Vec<String>,
    /// Whether cargo was content.
    succeeded: bool,
}

impl Ran {
    fn add_line(&mut self, line: &str) {
        self.totals.add_line(line);
        let name = line.strip_prefix("test ");
        if let Some(name) = name.and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
    }
}

/// Runs the failed tests of a run once more, each alone. One that passes then is counted as flaky
/// and named: containers of a busy machine run into time limits that are not ours. More than
/// [`FLAKY_MAX`] are taken for what they are.
fn try_again(mut ran: Ran, run_alone: &mut dyn FnMut(&str) -> Result<Ran>) -> Result<Totals> {
    if ran.succeeded {
        return Ok(ran.totals);
    }
    let failure = || Error::new(format!("{}; the failures stand above", ran.totals));
    if ran.failed.is_empty() || ran.failed.len() > FLAKY_MAX {
        return Err(failure());
    }
    for name in &ran.failed {
        console::heading(&format!("once more, alone: {name}"));
        let alone = run_alone(name)?;
        if !alone.succeeded || alone.totals.passed == 0 {
            return Err(failure());
        }
    }
    for name in &ran.failed {
        console::note(&format!(
            "FLAKY: {name} failed among the others, and passed alone"
        ));
    }
    let count = ran.failed.len() as u64;
    ran.totals.failed -= count.min(ran.totals.failed);
    ran.totals.flaky += count;
    Ok(ran.totals)
}

/// Runs `cargo test`, shows its output as it comes, and adds up its result lines.
fn run_and_count(command: &mut Command) -> Result<Ran> {
    let fail = |cause: std::io::Error| Error::new(format!("cannot run cargo test: {cause}"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(fail)?;
    let mut ran = Ran::default();
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(fail)? > 0 {
            std::io::stdout().write_all(&line).map_err(fail)?;
            ran.add_line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    ran.succeeded = child.wait().map_err(fail)?.success();
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_all_binaries_add_up_and_other_lines_count_nothing() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s",
            "a test result: ok. 9 passed",
        ] {
            totals.add_line(line);
        }
        assert_eq!(
            totals,
            Totals {
                binaries: 2,
                passed: 7,
                failed: 2,
                ignored: 1,
                flaky: 0
            }
        );
        assert_eq!(
            totals.to_string(),
            "7 passed, 2 failed, 1 ignored in 2 binaries"
        );
    }

    fn run_of(lines: &[&str]) -> Ran {
        let mut ran = Ran::default();
        for line in lines {
            ran.add_line(line);
        }
        ran.succeeded = ran.failed.is_empty();
        ran
    }

    const TWO_OF_THREE: [&str; 4] = [
        "test a ... ok",
        "test b::c ... FAILED",
        "test d ... FAILED",
        "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
    ];

    const ONE: &str = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out";

    #[test]
    fn failed_tests_that_pass_alone_are_flaky_and_no_failure() {
        let mut alone = Vec::new();
        let totals = try_again(run_of(&TWO_OF_THREE), &mut |name| {
            alone.push(name.to_owned());
            Ok(run_of(&[ONE]))
        });
        let totals = totals.unwrap().to_string();
        assert_eq!(
            totals,
            "1 passed, 0 failed, 0 ignored in 1 binaries, 2 flaky"
        );
        assert_eq!(alone, ["b::c", "d"]);
    }

    #[test]
    fn a_test_that_fails_alone_too_or_is_not_found_again_fails_the_step() {
        for second in [&["test b::c ... FAILED"][..], &[]] {
            let error = try_again(run_of(&TWO_OF_THREE), &mut |_| Ok(run_of(second)));
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("1 passed, 2 failed"), "{error}");
        }
    }

    #[test]
    fn many_failed_tests_and_a_failed_build_are_not_tried_again() {
        let many: Vec<_> = (0..4).map(|n| format!("test t{n} ... FAILED")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let mut not_built = run_of(&[]);
        not_built.succeeded = false;
        for ran in [run_of(&many), not_built] {
            try_again(ran, &mut |name| panic!("{name}")).unwrap_err();
        }
    }

    #[test]
    fn a_failed_step_is_named() {
        let refuse = || Err::<(), _>(Error::new("2 warnings"));
        let error = step(&mut Vec::new(), "clippy", refuse).unwrap_err();
        assert_eq!(error.to_string(), "step clippy failed: 2 warnings");
    }
}
