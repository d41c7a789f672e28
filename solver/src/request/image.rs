//! Images to write: where to, and how they look.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use super::Destination;
use crate::error::Result;

pub use layer::Compression;

/// An image to write into a file or directory, or to hand to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// In which form.
    pub format: ImageFormat,
    /// Where to.
    pub destination: Destination,
    /// A directory (`tar=false`) instead of an archive.
    pub is_directory: bool,
    /// Names in the index; those of `-t` when empty.
    pub names: Vec<String>,
    /// How it looks; layers are compressed with gzip unless something else is said.
    pub attributes: ImageAttributes,
}

/// The form of an exported image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// OCI image layout.
    Oci,
    /// OCI image layout with docker's `manifest.json` beside it.
    Docker,
}

/// An image to keep in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOutput {
    /// Its names; those of `-t` when empty.
    pub names: Vec<String>,
    /// How it looks; layers are not compressed unless something is said.
    pub attributes: ImageAttributes,
    /// One more name, `<prefix>@<digest>`, for an image that may have no other.
    pub dangling_prefix: Option<String>,
    /// The dangling name only if there is no other.
    pub dangling_empty_only: bool,
    /// An image that gets no name, and has none, is kept without one.
    pub keeps_unnamed: bool,
    /// One more name for each, `<name>@<digest>`.
    pub is_canonical: bool,
    /// `store=false`: it is only made, and told of.
    pub is_unnamed: bool,
}

/// An image to push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryOutput {
    /// Names with their registries; those of `-t` when empty.
    pub names: Vec<String>,
    /// Push under the digest alone.
    pub by_digest: bool,
    /// Whether the registry need not prove who it is.
    pub is_insecure: bool,
    /// How it looks; layers are compressed with gzip unless something else is said.
    pub attributes: ImageAttributes,
}

/// How an image looks from outside (BuildKit's `exptypes/keys.go`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageAttributes {
    /// How layers are compressed; what suits the output when `None`.
    pub compression: Option<Compression>,
    /// How hard; the usual level when `None`.
    pub compression_level: Option<i32>,
    /// Compress the layers of the base anew, if they are compressed in another way.
    pub force_compression: bool,
    /// `oci-mediatypes=false`: docker's types of manifests, configs and layers.
    pub docker_media_types: bool,
    /// Keep types of layers that say they must not be distributed.
    pub keeps_nondistributable: bool,
    /// In place of the build's SOURCE_DATE_EPOCH; `Some(None)` for none.
    pub epoch: Option<Option<i64>>,
    /// Whether files are not newer than SOURCE_DATE_EPOCH; they are, if there is one, when `None`.
    pub rewrite_timestamp: Option<bool>,
    /// Notes.
    pub annotations: Vec<Annotation>,
}

/// A note on an image (OCI image-spec, annotations.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// On what.
    pub target: AnnotationTarget,
    /// On that of one platform only.
    pub platform: Option<llb::Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Annotation {
    /// A note, on that of a platform if one is named.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] names what is wrong with the platform.
    pub fn new(
        target: AnnotationTarget,
        platform: Option<&str>,
        key: String,
        value: String,
    ) -> Result<Self> {
        Ok(Annotation {
            target,
            platform: crate::frontend::platform(platform)?,
            key,
            value,
        })
    }
}

/// What a note is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationTarget {
    /// The manifest of each platform.
    Manifest,
    /// What refers to that manifest.
    ManifestDescriptor,
    /// The index of several platforms.
    Index,
    /// What refers to the index.
    IndexDescriptor,
}

/// Somebody who takes an archive: an engine with images of its own.
pub trait Receiver: fmt::Debug + Send + Sync {
    /// Who it is, for a person: `docker`.
    fn name(&self) -> &str;

    /// Begins to hand over an archive.
    ///
    /// # Errors
    /// It does not answer.
    fn begin(&self) -> io::Result<Box<dyn Handover>>;
}

/// An archive on its way. What is dropped before its end is given up.
pub trait Handover: Write + Send {
    /// Ends it; what the receiver says.
    ///
    /// # Errors
    /// What the receiver has against it.
    fn finish(self: Box<Self>) -> io::Result<String>;

    /// Why it broke off, if the receiver has told: better than "broken pipe".
    fn failure(&mut self) -> Option<io::Error>;
}

/// A shared [`Receiver`]; two are equal if they are the same one.
#[derive(Clone, Debug)]
pub struct SharedReceiver(pub Arc<dyn Receiver>);

impl PartialEq for SharedReceiver {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedReceiver {}
