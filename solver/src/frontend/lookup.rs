//! Images that a Dockerfile names: in the store, or else at their registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::Duration;

use dockerfile::lower::{ImageRequest, ResolvedImage};
use engine::CancelToken;

use super::familiar;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::images::document::Platform;
use crate::ops::source_platform;
use crate::progress::{Progress, Step};
use crate::sources::registry::{Found, Remote};

/// How often who waits for another build's look-up looks whether it is done or not wanted now.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Images that were looked up at registries, without their layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coming {
    /// By what the graph has of them: the digest that a name stands for, and a platform.
    found: Vec<(Digest, Platform, Arc<Found>)>,
}

/// What the builds of this process have looked up and not taken in yet, by reference and platform:
/// the next one that wants it need not ask.
#[derive(Debug, Default)]
pub(crate) struct LookedUp(Mutex<HashMap<(String, Platform), Arc<Slot>>>);

/// Locked while somebody asks the registry.
type Slot = Mutex<Weak<Found>>;

impl LookedUp {
    /// What another build has found, or what `find` does. Two that want the same at once ask once.
    fn get(
        &self,
        reference: &str,
        platform: &Platform,
        cancel: &CancelToken,
        find: impl FnOnce() -> Result<Found>,
    ) -> Result<Arc<Found>> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody looks at any more, and that nobody has.
            slots.retain(|_, slot| {
                let is_free = Arc::strong_count(slot) == 1;
                let has_gone = |found: &Mutex<Weak<Found>>| {
                    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.strong_count() == 0
                };
                !(is_free && has_gone(slot))
            });
            let key = (reference.to_owned(), platform.clone());
            slots.entry(key).or_default().clone()
        };
        let mut slot = loop {
            match slot.try_lock() {
                Ok(slot) => break slot,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if cancel.is_cancelled() => {
                    return Err(Error::Cancelled);
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK_INTERVAL),
            }
        };
        if let Some(found) = slot.upgrade() {
            return Ok(found);
        }
        let found = Arc::new(find()?);
        *slot = Arc::downgrade(&found);
        Ok(found)
    }
}

impl Coming {
    /// The image that a reference with a digest means.
    pub(crate) fn get(&self, reference: &str, platform: &Platform) -> Option<&Found> {
        let (_, digest) = reference.split_once('@')?;
        let digest: Digest = digest.parse().ok()?;
        let known = || self.found.iter().filter(|(known, ..)| *known == digest);
        let exact = known().find(|(_, known, _)| known == platform);
        // One of them may be without the variant that is the usual one.
        let similar = |(_, known, _): &&(Digest, Platform, Arc<Found>)| {
            (&known.os, &known.architecture) == (&platform.os, &platform.architecture)
        };
        let (.., found) = exact.or_else(|| known().find(similar))?;
        Some(found)
    }

    /// Keeps what was looked up for the next build. This one is as good without that.
    pub(crate) fn keep(&self, images: &Images) {
        for (.., found) in &self.found {
            if let Err(error) = images.keep_documents(&found.arrival) {
                tracing::debug!(%error, "the documents of an image are not kept");
            }
        }
    }

    /// One image may have several names.
    fn add(&mut self, found: Arc<Found>, platform: &Platform) {
        let digest = found.arrival.target.digest;
        let mut known = self.found.iter_mut();
        let known = known.find(|(known, at, _)| *known == digest && at == platform);
        let Some((.., known)) = known else {
            self.found.push((digest, platform.clone(), found));
            return;
        };
        for name in &found.arrival.names {
            if !known.arrival.names.contains(name) {
                Arc::make_mut(known).arrival.names.push(name.clone());
            }
        }
    }
}

/// Where images are looked for.
pub(crate) struct LookUp<'l> {
    pub(crate) images: &'l Images,
    pub(crate) remote: &'l Remote,
    pub(crate) others: &'l LookedUp,
    /// Whether the registry decides also what a name of the store means.
    pub(crate) is_pull: bool,
    pub(crate) cancel: &'l CancelToken,
}

impl LookUp<'_> {
    /// Looks up several images at once.
    ///
    /// # Errors
    /// [`Error::NotPulled`], [`Error::Registry`], [`Error::BadImage`] with the line to blame.
    pub(super) fn all<'r>(
        &self,
        requests: &'r [ImageRequest],
        coming: &mut Coming,
        progress: &Progress,
    ) -> Result<Vec<(&'r ImageRequest, ResolvedImage)>> {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let look_up = |request: &'r ImageRequest| {
                let step = progress.step(request.log_name.as_str());
                scope.spawn(move || {
                    let found = self.one(request, &step);
                    step.end(found)
                })
            };
            let threads: Vec<_> = requests.iter().map(look_up).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut resolved = Vec::new();
        for (request, outcome) in requests.iter().zip(outcomes) {
            let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (image, found) = outcome.map_err(|error| error.at(vec![request.span]))?;
            if let Some(found) = found {
                coming.add(found, &source_platform(&request.platform));
            }
            resolved.push((request, image));
        }
        Ok(resolved)
    }

    fn one(
        &self,
        request: &ImageRequest,
        step: &Step,
    ) -> Result<(ResolvedImage, Option<Arc<Found>>)> {
        let reference = &request.reference;
        let platform: Platform = source_platform(&request.platform);
        if request.layout.is_some() {
            // The frontend has taken it in already, and nobody else has it.
            let target = self.images.resolve(reference)?;
            let target = target.ok_or_else(|| Error::NoImage {
                reference: familiar(reference),
            })?;
            let image = self.images.open(reference, &target, &platform)?;
            return Ok((resolved(image.config_bytes, target.digest), None));
        }
        if !self.is_pull
            && let Some((target, image)) = self.images.find(reference, &platform)?
        {
            return Ok((resolved(image.config_bytes, target.digest), None));
        }
        let find = || {
            let reporter = step.reporter();
            let wanted = (&platform, true);
            self.remote
                .look_up(self.images, reference, wanted, &reporter, self.cancel)
        };
        let found = match self.is_pull {
            true => find().map(Arc::new),
            false => self.others.get(reference, &platform, self.cancel, find),
        };
        // What no registry knows may be here for another platform: better than nothing.
        if !self.is_pull
            && let Err(Error::Registry(_)) = found
            && let Some((target, image)) = self.images.find_any(reference, &platform)?
        {
            return Ok((resolved(image.config_bytes, target.digest), None));
        }
        let found = found.map_err(|error| match error {
            Error::Registry(source) if !self.is_pull => Error::NotPulled {
                reference: familiar(reference),
                source: Box::new(source),
            },
            other => other,
        })?;
        let (config, digest) = (
            found.image.config_bytes.clone(),
            found.arrival.target.digest,
        );
        Ok((resolved(config, digest), Some(found)))
    }
}

fn resolved(config: Vec<u8>, digest: Digest) -> ResolvedImage {
    ResolvedImage {
        config,
        digest: Some(digest.to_string()),
    }
}
