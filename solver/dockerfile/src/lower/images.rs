//! Images that a Dockerfile builds on: what is asked for and what was found.

use std::collections::BTreeMap;

use llb::Platform;

use crate::error::Span;

/// An image whose configuration is needed before lowering can go on.
///
/// Two requests are equal when they ask for the same; their place and their name do not count.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// Normalised reference: registry, repository, and a tag or a digest or both. Of an OCI layout
    /// its digest is what counts; the rest is for people.
    pub reference: String,
    /// The OCI layout to look in; a registry (or what was imported from one) when `None`.
    pub layout: Option<String>,
    /// Which entry of an index.
    pub platform: Platform,
    /// What people are shown while it is looked for, in BuildKit's words.
    pub log_name: String,
    /// The lines that name the image.
    pub span: Span,
}

impl ImageRequest {
    pub(super) fn key(&self) -> Key {
        (
            self.reference.clone(),
            self.layout.clone(),
            self.platform.normalized(),
        )
    }
}

impl PartialEq for ImageRequest {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ImageRequest {}

/// What makes two requests the same.
pub(super) type Key = (String, Option<String>, Platform);

/// What was found for an [`ImageRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The image configuration, as it is stored.
    pub config: Vec<u8>,
    /// Digest of the manifest or index that the reference means: `sha256:…`. The graph is pinned
    /// to it.
    pub digest: Option<String>,
}

/// All images that were found so far.
#[derive(Debug, Clone, Default)]
pub struct ResolvedImages(BTreeMap<Key, ResolvedImage>);

impl ResolvedImages {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was found for a request.
    pub fn insert(&mut self, request: &ImageRequest, image: ResolvedImage) {
        self.0.insert(request.key(), image);
    }

    /// What was found for a request.
    pub fn get(&self, request: &ImageRequest) -> Option<&ResolvedImage> {
        self.0.get(&request.key())
    }
}
