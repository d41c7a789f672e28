//! Cache mounts on real mounts: who gets which fork, what is kept, what a dead process leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mount::MountGuard;
use store::fixtures;
use store::key_value::memory::Medium;
use tempfile::TempDir;

use super::sandbox::is_left_out;
use crate::cache_mounts::{self, CacheMount, Identity, InUse, Seed, Sharing};
use crate::catalog;
use crate::manager::{Manager, Options};
use crate::{Error, Method, gc};

/// A manager that can be opened again, in a mount namespace that dies with the test's thread.
struct Place {
    manager: Option<Arc<Manager>>,
    medium: Medium,
    root: PathBuf,
    forks: PathBuf,
    _memory: MountGuard,
    _directory: TempDir,
}

fn options() -> Options {
    Options {
        volatile: true,
        ..Options::new(Method::Kernel)
    }
}

impl Place {
    /// `None` if privileged tests are left out.
    fn new() -> Option<Self> {
        if is_left_out() {
            return None;
        }
        mount::isolate_thread().expect("a private mount namespace");
        let directory = tempfile::tempdir().unwrap();
        let memory = mount::apply(&[mount::Mount::tmpfs(None, 0o700)], directory.path()).unwrap();
        let mut place = Place {
            manager: None,
            medium: Medium::new(),
            root: directory.path().join("root"),
            forks: directory.path().join("forks"),
            _memory: memory,
            _directory: directory,
        };
        place.reopen();
        Some(place)
    }

    /// Ends the manager and its store, and opens them again.
    fn reopen(&mut self) {
        if let Some(manager) = self.manager.take() {
            assert_eq!(Arc::strong_count(&manager), 1, "a fork holds it");
        }
        let store = Arc::new(fixtures::memory_store_on(&self.root, &self.medium));
        let manager = Manager::open(store, options()).unwrap();
        cache_mounts::remove_stale(&manager).unwrap();
        self.manager = Some(Arc::new(manager));
    }

    fn manager(&self) -> &Arc<Manager> {
        self.manager.as_ref().unwrap()
    }

    fn acquire(&self, sharing: Sharing) -> InUse {
        let never = || false;
        let what = ("id", &Seed::default());
        let got = cache_mounts::acquire(self.manager(), what, sharing, &self.forks, &never);
        got.unwrap().expect("nobody cancels")
    }

    /// What the next user finds in the file `name`.
    fn find(&self, name: &str) -> Option<String> {
        let used = self.acquire(Sharing::Private);
        let text = fs::read_to_string(used.path().join(name)).ok();
        drop(used);
        text
    }

