//! Runs one process in a root file system, inside an OCI container.
//!
//! [`Executor::run`] takes a [`Process`] and a mounted root directory, and gives an [`Exit`] when
//! nothing of the container is left: no process, no mount, no cgroup, no file that the step did
//! not make. What a step sees is what it would see with BuildKit.
//!
//! The container itself is made by a [`Runtime`]: youki's libcontainer or a program like runc,
//! both in a helper process ([`SupervisedRuntime`]). A program that uses them must begin its
//! `main` with:
//!
//! ```no_run
//! # use std::{ffi::OsString, process::ExitCode};
//! # fn start(arguments: &[OsString]) -> ExitCode {
//! // `arguments` is the whole command line; no thread has been started yet.
//! if executor::is_helper(arguments) {
//!     return executor::helper_main(arguments);
//! }
//! # ExitCode::SUCCESS
//! # }
//! ```
//!
//! Absent on purpose: LLB, images, snapshots (the root arrives mounted).

mod run;

mod process;

mod extras;

mod user;

mod network;

mod stubs;

mod rootfs;

mod propagation;

mod cgroup;

mod spec;

mod output;

mod stdio;

mod attached;

mod cancel;

mod runtime;

mod supervised;

mod sealed;

mod protocol;

mod control;

mod orphans;

mod helper;

mod ids;

#[cfg(any(test, feature = "testing"))]
mod fake;

mod error;

pub use cancel::Cancel;
pub use cgroup::container_id;
pub use error::{Error, Result, StartFailure};
pub use extras::{CPU_PERIOD_US, Ceilings, Device, Extras, Propagation, ResolverChoice, Swap};
#[cfg(any(test, feature = "testing"))]
pub use fake::FakeRuntime;
pub use helper::{helper_main, is_helper};
pub use network::{hosts, resolv_conf};
pub use output::{LINE_BYTES_MAX, OutputLine, OutputSender, Stream};
pub use process::{
    ExtraMount, ExtraMountKind, HOSTNAME_DEFAULT, HostEntry, Network, Process, ResourceLimit,
    TMPFS_MODE_DEFAULT, WindowSize,
};
pub use run::{Executor, ID_LENGTH_MAX, RunRequest};
pub use runtime::{Container, Exit, RunFuture, Runtime, RuntimeChoice};
pub use spec::{ALL_CAPABILITIES, Abilities, CAPABILITIES, CAPABILITIES_MASK, MaskOrder};
pub use stdio::{Asked, Attached, Stdio};
pub use stubs::{MountStubs, create_mount_point};
pub use supervised::SupervisedRuntime;
pub use user::{User, UserError, lookup as lookup_user};
