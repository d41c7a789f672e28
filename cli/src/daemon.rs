//! The composition root: every concrete type is chosen here, nowhere else. (A service of builds
//! lives as long as one command; what `varve daemon` serves is opened in its own command.)

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use executor::{Executor, RuntimeChoice, SupervisedRuntime};
use mount::Namespace;
use snapshotter::containers::Containers;
use snapshotter::{Manager, gc};
use solver::Solver;
use store::key_value::rocks::Rocks;
use store::{RootLock, Store, Trash};

use crate::args::Global;
use crate::environment::Environment;
use crate::error::{self, say};
use crate::host::Host;
use crate::owner::shared::Shared;
use crate::owner::turns::{Need, Turn};
use crate::rootless::{self, Standing};

/// How often to look whether another varve has let go of the root directory.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Who waits longer is told for whom: one that is about to end is no news.
const LOCK_TOLD_AFTER: Duration = Duration::from_millis(500);

/// Program that the containers' helper process executes: this one.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Directories of running containers, below the root: what a killed varve left there is removed
/// by the solver when it opens.
const BUNDLES: &str = "run/bundles";

/// Where runc is looked for if the environment says nothing.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long the trash is emptied for when a command ends: somebody waits for that.
const REAP_AT_END: Duration = Duration::from_millis(40);

/// Files and directories that are deleted before the clock is looked at.
const REAP_STEP: u64 = 50;

/// Where a command works.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// What the command line says for all commands.
    pub(crate) global: Global,
    /// What the environment says.
    pub(crate) environment: Environment,
    /// The absolute path of the directory of all state.
    pub(crate) root: PathBuf,
    /// What this process may do.
    pub(crate) standing: Standing,
    /// What other commands on it have open; `None` for commands that must have it for themselves.
    pub(crate) shared: Option<Arc<Shared>>,
}

impl Site {
    /// Where `--root` or the environment says.
    ///
    /// # Errors
    /// No directory can be told.
    pub(crate) fn find(global: Global, environment: Environment) -> anyhow::Result<Self> {
        let root = match &global.root {
            Some(root) => Environment::absolute(root)?,
            None => environment.default_root()?,
        };
        error::speak_of(&root);
        Ok(Site {
            standing: Standing::at_start(&environment),
            global,
            environment,
            root,
            shared: None,
        })
    }

    /// The same place, with all rights that there are to be had (see [`rootless::take_rights`]).
    /// Before the first thread starts.
    ///
    /// # Errors
    /// The root directory is another user's; those of `take_rights`.
    pub(crate) fn with_rights(self) -> anyhow::Result<Self> {
        rootless::check_owner(&self.root)?;
        let standing = rootless::take_rights(&self.environment)?;
        Ok(Site { standing, ..self })
    }

    /// As [`Site::with_rights`] for commands that stay in root's mount namespace.
    ///
    /// # Errors
    /// Those of `with_rights`.
    pub(crate) fn with_rights_of_users(self) -> anyhow::Result<Self> {
        match self.environment.is_root() {
            true => {
                rootless::check_owner(&self.root)?;
                Ok(self)
            }
            false => self.with_rights(),
        }
    }

    /// The same place, with what other commands on it have open.
    pub(crate) fn shared(self, shared: Arc<Shared>) -> Self {
        Site {
            shared: Some(shared),
            ..self
        }
    }

