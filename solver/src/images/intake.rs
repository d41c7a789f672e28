//! Layers on their way into the store: several at once, each read, verified, kept as it came and
//! taken apart in one pass; then put on top of each other in order.
//!
//! Everything of one image goes into one ingest and one batch: an image is here with all that
//! belongs to it, or nothing of it is.

mod body;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use bytes::Bytes;
use engine::CancelToken;
use layer::{Limits, Unpacked};
use snapshotter::catalog;
use snapshotter::leases::{self, Lease, Reference};
use store::{Batch, BlobId, Ingest, TreeRef};

use self::body::{Kept, Tee, Watched};
use super::{Image, Images, chain_ids, note_chain, note_layers, snapshot_name};
use crate::cache::now;
use crate::content::{Digest, Located, note};
use crate::error::{Error, Result};
use crate::images::arrival::Arrival;
use crate::images::document::Descriptor;
use crate::images::{origins, sizes};
use crate::progress::Reporter;
use crate::result::Value;

/// Layers that are taken in at the same time, at least; as many as docker and containerd fetch.
const PARALLEL_MIN: usize = 3;
/// The same on machines with many processors: more would take memory rather than save time.
const PARALLEL_MAX: usize = 8;

/// The bytes of a layer as they come from elsewhere.
pub(crate) trait Chunks: Send {
    /// The next bytes; `None` at the end, which is reached with the right bytes only.
    fn chunk(&mut self) -> Result<Option<Bytes>>;
}

/// Has layers that the store has not.
pub(crate) trait LayerSource: Sync {
    /// Opens a layer. Its chunks end with an error soon after `stop` was set.
    fn open(&self, layer: &Descriptor, stop: &CancelToken) -> Result<Box<dyn Chunks>>;

    /// Where its layers come from: `docker.io/library/busybox`.
    fn origin(&self) -> String;
}

/// How an image is taken in.
pub(crate) struct Intake<'i> {
    /// Where layers come from that are not here.
    pub(crate) source: Option<&'i dyn LayerSource>,
    /// What becomes visible together with the layers.
    pub(crate) arrival: Option<&'i Arrival>,
    /// Who is told how far layers are.
    pub(crate) reporter: Reporter,
    /// Ends it.
    pub(crate) cancel: CancelToken,
}

impl Intake<'_> {
    /// From what is in the store.
    pub(crate) fn local() -> Self {
        Intake {
            source: None,
            arrival: None,
            reporter: Reporter::silent(),
            cancel: CancelToken::new(),
        }
    }
}

/// What is to be done for an image.
#[derive(Debug, Default)]
struct Work {
    /// The highest layer whose tree is here with all below it.
    known: Option<(usize, TreeRef)>,
    /// Layers that are to be read, each once; the lowest first.
    tasks: Vec<Task>,
}

/// A layer to be read.
#[derive(Debug)]
struct Task {
    layer: Descriptor,
    /// Where its bytes are, if they are here.
    located: Option<Located>,
    /// The places that it has in the image; some images have a layer twice. Empty if only its bytes
    /// are missing.
    places: Vec<usize>,
}

/// A layer that was read.
struct Taken {
    located: Located,
    unpacked: Option<Unpacked>,
}

impl Images {
    /// The snapshot with all layers of an image, unpacking those that are not yet.
    ///
    /// # Errors
    /// [`Error::BadImage`] for a layer that is not what the config says; [`Error::Layer`].
    pub fn unpack(&self, what: &str, image: &Image) -> Result<Value> {
        self.take_in(what, image, &Intake::local())
    }

