//! The integration tests: ONE binary, one module per guarantee.
//!
//! `tests/tidy.rs` fails where a file of this directory has no `mod` line here.

// Steps are mounted and run, so all of it needs root; `cargo xtask test --unprivileged` skips what
// has this name in its path.
#[path = "."]
mod privileged {
    mod build;
    mod cache_reuse;
    mod dockerfile_semantics;
    mod export;
}
