//! `cargo xtask demo`: a first build, told step by step, with what it shows checked as it goes.
//!
//! Everything happens in one new directory: a base image made of busybox, a copy of
//! `tests/fixtures/demo`, and varve's state. It works offline and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::console::{self, styled};
use crate::error::{Context, Error, Result};
use crate::packages::{self, Elevation, Purpose};
use crate::rocksdb_archive;
use crate::varve_binary;
use crate::workspace::Workspace;

// Shared with tests and benches; a dependency on their crate would compile all that it needs first.
#[allow(unreachable_pub, reason = "public for the crate that it belongs to")]
#[path = "../../../tests/support/base_image.rs"]
mod base_image;
mod transcript;

use transcript::{Step, Transcript};

/// The Dockerfile and its context, in the checkout.
const FIXTURE: &str = "tests/fixtures/demo";

/// Disk-backed by the file hierarchy standard; /tmp may be a tmpfs, where some mounts do not work.
const SCRATCH: &str = "/var/tmp";

/// What both sleeps of the fixture take together.
const ONE_AFTER_THE_OTHER: Duration = Duration::from_secs(2);

/// How long unmounting in the background may hold the state directory when we remove it.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);

/// What the command line says about the demo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Leave the directory behind, to look around in.
    pub(crate) keep: bool,
    /// Build varve with optimisations: longer to compile, faster to run.
    pub(crate) release: bool,
}

/// Installs and builds what is missing, then plays the demo.
///
/// # Errors
/// Where something cannot be installed or built, or a build does not do what the demo says it does.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<()> {
    console::heading("Getting ready (the first time takes some minutes, later it is instant)");
    let started = Instant::now();
    let elevation = Elevation::find("cargo xtask demo")?;
    packages::ensure(Purpose::Demo)?;
    let lib_dir = rocksdb_archive::ensure(workspace)?;
    let varve = varve_binary::build(workspace, &lib_dir, options.release)?;
    console::done("varve is built", started.elapsed());

    let stage = Stage::set_up(&workspace.root.join(FIXTURE), varve, elevation)?;
    console::note(&format!("all of it happens in {}", stage.home.display()));
    let outcome = stage.play();
    if options.keep {
        console::note(&format!(
            "everything is still in {} (--keep)",
            stage.home.display()
        ));
        return outcome;
    }
    let removal = stage.remove();
    outcome.and(removal)
}

/// The directory of one demo run and the binary it shows.
struct Stage {
    varve: PathBuf,
    home: PathBuf,
    /// varve mounts and runs containers, which needs root.
    elevation: Elevation,
}

/// What one build did and how long it took.
struct Build {
    steps: Vec<Step>,
    took: Duration,
}

impl Stage {
    fn set_up(fixture: &Path, varve: PathBuf, elevation: Elevation) -> Result<Self> {
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let name = format!("varve-demo-{}-{nanos:08x}", std::process::id());
        let home = Path::new(SCRATCH).join(name);
        // `create` fails where the name exists, so nobody can have put a link there before us.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .at("create", &home)?;
        let stage = Self {
            varve,
            home,
            elevation,
        };
        copy_directory(fixture, &stage.home.join("context"))?;
        Ok(stage)
    }