    /// The same, with layers that are brought from elsewhere first.
    ///
    /// # Errors
    /// As [`Images::unpack`]; [`Error::Registry`]; [`Error::Cancelled`]. Nothing is visible then.
    pub(crate) fn take_in(&self, what: &str, image: &Image, intake: &Intake<'_>) -> Result<Value> {
        let layers = &image.manifest.layers;
        let chains = chain_ids(&image.config.rootfs.diff_ids);
        let work = Mutex::new(Work::default());
        let _claim = self.claims.claim(&intake.cancel, || {
            let found = self.work(layers, &chains, intake)?;
            let digests = found.tasks.iter().map(|task| task.layer.digest);
            let digests = digests.collect();
            *work.lock().unwrap_or_else(PoisonError::into_inner) = found;
            Ok(digests)
        })?;
        let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
        if work.tasks.is_empty()
            && intake.arrival.is_none()
            && let (Some(last), Some((_, tree))) = (chains.last(), work.known)
            && catalog::find(self.store(), &snapshot_name(*last))?.is_some()
        {
            return Ok(Value::new(self.store(), snapshot_name(*last), tree));
        }
        let ingest = self.store().begin();
        let mut batch = Batch::new();
        let reading = Reading {
            images: self,
            what,
            image,
            intake,
            ingest: &ingest,
            stop: CancelToken::new(),
        };
        let (tree, mut held) = reading.run(&work, &chains, &mut batch)?;
        held.extend(self.held(&work, layers)?);
        if let Some(arrival) = intake.arrival {
            held.extend(self.arrive(arrival, &ingest, &mut batch)?);
        }
        let (Some(last), Some(tree)) = (chains.last(), tree) else {
            self.name_arrival(intake.arrival, &mut batch, &held)?;
            ingest.commit(batch)?;
            return Ok(Value::empty());
        };
        let name = snapshot_name(*last);
        note_layers(&mut batch, *last, layers, &image.config.rootfs.diff_ids);
        held.push(Reference::Snapshot(name.clone()));
        self.name_arrival(intake.arrival, &mut batch, &held)?;
        let lease = Lease {
            id: format!("{}{name}", crate::build::LEASE_PREFIX),
            created: now(),
            references: held,
        };
        leases::put(&mut batch, &lease);
        self.snapshots.adopt(ingest, &name, "", tree, batch)?;
        Ok(Value::new(self.store(), name, tree))
    }

    /// What is missing of an image.
    fn work(&self, layers: &[Descriptor], chains: &[Digest], intake: &Intake<'_>) -> Result<Work> {
        let known = self.known(chains)?;
        let first = known.map_or(0, |(place, _)| place + 1);
        let mut tasks: Vec<Task> = Vec::new();
        for (place, layer) in layers.iter().enumerate() {
            let place = (place >= first).then_some(place);
            if let Some(task) = tasks
                .iter_mut()
                .find(|task| task.layer.digest == layer.digest)
            {
                task.places.extend(place);
                continue;
            }
            let located = self.content.find(layer.digest)?;
            // A tree that is here serves without the bytes that it was made of, which images that
            // were built here do not have; one that is new here gets both.
            if place.is_some() || (located.is_none() && intake.arrival.is_some()) {
                tasks.push(Task {
                    layer: layer.clone(),
                    located,
                    places: place.into_iter().collect(),
                });
            }
        }
        Ok(Work { known, tasks })
    }

    fn known(&self, chains: &[Digest]) -> Result<Option<(usize, TreeRef)>> {
        let Some(last) = chains.last() else {
            return Ok(None);
        };
        let snapshot = catalog::find(self.store(), &snapshot_name(*last))?;
        if let Some(tree) = snapshot.and_then(|row| row.tree()) {
            return Ok(Some((chains.len() - 1, tree)));
        }
        for (place, chain) in chains.iter().enumerate().rev() {
            if let Some(tree) = self.chain_tree(*chain)? {
                return Ok(Some((place, tree)));
            }
        }
        Ok(None)
    }

    /// What keeps the layers alive that were here before.
    fn held(&self, work: &Work, layers: &[Descriptor]) -> Result<Vec<Reference>> {
        let mut held = Vec::new();
        for layer in layers {
            let read = work
                .tasks
                .iter()
                .any(|task| task.layer.digest == layer.digest && task.located.is_none());
            if !read {
                let located = self.content.find(layer.digest)?;
                held.extend(located.map(|at| Reference::Blob(at.blob)));
            }
        }
        Ok(held)
    }
}

/// One image on its way.
struct Reading<'r> {
    images: &'r Images,
    what: &'r str,
    image: &'r Image,
    intake: &'r Intake<'r>,
    ingest: &'r Ingest<'r>,
    /// Set when one layer has failed: then nobody needs the others.
    stop: CancelToken,
}

