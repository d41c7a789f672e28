//! The integration tests: ONE binary, one module per guarantee.
//!
//! `tests/tidy.rs` fails where a file of this directory has no `mod` line here.

// A test stops at the first surprise.
#![allow(clippy::unwrap_used)]

// Steps are mounted and run, so all of it needs root; `cargo xtask test --unprivileged` skips what
// has this name in its path.
#[path = "."]
mod privileged {
    mod bad_input;
    mod build;
    mod cache_reuse;
    mod collection;
    mod concurrency;
    mod containerd_plugin;
    mod crash;
    mod dockerfile_semantics;
    mod export;
    mod history;
    mod image_things;
    mod isolation;
    mod mounted_image;
    mod packaging;
    mod plugin_bad_input;
    mod plugin_contract;
    mod plugin_crash;
    mod plugin_damage;
    mod plugin_observed;
    mod plugin_quota;
    mod progress;
    mod real_input;
    mod registries;
    mod rootless;
    mod run_mounts;
    mod running;
}
