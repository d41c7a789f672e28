//! Cache mounts: directories that outlive the steps that write to them
//! (`RUN --mount=type=cache`).
//!
//! A cache mount is a committed snapshot that a lease holds. Whoever uses it gets a fork: a
//! writable snapshot on top. When the use ends the fork is committed, and the lease moves on to
//! it, in one batch. So a process that is killed leaves the last committed state, never a torn
//! one, and what is in a cache mount is stored once with all other files.
//!
//! Who gets which fork:
//! - **shared**: all users at one time have one fork and see each other's writes. The last one
//!   commits it, whether its work succeeded or not: its writes are also those of others.
//! - **locked**: one user at a time, who excludes shared ones too. Committed in any case, so that
//!   a download is not repeated because a later command of the step failed.
//! - **private**: a fork for each user, nobody waits. Committed if the work succeeded; of two at
//!   once the one that ends last is what the next user finds.
//!
//! Not here: what a step is, and where in its container the directory is shown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mount::MountGuard;
use store::{Batch, ContentKey, Durability, Timestamp, TreeRef};

use crate::catalog::{self, Row};
use crate::error::{Error, Result};
use crate::leases::{self, Lease, Reference};
use crate::manager::Manager;
use crate::snapshots::{Kind, Labels, Snapshots, now};

/// What the ids of their leases and the keys of their snapshots begin with. Behind it stands the
/// identity, and in keys of snapshots a slash and the generation.
pub const PREFIX: &str = "cachemount/";

/// What the keys of forks begin with; none outlives its process.
const FORK_PREFIX: &str = "cachefork/";

/// Label with the id as the Dockerfile gives it.
const LABEL_ID: &str = "varve.cachemount.id";

/// Label with the time of the first use, in nanoseconds since the epoch.
const LABEL_CREATED: &str = "varve.cachemount.created";

/// Label with the number of uses.
const LABEL_USES: &str = "varve.cachemount.uses";

/// Label with the number of generations below that are still needed.
const LABEL_DEPTH: &str = "varve.cachemount.depth";

/// Bytes of an id that are kept for people to read; all of it counts for the identity.
const ID_SHOWN_MAX: usize = 1_024;

/// So many generations are stacked, then the newest stands alone: what it has deleted is kept no
/// longer, and look-ups stay short.
const DEPTH_MAX: u64 = 8;

/// How often somebody who waits looks whether the wait was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// What happens when two want one cache mount at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// They use it together.
    Shared,
    /// Each has its own.
    Private,
    /// The second waits.
    Locked,
}

/// Which cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// Of an id, and of what the directory begins with: two beginnings are two cache mounts.
    #[must_use]
    pub fn new(id: &str, seed: Option<ContentKey>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 cache mount v1");
        hasher.update(&(id.len() as u64).to_le_bytes());
        hasher.update(id.as_bytes());
        if let Some(seed) = seed {
            hasher.update(seed.as_bytes());
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Identity(bytes)
    }

    /// Reads what [`Identity::to_string`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        let identity = Identity(number.to_be_bytes());
        (identity.to_string() == text).then_some(identity)
    }

    fn lease(self) -> String {
        format!("{PREFIX}{self}")
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A cache mount as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Which one; what [`remove`] takes.
    pub identity: Identity,
    /// The id that the Dockerfile gives it.
    pub id: String,
    /// When it was first used.
    pub created: Timestamp,
    /// When its last use ended.
    pub last_used: Timestamp,
    /// How many uses ended so far.
    pub uses: u64,
    /// Bytes of all its files. What other trees hold too is counted here as well.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Somebody of this process uses it.
    pub is_in_use: bool,
}

/// All cache mounts that were used, by identity.
///
/// # Errors
/// Database errors.
pub fn list(manager: &Manager) -> Result<Vec<CacheMount>> {
    let mut found = Vec::new();
    for lease in leases::all(manager.store(), PREFIX)? {
        let identity = lease.id.strip_prefix(PREFIX).and_then(Identity::parse);
        let (Some(identity), Some(row)) = (identity, snapshot_of(manager, &lease)?) else {
            continue;
        };
        let Some(tree) = row.tree() else { continue };
        let label = |name| row.info.labels.get(name).map(String::as_str);
        found.push(CacheMount {
            identity,
            id: label(LABEL_ID).unwrap_or_default().to_owned(),
            created: label(LABEL_CREATED).map_or(row.info.created, from_nanoseconds),
            last_used: row.info.updated,
            uses: number(label(LABEL_USES)),
            bytes: tree.bytes,
            inodes: tree.inodes,
            is_in_use: manager.forks().is_in_use(identity),
        });
    }
    Ok(found)
}

