//! Names of what is in the store, asked of another varve: it may be in use by a build, broken or
//! somebody else's, and none of that is to be heard of while a command is typed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::layout::DATABASE;

/// Who waits longer for a name types it.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How often is looked whether there is an answer.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What a line can hold: more is no list of names.
const BYTES_MAX: u64 = 1 << 20;

/// A store that can be asked.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    program: PathBuf,
}

impl Store {
    /// That in `root`; `program` is varve.
    pub(super) fn new(root: PathBuf, program: &Path) -> Self {
        let program = program.to_owned();
        Store { root, program }
    }

    /// Names of images, newest first.
    pub(super) fn images(&self) -> Vec<(String, String)> {
        self.ask(&[
            "images",
            "--filter=dangling=false",
            "--format",
            "{{.Name}}\t{{.Size}}, {{.CreatedSince}}",
        ])
    }

    /// Numbers of builds, newest first.
    pub(super) fn builds(&self) -> Vec<(String, String)> {
        self.ask(&[
            "history",
            "ls",
            "--format",
            "{{.Ref}}\t{{.Name}}, {{.Status}}",
        ])
    }

    /// Ids of records of the build cache.
    pub(super) fn records(&self) -> Vec<(String, String)> {
        self.ask(&["du", "--format", "{{.ID}}\t{{.Size}}, {{.Description}}"])
    }

    fn ask(&self, arguments: &[&str]) -> Vec<(String, String)> {
        // A look must not make a store.
        if !self.root.join(DATABASE).is_dir() {
            return Vec::new();
        }
        let mut varve = Command::new(&self.program);
        varve.arg("--root").arg(&self.root).args(arguments);
        let answer = answer(&mut varve).unwrap_or_default();
        let pairs = answer
            .lines()
            .map(|line| line.split_once('\t').unwrap_or((line, "")));
        pairs
            .map(|(name, what)| (name.to_owned(), what.to_owned()))
            .collect()
    }
}

/// What a command prints, if it ends well and in time.
fn answer(command: &mut Command) -> Option<String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().ok()?;
    let output = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.take(BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return reader.join().ok()?,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
            _ => {
                child.kill().ok();
                child.wait().ok();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_late_or_bad_is_none() {
        let shell = |script: &str| answer(Command::new("/bin/sh").args(["-c", script]));
        assert_eq!(shell("echo one").as_deref(), Some("one\n"));
        assert_eq!(shell("echo one; exit 1"), None);
        let began = Instant::now();
        assert_eq!(shell("exec sleep 30"), None);
        assert!(began.elapsed() < PATIENCE * 4, "{:?}", began.elapsed());
    }
}