    fn play(&self) -> Result<()> {
        console::heading("A base image, made here from busybox");
        base_image::write(&self.home.join("busybox"))
            .map_err(|cause| Error::new(cause.to_string()))?;
        console::note("an OCI layout with one layer; nothing is downloaded");

        console::heading("The first build: two stages, one second each, at the same time");
        self.print_file("Dockerfile")?;
        let first = self.build()?;
        let ran = first.steps.iter().filter(|step| !step.cached).count();
        if ran == 0 {
            return Err(Error::new("the first build in a new --root ran no step"));
        }
        // One after the other would take two seconds of sleep alone; a slow machine proves nothing.
        let together = if first.took < ONE_AFTER_THE_OTHER {
            "; the stages slept at once"
        } else {
            ""
        };
        console::done(&format!("{ran} steps ran{together}"), first.took);

        console::heading("The result");
        self.run_image()?;

        console::heading("Again, after an edit to notes.md, which .dockerignore leaves out");
        self.append("notes.md", "Nobody reads this.\n")?;
        let second = self.build()?;
        if let Some(step) = second.steps.iter().find(|step| !step.cached) {
            return Err(Error::new(format!(
                "nothing had changed, and yet this ran again: {}",
                step.name
            )));
        }
        console::done(
            &format!("all {} steps CACHED", second.steps.len()),
            second.took,
        );

        console::heading("One file changes: winter/clay.txt");
        self.append("winter/clay.txt", "▓▓▓▓ a storm: more clay ▓▓▓\n")?;
        let third = self.build()?;
        Self::check_rerun(&third)?;
        self.run_image()?;

        console::heading("That was varve");
        for (what, build) in [
            ("first build", &first),
            ("nothing changed", &second),
            ("one file changed", &third),
        ] {
            let ran = build.steps.iter().filter(|step| !step.cached).count();
            let total = build.steps.len();
            let time = console::seconds(build.took);
            console::note(&format!(
                "{what:<17} {ran:>2} of {total} steps ran  {time:>6}"
            ));
        }
        console::note(&format!(
            "your own build: {} build -t NAME DIRECTORY",
            self.varve.display()
        ));
        Ok(())
    }

    /// Only what depends on the changed file may have run: stage winter from its COPY on, and the
    /// end.
    fn check_rerun(build: &Build) -> Result<()> {
        let (cached, ran): (Vec<&Step>, Vec<&Step>) =
            build.steps.iter().partition(|step| step.cached);
        for step in &ran {
            console::note(&format!("{} {}", styled("33", "ran again"), step.name));
        }
        for step in &cached {
            console::note(&format!("{} {}", styled("32", "cached   "), step.name));
        }
        let of_stage = |steps: &[&Step], stage: &str| {
            steps
                .iter()
                .any(|step| step.name.starts_with(&format!("[{stage} ")))
        };
        if of_stage(&ran, "summer") {
            return Err(Error::new(
                "stage summer does not depend on winter/clay.txt, and yet it ran",
            ));
        }
        if !of_stage(&ran, "winter") {
            return Err(Error::new(
                "stage winter copies winter/clay.txt, and yet it did not run",
            ));
        }
        console::done(
            &format!("{} of {} steps ran", ran.len(), build.steps.len()),
            build.took,
        );
        Ok(())
    }

    fn build(&self) -> Result<Build> {
        let arguments = [
            "build",
            "--progress=plain",
            "-t",
            "demo",
            "--build-context",
            "busybox=oci-layout://busybox",
            "context",
        ];
        let mut transcript = Transcript::default();
        let took = self.varve(&arguments, |line| transcript.add_line(line))?;
        let steps = transcript.steps();
        if steps.is_empty() {
            return Err(Error::new(
                "the build succeeded but said nothing about its steps",
            ));
        }
        Ok(Build { steps, took })
    }

    fn run_image(&self) -> Result<()> {
        self.varve(&["run", "--rm", "demo"], |_| ()).map(drop)
    }

    /// Runs `varve --root state ARGUMENTS` in our directory; shows the command and its output.
    fn varve(&self, arguments: &[&str], mut each_line: impl FnMut(&str)) -> Result<Duration> {
        let shown = format!("varve --root state {}", arguments.join(" "));
        console::note(&styled("1", &format!("$ {shown}")));
        let mut command = self.elevation.command(&self.varve);
        command
            .args(["--root", "state"])
            .args(arguments)
            .current_dir(&self.home);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().at("run", &self.varve)?;
        let output = child.stdout.take();
        thread::scope(|scope| {
            scope.spawn(|| output.map(|output| show_lines(output, |_| ())));
            if let Some(progress) = child.stderr.take() {
                show_lines(progress, &mut each_line);
            }
        });
        let status = child.wait().at("wait for", &self.varve)?;
        if status.success() {
            return Ok(started.elapsed());
        }
        Err(Error::new(format!("`{shown}` ended with {status}")))
    }

    fn print_file(&self, name: &str) -> Result<()> {
        let path = self.home.join("context").join(name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            console::note(&styled("2", line));
        }
        Ok(())
    }

