//! The daemon ends at each step of what it does, one after the other.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use support::leftovers::eventually;
use support::remote_snapshots::RemoteSnapshots;

use super::Place;
use super::model::{Model, Random, Remote};

/// Every step after which the daemon may end, see `store::failpoint`.
const FAILPOINTS: [&str; 29] = [
    "open.directory-made",
    "open.row-written",
    "apply.stored",
    "apply.row-written",
    "commit.row-written",
    "commit.flushed",
    "become-tree.captured",
    "become-tree.stored",
    "become-tree.row-written",
    "become-tree.directory-discarded",
    "ingest.body-created",
    "ingest.body-written",
    "ingest.body-placed",
    "ingest.bodies-flushed",
    "ingest.rows-written",
    "remove.row-deleted",
    "remove.directory-discarded",
    "sweep.marked",
    "sweep.trees-deleted",
    "sweep.blobs-deleted",
    "sweep.rows-flushed",
    "sweep.object-taken",
    "compact.begun",
    "compact.row",
    "compact.done",
    "clean-up.collected",
    "reap.file-removed",
    "image.written",
    "image.placed",
];

/// Calls after which a step must have been reached.
const CALLS_MAX: usize = 4_000;

/// After so many calls everything is removed, so that there is something to sweep.
const CALLS_OF_A_ROUND: usize = 40;

/// Longest time for what happens in the background.
const SOON: Duration = Duration::from_secs(30);

/// Calls until the daemon ends.
fn work(model: &mut Model, remote: &Remote<'_>, random: &mut Random) -> Result<(), ()> {
    for call in 1..CALLS_MAX {
        let done = match call % CALLS_OF_A_ROUND {
            0 => model.remove_all(&remote.snapshots, random),
            _ => model.step(remote, random),
        };
        if let Err(error) = done {
            assert!(RemoteSnapshots::is_lost(&error), "{error}");
            return Ok(());
        }
    }
    Err(())
}

/// All that is below a directory and is none.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(path) = rest.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => rest.push(path),
                false => found.push(path.display().to_string()),
            }
        }
    }
    found
}

/// Nothing takes space any more once everything was removed.
fn nothing_is_left(root: &Path) {
    let left = || -> Vec<String> {
        let within = [
            "objects",
            "ingest",
            "trash",
            "containers",
            "meta",
            "checkouts",
        ];
        within
            .iter()
            .flat_map(|name| files(&root.join(name)))
            .collect()
    };
    assert!(eventually(SOON, || left().is_empty()), "{:#?}", left());
    let directories = fs::read_dir(root.join("containers")).unwrap().count();
    assert_eq!(directories, 0, "directories of no snapshot");
}

#[test]
fn a_daemon_that_ends_at_any_step_loses_nothing_and_leaves_nothing() {
    let mut place = Place::new();
    let (target, root) = (place.target.clone(), place.node.path("root"));
    let (mut model, mut random) = (Model::default(), Random(super::SEED));
    for name in FAILPOINTS {
        let failpoint = format!("{name}:{}", 1 + random.below(3));
        place.node.daemon.restart_to_be_killed_at(&failpoint);
        let remote = place.connect();
        let worked = work(&mut model, &remote, &mut random);
        drop(remote);
        assert_eq!(worked, Ok(()), "{failpoint} is never passed");
        let status = place.node.daemon.wait_end();
        assert_eq!(status.signal(), Some(9), "{failpoint}: {status}");

        place.node.daemon.restart();
        let remote = place.connect();
        model.settle(&remote.snapshots, &target);
        model.compare(&remote.snapshots, &target);
        model.remove_all(&remote.snapshots, &mut random).unwrap();
        nothing_is_left(&root);
    }
    place.is_sound();
}