    fn only(&self) -> CacheMount {
        let mut all = cache_mounts::list(self.manager()).unwrap();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    /// Nothing is mounted, and no fork is left.
    fn is_clean(&self) {
        assert_eq!(fs::read_dir(&self.forks).map_or(0, Iterator::count), 0);
        for row in catalog::all(self.manager().store()) {
            let key = row.unwrap().info.key;
            assert!(!key.starts_with("cachefork/"), "{key}");
        }
    }
}

fn write(used: &InUse, name: &str, text: &str) {
    fs::write(used.path().join(name), text).unwrap();
}

#[test]
fn shared_users_see_each_other_and_the_last_one_commits() {
    let Some(place) = Place::new() else { return };
    let (first, second) = (
        place.acquire(Sharing::Shared),
        place.acquire(Sharing::Shared),
    );
    write(&first, "a", "of the first");
    assert_eq!(
        fs::read_to_string(second.path().join("a")).unwrap(),
        "of the first"
    );
    first.end(true).unwrap();
    assert_eq!(place.find("a"), None, "the second still writes");
    write(&second, "b", "of the second");
    // Its work failed; the writes are also those of the first.
    second.end(false).unwrap();
    assert_eq!(place.find("a").as_deref(), Some("of the first"));
    assert_eq!(place.find("b").as_deref(), Some("of the second"));
    place.is_clean();
}

#[test]
fn private_forks_are_apart_and_a_failed_one_is_thrown_away() {
    let Some(place) = Place::new() else { return };
    let [one, two, failed] = [(); 3].map(|()| place.acquire(Sharing::Private));
    write(&one, "f", "one");
    write(&two, "f", "two");
    write(&failed, "f", "failed");
    two.end(true).unwrap();
    assert_eq!(place.find("f").as_deref(), Some("two"));
    failed.end(false).unwrap();
    assert_eq!(place.find("f").as_deref(), Some("two"));
    one.end(true).unwrap();
    assert_eq!(
        place.find("f").as_deref(),
        Some("one"),
        "the last that ended"
    );
    // One that wrote nothing does not bring an older state back.
    let idle = place.acquire(Sharing::Private);
    let busy = place.acquire(Sharing::Locked);
    write(&busy, "f", "newer");
    busy.end(true).unwrap();
    idle.end(true).unwrap();
    assert_eq!(place.find("f").as_deref(), Some("newer"));
    place.is_clean();
}

#[test]
fn a_locked_cache_is_waited_for_until_the_wait_is_cancelled() {
    let Some(place) = Place::new() else { return };
    let holder = place.acquire(Sharing::Locked);
    for sharing in [Sharing::Locked, Sharing::Shared] {
        let asked = AtomicBool::new(false);
        let cancel_second_time = || asked.swap(true, Ordering::Relaxed);
        let what = ("id", &Seed::default());
        let got = cache_mounts::acquire(
            place.manager(),
            what,
            sharing,
            &place.forks,
            &cancel_second_time,
        );
        assert!(got.unwrap().is_none(), "{sharing:?}");
    }
    write(&holder, "f", "x");
    holder.end(true).unwrap();
    let shared = place.acquire(Sharing::Shared);
    assert!(shared.path().join("f").exists());
    drop(shared);
    place.is_clean();
}

#[test]
fn they_are_listed_and_removed_but_not_while_somebody_uses_them() {
    let Some(place) = Place::new() else { return };
    assert_eq!(cache_mounts::list(place.manager()).unwrap(), []);
    for text in ["one", "three"] {
        let used = place.acquire(Sharing::Shared);
        write(&used, "f", text);
        used.end(true).unwrap();
    }
    let found = place.only();
    assert_eq!(found.identity, Identity::new("id", None));
    assert_eq!(
        Identity::parse(&found.identity.to_string()),
        Some(found.identity)
    );
    assert_eq!((found.id.as_str(), found.uses, found.bytes), ("id", 2, 5));
    assert!(
        found.created < found.last_used && !found.is_in_use,
        "{found:?}"
    );
    let used = place.acquire(Sharing::Private);
    assert!(place.only().is_in_use);
    let refused = cache_mounts::remove(place.manager(), found.identity);
    assert!(
        matches!(refused, Err(Error::FailedPrecondition { .. })),
        "{refused:?}"
    );
    used.end(true).unwrap();
    assert_eq!(place.only().uses, 3, "one that wrote nothing counts");
    assert!(cache_mounts::remove(place.manager(), found.identity).unwrap());
    assert!(!cache_mounts::remove(place.manager(), found.identity).unwrap());
    assert_eq!(place.find("f"), None);
    let collected = gc::collect(place.manager(), false).unwrap();
    assert!(collected.snapshots >= 2, "{collected:?}");
}

#[test]
fn what_a_process_had_not_committed_when_it_died_is_gone_and_the_rest_is_there() {
    let Some(mut place) = Place::new() else {
        return;
    };
    let used = place.acquire(Sharing::Shared);
    write(&used, "f", "committed");
    used.end(true).unwrap();
    for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
        let used = place.acquire(sharing);
        write(&used, "f", "torn");
        write(&used, "g", "torn");
        used.abandon();
        // It is unmounted in the background.
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::remove_dir_all(&place.forks).is_err() {
            assert!(Instant::now() < deadline, "{sharing:?} stays mounted");
            std::thread::sleep(Duration::from_millis(5));
        }
        place.reopen();
        assert_eq!(place.find("f").as_deref(), Some("committed"), "{sharing:?}");
        assert_eq!(place.find("g"), None, "{sharing:?}");
        place.is_clean();
    }
}

#[test]
fn many_generations_leave_few_snapshots_and_what_was_deleted_goes() {
    let Some(place) = Place::new() else { return };
    for number in 0..30 {
        let used = place.acquire(Sharing::Shared);
        let old = used.path().join(format!("large-{}", number - 1));
        assert_eq!(old.exists(), number > 0);
        fs::remove_file(old).ok();
        write(
            &used,
            &format!("large-{number}"),
            &format!("{number} ").repeat(10_000),
        );
        used.end(true).unwrap();
    }
    gc::collect(place.manager(), false).unwrap();
    let rows = catalog::all(place.manager().store()).count();
    assert!(rows <= 10, "{rows} snapshots");
    assert_eq!(place.only().uses, 30);
    let used = place.acquire(Sharing::Shared);
    let names = names(used.path());
    assert_eq!(names, ["large-29"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
