//! One request from the Dockerfile to the exported result. Read this first.

mod hints;
mod running;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use dockerfile::lower::Lowered;
use engine::{CancelToken, Engine, Limits};
use executor::Executor;
use snapshotter::gc::Collected;
use snapshotter::{Manager, leases};
use store::{Batch, Durability, Tally};

use crate::cache::Records;
use crate::cache_mounts;
use crate::error::{Error, Result};
use crate::exec_mounts;
use crate::executing::Execution;
use crate::exporters::{self, Export, PlatformResult};
use crate::frontend::{self, LookUp, LookedUp, Prepared, Text};
use crate::gc::automatic;
use crate::gc::policy::Rule;
use crate::images::intake::Intake;
use crate::images::{Images, Named};
use crate::ops::{self, Environment, VertexIds};
use crate::progress::Progress;
use crate::request::{BuildRequest, Built};
use crate::result::Value;
use crate::sources::registry::{Registries, Remote};

pub use self::running::{Pull, ReadyContainer, RunImage, RunOptions, Volume};

/// Leases that hold what a running build made, until its records do; none outlives the process.
pub(crate) const LEASE_PREFIX: &str = "build/";

/// Builds, runs and keeps images over one store.
#[derive(Debug)]
pub struct Solver {
    snapshots: Arc<Manager>,
    images: Images,
    execution: Arc<Execution>,
    checked: Arc<ops::Checked>,
    engine: Engine<Value>,
    records: Arc<Records>,
    /// Held by the one that collects garbage.
    collecting: Mutex<()>,
    builds: Builds,
    looked_up: Arc<LookedUp>,
}

/// The builds that are under way.
#[derive(Debug, Default)]
struct Builds {
    count: Arc<AtomicU64>,
    next_salt: AtomicU64,
}

/// One of them, as long as it is.
#[derive(Debug)]
struct UnderWay {
    ids: VertexIds,
    count: Arc<AtomicU64>,
}