impl Reading<'_> {
    /// Reads all layers of `work` and puts them on top of each other: the tree of the image, and
    /// what is new of what it consists of.
    fn run(
        &self,
        work: &Work,
        chains: &[Digest],
        batch: &mut Batch,
    ) -> Result<(Option<TreeRef>, Vec<Reference>)> {
        let next = Mutex::new(work.tasks.iter().enumerate());
        let (sender, taken) = channel();
        let parallel = thread::available_parallelism().map_or(1, usize::from);
        let parallel = parallel.clamp(PARALLEL_MIN, PARALLEL_MAX);
        let mut stack = Stack::new(self, work, chains);
        thread::scope(|scope| {
            for _ in 0..parallel.min(work.tasks.len()) {
                let (next, sender) = (&next, sender.clone());
                scope.spawn(move || self.take_all(next, &sender));
            }
            drop(sender);
            let mut outcome = Ok(());
            for (task, result) in taken {
                let result = result.and_then(|taken| stack.add(task, taken, batch));
                if let Err(error) = result
                    && outcome.is_ok()
                {
                    self.stop.cancel();
                    outcome = Err(error);
                }
            }
            outcome
        })?;
        stack.finish()
    }

    /// Takes layers in until there are no more.
    fn take_all<'t>(
        &self,
        next: &Mutex<impl Iterator<Item = (usize, &'t Task)>>,
        sender: &Sender<(usize, Result<Taken>)>,
    ) {
        loop {
            let task = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, task)) = task else { return };
            if self.stop.is_cancelled() {
                return;
            }
            let mut taken = self.take(task);
            if self.intake.cancel.is_cancelled() {
                taken = Err(Error::Cancelled);
            }
            if sender.send((index, taken)).is_err() {
                return;
            }
        }
    }

    fn take(&self, task: &Task) -> Result<Taken> {
        let layer = &task.layer;
        match (task.located, self.intake.source) {
            (Some(located), _) => Ok(Taken {
                located,
                unpacked: Some(self.unpack_kept(layer, located)?),
            }),
            (None, Some(source)) => match self.fetch(task, source) {
                // Something between here and there may have changed them, or there is a mirror
                // that is trusted less from now on.
                Err(Error::Registry(error @ registry::Error::DigestMismatch { .. })) => {
                    let message = format!("{}; asking for it once more", error.brief());
                    self.intake.reporter.warn(message);
                    self.fetch(task, source)
                }
                fetched => fetched,
            },
            (None, None) => Err(Error::bad_image(
                self.what,
                format!(
                    "layer {} is missing from the store; pull or import the image again",
                    layer.digest
                ),
            )),
        }
    }

    fn fetch(&self, task: &Task, source: &dyn LayerSource) -> Result<Taken> {
        let layer = &task.layer;
        let chunks = source.open(layer, &self.stop)?;
        let (blob, unpacked) = self.unpack_coming(layer, chunks, !task.places.is_empty())?;
        let size = layer.size;
        let located = Located { blob, size };
        Ok(Taken { located, unpacked })
    }

    /// Unpacks a layer whose bytes are here.
    fn unpack_kept(&self, layer: &Descriptor, located: Located) -> Result<Unpacked> {
        let body = self.images.store().objects().open_blob(located.blob)?;
        let body = Watched::new(body, layer, self.intake, &self.stop);
        let unpacked = layer::unpack(body, self.ingest, &Limits::default());
        let unpacked = unpacked.map_err(|error| self.damaged(layer, error))?;
        if unpacked.digest != layer.digest {
            let reason = format!(
                "layer {} is damaged in the store; run `varve fsck --repair`, then pull or import \
                 the image again",
                layer.digest
            );
            return Err(Error::bad_image(self.what, reason));
        }
        Ok(unpacked)
    }

    /// Keeps a layer as it comes, and unpacks it in the same pass where that is wanted.
    fn unpack_coming(
        &self,
        layer: &Descriptor,
        chunks: Box<dyn Chunks>,
        is_unpacked: bool,
    ) -> Result<(BlobId, Option<Unpacked>)> {
        thread::scope(|scope| {
            let (kept, keeper) = Kept::start(scope, self.ingest);
            let mut tee = Tee::new(chunks, keeper, layer, &self.intake.reporter);
            let read = match is_unpacked {
                true => {
                    let limits = Limits::default();
                    layer::unpack_verified(&mut tee, layer.digest, self.ingest, &limits).map(Some)
                }
                false => tee.drain().map(|()| None),
            };
            if read.as_ref().err().is_none_or(is_perhaps_transport) {
                // The end tells whether these are the bytes that were asked for.
                drop(tee.drain());
            }
            let coming = tee.end();
            let kept = kept.join();
            let kept = kept.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            coming?;
            let (blob, _) = kept?;
            let unpacked = read.map_err(|error| self.damaged(layer, error))?;
            Ok((blob, unpacked))
        })
    }

    fn damaged(&self, layer: &Descriptor, error: layer::Error) -> Error {
        if self.intake.cancel.is_cancelled() || self.stop.is_cancelled() {
            return Error::Cancelled;
        }
        if error.is_bad_layer() {
            return Error::bad_image(self.what, format!("layer {}: {error}", layer.digest));
        }
        error.into()
    }
}

