//! Real containers on a busybox root, with every runtime that this machine can use.
//!
//! These tests need root, /bin/busybox (static) and, for half of them, runc. They fail when they
//! cannot run; `VARVE_TEST_UNPRIVILEGED=1` leaves them out with a notice.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

#[path = "containers/fixture.rs"]
mod fixture;

#[path = "containers/privileged.rs"]
mod privileged;

#[path = "containers/ends.rs"]
mod privileged_ends;

#[path = "containers/attached.rs"]
mod privileged_attached;

#[path = "containers/cgroups.rs"]
mod privileged_cgroups;
