//! An engine behind a client program that reads an archive from standard input.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use solver::request::{Handover, Receiver};

/// Most that is kept of what a program says.
const TOLD_BYTES_MAX: u64 = 64 * 1024;

/// A program and how it is called.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// `docker load`.
    pub(super) fn docker(program: PathBuf, options: &[&str]) -> Self {
        let arguments = options.iter().chain(&["load"]);
        Program {
            name: "docker",
            program,
            arguments: arguments.map(ToString::to_string).collect(),
        }
    }
}

impl Receiver for Program {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self) -> io::Result<Box<dyn Handover>> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Box::new(Running {
            input,
            told: [listen(stdout), listen(stderr)],
            child,
            has_ended: false,
        }))
    }
}

/// Reads what a program says, so that it never waits for a full pipe.
fn listen(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<String>> {
    let mut pipe = pipe?;
    Some(std::thread::spawn(move || {
        let mut told = Vec::new();
        let read = pipe.by_ref().take(TOLD_BYTES_MAX).read_to_end(&mut told);
        // What comes behind is of no interest, but has to go somewhere.
        let rest = read.and_then(|_| io::copy(&mut pipe, &mut io::sink()));
        if let Err(error) = rest {
            tracing::debug!(%error, "cannot read what a program says");
        }
        String::from_utf8_lossy(&told).trim().to_owned()
    }))
}

/// A program that reads.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    /// Standard output, standard error.
    told: [Option<JoinHandle<String>>; 2],
    has_ended: bool,
}

impl Running {
    fn end(&mut self) -> io::Result<String> {
        drop(self.input.take());
        let status = self.child.wait()?;
        self.has_ended = true;
        let [stdout, stderr] = &mut self.told;
        let [stdout, stderr] = [stdout.take(), stderr.take()].map(|listener| {
            let told = listener.map(JoinHandle::join);
            told.and_then(Result::ok).unwrap_or_default()
        });
        match (status.success(), stderr.is_empty()) {
            (true, _) => Ok(stdout),
            (false, true) => Err(io::Error::other(format!("it ended with {status}"))),
            (false, false) => Err(io::Error::other(stderr)),
        }
    }
}

impl Write for Running {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.input {
            Some(input) => input.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Handover for Running {
    fn finish(mut self: Box<Self>) -> io::Result<String> {
        self.end()
    }

    fn failure(&mut self) -> Option<io::Error> {
        // It does not read any more: if it has not ended, it will now.
        let is_over = matches!(self.child.try_wait(), Ok(Some(_)));
        if self.has_ended || !is_over {
            return None;
        }
        self.end().err()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // An archive that ends early must not be taken for a whole one.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "cannot end a program");
        }
    }
}

/// Asks a docker client whether its server answers.
///
/// # Errors
/// What it says.
pub(super) fn docker_answers(docker: &Path, options: &[&str]) -> Result<(), String> {
    let mut command = Command::new(docker);
    command
        .args(options)
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().rfind(|line| !line.trim().is_empty());
            Err(last.unwrap_or("it failed").trim().to_owned())
        }
    }
}
