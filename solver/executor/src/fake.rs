//! A runtime that makes no container, for tests of whoever runs steps.
//!
//! It calls a closure with the container it was asked for. So the preparations around a run (user
//! look-up, working directory, mount points) are the real ones, without root and without a kernel.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::process::Process;
use crate::runtime::{Container, Exit, RunFuture, Runtime};
use crate::spec::Abilities;

type Behaviour = dyn Fn(&Container) -> Result<Exit> + Send + Sync;

/// See the module's text.
pub struct FakeRuntime {
    behaviour: Box<Behaviour>,
    runs: std::sync::Arc<Mutex<Vec<Process>>>,
}

impl FakeRuntime {
    /// Every run does `behaviour`: it may write files into `container.rootfs` and lines into
    /// the sender of `container.stdio` (with `try_send`).
    pub fn new(behaviour: impl Fn(&Container) -> Result<Exit> + Send + Sync + 'static) -> Self {
        Self {
            behaviour: Box::new(behaviour),
            runs: std::sync::Arc::default(),
        }
    }

    /// A runtime whose processes all succeed without doing anything.
    #[must_use]
    pub fn succeeding() -> Self {
        Self::new(|_| Ok(Exit::Code(0)))
    }

    /// The list of processes run so far; it goes on growing when the runtime is given away.
    #[must_use]
    pub fn runs(&self) -> std::sync::Arc<Mutex<Vec<Process>>> {
        std::sync::Arc::clone(&self.runs)
    }
}

impl fmt::Debug for FakeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRuntime").finish_non_exhaustive()
    }
}

impl Runtime for FakeRuntime {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            cgroups: false,
            ..Abilities::RUNC
        }
    }

    fn run(&self, container: Container) -> RunFuture<'_> {
        Box::pin(async move {
            if container.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let runs = self.runs.lock();
            runs.unwrap_or_else(PoisonError::into_inner)
                .push(container.process.clone());
            (self.behaviour)(&container)
        })
    }
}
