//! Documents of images that were looked up at a registry, and whose layers nobody needed:
//! everything above them was in the cache. They are kept, so that the next build only asks what a
//! tag means.

use bytes::Bytes;
use snapshotter::leases::{self, Lease};
use store::Batch;

use super::Images;
use super::arrival::Arrival;
use super::document::{self, Descriptor, Index, Manifest, Platform};
use crate::cache::now;
use crate::content::Digest;
use crate::error::Result;

/// Leases of such documents; they only make later builds faster.
pub const LEASE_PREFIX: &str = "lookup/";

/// Images of which documents are kept; some ten KB each.
const KEPT_MAX: usize = 256;

impl Images {
    /// The documents of an image of the store that `target` leads to: indexes, manifest, config.
    ///
    /// # Errors
    /// As [`Images::open`].
    pub(crate) fn documents(
        &self,
        what: &str,
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<Vec<Bytes>> {
        let mut documents = Vec::new();
        let digest = self.choose(what, target, platform, &|digest| {
            self.content.document(what, digest)
        })?;
        let mut next = target.digest;
        while next != digest {
            let bytes = self.content.document(what, next)?;
            let index: Index = document::parse(what, &bytes)?;
            next = index.choose_for(what, platform)?.digest;
            documents.push(bytes.into());
        }
        let bytes = self.content.document(what, digest)?;
        let manifest: Manifest = document::parse(what, &bytes)?;
        documents.push(bytes.into());
        let config = self.content.document(what, manifest.config.digest)?;
        documents.push(config.into());
        Ok(documents)
    }

    /// Keeps the documents of an image unless they are here. Those of the image that was kept first
    /// go when there are too many.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn keep_documents(&self, arrival: &Arrival) -> Result<()> {
        let digests: Vec<_> = arrival
            .documents
            .iter()
            .map(|one| Digest::of(one))
            .collect();
        let Some(config) = digests.last() else {
            return Ok(());
        };
        let mut is_here = true;
        for digest in &digests {
            is_here &= self.content.find(*digest)?.is_some();
        }
        if is_here {
            return Ok(());
        }
        let ingest = self.content.begin();
        let mut batch = Batch::new();
        let references = self.arrive(arrival, &ingest, &mut batch)?;
        let mut known = leases::all(self.store(), LEASE_PREFIX)?;
        known.sort_by_key(|lease| lease.created);
        for lease in known.iter().rev().skip(KEPT_MAX - 1) {
            leases::delete(&mut batch, &lease.id);
        }
        // The config tells platforms of one index apart.
        let lease = Lease {
            id: format!("{LEASE_PREFIX}{config}"),
            created: now(),
            references,
        };
        leases::put(&mut batch, &lease);
        Ok(ingest.commit(batch)?)
    }
}
