//! The daemon keeps to the limits that it was given, and says when it cannot.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use snapshotter::{Error, Labels, Snapshots};
use support::containerd::{Containerd, Version};
use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::eventually;
use support::remote_differ::{Layer, RemoteDiffer};
use support::remote_snapshots::RemoteSnapshots;

use super::plugin_contract::{Node, upper};

/// The limit: a new store takes some 5 MB.
const MAX_USED: u64 = 48 << 20;

/// What a snapshot has.
const PIECE: usize = 8 << 20;

/// What is used is measured every few seconds; on a busy machine less often.
const SOON: Duration = Duration::from_secs(60);

/// Bytes that no other piece has and nothing compresses.
fn piece(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..PIECE / 8).flat_map(|_| next()).collect()
}

fn commit_piece(remote: &RemoteSnapshots, number: u64) -> Result<(), Error> {
    let mounts = remote.prepare("key", "", Labels::new())?;
    fs::write(upper(&mounts).join("piece"), piece(number)).unwrap();
    remote.commit(&format!("piece {number}"), "key", Labels::new())
}

/// Whether a writable snapshot is refused for the quota.
fn is_refused(remote: &RemoteSnapshots) -> bool {
    match remote.prepare("try", "", Labels::new()) {
        Ok(_) => {
            remote.remove("try").unwrap();
            false
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("ResourceExhausted"), "{text}");
            assert!(text.contains("--max-used-space"), "{text}");
            true
        }
    }
}

/// What `du` says of the root directory.
fn used(root: &Path) -> u64 {
    let output = std::process::Command::new("du")
        .args(["-sxB1"])
        .arg(root)
        .output()
        .unwrap();
    // Files that go away meanwhile are no error that matters.
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_quota_holds_and_what_is_removed_makes_room_again() {
    let node = Node::start_with(&["--max-used-space", "48MB"]);
    let remote = node.connect("varve");
    let mut number = 0;
    let full = eventually(SOON, || {
        if is_refused(&remote) {
            return true;
        }
        // Not faster than it is measured.
        let root = node.path("root");
        if used(&root) < MAX_USED {
            number += 1;
            commit_piece(&remote, number).ok();
        }
        false
    });
    assert!(full, "{number} pieces and no end");
    assert!(number >= 4, "{number} pieces are too much already");
    assert!(eventually(SOON, || used(&node.path("root"))
        <= MAX_USED + (PIECE as u64)));
    // What reads goes on.
    remote.view("look", "piece 1", Labels::new()).unwrap();
    remote.remove("look").unwrap();
    for number in 1..=3 {
        remote.remove(&format!("piece {number}")).unwrap();
    }
    assert!(eventually(SOON, || !is_refused(&remote)));
}

#[test]
fn a_layer_that_is_larger_than_the_quota_is_refused_and_leaves_nothing() {
    let node = Node::start_with(&["--max-used-space", "48MB"]);
    let containerd = Containerd::start(Version::Second, &node.path("containerd"), "");
    let names: Vec<_> = (0..10).map(|number| format!("piece-{number}")).collect();
    let pieces: Vec<_> = (0..10).map(piece).collect();
    let entries: Vec<_> = names
        .iter()
        .zip(&pieces)
        .map(|(name, piece)| TarEntry::file(name, piece))
        .collect();
    let remote = node.connect("varve");
    // Only what was measured is known to be used.
    let measured = eventually(SOON, || {
        let answer = fs::read_to_string(node.path("log")).unwrap_or_default();
        answer.contains("serving") && !is_refused(&remote)
    });
    assert!(measured);
    let before = used(&node.path("root"));
    let layer = Layer::ingest(&containerd, &tar_archive(&entries));
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    let differ = RemoteDiffer::connect(node.daemon.address(), containerd.namespace());
    let error = differ.apply(&layer, &mounts).unwrap_err().to_string();
    assert!(error.contains("ResourceExhausted"), "{error}");
    assert!(error.contains("--max-used-space"), "{error}");
    remote.remove("key").unwrap();
    remote.clean_up().unwrap();
    let after = used(&node.path("root"));
    assert!(after < before + (PIECE as u64), "{before} and then {after}");
}

#[test]
fn limits_are_read_again_at_sighup_and_a_wrong_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("varve.toml");
    fs::write(&file, "maxUsedSpace = 1024\n").unwrap();
    let node = Node::start_with(&["--config", file.to_str().unwrap()]);
    let remote = node.connect("varve");
    assert!(eventually(SOON, || is_refused(&remote)));
    let hang_up = || {
        let pid = Pid::from_raw(node.daemon.id().cast_signed()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    };
    let said = |text: &str| node.daemon.log().contains(text);
    fs::write(&file, "maxUsedSpace = much\n").unwrap();
    hang_up();
    assert!(eventually(SOON, || said("nothing has changed")));
    assert!(is_refused(&remote));
    fs::write(&file, "minFreeSpace = 1024\n").unwrap();
    hang_up();
    assert!(eventually(SOON, || said("was read again")));
    assert!(!is_refused(&remote));
}
