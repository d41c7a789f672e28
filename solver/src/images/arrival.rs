//! What becomes visible together with the layers of an image that is new here: its documents and
//! its names.

use bytes::Bytes;
use snapshotter::leases::{self, Reference};
use store::{Batch, Ingest};

use super::{Images, lease_id};
use crate::error::Result;
use crate::images::document::Descriptor;

/// An image that comes from elsewhere, without its layers.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// What it is called, in full.
    pub(crate) names: Vec<String>,
    /// Its manifest or index.
    pub(crate) target: Descriptor,
    /// Index, manifest and config, byte by byte.
    pub(crate) documents: Vec<Bytes>,
}

impl Images {
    /// Brings the documents in; what holds them.
    pub(super) fn arrive(
        &self,
        arrival: &Arrival,
        ingest: &Ingest<'_>,
        batch: &mut Batch,
    ) -> Result<Vec<Reference>> {
        let documents = arrival.documents.iter();
        documents
            .map(|bytes| {
                let (_, located) = self.content.put(ingest, batch, bytes)?;
                Ok(Reference::Blob(located.blob))
            })
            .collect()
    }

    /// Gives the image its names.
    pub(super) fn name_arrival(
        &self,
        arrival: Option<&Arrival>,
        batch: &mut Batch,
        held: &[Reference],
    ) -> Result<()> {
        let Some(arrival) = arrival else {
            return Ok(());
        };
        for name in &arrival.names {
            let mut held = held.to_vec();
            for reference in self.held_by(name, &arrival.target)? {
                if !held.contains(&reference) {
                    held.push(reference);
                }
            }
            self.name(batch, name, &arrival.target, held);
        }
        Ok(())
    }

    /// Lets a name stand for another form of the same image, and keep both alive. Nothing happens
    /// if it stands for something else by now.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn rename_target(
        &self,
        name: &str,
        before: &Descriptor,
        target: &Descriptor,
        documents: Vec<Bytes>,
        mut held: Vec<Reference>,
    ) -> Result<()> {
        let ingest = self.content.begin();
        let mut batch = Batch::new();
        let known = self.held_by(name, before)?;
        if known.is_empty() {
            return Ok(());
        }
        let arrival = Arrival {
            names: Vec::new(),
            target: target.clone(),
            documents,
        };
        held.extend(self.arrive(&arrival, &ingest, &mut batch)?);
        held.retain(|reference| !known.contains(reference));
        held.extend(known);
        self.name(&mut batch, name, target, held);
        Ok(ingest.commit(batch)?)
    }

    /// What a name keeps alive if it stands for that target already: the same index may be here
    /// for another platform.
    fn held_by(&self, name: &str, target: &Descriptor) -> Result<Vec<Reference>> {
        let row = self.row(name)?;
        if row.is_none_or(|named| named.target.digest != target.digest) {
            return Ok(Vec::new());
        }
        let id = lease_id(name);
        let leases = leases::all(self.store(), &id)?;
        let lease = leases.into_iter().find(|lease| lease.id == id);
        Ok(lease.map(|lease| lease.references).unwrap_or_default())
    }
}
