//! The end of mounts: on drop, on panic, in use, and after a crash.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mount::{
    Mount, MountGuard, OverlayOptions, apply, mount_overlay, mounts_below, unmount,
    unmount_all_below, unmount_detached,
};

use crate::sandbox::Sandbox;

fn tmpfs(target: &Path) -> MountGuard {
    apply(&[Mount::tmpfs(None, 0o755)], target).expect("mount a tmpfs")
}

#[test]
fn a_guard_unmounts_on_drop_and_on_panic_but_not_when_kept() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let target = sandbox.make_directory("target");
    drop(tmpfs(&target));
    assert_eq!(sandbox.mount_count(), 0);
    let panicking = std::panic::AssertUnwindSafe(|| {
        let _guard = tmpfs(&target);
        std::panic::resume_unwind(Box::new("an expected panic"));
    });
    std::panic::catch_unwind(panicking).expect_err("it panics");
    assert_eq!(sandbox.mount_count(), 0);
    assert_eq!(tmpfs(&target).keep(), std::slice::from_ref(&target));
    assert_eq!(sandbox.mount_count(), 1);
    unmount(&target).expect("unmount");
}

#[test]
fn a_mount_in_use_is_refused_or_detached() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let target = sandbox.make_directory("target");
    let guard = tmpfs(&target);
    std::fs::write(target.join("file"), "content").expect("write");
    let mut open = File::open(target.join("file")).expect("open");
    let error = unmount(&target).expect_err("a file is open");
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
    let error = guard.unmount().expect_err("a file is open").to_string();
    assert!(error.contains("still uses it"), "{error}");
    assert_eq!(sandbox.mount_count(), 0, "it was detached all the same");
    let mut content = String::new();
    std::io::Read::read_to_string(&mut open, &mut content).expect("open files stay readable");
    assert_eq!(content, "content");
    let error = unmount_detached(&target).expect_err("nothing is mounted");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
}

/// The point of detaching: whoever unmounts does not wait for the file system to die.
#[test]
fn a_detached_file_system_dies_in_the_background() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let lower = sandbox.make_directory("lower");
    for number in 0..8_000 {
        let name = format!("lower/{}", number % 100);
        if number < 100 {
            sandbox.make_directory(&name);
        }
        File::create(sandbox.path(&name).join(number.to_string())).expect("make a file");
    }
    let options = OverlayOptions {
        // Without an upper directory, whose file system would be synced by unmounting.
        lowers: vec![mount::Lower::Directory(lower), sandbox.lower("other")],
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let timed = |end: fn(MountGuard)| {
        let guard = mount_overlay(&options, &merged).expect("mount");
        assert_eq!(walk(&merged), 8_101);
        let start = Instant::now();
        end(guard);
        start.elapsed()
    };
    let waiting: Duration = timed(|guard| guard.unmount().expect("unmount"));
    let detached = timed(|guard| guard.detach().expect("detach"));
    assert!(detached < waiting / 2, "{detached:?} against {waiting:?}");
    assert_eq!(sandbox.mount_count(), 0);
}

fn walk(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("list");
    entries
        .map(|entry| {
            let path: PathBuf = entry.expect("an entry").path();
            let stat = std::fs::symlink_metadata(&path).expect("stat");
            1 + if stat.is_dir() { walk(&path) } else { 0 }
        })
        .sum()
}

#[test]
fn everything_below_a_directory_is_found_and_unmounted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let odd = sandbox.make_directory("root/odd name\twith\\and\nbreak");
    let outside = sandbox.make_directory("root-outside");
    for target in [&odd, &odd, &sandbox.make_directory("root/b"), &outside] {
        tmpfs(target).keep();
    }
    let inner = sandbox.make_directory("root/b/inner");
    tmpfs(&inner).keep();
    let root = sandbox.path("root");
    let targets: Vec<_> = mounts_below(&root)
        .expect("the mount table")
        .into_iter()
        .map(|entry| entry.target)
        .collect();
    assert_eq!(targets.len(), 4);
    assert_eq!(targets.iter().filter(|target| **target == odd).count(), 2);
    let open = File::open(&inner).expect("a mount in use");
    assert_eq!(unmount_all_below(&root).expect("unmount"), 4);
    assert_eq!(mounts_below(&root).expect("the mount table"), []);
    assert_eq!(sandbox.mount_count(), 1, "the mount beside is left alone");
    drop(open);
    assert_eq!(
        unmount_all_below(&sandbox.path("missing")).expect("nothing"),
        0
    );
    assert_eq!(unmount_all_below(sandbox.root()).expect("unmount"), 1);
}