impl Builds {
    fn begin(&self) -> UnderWay {
        let is_alone = self.count.fetch_add(1, Ordering::SeqCst) == 0;
        let salt = || self.next_salt.fetch_add(1, Ordering::SeqCst);
        UnderWay {
            ids: VertexIds {
                salt: (!is_alone).then(salt),
            },
            count: self.count.clone(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A build that failed, with the text that its message points into.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BuildFailure {
    /// What went wrong.
    #[source]
    pub error: Error,
    /// The Dockerfile, as far as it was read.
    pub text: Text,
    /// The lines that are to blame.
    pub spans: Vec<dockerfile::error::Span>,
    /// What may be behind it, in a sentence.
    pub hint: Option<String>,
}

impl From<Error> for BuildFailure {
    fn from(error: Error) -> Self {
        BuildFailure {
            error,
            text: Text::default(),
            spans: Vec::new(),
            hint: None,
        }
    }
}

impl BuildFailure {
    /// The lines of the Dockerfile around the error, in BuildKit's form; empty if none are to
    /// blame.
    pub fn excerpt(&self) -> String {
        dockerfile::error::Excerpt::new(&self.text.name, &self.text.bytes, &self.spans).to_string()
    }
}

impl Solver {
    /// Opens the build service over a snapshotter. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Io`]; database errors.
    pub fn open(snapshots: Arc<Manager>, executor: Executor) -> Result<Self> {
        let root = snapshots.store().root().to_owned();
        release_leases(&snapshots)?;
        exec_mounts::remove_stale(&snapshots)?;
        snapshotter::cache_mounts::remove_stale(&snapshots)?;
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        // Steps wait for disks and networks as often as for processors.
        let limits = Limits {
            max_parallel_execs: parallel.max(2) * 2,
            ..Limits::default()
        };
        let records = Arc::new(Records::new(snapshots.clone()));
        let execution = Execution::open(&root, executor)?;
        Ok(Solver {
            images: Images::new(snapshots.clone()),
            execution,
            checked: Arc::default(),
            engine: Engine::new(records.clone(), limits),
            records,
            collecting: Mutex::default(),
            builds: Builds::default(),
            looked_up: Arc::default(),
            snapshots,
        })
    }

    /// The images of the store.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The snapshots of the store.
    pub fn snapshots(&self) -> &Arc<Manager> {
        &self.snapshots
    }

    /// Lets rules make the build cache smaller, beside whatever runs: that keeps what it has found
    /// or made. Costs next to nothing if there is nothing to do, or somebody else is at it.
    ///
    /// # Errors
    /// Those of the store; nothing that is needed is lost.
    pub fn collect_garbage(&self, rules: &[Rule]) -> Result<Option<Collected>> {
        match self.collecting.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            _alone => automatic::collect(&self.snapshots, rules),
        }
    }

    /// Carries out a build. When it returns, nothing of it runs any more; steps that ended well
    /// are remembered even if the build failed.
    ///
    /// # Errors
    /// [`BuildFailure`] with the lines of the Dockerfile that are to blame.
    pub async fn build(
        &self,
        request: BuildRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Built, BuildFailure> {
        let counted = self.carry_out(request, progress, cancel);
        TALLY.scope(progress.tally().clone(), counted).await
    }

    async fn carry_out(
        &self,
        request: BuildRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Built, BuildFailure> {
        exporters::check(&request)?;
        let _work = self.snapshots.store().work();
        let request = self.fetch_contexts(request, progress, cancel).await?;
        let text = frontend::read(&request, self.snapshots.store(), progress)?;
        let remote = Remote::new(&request.registries, progress);
        let prepared = self
            .prepare((&request, &text), &remote, progress, cancel)
            .await;
        let prepared = prepared.map_err(|error| {
            let spans = error.spans();
            BuildFailure {
                hint: hints::of_image(&error, &text),
                error,
                text: text.clone(),
                spans,
            }
        })?;
        exporters::check_platforms(&request, prepared.lowered.iter().map(|one| &one.platform))?;
        let build = self.builds.begin();
        let environment = self.environment(
            (&prepared, &request),
            remote.clone(),
            build.ids,
            progress.tally().clone(),
        );
        let evaluated = self
            .evaluate(&prepared, environment, progress, cancel)
            .await;
        let values = evaluated.map_err(|error| {
            let spans = match &error {
                Error::Step { vertex, .. } => lines_of(&prepared.lowered, build.ids, *vertex),
                _ => Vec::new(),
            };
            BuildFailure {
                hint: hints::of(&error, &spans, &text, &request),
                error,
                text: text.clone(),
                spans,
            }
        })?;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        prepared.coming.keep(&self.images);
        let results = prepared.lowered.into_iter().zip(values);
        let results = results.map(|(lowered, value)| PlatformResult {
            value,
            image: lowered.image,
            platform: lowered.platform,
            epoch: lowered.epoch,
        });
        let results: Vec<_> = results.collect();
        let export = Export {
            is_multi_platform: frontend::is_multi_platform(&request, results.len())?,
            results,
            request,
            remote,
            cancel: cancel.clone(),
        };
        let (images, snapshots, progress) = (
            self.images.clone(),
            self.snapshots.clone(),
            progress.clone(),
        );
        let mut built =
            blocking(move || exporters::export(&export, &images, &snapshots, &progress)).await?;
        built.warnings = prepared.warnings;
        Ok(built)
    }

    async fn fetch_contexts(
        &self,
        request: BuildRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<BuildRequest> {
        let (store, progress) = (self.snapshots.store().clone(), progress.clone());
        let cancel = cancel.clone();
        blocking(move || frontend::fetch_contexts(request, &store, &progress, &cancel)).await
    }

    /// Makes the graphs, where it may wait for files and registries.
    async fn prepare(
        &self,
        (request, text): (&BuildRequest, &Text),
        remote: &Remote,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Prepared> {
        let (request, text, progress) = (request.clone(), text.clone(), progress.clone());
        let (images, remote, cancel) = (self.images.clone(), remote.clone(), cancel.clone());
        let others = self.looked_up.clone();
        blocking(move || {
            let look_up = LookUp {
                images: &images,
                remote: &remote,
                others: &others,
                is_pull: request.pull,
                cancel: &cancel,
            };
            frontend::prepare(&request, &text, &look_up, &progress)
        })
        .await
    }

    /// What the operations of a build need.
    fn environment(
        &self,
        (prepared, request): (&Prepared, &BuildRequest),
        remote: Remote,
        ids: VertexIds,
        tally: Arc<Tally>,
    ) -> Arc<Environment> {
        Arc::new(Environment {
            snapshots: self.snapshots.clone(),
            images: self.images.clone(),
            records: self.records.clone(),
            execution: self.execution.clone(),
            checked: self.checked.clone(),
            secrets: request.steps.secrets.clone(),
            agents: request.steps.agents.clone(),
            variables: request.steps.variables.clone(),
            ids,
            contexts: prepared.contexts.clone(),
            coming: prepared.coming.clone(),
            remote,
            _work: self.snapshots.store().work(),
            tally,
        })
    }

    /// Evaluates the graphs of all platforms as one: what they have in common is one vertex. Gives
    /// one value for each.
    async fn evaluate(
        &self,
        prepared: &Prepared,
        environment: Arc<Environment>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Vec<Value>> {
        let ids = environment.ids;
        let mut vertices = Vec::new();
        let mut known = HashSet::new();
        for lowered in &prepared.lowered {
            let graph = ops::vertices(&lowered.graph, &environment)?;
            vertices.extend(graph.into_iter().filter(|vertex| known.insert(vertex.id)));
        }
        let graphs = prepared.lowered.iter().map(|lowered| &lowered.graph);
        cache_mounts::begin_anew(graphs, &self.snapshots)?;
        let target = |lowered: &Lowered| {
            lowered.graph.result().map(|result| engine::Edge {
                vertex: ids.of(result.vertex),
                output: result.output,
            })
        };
        // A result without a vertex is `FROM scratch` alone: the empty file system.
        let targets: Vec<_> = prepared.lowered.iter().map(target).collect();
        let wanted: Vec<_> = targets.iter().flatten().copied().collect();
        if wanted.is_empty() {
            return Ok(targets.iter().map(|_| Value::empty()).collect());
        }
        let listener = Arc::new(progress.clone());
        let values = self.engine.evaluate(vertices, &wanted, listener, cancel);
        let values = values.await;
        if let Err(error) = self.records.note_uses() {
            tracing::warn!(%error, "cannot note what the build used");
        }
        let mut values = values?.into_iter();
        let stopped = || Error::Engine(engine::EvaluateError::Stopped);
        let value = |target: &Option<engine::Edge>| match target {
            Some(_) => values.next().ok_or_else(stopped),
            None => Ok(Value::empty()),
        };
        targets.iter().map(value).collect()
    }

    /// Brings an image of a registry into the store, under its name there. `platform` is the host's
    /// unless one is named.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::BadImage`], [`Error::Cancelled`]; nothing is visible then.
    pub async fn pull(
        &self,
        registries: &Registries,
        name: &str,
        platform: Option<&str>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Named> {
        let name = frontend::normalize(name)?;
        let platform = frontend::platform(platform)?;
        let platform = ops::source_platform(&platform.unwrap_or_else(llb::Platform::host));
        let remote = Remote::new(registries, progress);
        let (images, progress, cancel) = (self.images.clone(), progress.clone(), cancel.clone());
        blocking(move || {
            let step = progress.step(format!("[internal] load metadata for {name}"));
            let by = (&step.reporter(), &cancel);
            let found = remote
                .look_up(&images, &name, (&platform, false), by.0, by.1)
                .and_then(|found| remote.with_attestations(&images, &name, found, by));
            let found = step.end(found)?;
            let step = progress.step(format!("pull {name}"));
            let layers = remote.layers(&name, step.reporter(), cancel.clone())?;
            let intake = Intake {
                source: Some(&layers),
                arrival: Some(&found.arrival),
                reporter: step.reporter(),
                cancel,
            };
            step.end(images.take_in(&name, &found.image, &intake))?;
            let named = images.list()?.into_iter().find(|named| named.name == name);
            named.ok_or(Error::NoImage { reference: name })
        })
        .await
    }

    /// Pushes an image of the store to the registry that its name says. Layers that are trees here
    /// are packed and compressed, and stay so.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::BadImage`], [`Error::Cancelled`].
    pub async fn push(
        &self,
        registries: &Registries,
        name: &str,
        platform: Option<&str>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Named> {
        let name = frontend::normalize(name)?;
        let platform = frontend::platform(platform)?;
        let platform = platform.as_ref().map(ops::source_platform);
        let remote = Remote::new(registries, progress);
        let (images, progress, cancel) = (self.images.clone(), progress.clone(), cancel.clone());
        // Layers that were packed belong to nobody until they are pushed and named.
        let work = self.snapshots.store().work();
        blocking(move || {
            let _work = work;
            let step = progress.step(format!("push {name}"));
            let pushed = exporters::push::named(
                &name,
                platform.as_ref(),
                &images,
                &remote,
                (&step, &cancel),
            );
            step.end(pushed)
        })
        .await
    }
}

/// The lines of the Dockerfile that a vertex comes from, in whichever of the graphs it is.
fn lines_of(
    lowered: &[Lowered],
    ids: VertexIds,
    vertex: engine::VertexId,
) -> Vec<dockerfile::error::Span> {
    for lowered in lowered {
        let mut vertices = lowered.graph.vertices().iter();
        if let Some(found) = vertices.find(|one| ids.of(one.digest()) == vertex) {
            return lowered.lines(found.digest());
        }
    }
    Vec::new()
}

/// Gives up what builds held until their records did. Those of an earlier process protect nothing
/// that a record does not; what builds of this one rely on stays without (see [`store::Work`]).
///
/// # Errors
/// Database errors.
pub fn release_leases(snapshots: &Manager) -> Result<()> {
    let store = snapshots.store();
    let mut batch = Batch::new();
    for lease in leases::all(store, LEASE_PREFIX)? {
        leases::delete(&mut batch, &lease.id);
    }
    if !batch.is_empty() {
        store.write(batch, Durability::Process)?;
    }
    Ok(())
}

tokio::task_local! {
    /// Counts what the build brings in that a task works for.
    pub(crate) static TALLY: Arc<Tally>;
}

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let tally = TALLY.try_with(Arc::clone).ok();
    let counted = move || {
        let _counting = tally.as_ref().map(Tally::count_here);
        work()
    };
    match tokio::task::spawn_blocking(counted).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Cancelled),
        },
    }
}
