//! Mounts that only their maker sees.

use mount::{Error, Mount, apply, enter_private_namespace, isolate_thread, mounts_below};

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