/// Whether bytes that were changed on their way can look like that.
fn is_perhaps_transport(error: &layer::Error) -> bool {
    matches!(
        error,
        layer::Error::Damaged { .. }
            | layer::Error::Truncated { .. }
            | layer::Error::Header { .. }
            | layer::Error::UnsupportedCompression { .. }
    )
}

/// The layers of an image, put on top of each other as they come.
struct Stack<'s> {
    reading: &'s Reading<'s>,
    work: &'s Work,
    chains: &'s [Digest],
    /// By task; gone when it is not needed any more.
    unpacked: Vec<Option<Unpacked>>,
    /// The place that comes next, and the tree below it.
    next: usize,
    tree: Option<TreeRef>,
    /// The bytes of layers that were not here.
    held: Vec<Reference>,
}

impl<'s> Stack<'s> {
    fn new(reading: &'s Reading<'s>, work: &'s Work, chains: &'s [Digest]) -> Self {
        Stack {
            reading,
            work,
            chains,
            unpacked: work.tasks.iter().map(|_| None).collect(),
            next: work.known.map_or(0, |(place, _)| place + 1),
            tree: work.known.map(|(_, tree)| tree),
            held: Vec::new(),
        }
    }

    /// Adds what was read, and puts on top what can be.
    fn add(&mut self, task: usize, taken: Taken, batch: &mut Batch) -> Result<()> {
        let Task { layer, located, .. } = &self.work.tasks[task];
        if located.is_none() {
            note(batch, layer.digest, taken.located);
            self.held.push(Reference::Blob(taken.located.blob));
            let source = self.reading.intake.source;
            let origin = source.map(LayerSource::origin).unwrap_or_default();
            origins::note(self.reading.images.store(), batch, layer.digest, &origin)?;
        }
        self.unpacked[task] = taken.unpacked;
        let tasks = &self.work.tasks;
        while let Some(task) = tasks.iter().position(|t| t.places.contains(&self.next))
            && let Some(unpacked) = &self.unpacked[task]
        {
            let tree = self.reading.put_on(self.next, unpacked, self.tree)?;
            note_chain(batch, self.chains[self.next], tree);
            sizes::note(batch, unpacked.diff_id, unpacked.bytes);
            self.tree = Some(tree);
            if tasks[task].places.last() == Some(&self.next) {
                self.unpacked[task] = None;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn finish(self) -> Result<(Option<TreeRef>, Vec<Reference>)> {
        match self.next == self.chains.len() {
            true => Ok((self.tree, self.held)),
            // Some thread has stopped without a word: only a cancellation does that.
            false => Err(Error::Cancelled),
        }
    }
}

impl Reading<'_> {
    fn put_on(&self, place: usize, layer: &Unpacked, below: Option<TreeRef>) -> Result<TreeRef> {
        let diff_id = self.image.config.rootfs.diff_ids[place];
        if layer.diff_id != diff_id {
            let reason = format!(
                "layer {} unpacks to {}, the diff_id of its config says {diff_id}; the image is \
                 broken where it comes from",
                layer.digest, layer.diff_id
            );
            return Err(Error::bad_image(self.what, reason));
        }
        Ok(layer.delta.apply(below, self.ingest)?)
    }
}
