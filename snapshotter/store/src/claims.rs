//! What running work relies on, so that a sweep can go on beside it.
//!
//! Whoever looks something up may count on it afterwards, long before a lease names it. So every
//! look-up and every write *claims* what it is about before it looks: snapshots by name, trees and
//! blobs by id. A claim holds as long as any [`Work`] that was under way when it was made. What a
//! sweep takes it takes under the lock of the claims, so there is no moment between "is it
//! claimed?" and "it is gone": who claims before finds it, and keeps it; who claims after finds
//! nothing, and makes it anew.
//!
//! Claims belong to nobody in particular: work is done by many threads, and who asked is not known
//! below. So long work also keeps what short work beside it has met. [`Looking`] is for those who
//! only tell what there is, and must not keep it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::{BlobId, TreeId};

/// All claims on a store.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    state: Mutex<State>,
    /// Held by the one sweep that there is.
    sweeping: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// For each work under way, what was claimed while it was the last that had begun.
    works: BTreeMap<u64, Claimed>,
    pins: HashMap<Arc<str>, usize>,
}

/// Things that were claimed.
#[derive(Debug, Default)]
struct Claimed {
    snapshots: HashSet<String>,
    trees: HashSet<TreeId>,
    blobs: HashSet<BlobId>,
}

impl Claimed {
    fn append(&mut self, mut other: Claimed) {
        if other.trees.len() + other.blobs.len() > self.trees.len() + self.blobs.len() {
            std::mem::swap(self, &mut other);
        }
        self.snapshots.extend(other.snapshots);
        self.trees.extend(other.trees);
        self.blobs.extend(other.blobs);
    }
}

thread_local! {
    /// How many [`Looking`] this thread has.
    static LOOKING: Cell<usize> = const { Cell::new(0) };
}

/// Work under way: what is looked up or written until it is dropped is not swept before.
#[derive(Debug)]
pub struct Work {
    claims: Arc<Claims>,
    number: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        let Some(claimed) = state.works.remove(&self.number) else {
            return;
        };
        // Who began before, and still is at it, may have made these claims.
        if let Some((_, before)) = state.works.range_mut(..self.number).next_back() {
            before.append(claimed);
        }
    }
}

/// A snapshot that is not collected until this is dropped.
#[derive(Debug)]
pub struct Pin {
    claims: Arc<Claims>,
    snapshot: Arc<str>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        if let Some(count) = state.pins.get_mut(&self.snapshot) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.snapshot);
            }
        }
    }
}

/// This thread claims nothing as long as it has this: it looks at what there is, and does not count
/// on finding it again.
#[derive(Debug)]
pub struct Looking(PhantomData<*const ()>);

impl Looking {
    /// Begins to look.
    pub fn begin() -> Self {
        LOOKING.with(|count| count.set(count.get() + 1));
        Looking(PhantomData)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.with(|count| count.set(count.get() - 1));
    }
}

impl Claims {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn work(self: &Arc<Self>) -> Work {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.works.insert(number, Claimed::default());
        drop(state);
        Work {
            claims: self.clone(),
            number,
        }
    }

    pub(crate) fn pin(self: &Arc<Self>, snapshot: &str) -> Pin {
        let snapshot: Arc<str> = snapshot.into();
        *self.state().pins.entry(snapshot.clone()).or_default() += 1;
        Pin {
            claims: self.clone(),
            snapshot,
        }
    }

    fn claim(&self, insert: impl FnOnce(&mut Claimed)) {
        if LOOKING.with(Cell::get) > 0 {
            return;
        }
        let mut state = self.state();
        if let Some(mut last) = state.works.last_entry() {
            insert(last.get_mut());
        }
    }

    pub(crate) fn snapshot(&self, name: &str) {
        self.claim(|claimed| {
            if !claimed.snapshots.contains(name) {
                claimed.snapshots.insert(name.to_owned());
            }
        });
    }

    pub(crate) fn tree(&self, id: TreeId) {
        self.claim(|claimed| {
            claimed.trees.insert(id);
        });
    }

    pub(crate) fn blobs(&self, ids: impl IntoIterator<Item = BlobId>) {
        self.claim(|claimed| claimed.blobs.extend(ids));
    }

    /// Waits until no other sweep is under way.
    pub(crate) fn sweep_alone(&self) -> MutexGuard<'_, ()> {
        self.sweeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops everything that claims, and every end of a work, until this is dropped.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        Frozen {
            state: self.state(),
        }
    }
}

/// The claims, while nobody can make or give up any. The thread that has this must not look
/// anything up as others do.
#[derive(Debug)]
pub struct Frozen<'c> {
    state: MutexGuard<'c, State>,
}

impl Frozen<'_> {
    /// The names of all snapshots that are claimed or pinned. They need not be there.
    pub fn snapshots(&self) -> HashSet<String> {
        let claimed = self.state.works.values();
        let claimed = claimed.flat_map(|claimed| claimed.snapshots.iter().cloned());
        let pinned = self.state.pins.keys().map(|name| name.to_string());
        claimed.chain(pinned).collect()
    }

    /// All trees that are claimed. They need not be there.
    pub(crate) fn trees(&self) -> impl Iterator<Item = TreeId> + '_ {
        let claimed = self.state.works.values();
        claimed.flat_map(|claimed| claimed.trees.iter().copied())
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let claimed = self.state.works.values();
        claimed.flat_map(|claimed| claimed.blobs.iter().copied())
    }

    pub(crate) fn has_blob(&self, id: BlobId) -> bool {
        let mut claimed = self.state.works.values();
        claimed.any(|claimed| claimed.blobs.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BlobId {
        BlobId::of(text.as_bytes())
    }

    #[test]
    fn a_claim_holds_as_long_as_any_work_that_was_under_way() {
        let claims = Arc::new(Claims::default());
        let has = |text| claims.freeze().has_blob(id(text));
        claims.blobs([id("before")]);
        assert!(!has("before"), "nobody is at work");
        let first = claims.work();
        claims.blobs([id("a")]);
        let second = claims.work();
        claims.blobs([id("b")]);
        drop(second);
        assert!(has("a") && has("b"), "the first may have claimed it");
        let third = claims.work();
        claims.blobs([id("c")]);
        drop(first);
        assert!(!has("a") && !has("b") && has("c"));
        drop(third);
        assert!(!has("c"));
        assert!(claims.state().works.is_empty());
    }

    #[test]
    fn who_only_looks_keeps_nothing() {
        let claims = Arc::new(Claims::default());
        let _work = claims.work();
        {
            let _looking = Looking::begin();
            let _twice = Looking::begin();
            claims.snapshot("seen");
        }
        claims.snapshot("used");
        assert_eq!(claims.freeze().snapshots(), ["used".to_owned()].into());
    }

    #[test]
    fn a_pin_holds_a_snapshot_until_the_last_of_them_is_gone() {
        let claims = Arc::new(Claims::default());
        let (one, other) = (claims.pin("step/a"), claims.pin("step/a"));
        drop(one);
        assert_eq!(claims.freeze().snapshots().len(), 1);
        drop(other);
        assert!(claims.freeze().snapshots().is_empty());
    }
}
