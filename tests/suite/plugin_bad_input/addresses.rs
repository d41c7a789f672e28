//! Addresses that are no place for a socket.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use support::daemon::{Addresses, Daemon};
use support::remote_snapshots::RemoteSnapshots;
use support::{tree, varve_binary};

use super::daemon;

/// The longest path of a socket, in bytes.
const LONGEST: usize = 107;

fn directory() -> tempfile::TempDir {
    support::privileged::assert_root();
    tempfile::tempdir_in("/var/tmp").unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_no_socket_is_not_taken_for_an_old_one_and_stays() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "mine").unwrap();
    fs::create_dir(path("directory")).unwrap();
    symlink("file", path("link")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    let before = tree::list(directory.path());
    let root = path("root");
    for name in ["file", "directory", "link", "dangling"] {
        let address = path(name);
        let words = ["--root", text(&root), "--snapshotter-address"];
        daemon(words.into_iter().chain([text(&address)]))
            .refused_with(1, &[text(&address), "no socket", "--snapshotter-address"]);
        let metrics = format!("unix://{}", address.display());
        let socket = path("socket");
        let words = words.into_iter().chain([text(&socket)]);
        daemon(words.chain(["--metrics-address", &metrics]))
            .refused_with(1, &[text(&address), "no socket", "--metrics-address"]);
    }
    tree::assert_same(&before, &tree::list(directory.path()));
}

/// A path of so many bytes in a directory.
fn path_of(directory: &Path, length: usize) -> PathBuf {
    let rest = length - directory.as_os_str().len() - 1;
    directory.join("s".repeat(rest))
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_with_the_limit_and_the_option() {
    let directory = directory();
    let root = directory.path().join("root");
    for length in [LONGEST + 1, 300, 5000] {
        let address = path_of(directory.path(), length);
        let words = ["--root", text(&root), "--snapshotter-address"];
        daemon(words.into_iter().chain([text(&address)]))
            .refused_with(1, &["at most 107", "--snapshotter-address"]);
    }
    assert!(!root.exists(), "it is refused before anything is made");
    let longest = path_of(directory.path(), LONGEST);
    let addresses = Addresses {
        root,
        snapshotter: longest.clone(),
        containerd: directory.path().join("c"),
        log: directory.path().join("log"),
    };
    let daemon = Daemon::start(&varve_binary(), addresses);
    // An answer tells that the daemon has come so far that it listens to signals.
    RemoteSnapshots::connect(&longest, "varve")
        .list(&[])
        .unwrap();
    drop(daemon);
    assert!(
        !longest.exists(),
        "a daemon that ends takes its socket with it"
    );
}
