//! What the tests of this package and the benches share: where the checkout is, a base image, and
//! who may run what.

use std::path::{Path, PathBuf};

pub mod attested_image;
pub mod base_image;
pub mod containerd;
pub mod containerd_config;
pub mod daemon;
pub mod debian_base;
pub mod fake_server;
pub mod faulty_proxy;
pub mod forged_image;
pub mod forward_proxy;
pub mod git_server;
pub mod layered_image;
pub mod layout;
pub mod leftovers;
pub mod nerdctl;
pub mod node;
pub mod package_sources;
pub mod privileged;
pub mod refusal;
pub mod registry;
pub mod relay;
pub mod remote_differ;
pub mod remote_snapshots;
pub mod server;
pub mod small_disk;
pub mod token_server;
pub mod transcript;
pub mod tree;
pub mod umoci;
pub mod user;
pub mod valve;
pub mod workspace;

/// The checkout: the directory of the root Cargo.toml.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir
        .parent()
        .map_or_else(|| manifest_dir.to_owned(), Path::to_owned)
}

/// `cargo xtask` as a program: what runs the tests (`VARVE_TEST_XTASK`), or the one beside
/// [`varve_binary`], which `cargo build --workspace --bins` makes. It works on this checkout.
///
/// # Panics
/// Where there is none, with the command that builds it.
#[must_use]
pub fn xtask() -> std::process::Command {
    let named = std::env::var_os("VARVE_TEST_XTASK").map(PathBuf::from);
    let program = named.unwrap_or_else(|| varve_binary().with_file_name("xtask"));
    assert!(
        program.is_file(),
        "no xtask in {}; run: cargo build --workspace --bins",
        program.display()
    );
    let mut xtask = std::process::Command::new(program);
    // Those of this test's package are not its own.
    xtask.env_remove("CARGO_MANIFEST_DIR");
    xtask
}

/// A certificate or key that the tests of the registry client have too: `ca.pem`, of a CA that
/// nothing trusts, `server.pem` for 127.0.0.1 and `client.pem`, signed by it, with their keys.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    workspace_root()
        .join("snapshotter/registry/tests/fixtures")
        .join(name)
}

/// The `varve` binary to test: what `cargo xtask test` has just built (`VARVE_BIN`), or else the
/// one beside this test's own directory, which `cargo build --workspace --bin varve` makes.
///
/// # Panics
/// Where there is none, with the command that builds it.
#[must_use]
pub fn varve_binary() -> PathBuf {
    let named = std::env::var_os("VARVE_BIN").map(PathBuf::from);
    let binary = named.or_else(|| {
        let deps = std::env::current_exe().ok()?;
        Some(deps.parent()?.parent()?.join("varve"))
    });
    match binary {
        Some(path) if path.is_file() => path,
        _ => panic!("no varve binary at {binary:?}; run: cargo build --workspace --bin varve"),
    }
}
