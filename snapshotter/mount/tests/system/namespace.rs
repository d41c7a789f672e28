//! Mounts that only their maker sees.

use mount::{
    Error, Mount, Namespace, apply, attach, detached, enter_private_namespace, isolate_thread,
    mounts_below,
};

use crate::sandbox::{Sandbox, is_left_out};

#[test]
fn mounts_of_an_isolated_thread_are_seen_by_nobody_else_and_vanish_with_it() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let target = sandbox.make_directory("target");
    let inside = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            isolate_thread().expect("isolate");
            apply(&[Mount::tmpfs(None, 0o755)], &target)
                .expect("mount")
                .keep();
            mounts_below(&target).expect("the mount table").len()
        });
        thread.join().expect("the thread")
    });
    assert_eq!(inside, 1, "the mount table is that of the thread");
    assert_eq!(sandbox.mount_count(), 0);
}

#[test]
fn a_process_with_threads_cannot_enter_a_namespace_as_a_whole() {
    if is_left_out() {
        return;
    }
    // The test harness runs each test on a thread of its own beside the main thread.
    let result = enter_private_namespace();
    assert!(
        matches!(result, Err(Error::ThreadsRunning { count: 2.. })),
        "{result:?}"
    );
}

#[test]
fn a_detached_mount_is_put_into_another_namespace_and_seen_there_alone() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let (scratch, target) = (
        sandbox.make_directory("scratch"),
        sandbox.make_directory("target"),
    );
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let elsewhere = std::thread::spawn(move || {
        isolate_thread().expect("isolate");
        let id = rustix::thread::gettid().as_raw_nonzero();
        tell.send(id).expect("told");
        ended.recv().ok();
    });
    let id = told.recv().expect("a thread with mounts of its own");
    let place = Namespace::of_thread(id.get().cast_unsigned()).expect("its namespace");
    let made = detached(&[Mount::tmpfs(None, 0o755)], &scratch).expect("mount");
    assert_eq!(sandbox.mount_count(), 0, "nobody sees the scratch");
    place
        .within(|| {
            attach(&made, &target).expect("attach");
            assert_eq!(mounts_below(&target).expect("table").len(), 1);
            std::fs::write(target.join("file"), "x").expect("it is writable");
        })
        .expect("enter");
    drop(made);
    assert_eq!(sandbox.mount_count(), 0);
    place
        .within(|| {
            assert!(target.join("file").exists(), "it stays");
            mount::unmount(&target).expect("unmount");
        })
        .expect("enter");
    drop(end);
    elsewhere.join().expect("the thread");
    let none = attach(sandbox_file(&sandbox), &target);
    assert!(matches!(none, Err(Error::System { .. })), "{none:?}");
}

/// Something that is no detached mount.
fn sandbox_file(sandbox: &Sandbox) -> std::fs::File {
    let path = sandbox.make_directory("file").join("x");
    std::fs::File::create(path).expect("a file")
}
