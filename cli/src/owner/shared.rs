//! What is open once for all commands of an owner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use executor::RuntimeChoice;
use snapshotter::Manager;
use store::Store;

use super::front;
use super::guests::Company;
use crate::caller::Caller;
use crate::daemon::{Opened, Site};
use crate::error::say;

/// How often whoever wants to be alone looks whether it is.
const ALONE_INTERVAL: Duration = Duration::from_millis(50);

/// The parts, as far as some command has needed them. Closed after the last command.
#[derive(Debug)]
pub(crate) struct Shared {
    company: Arc<Company>,
    may_be_guest: bool,
    parts: Mutex<Parts>,
    /// Held while the service is opened: what opens it tidies up first.
    opening: Mutex<()>,
    /// Read by every command that uses the store, written by one that must be alone with it.
    users: RwLock<()>,
}

#[derive(Debug, Default)]
struct Parts {
    // In the order in which they are dropped.
    service: Option<(RuntimeChoice, Arc<Opened>)>,
    snapshots: Option<Arc<Manager>>,
    store: Option<Arc<Store>>,
}

/// The root is locked by another process that takes guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another varve on this root directory can carry this out")]
pub(crate) struct BeGuest;

impl Shared {
    pub(super) fn new(company: Arc<Company>, may_be_guest: bool) -> Self {
        Shared {
            company,
            may_be_guest,
            parts: Mutex::default(),
            opening: Mutex::default(),
            users: RwLock::default(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes everything in order. Nobody uses it now; the thread that lets guests in still has
    /// it, and waits for ever.
    pub(super) fn close(&self) {
        let parts = std::mem::take(&mut *self.parts());
        drop(parts);
    }

    /// Whether a command that wants this runtime can be carried out here.
    pub(super) fn fits(&self, runtime: Option<&RuntimeChoice>) -> bool {
        // It may be opened at this moment, which takes a while.
        match (&self.parts().service, runtime) {
            (Some((open, _)), Some(runtime)) => open == runtime,
            _ => true,
        }
    }

    /// The store, opened by the first who asks.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn store(
        self: &Arc<Self>,
        open: impl FnOnce() -> anyhow::Result<Arc<Store>>,
    ) -> anyhow::Result<Arc<Store>> {
        self.store_of(&mut self.parts(), open)
    }

    fn store_of(
        self: &Arc<Self>,
        parts: &mut Parts,
        open: impl FnOnce() -> anyhow::Result<Arc<Store>>,
    ) -> anyhow::Result<Arc<Store>> {
        if let Some(store) = &parts.store {
            return Ok(store.clone());
        }
        let store = open()?;
        parts.store = Some(store.clone());
        self.company.open(self);
        Ok(store)
    }

    /// The snapshots, likewise.
    ///
    /// # Errors
    /// Those of `open_store` and `open`.
    pub(crate) fn snapshots(
        self: &Arc<Self>,
        open_store: impl FnOnce() -> anyhow::Result<Arc<Store>>,
        open: impl FnOnce(Arc<Store>) -> anyhow::Result<Arc<Manager>>,
    ) -> anyhow::Result<Arc<Manager>> {
        let mut parts = self.parts();
        if let Some(snapshots) = &parts.snapshots {
            return Ok(snapshots.clone());
        }
        let store = self.store_of(&mut parts, open_store)?;
        let snapshots = open(store)?;
        parts.snapshots = Some(snapshots.clone());
        Ok(snapshots)
    }

    /// The service of builds, likewise.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn service(
        &self,
        runtime: &RuntimeChoice,
        open: impl FnOnce() -> anyhow::Result<Opened>,
    ) -> anyhow::Result<Arc<Opened>> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((open, service)) = &self.parts().service {
            // Who comes in is asked for it, unless two come while nothing is open; and not all who
            // open it make containers.
            anyhow::ensure!(
                open == runtime || *runtime == RuntimeChoice::Auto,
                "another command has just begun with another --runtime: run this again"
            );
            return Ok(service.clone());
        }
        // Not under the lock of the parts: it asks for the snapshots.
        let service = Arc::new(open()?);
        self.parts().service = Some((runtime.clone(), service.clone()));
        Ok(service)
    }

    /// For as long as a command uses the store.
    pub(crate) fn in_use(&self) -> RwLockReadGuard<'_, ()> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a command that deletes what others may have just found: waits until no other runs.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        let mut is_told = false;
        loop {
            // Not waited for in the lock: those that come would wait too.
            match self.users.try_write() {
                Ok(alone) => return alone,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => {}
            }
            if !is_told {
                say("waiting for other commands on this root directory to end …");
                is_told = true;
            }
            std::thread::sleep(ALONE_INTERVAL);
        }
    }

    /// Fails with [`BeGuest`] if the process that has the root would carry this command out.
    ///
    /// # Errors
    /// [`BeGuest`].
    pub(crate) fn prefer_being_guest(&self, site: &Site) -> Result<(), BeGuest> {
        // What was read from standard input cannot be read again.
        let may = self.may_be_guest && !Caller::current().has_read_stdin();
        match may && front::is_owner_there(&site.root) {
            true => Err(BeGuest),
            false => Ok(()),
        }
    }
}