/// What a cache mount holds now; `None` if it is not used yet.
///
/// # Errors
/// Database errors.
pub fn tree(manager: &Manager, identity: Identity) -> Result<Option<TreeRef>> {
    Ok(current(manager, identity)?.and_then(|row| row.tree()))
}

/// Forgets a cache mount; a collection then frees its space. Says whether there was one.
///
/// # Errors
/// [`Error::FailedPrecondition`] while somebody uses it; database errors.
pub fn remove(manager: &Manager, identity: Identity) -> Result<bool> {
    // Held to the end, so that nobody begins to use it meanwhile.
    let slots = manager.forks().lock();
    if slots.contains_key(&identity) {
        return Err(Error::FailedPrecondition {
            operation: "remove",
            key: identity.lease(),
            reason: "a running step uses it".into(),
        });
    }
    let found = leases::all(manager.store(), &identity.lease())?;
    if found.is_empty() {
        return Ok(false);
    }
    let mut batch = Batch::new();
    leases::delete(&mut batch, &identity.lease());
    manager.store().write(batch, Durability::Disk)?;
    Ok(true)
}

fn snapshot_of(manager: &Manager, lease: &Lease) -> Result<Option<Row>> {
    match lease.references.first() {
        Some(Reference::Snapshot(key)) => catalog::find(manager.store(), key),
        _ => Ok(None),
    }
}

fn number(label: Option<&str>) -> u64 {
    label.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn from_nanoseconds(text: &str) -> Timestamp {
    let nanoseconds = number(Some(text));
    Timestamp {
        seconds: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or_default(),
        nanoseconds: (nanoseconds % 1_000_000_000) as u32,
    }
}

/// Who uses which cache mount, in this process.
#[derive(Debug, Default)]
pub(crate) struct Forks {
    slots: Mutex<HashMap<Identity, Slot>>,
    /// Told whenever a slot changes.
    changed: Condvar,
    next: AtomicU64,
}

impl Forks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_use(&self, identity: Identity) -> bool {
        self.lock().contains_key(&identity)
    }

    /// Changes a slot, and wakes whoever waits for one. A slot that nobody uses goes.
    fn change(&self, identity: Identity, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.lock();
        let slot = slots.entry(identity).or_default();
        change(slot);
        if matches!(slot.holder, Holder::Nobody) && slot.private == 0 {
            slots.remove(&identity);
        }
        self.changed.notify_all();
    }
}

/// The users of one cache mount.
#[derive(Debug, Default)]
struct Slot {
    holder: Holder,
    /// How many private forks there are.
    private: usize,
}

/// Who has the fork that is not private.
#[derive(Debug, Default)]
enum Holder {
    #[default]
    Nobody,
    /// One user alone; or the fork is being made or committed.
    One,
    /// So many users together.
    Shared { fork: Arc<Fork>, users: usize },
}

/// A mounted fork.
#[derive(Debug)]
struct Fork {
    identity: Identity,
    id: String,
    key: String,
    place: PathBuf,
    /// The snapshot below it; `None` if that is the cache mount's beginning or nothing.
    base: Option<Row>,
    /// Taken when it is unmounted.
    guard: Mutex<Option<MountGuard>>,
}

/// What a cache mount begins with: a committed snapshot. An empty name stands for nothing.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// The snapshot.
    pub name: String,
    /// Its content.
    pub key: Option<ContentKey>,
}

/// A cache mount in use. Dropping it is the end of a use that failed.
#[derive(Debug)]
pub struct InUse {
    manager: Arc<Manager>,
    fork: Arc<Fork>,
    sharing: Sharing,
    is_over: bool,
}

/// Removes what forks of a dead process left. Call it before the first use.
///
/// # Errors
/// Database errors.
pub fn remove_stale(manager: &Manager) -> Result<()> {
    let mut stale = Vec::new();
    for row in catalog::all(manager.store()) {
        let info = row?.info;
        if info.kind != Kind::Committed && info.key.starts_with(FORK_PREFIX) {
            stale.push(info.key);
        }
    }
    stale.iter().try_for_each(|key| manager.remove(key))
}

