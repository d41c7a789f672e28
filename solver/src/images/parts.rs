//! What of an index is in the store. Of an index that was pulled, often one platform is; what
//! leaves the store must not name what cannot follow.

use std::collections::BTreeSet;

use super::Images;
use super::document::{self, Descriptor, Index, Manifest};
use crate::content::Digest;
use crate::error::{Error, Result};

/// Images and attestations that an index leads to, through other indexes too.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Images that are here.
    pub(crate) images: Vec<Descriptor>,
    /// Attestations that are here, of images that are.
    pub(crate) attestations: usize,
    /// Images that are not here, and indexes of which nothing is known.
    missing: Vec<Descriptor>,
    /// Attestations that are not here, or of images that are not.
    unattested: Vec<Descriptor>,
}

impl Parts {
    /// Whether all that the index leads to is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unattested.is_empty()
    }

    /// Whether images are missing, and not just attestations.
    pub(crate) fn lacks_images(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The images that are here, as a person knows them.
    pub(crate) fn here(&self) -> String {
        names(&self.images)
    }

    /// The same of those that are not.
    pub(crate) fn elsewhere(&self) -> String {
        names(&self.missing)
    }

    /// What an index that names only what is here has to leave out.
    pub(crate) fn left_out(&self) -> BTreeSet<Digest> {
        let all = self.missing.iter().chain(&self.unattested);
        all.map(|one| one.digest).collect()
    }

    /// What an index that names only `wanted`, and their attestations, has to leave out.
    pub(crate) fn all_but(&self, index: &Index, wanted: &[Digest]) -> BTreeSet<Digest> {
        let images = self.images.iter().map(|one| one.digest);
        let mut out: BTreeSet<_> = images.filter(|one| !wanted.contains(one)).collect();
        let listed = index.manifests.iter().filter(|one| one.is_attestation());
        let others = listed.filter(|one| {
            let attested = one.attested();
            attested.is_none_or(|image| !wanted.contains(&image))
        });
        out.extend(others.map(|one| one.digest));
        out.extend(self.left_out());
        out
    }

    /// What is to leave the store: the only image, if there is nothing beside it, else the index
    /// without what is not here.
    pub(crate) fn reduced(&self, index: &Descriptor) -> (Descriptor, BTreeSet<Digest>) {
        match self.images.as_slice() {
            [only] if self.attestations == 0 && !self.is_whole() => (only.clone(), BTreeSet::new()),
            _ => (index.clone(), self.left_out()),
        }
    }
}

/// Platforms, or digests where none is said.
fn names(all: &[Descriptor]) -> String {
    let name = |one: &Descriptor| match &one.platform {
        Some(platform) => platform.to_string(),
        None => one.digest.to_string(),
    };
    all.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Images {
    /// What is here of all that an index leads to.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::BadImage`] for broken documents; database errors.
    pub(crate) fn parts(&self, what: &str, index: &Index) -> Result<Parts> {
        let (mut parts, mut attestations) = (Parts::default(), Vec::new());
        self.add_parts(what, index, 0, (&mut parts, &mut attestations))?;
        for attestation in attestations {
            let is_missing =
                |digest: Digest| parts.missing.iter().any(|image| image.digest == digest);
            let is_of_missing = attestation.attested().is_some_and(is_missing);
            if is_of_missing || !self.is_complete(what, &attestation)? {
                parts.unattested.push(attestation);
            } else {
                parts.attestations += 1;
            }
        }
        Ok(parts)
    }

    fn add_parts(
        &self,
        what: &str,
        index: &Index,
        depth: usize,
        (parts, attestations): (&mut Parts, &mut Vec<Descriptor>),
    ) -> Result<()> {
        if depth > document::INDEX_DEPTH_MAX {
            let reason = "its indexes are nested too deeply";
            return Err(Error::bad_image(what, reason));
        }
        for listed in &index.manifests {
            if listed.is_attestation() {
                attestations.push(listed.clone());
                continue;
            }
            if self.content.find(listed.digest)?.is_none() {
                parts.missing.push(listed.clone());
                continue;
            }
            let bytes = self.content.document(what, listed.digest)?;
            if document::is_index(&bytes) {
                let index: Index = document::parse(what, &bytes)?;
                self.add_parts(what, &index, depth + 1, (parts, attestations))?;
                continue;
            }
            let manifest: Manifest = document::parse(what, &bytes)?;
            match self.content.find(manifest.config.digest)? {
                Some(_) => parts.images.push(listed.clone()),
                None => parts.missing.push(listed.clone()),
            }
        }
        Ok(())
    }

    /// Whether a manifest is here with all that it names: nobody can make again what an
    /// attestation says.
    fn is_complete(&self, what: &str, manifest: &Descriptor) -> Result<bool> {
        if self.content.find(manifest.digest)?.is_none() {
            return Ok(false);
        }
        let bytes = self.content.document(what, manifest.digest)?;
        let manifest: Manifest = document::parse(what, &bytes)?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            if self.content.find(part.digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
