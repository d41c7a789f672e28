//! What a caller asks a build for, and what it gets.

mod image;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use store::TreeRef;

use crate::content::Digest;
use crate::images::document::Descriptor;

pub use self::image::{
    Annotation, AnnotationTarget, Compression, Handover, ImageAttributes, ImageFormat, ImageOutput,
    Receiver, RegistryOutput, SharedReceiver, StoreOutput,
};
pub use dockerfile::ast::NetworkMode;
pub use dockerfile::lower::NoCache;
pub use llb::op::{HostIp, Ulimit};

use crate::agents::Agents;
use crate::secrets::Secrets;

pub use crate::sources::registry::Registries;
pub use crate::sources::remote::{ArchiveSource, GitSource, RemoteSource};

/// One build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where the Dockerfile is read from.
    pub dockerfile: DockerfileSource,
    /// The build context; `None` for a build without one.
    pub context: Option<ContextSource>,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContextSource>,
    /// The stage to build; the last one when `None`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--platform`, each once; the host's when there are none. Several make one index of images.
    pub platforms: Vec<String>,
    /// `--no-cache` and `--no-cache-filter`.
    pub no_cache: NoCache,
    /// Ask registries for images that are in the store already.
    pub pull: bool,
    /// How registries are asked.
    pub registries: Registries,
    /// Network of RUN steps that name none.
    pub network: NetworkMode,
    /// Names for the image in the store, as given by `-t`.
    pub tags: Vec<String>,
    /// What to write.
    pub outputs: Vec<Output>,
    /// What steps get.
    pub steps: StepInputs,
}

impl BuildRequest {
    /// Whether layers go out or are named, and not only files.
    pub(crate) fn has_image(&self) -> bool {
        let is_files =
            |output: &Output| matches!(output, Output::Local { .. } | Output::Tar { .. });
        !self.tags.is_empty() || !self.outputs.iter().all(is_files)
    }
}

/// What the caller gives steps.
#[derive(Clone, Debug, Default)]
pub struct StepInputs {
    /// For `RUN --mount=type=secret`.
    pub secrets: Secrets,
    /// For `RUN --mount=type=ssh`.
    pub agents: Agents,
    /// Size of /dev/shm; the runtime's own when `None`.
    pub shm_size_bytes: Option<u64>,
    /// Limits of the processes.
    pub ulimits: Vec<Ulimit>,
    /// Further lines of /etc/hosts.
    pub extra_hosts: Vec<HostIp>,
    /// Variables of the caller, of which git gets some for `ADD`.
    pub variables: Vec<(OsString, OsString)>,
}

/// What the build context is.
#[derive(Clone, Debug)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Something that is fetched at the beginning of the build.
    Remote(RemoteSource),
    /// A tree of the store, which is what something fetched becomes.
    Tree(TreeRef),
}

/// Where a Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file of a context that is fetched; `Dockerfile` or `dockerfile` when `None`.
    InContext(Option<String>),
    /// A file. A `<file>.dockerignore` beside it wins over the context's own.
    File(PathBuf),
    /// Bytes that the caller has read, from standard input.
    Bytes(Vec<u8>),
}

/// What a named context stands for.
#[derive(Clone, Debug)]
pub enum NamedContextSource {
    /// A local directory.
    Directory(PathBuf),
    /// Something that is fetched at the beginning of the build.
    Remote(RemoteSource),
    /// A tree of the store, which is what something fetched becomes.
    Tree(TreeRef),
    /// An image of the store or of a registry, by reference.
    Image(String),
    /// An image of an OCI layout (or archive): `path`, then a tag or a digest if it has several.
    Layout {
        /// The directory or archive file.
        path: PathBuf,
        /// Which tag.
        tag: Option<String>,
        /// Which digest.
        digest: Option<Digest>,
    },
}

/// One thing to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To registries.
    Registry(RegistryOutput),
    /// An OCI image layout, or an archive that `docker load` takes.
    Image(ImageOutput),
    /// An image in the store.
    Store(StoreOutput),
    /// The files, into a directory.
    Local {
        /// Made if missing.
        directory: PathBuf,
        /// Whether files of other origin go.
        deletes_others: bool,
        /// In place of the build's SOURCE_DATE_EPOCH; `Some(None)` for none.
        epoch: Option<Option<i64>>,
        /// Whether each platform gets a directory; as a rule if there are several.
        platform_split: Option<bool>,
    },
    /// The files, as a tar archive.
    Tar {
        /// Where to.
        destination: Destination,
        /// In place of the build's SOURCE_DATE_EPOCH; `Some(None)` for none.
        epoch: Option<Option<i64>>,
        /// Whether each platform gets a directory; as a rule if there are several.
        platform_split: Option<bool>,
    },
}

/// Where an archive goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file or directory.
    Path(PathBuf),
    /// Standard output of this process.
    Stdout,
    /// An engine with images of its own.
    Engine(SharedReceiver),
    /// A file that is open already: somebody else's standard output.
    Open(OpenFile),
}

/// A file that is open already. Equal to itself alone.
#[derive(Clone, Debug)]
pub struct OpenFile(pub Arc<File>);

impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OpenFile {}

impl Built {
    /// What identifies the image to docker and buildx: the config, or the index.
    pub fn image_id(&self) -> Option<Digest> {
        let target = self.target.as_ref().map(|target| target.digest);
        self.config.or(target)
    }
}

/// What a build gave.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// Digest of the image's config: docker's image id. `None` if no image was asked for, or one
    /// of several platforms.
    pub config: Option<Digest>,
    /// The manifest, or the index of several platforms, of the (last) image that was written or
    /// named.
    pub target: Option<Descriptor>,
    /// Names that the image got in the store, normalised.
    pub names: Vec<String>,
    /// Sentences about the Dockerfile that a person should see.
    pub warnings: Vec<String>,
    /// Layers of the (last) image, lowest first; one platform after the other.
    pub layers: Vec<BuiltLayer>,
}

/// A layer of an image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, as it is in the manifest.
    pub size: u64,
    /// The entry of the image's history that goes with it. Values of build arguments are in it.
    pub created_by: String,
    /// Whether it came with the base image.
    pub is_base: bool,
    /// For which platform, if there are several.
    pub platform: Option<String>,
}
