//! Which platforms of an image are brought in: `load --platform`.

use std::collections::BTreeSet;

use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::document::{ImageConfig, Index, Platform, is_index_type};

/// The platforms that are wanted, and those that were met.
#[derive(Debug)]
pub(super) struct Wanted<'w> {
    /// All when there are none.
    platforms: &'w [Platform],
    /// What was brought in.
    found: Vec<Platform>,
    /// What there is.
    there: BTreeSet<String>,
}

impl<'w> Wanted<'w> {
    pub(super) fn new(platforms: &'w [Platform]) -> Self {
        Wanted {
            platforms,
            found: Vec::new(),
            there: BTreeSet::new(),
        }
    }

    /// What of an index is not wanted, with the attestations of it.
    pub(super) fn left_out(&mut self, index: &Index) -> BTreeSet<Digest> {
        self.there.extend(index.platforms());
        if self.platforms.is_empty() {
            return BTreeSet::new();
        }
        let chosen = self.platforms.iter();
        let chosen = chosen.filter_map(|platform| index.choose(platform));
        let chosen: BTreeSet<_> = chosen.map(|one| one.digest).collect();
        let is_out = |one: &&crate::images::document::Descriptor| match one.is_attestation() {
            true => one
                .attested()
                .is_none_or(|attested| !chosen.contains(&attested)),
            false => !is_index_type(&one.media_type) && !chosen.contains(&one.digest),
        };
        let out = index.manifests.iter().filter(is_out);
        out.map(|one| one.digest).collect()
    }

    /// An image is brought in.
    pub(super) fn note(&mut self, config: &ImageConfig) {
        match config.platform() {
            Some(platform) => {
                self.there.insert(platform.to_string());
                self.found.push(platform);
            }
            // One that says nothing is for whoever takes it.
            None => self.found.extend(self.platforms.iter().cloned()),
        }
    }

    /// That all of them were there.
    ///
    /// # Errors
    /// [`Error::NoPlatform`].
    pub(super) fn check(&self, what: &str) -> Result<()> {
        let is_found = |wanted: &&Platform| {
            let mut found = self.found.iter();
            found.any(|one| (&one.os, &one.architecture) == (&wanted.os, &wanted.architecture))
        };
        match self.platforms.iter().find(|wanted| !is_found(wanted)) {
            None => Ok(()),
            Some(missing) => Err(Error::NoPlatform {
                what: what.to_owned(),
                platform: missing.to_string(),
                there: Vec::from_iter(self.there.iter().cloned()).join(", "),
            }),
        }
    }
}
