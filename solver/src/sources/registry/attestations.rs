//! What an index has beside the image of a platform: what BuildKit says of how it was made, and
//! what is in it. Small, and part of what a push or an archive of the image has to have again.

use bytes::Bytes;
use engine::CancelToken;
use registry::{ManifestReference, Repository};

use super::{CONFIG_BYTES_MAX, Found, Remote, remote, split};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::images::document::{self, Descriptor, Index, Manifest};
use crate::progress::Reporter;

/// Largest part of an attestation that is fetched: a list of all files of a large image has tens of
/// megabytes. It is in memory at once.
const PART_BYTES_MAX: u64 = 64 << 20;

impl Remote {
    /// Adds the attestations of an image that was found. Those that cannot be fetched are left
    /// out with a warning: the image can be used without them.
    ///
    /// # Errors
    /// [`Error::BadImage`], [`Error::Cancelled`]; those of the store.
    pub(crate) fn with_attestations(
        &self,
        images: &Images,
        name: &str,
        mut found: Found,
        (reporter, cancel): (&Reporter, &CancelToken),
    ) -> Result<Found> {
        let (repository, _) = split(name)?;
        let wanted = attestations(name, &found)?;
        let _told = self.retries.tell(&repository, reporter);
        for attestation in wanted {
            let parts = self.attestation(images, &repository, name, &attestation, cancel);
            match parts {
                Ok(parts) => found.arrival.documents.extend(parts),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => reporter.warn(format!(
                    "attestation {} of {name} is left out: {error}",
                    attestation.digest
                )),
            }
        }
        Ok(found)
    }

    /// Manifest, config and statements of an attestation, from the store as far as they are there.
    fn attestation(
        &self,
        images: &Images,
        repository: &Repository,
        name: &str,
        attestation: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Vec<Bytes>> {
        let kept = |part: &Descriptor| -> Result<Option<Bytes>> {
            let content = images.content();
            let Some(located) = content.find(part.digest)? else {
                return Ok(None);
            };
            let bytes = content.store().objects().read_all(located.blob)?;
            Ok(Some(bytes.into()))
        };
        let manifest = match kept(attestation)? {
            Some(bytes) => bytes,
            None => {
                let reference = ManifestReference::Digest(remote(attestation.digest)?);
                let fetched = self.client.manifest(repository, &reference);
                self.wait(cancel, fetched)?.bytes
            }
        };
        let read: Manifest = document::parse(name, &manifest)?;
        let mut parts = vec![manifest];
        let with_limits = read.layers.iter().map(|layer| (layer, PART_BYTES_MAX));
        for (part, limit) in with_limits.chain([(&read.config, CONFIG_BYTES_MAX)]) {
            if let Some(bytes) = kept(part)? {
                parts.push(bytes);
                continue;
            }
            let digest = remote(part.digest)?;
            let bytes = self
                .client
                .blob_bytes(repository, &digest, Some(part.size), limit);
            parts.push(self.wait(cancel, bytes)?);
        }
        Ok(parts)
    }
}

/// The attestations of an image that the indexes on the way to it list.
fn attestations(name: &str, found: &Found) -> Result<Vec<Descriptor>> {
    let is_wanted = |listed: &Descriptor| {
        let is_about = |digest: Digest| digest == found.image.digest;
        listed.is_attestation() && listed.attested().is_none_or(is_about)
    };
    let mut wanted = Vec::new();
    for bytes in &found.arrival.documents {
        if document::is_index(bytes) {
            let index: Index = document::parse(name, bytes)?;
            wanted.extend(index.manifests.into_iter().filter(&is_wanted));
        }
    }
    Ok(wanted)
}