/// Begins to use a cache mount, made of `seed` if it is new: its directory is mounted below
/// `directory`. Waits as long as `sharing` asks for; `None` if `is_cancelled` said so meanwhile.
///
/// Whoever wants several asks for them in the order of their identities: then nobody waits for
/// ever.
///
/// # Errors
/// Those of preparing and mounting a snapshot.
pub fn acquire(
    manager: &Arc<Manager>,
    (id, seed): (&str, &Seed),
    sharing: Sharing,
    directory: &Path,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Option<InUse>> {
    let identity = Identity::new(id, seed.key);
    let forks = manager.forks();
    let in_use = |fork| InUse {
        manager: manager.clone(),
        fork,
        sharing,
        is_over: false,
    };
    if sharing == Sharing::Private {
        forks.change(identity, |slot| slot.private += 1);
    } else {
        let mut slots = forks.lock();
        loop {
            let slot = slots.entry(identity).or_default();
            match &mut slot.holder {
                Holder::Nobody => {
                    slot.holder = Holder::One;
                    break;
                }
                Holder::Shared { fork, users } if sharing == Sharing::Shared => {
                    *users += 1;
                    return Ok(Some(in_use(fork.clone())));
                }
                Holder::Shared { .. } | Holder::One => {}
            }
            if is_cancelled() {
                return Ok(None);
            }
            let waited = forks.changed.wait_timeout(slots, CANCEL_INTERVAL);
            slots = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
    let opened = Fork::open(manager, (identity, id, &seed.name), directory);
    if opened.is_err() || sharing == Sharing::Shared {
        forks.change(identity, |slot| match (&opened, sharing) {
            (Ok(fork), _) => {
                let (fork, users) = (fork.clone(), 1);
                slot.holder = Holder::Shared { fork, users };
            }
            (Err(_), Sharing::Private) => slot.private -= 1,
            (Err(_), _) => slot.holder = Holder::Nobody,
        });
    }
    Ok(Some(in_use(opened?)))
}

impl InUse {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.fork.place
    }

    /// Ends the use. Nothing may be mounted of it, or opened in it, any more.
    ///
    /// # Errors
    /// The fork cannot be committed; then the cache mount stays as it was.
    pub fn end(mut self, has_succeeded: bool) -> Result<()> {
        self.close(has_succeeded)
    }

    /// Leaves everything as a process that is killed does.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.is_over = true;
        let mut guard = self
            .fork
            .guard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
    }

    fn close(&mut self, has_succeeded: bool) -> Result<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(());
        }
        let (forks, identity) = (self.manager.forks(), self.fork.identity);
        let mut is_last = true;
        if self.sharing == Sharing::Shared {
            forks.change(identity, |slot| {
                if let Holder::Shared { users, .. } = &mut slot.holder {
                    *users -= 1;
                    is_last = *users == 0;
                }
                if is_last {
                    // Until it is committed: who comes now waits, and finds all of it.
                    slot.holder = Holder::One;
                }
            });
        }
        if !is_last {
            return Ok(());
        }
        let keep = has_succeeded || self.sharing != Sharing::Private;
        let ended = self.fork.end(&self.manager, keep);
        forks.change(identity, |slot| match self.sharing {
            Sharing::Private => slot.private -= 1,
            Sharing::Shared | Sharing::Locked => slot.holder = Holder::Nobody,
        });
        ended
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Err(error) = self.close(false) {
            tracing::warn!(id = self.fork.id, %error, "a cache mount stays as it was before");
        }
    }
}

impl Fork {
    /// Makes and mounts a fork of what the cache mount is at this moment.
    fn open(
        manager: &Manager,
        (identity, id, seed): (Identity, &str, &str),
        directory: &Path,
    ) -> Result<Arc<Self>> {
        let number = manager.forks().next.fetch_add(1, Ordering::Relaxed);
        let key = format!("{FORK_PREFIX}{}-{number}", std::process::id());
        let base = current(manager, identity)?;
        let parent = base.as_ref().map_or(seed, |row| row.info.key.as_str());
        let mounts = manager.prepare(&key, parent, Labels::new())?;
        let place = directory.join(format!("cache-{number}"));
        let mounted = std::fs::create_dir_all(&place)
            .map_err(|error| Error::io("create", &place, error))
            .and_then(|()| Ok(mount::apply(&mounts, &place)?));
        let guard = match mounted {
            Ok(guard) => Mutex::new(Some(guard)),
            Err(error) => {
                discard(manager, &key, &place);
                return Err(error);
            }
        };
        Ok(Arc::new(Fork {
            identity,
            id: id.to_owned(),
            key,
            place,
            base,
            guard,
        }))
    }