    fn append(&self, name: &str, line: &str) -> Result<()> {
        let path = self.home.join("context").join(name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        fs::write(&path, text + line).at("write", &path)
    }

    /// The state belongs to root, so root removes it; a mount may need a moment to go away.
    fn remove(&self) -> Result<()> {
        let manual = format!("rm -rf {}", self.home.display());
        let deadline = Instant::now() + REMOVAL_PATIENCE;
        loop {
            let mut command = self.elevation.command("rm");
            command
                .arg("-rf")
                .arg("--one-file-system")
                .arg(&self.home)
                .stderr(Stdio::null());
            let status = command.status().at("remove", &self.home)?;
            if status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!(
                    "the demo's directory cannot be removed; run: {manual}"
                )));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Shows each line with a bar before it, and hands it to `each_line`.
fn show_lines(stream: impl std::io::Read, mut each_line: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        let text = String::from_utf8_lossy(&line);
        console::note(&format!("{} {}", styled("2", "│"), text.trim_end()));
        each_line(text.trim_end());
        line.clear();
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).at("create", to)?;
    for entry in fs::read_dir(from).at("read", from)? {
        let entry = entry.at("read", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().at("look at", &source)?.is_dir() {
            copy_directory(&source, &target)?;
        } else {
            fs::copy(&source, &target).at("copy", &source)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Progress of a build whose lines `summer`, `winter` and `end` finish as given.
    fn progress(summer: &str, winter: &str, end: &str) -> String {
        format!(
            "#1 [internal] load build context\n#1 DONE 0.0s\n\
             #2 [summer 3/4] COPY summer/ ./\n#2 {summer}\n\
             #3 [winter 3/4] COPY winter/ ./\n#3 {winter}\n\
             #4 [stage-2 5/5] RUN draw\n#4 0.1 drawing\n#4 {end}\n"
        )
    }

    /// Plays the demo with a shell script in place of varve that prints these builds one by one.
    fn play(builds: [String; 3]) -> std::result::Result<(), String> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(FIXTURE);
        let mut stage = Stage::set_up(&fixture, PathBuf::new(), Elevation::Direct).unwrap();
        for (number, text) in builds.iter().enumerate() {
            fs::write(stage.home.join(format!("build.{number}")), text).unwrap();
        }
        stage.varve = stage.home.join("fake-varve");
        let script = "#!/bin/sh\nset -e\n[ \"$1 $2\" = '--root state' ]\n\
            [ \"$3\" = build ] || { echo a drawing; exit 0; }\n\
            number=$(cat number 2>/dev/null || echo 0)\n\
            cat \"build.$number\" >&2\necho $((number + 1)) > number\n";
        fs::write(&stage.varve, script).unwrap();
        fs::set_permissions(&stage.varve, fs::Permissions::from_mode(0o700)).unwrap();
        let outcome = stage.play().map_err(|error| error.to_string());
        stage.remove().unwrap();
        assert!(!stage.home.exists());
        outcome
    }

    const DONE: &str = "DONE 1.0s";
    const CACHED: &str = "CACHED";

    #[test]
    fn a_demo_that_does_what_it_says_succeeds_and_cleans_up() {
        let cold = progress(DONE, DONE, DONE);
        let warm = progress(CACHED, CACHED, CACHED);
        let edited = progress(CACHED, DONE, DONE);
        assert_eq!(play([cold, warm, edited]), Ok(()));
    }

    #[test]
    fn a_step_that_runs_again_for_nothing_or_is_wrongly_cached_fails_the_demo() {
        let cold = || progress(DONE, DONE, DONE);
        let warm = || progress(CACHED, CACHED, CACHED);
        let check = |builds: [String; 3], part: &str| {
            let message = play(builds).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        check([warm(), warm(), warm()], "ran no step");
        check(
            [cold(), progress(CACHED, CACHED, DONE), warm()],
            "ran again: [stage-2 5/5] RUN draw",
        );
        check(
            [cold(), warm(), warm()],
            "stage winter copies winter/clay.txt, and yet it did not run",
        );
        check(
            [cold(), warm(), cold()],
            "stage summer does not depend on winter/clay.txt",
        );
        check(
            [cold(), String::new(), cold()],
            "said nothing about its steps",
        );
    }
}
