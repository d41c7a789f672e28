//! What is open once for all commands of an owner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use executor::RuntimeChoice;
use mount::Namespace;
use snapshotter::Manager;
use store::Store;

use super::front;
use super::guests::Company;
use super::turns::{Need, Turn, Turns};
use crate::caller::Caller;
use crate::daemon::{Opened, Site};
use crate::error::{Interrupted, say};

/// Who waits longer for its turn is told for what.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// The parts, as far as some command has needed them. Closed after the last command.
#[derive(Debug)]
pub(crate) struct Shared {
    company: Arc<Company>,
    may_be_guest: bool,
    /// The mounts that whoever starts commands sees.
    outside: Namespace,
    parts: Mutex<Parts>,
    /// Held while the service is opened: what opens it tidies up first.
    opening: Mutex<()>,
    turns: Turns,
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
    pub(super) fn new(company: Arc<Company>, may_be_guest: bool, outside: Namespace) -> Self {
        Shared {
            company,
            may_be_guest,
            outside,
            parts: Mutex::default(),
            opening: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// The mounts that whoever starts commands sees.
    pub(crate) fn outside(&self) -> &Namespace {
        &self.outside
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

    /// Waits until a command may use the store, as long as it has what this gives.
    ///
    /// # Errors
    /// [`Interrupted`] while it waited.
    pub(crate) fn turn(&self, need: Need) -> Result<Turn<'_>, Interrupted> {
        let (caller, began) = (Caller::current(), Instant::now());
        let (mut interrupted, mut is_told) = (None, false);
        let turn = self.turns.wait(need, || {
            interrupted = caller.signals().came();
            if !is_told && (need == Need::Alone || began.elapsed() >= TOLD_AFTER) {
                is_told = true;
                say(match need {
                    Need::Alone => {
                        "waiting for the commands on this root directory that began before …"
                    }
                    _ => {
                        "waiting for a command that must have this root directory for itself \
                         (fsck) …"
                    }
                });
            }
            interrupted.is_some()
        });
        let signal = interrupted.unwrap_or_default();
        turn.ok_or(Interrupted { signal })
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