    /// Waits until a command may use what it shares with others; `None` if it shares nothing.
    ///
    /// # Errors
    /// It was interrupted while it waited.
    pub(crate) fn turn(&self, need: Need) -> anyhow::Result<Option<Turn<'_>>> {
        let shared = self.shared.as_ref();
        Ok(shared.map(|shared| shared.turn(need)).transpose()?)
    }

    /// Where the mounts are that those see who start commands.
    pub(crate) fn place(&self) -> Namespace {
        match (&self.shared, &self.standing) {
            (Some(shared), Standing::Root) => shared.outside().clone(),
            // An ordinary user sees no mounts of varve's.
            _ => Namespace::default(),
        }
    }

    /// Opens the store, waiting for other varves to end.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open_store(&self) -> anyhow::Result<Arc<Store>> {
        match &self.shared {
            Some(shared) => shared.store(|| self.open_own_store()),
            None => self.open_own_store(),
        }
    }

    fn open_own_store(&self) -> anyhow::Result<Arc<Store>> {
        let lock = self.lock()?;
        store::room::make(&lock)?;
        let rows = match Rocks::open(&self.root.join(store::layout::DATABASE)) {
            // None of our commands can help here, which the usual words would advise.
            Err(error) if error.is_no_space() => anyhow::bail!(
                "the disk of {root} is so full that the database cannot even be opened, and nothing \
                 of varve's is left to remove without it: remove 1 MB of something else from that \
                 disk, then run `varve prune --all`",
                root = self.root.display()
            ),
            opened => opened?,
        };
        Ok(Arc::new(Store::open(lock, Box::new(rows))?))
    }

    /// Locks the root directory. Signals still kill: nothing is open yet.
    fn lock(&self) -> anyhow::Result<RootLock> {
        let (mut is_told, began) = (false, Instant::now());
        loop {
            match RootLock::acquire(&self.root) {
                Err(store::Error::Locked { path, holder }) => {
                    if let Some(pid) = holder.filter(|pid| is_daemon(*pid)) {
                        // It does not end by itself.
                        anyhow::bail!(
                            "{} belongs to the varve daemon with pid {pid}: choose another --root, \
                             or stop the daemon",
                            path.display()
                        );
                    }
                    if let Some(shared) = &self.shared {
                        shared.prefer_being_guest(self)?;
                    }
                    if !is_told && began.elapsed() >= LOCK_TOLD_AFTER {
                        let pid = holder
                            .map(|pid| format!(" (pid {pid})"))
                            .unwrap_or_default();
                        let path = path.display();
                        say(&format!(
                            "waiting for another varve{pid} that uses {path} …"
                        ));
                        is_told = true;
                    }
                    std::thread::sleep(LOCK_INTERVAL);
                }
                locked => return Ok(locked?),
            }
        }
    }

    /// Opens the snapshots of the store.
    ///
    /// # Errors
    /// Those of the store and the snapshots.
    pub(crate) fn open_snapshots(&self) -> anyhow::Result<Arc<Manager>> {
        match &self.shared {
            Some(shared) => shared.snapshots(
                || self.open_own_store(),
                |store| self.open_snapshots_of(store),
            ),
            None => self.open_snapshots_of(self.open_own_store()?),
        }
    }

    fn open_snapshots_of(&self, store: Arc<Store>) -> anyhow::Result<Arc<Manager>> {
        let host = Host::get(&store, &self.standing)?;
        let options = host.options(self.global.mounts);
        Ok(Arc::new(Manager::open(store, options)?))
    }

    /// The same for containers, which cannot do without overlays.
    ///
    /// # Errors
    /// Those of the store; the root directory is on a file system that cannot hold an upper.
    pub(crate) fn open_containers(&self) -> anyhow::Result<Arc<Containers>> {
        let store = self.open_store()?;
        let host = Host::get(&store, &self.standing)?;
        host.check_overlays(&self.root)?;
        let options = host.options(self.global.mounts);
        let manager = Manager::open(store, options)?;
        Ok(Containers::open(Arc::new(manager))?)
    }

    /// The container runtime that a choice means here.
    ///
    /// # Errors
    /// There is no such program.
    pub(crate) fn container_runtime(
        &self,
        choice: &RuntimeChoice,
    ) -> anyhow::Result<SupervisedRuntime> {
        let path = self.environment.get("PATH").unwrap_or(PATH_DEFAULT);
        let runtime = SupervisedRuntime::new(choice, Path::new(OWN_PROGRAM).into(), path)?;
        Ok(match &self.standing {
            Standing::Nothing { reason } => runtime.refusing(reason),
            _ => runtime,
        })
    }
}

/// Whether a process is `varve daemon`, told by its command line.
fn is_daemon(pid: u32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0).skip(1);
    words.any(|word| word == b"daemon")
}

/// The build service, for one command.
#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<Opened>);

impl Service {
    /// Opens the store of a site and everything above it, unless another command has.
    ///
    /// # Errors
    /// Those of every part.
    pub(crate) fn open(site: &Site, runtime: &RuntimeChoice) -> anyhow::Result<Self> {
        let shared = site.shared.as_ref();
        let shared = shared.expect("what builds or runs is carried out by an owner");
        let opened = shared.service(runtime, || Opened::open(site, runtime))?;
        Ok(Service(opened))
    }

    /// The solver.
    pub(crate) fn solver(&self) -> &Solver {
        self.0.solver.as_ref().expect("it is taken only by drop")
    }

    /// Runs a future to its end on the service's threads.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0
            .tokio
            .as_ref()
            .expect("it is taken only by drop")
            .block_on(future)
    }
}

/// The build service, open.
pub(crate) struct Opened {
    solver: Option<Solver>,
    /// Dropped after the solver: it waits for what still runs.
    tokio: Option<tokio::runtime::Runtime>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    fn open(site: &Site, runtime: &RuntimeChoice) -> anyhow::Result<Self> {
        let runtime = site.container_runtime(runtime)?;
        let snapshots = site.open_snapshots()?;
        if snapshots.store().is_full()? {
            // Whatever made it full may have failed for that and left its objects.
            gc::collect(&snapshots, false)?;
            snapshots.store().trash().reap(u64::MAX)?;
        }
        let executor = Executor::new(Box::new(runtime), site.root.join(BUNDLES));
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let tokio = tokio.context("cannot start threads")?;
        let solver = {
            let _entered = tokio.enter();
            Solver::open(snapshots, executor)?
        };
        Ok(Opened {
            solver: Some(solver),
            tokio: Some(tokio),
        })
    }
}

/// Deletes some of what lies there.
fn empty_trash(trash: &Trash) {
    let began = Instant::now();
    loop {
        match trash.reap(REAP_STEP) {
            Ok(reaped) if reaped.more && began.elapsed() < REAP_AT_END => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot empty the trash");
                return;
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(solver) = self.solver.take() {
            empty_trash(solver.snapshots().store().trash());
        }
        // Waits for the engine's last words, so that the database is closed in order.
        drop(self.tokio.take());
    }
}