    /// Unmounts it, and makes it what the cache mount is, or throws it away.
    fn end(&self, manager: &Manager, keep: bool) -> Result<()> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        let committed = match keep {
            true => self.commit(manager),
            false => Ok(()),
        };
        discard(manager, &self.key, &self.place);
        committed
    }

    fn commit(&self, manager: &Manager) -> Result<()> {
        let before = self.base.as_ref();
        manager.capture_and_commit(&self.key, |row, tree, usage| {
            // What is current may be newer than the base: another private fork ended.
            let current = current(manager, self.identity)?;
            let mut batch = Batch::new();
            if let Some(mut current) = current.clone()
                && before.and_then(Row::tree) == Some(tree)
            {
                // Nothing was written: it was used, and no more.
                current.info.updated = now();
                current.info.labels = self.labels(Some(&current), depth(&current));
                catalog::put(&mut batch, &current);
                return Ok((current.info.key.clone(), batch));
            }
            let depth = before.map_or(0, |before| depth(before) + 1);
            let labels = self.labels(current.as_ref().or(before), depth);
            let name = self.next_name();
            let parent = row.info.parent.as_str();
            let row = Row::committed(&name, parent, labels, tree, usage);
            catalog::put(&mut batch, &row);
            hold(&mut batch, self.identity, &name);
            Ok((name, batch))
        })?;
        self.flatten(manager)
    }

    /// Lets the newest generation stand alone when there are many below it.
    fn flatten(&self, manager: &Manager) -> Result<()> {
        let Some(row) = current(manager, self.identity)?.filter(|row| depth(row) > DEPTH_MAX)
        else {
            return Ok(());
        };
        let Some(tree) = row.tree() else {
            return Ok(());
        };
        let (name, mut extra) = (self.next_name(), Batch::new());
        hold(&mut extra, self.identity, &name);
        let mut labels = row.info.labels;
        labels.insert(LABEL_DEPTH.into(), "0".into());
        let ingest = manager.store().begin();
        manager.adopt_labelled(ingest, (&name, labels), "", tree, extra)
    }

    /// A name that no snapshot has.
    fn next_name(&self) -> String {
        let (time, number) = (now(), serial_number());
        let nanoseconds = time.seconds * 1_000_000_000 + i64::from(time.nanoseconds);
        format!("{PREFIX}{}/{nanoseconds:x}-{number:x}", self.identity)
    }

    /// Labels of the next generation of `before`.
    fn labels(&self, before: Option<&Row>, depth: u64) -> Labels {
        let time = now();
        let now = format!("{}{:09}", time.seconds, time.nanoseconds);
        let label = |name| before.and_then(|row| row.info.labels.get(name).cloned());
        let uses = number(label(LABEL_USES).as_deref()) + 1;
        let fits = |(at, _): &(usize, char)| *at < ID_SHOWN_MAX;
        let id = self.id.char_indices().take_while(fits);
        let id: String = id.map(|(_, character)| character).collect();
        Labels::from([
            (LABEL_ID.into(), id),
            (LABEL_CREATED.into(), label(LABEL_CREATED).unwrap_or(now)),
            (LABEL_USES.into(), uses.to_string()),
            (LABEL_DEPTH.into(), depth.to_string()),
        ])
    }
}

/// Tells two names of the same nanosecond apart.
fn serial_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn depth(row: &Row) -> u64 {
    number(row.info.labels.get(LABEL_DEPTH).map(String::as_str))
}

/// What the cache mount is now.
fn current(manager: &Manager, identity: Identity) -> Result<Option<Row>> {
    let found = leases::all(manager.store(), &identity.lease())?;
    match found.first() {
        Some(lease) => snapshot_of(manager, lease),
        None => Ok(None),
    }
}

/// Makes `name` what the cache mount is.
fn hold(batch: &mut Batch, identity: Identity, name: &str) {
    let lease = Lease {
        id: identity.lease(),
        created: now(),
        references: vec![Reference::Snapshot(name.to_owned())],
    };
    leases::put(batch, &lease);
}

/// Takes away what is left of a fork. What cannot go now goes at the next start.
fn discard(manager: &Manager, key: &str, place: &Path) {
    match manager.remove(key) {
        // Committed, or dropped before.
        Ok(()) | Err(Error::NotFound { .. }) => {}
        Err(error) => tracing::warn!(key, %error, "a fork of a cache mount was left behind"),
    }
    if let Err(error) = std::fs::remove_dir(place) {
        tracing::debug!(place = %place.display(), %error, "cannot remove a mount point");
    }
}
