//! Tests that need root.
//!
//! They live in modules named `privileged`, in any crate: `cargo xtask test --unprivileged` leaves
//! out what has `privileged::` in its path. A test that cannot run fails; it never passes by doing
//! nothing.

/// Set by `cargo xtask test --unprivileged`.
pub const UNPRIVILEGED_VARIABLE: &str = "VARVE_TEST_UNPRIVILEGED";

/// Call it first in a test that mounts, changes owners or runs a container.
///
/// # Panics
/// Without root, and says how to leave such tests out.
pub fn assert_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root; run it as root, or leave it out: cargo xtask test --unprivileged"
    );
}

/// Whether the whole run has been asked to do without root.
#[must_use]
pub fn left_out_on_purpose() -> bool {
    std::env::var_os(UNPRIVILEGED_VARIABLE).is_some_and(|value| value == "1")
}
