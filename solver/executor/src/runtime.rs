//! The seam between this crate and whatever makes containers.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::process::Process;
use crate::spec::Abilities;
use crate::stdio::Stdio;

/// A future of [`Runtime::run`].
pub type RunFuture<'a> = Pin<Box<dyn Future<Output = Result<Exit>> + Send + 'a>>;

/// Makes a container, waits for its process, and leaves nothing behind.
///
/// When [`Runtime::run`] returns, whatever the result, no process of the container runs, and its
/// mounts, cgroups and the runtime's state are gone. When the calling process dies, however it
/// dies, the container dies too.
pub trait Runtime: std::fmt::Debug + Send + Sync {
    /// `embedded`, or the program's path: for messages.
    fn name(&self) -> String;

    /// What the configuration must spell out for this runtime.
    fn abilities(&self) -> Abilities {
        Abilities::RUNC
    }

    /// Whether containers can be made at all, so that nothing need be prepared for one.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Runs the process of `container` to its end, or to `container.cancel`.
    ///
    /// The output is sent while it is printed; all of it has been sent when this returns. A
    /// process in the background does not delay the return: it is killed with the container.
    ///
    /// # Errors
    /// [`Error::Start`] when the program cannot be started, [`Error::Cancelled`] after a cancel,
    /// [`Error::Container`] and [`Error::Runtime`] when no container can be made.
    fn run(&self, container: Container) -> RunFuture<'_>;
}

/// A container that is ready to be made.
#[derive(Debug)]
pub struct Container {
    /// Unique among the running containers of this host.
    pub id: String,
    /// Mounted and writable; mount points and working directory exist.
    pub rootfs: PathBuf,
    /// The directory of this run: holds `config.json`, and the runtime may keep its state there.
    pub bundle: PathBuf,
    /// The container's group within each cgroup hierarchy; empty when it has none of its own.
    pub cgroup: PathBuf,
    /// What `config.json` was made from.
    pub process: Process,
    /// The user id that the process will have.
    pub uid: u32,
    /// What it reads and writes.
    pub stdio: Stdio,
    /// Stops the run.
    pub cancel: Cancel,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The exit code as BuildKit reports it: 128 plus the number for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// Whether the process did what it should.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Which runtime to use: the setting `runtime = "auto|embedded|runc|<path>"`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RuntimeChoice {
    /// The embedded one, or `runc` in a build without it.
    #[default]
    Auto,
    /// libcontainer in our own helper process.
    Embedded,
    /// The program `runc`, searched on `PATH`.
    Runc,
    /// A program with runc's command line.
    Program(PathBuf),
}

impl FromStr for RuntimeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "embedded" => Ok(Self::Embedded),
            "runc" => Ok(Self::Runc),
            path if path.starts_with('/') => Ok(Self::Program(PathBuf::from(path))),
            _ => Err(Error::UnknownRuntime {
                given: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_a_word_or_an_absolute_path() {
        for (text, choice) in [
            ("auto", RuntimeChoice::Auto),
            ("embedded", RuntimeChoice::Embedded),
            ("runc", RuntimeChoice::Runc),
            ("/opt/crun", RuntimeChoice::Program("/opt/crun".into())),
        ] {
            assert_eq!(text.parse::<RuntimeChoice>().unwrap(), choice);
        }
        let error = "crun".parse::<RuntimeChoice>().unwrap_err().to_string();
        assert!(
            error.contains("\"crun\"") && error.contains("absolute path"),
            "{error}"
        );
    }

    #[test]
    fn death_by_a_signal_counts_as_128_and_its_number() {
        assert_eq!((Exit::Signal(9).code(), Exit::Code(3).code()), (137, 3));
        assert!(Exit::Code(0).success() && !Exit::Signal(1).success());
    }
}
