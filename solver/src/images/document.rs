//! OCI documents, as far as they are read here. What is written again is kept as bytes: reading
//! and writing would lose unknown fields and change the digest.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content::Digest;
use crate::error::{Error, Result};

/// Media type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a gzip layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of a layer that is not compressed.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Annotation of a descriptor in an index, and its value for an attestation.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
/// Annotation that says which manifest such a one is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// What docker's types of layers begin with.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.";

/// Deepest nesting of indexes that is followed when an image is taken in.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Most layers of an image; overlayfs itself ends at 500 and docker at 127, flat images at none.
const LAYERS_MAX: usize = 1_024;
/// Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A reference to content (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Notes beside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: for which platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where else it is, for layers that may not be in registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether an index says that it is about another image of the index: what BuildKit adds of
    /// how that was made.
    pub fn is_attestation(&self) -> bool {
        let kind = self.annotations.get(REFERENCE_TYPE);
        let is_for_no_machine = |platform: &Platform| platform.os == "unknown";
        kind.is_some_and(|kind| kind == ATTESTATION)
            || self.platform.as_ref().is_some_and(is_for_no_machine)
    }

    /// The manifest that an attestation says it is about.
    pub fn attested(&self) -> Option<Digest> {
        self.annotations.get(REFERENCE_DIGEST)?.parse().ok()
    }

    /// A descriptor without notes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        let annotations = BTreeMap::new();
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            annotations,
            platform: None,
            urls: Vec::new(),
        }
    }
}

/// What a program runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH value.
    pub architecture: String,
    /// GOOS value.
    pub os: String,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// An index, or docker's manifest list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What it says it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// Notes on the whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The manifest for a platform; the only one if it says nothing of platforms.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let fits = |found: &Platform| {
            found.os == platform.os
                && found.architecture == platform.architecture
                && (found.variant == platform.variant
                    || found.variant.is_empty()
                    || platform.variant.is_empty())
        };
        let fitting = || {
            let manifests = self.manifests.iter();
            manifests.filter(|one| one.platform.as_ref().is_some_and(fits))
        };
        // The very variant first: an index may have v6 before v7.
        let exact = |one: &&Descriptor| one.platform.as_ref() == Some(platform);
        let chosen = fitting().find(exact).or_else(|| fitting().next());
        chosen.or(match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        })
    }

    /// The same, or an error that tells what there is.
    ///
    /// # Errors
    /// [`Error::NoPlatform`].
    pub fn choose_for(&self, what: &str, platform: &Platform) -> Result<&Descriptor> {
        self.choose(platform).ok_or_else(|| Error::NoPlatform {
            what: what.to_owned(),
            platform: platform.to_string(),
            there: self.platforms().join(", "),
        })
    }

    /// The platforms it lists, without those of attestations, which are for no machine.
    pub fn platforms(&self) -> Vec<String> {
        self.manifests
            .iter()
            .flat_map(|one| &one.platform)
            .filter(|platform| platform.os != "unknown")
            .map(ToString::to_string)
            .collect()
    }
}

/// An image manifest, OCI's or docker's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it says it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it is if it is no image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes on the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The parts of an image config that storage needs and `run` uses.
#[derive(Clone, Debug, Deserialize)]
pub struct ImageConfig {
    /// GOARCH value.
    #[serde(default)]
    pub architecture: String,
    /// GOOS value.
    #[serde(default)]
    pub os: String,
    /// CPU variant.
    #[serde(default)]
    pub variant: String,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// How to run it.
    #[serde(default)]
    pub config: RunConfig,
    /// Its layers.
    #[serde(default)]
    pub rootfs: RootFs,
}

impl ImageConfig {
    /// What the image runs on, if it says so; old ones do not.
    pub fn platform(&self) -> Option<Platform> {
        let says = !self.architecture.is_empty() && !self.os.is_empty();
        says.then(|| Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
        })
    }

    /// Whether it does not say that it is for another platform.
    pub fn is_for(&self, platform: &Platform) -> bool {
        self.platform().is_none_or(|own| {
            (&own.architecture, &own.os) == (&platform.architecture, &platform.os)
        })
    }
}

/// How to run an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`.
    pub user: String,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Program.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the program.
    pub cmd: Option<Vec<String>>,
    /// Working directory.
    pub working_dir: String,
    /// Directories whose content is no part of what is run, by their paths; the values are empty.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Whether a layer's media type is one of docker's words.
pub(crate) fn is_docker_layer(media_type: &str) -> bool {
    media_type.starts_with(DOCKER_LAYER)
}

/// The media type of a layer with that compression, in OCI's words or in docker's; types that say
/// the layer must not be distributed only where that is kept.
pub fn layer_type(media_type: &str, is_docker: bool, keeps_nondistributable: bool) -> String {
    let Some(compression) = layer::Compression::from_media_type(media_type) else {
        return media_type.into();
    };
    // Of docker's own there is but one.
    let is_restricted = keeps_nondistributable
        && (!is_docker || compression == layer::Compression::Gzip)
        && (media_type.contains("nondistributable") || media_type.contains(".foreign."));
    let suffix = match compression {
        layer::Compression::None => "",
        layer::Compression::Gzip => "gzip",
        layer::Compression::Zstd => "zstd",
    };
    let (begin, separator) = match (is_docker, is_restricted) {
        (true, false) => (format!("{DOCKER_LAYER}diff.tar"), "."),
        (true, true) => (format!("{DOCKER_LAYER}foreign.diff.tar"), "."),
        (false, false) => (LAYER_TAR.to_owned(), "+"),
        (false, true) => (LAYER_TAR.replace("layer.", "layer.nondistributable."), "+"),
    };
    match suffix {
        "" => begin,
        suffix => format!("{begin}{separator}{suffix}"),
    }
}

/// Reads a JSON document.
///
/// # Errors
/// [`Error::Json`].
pub fn parse<'d, T: Deserialize<'d>>(what: &str, bytes: &'d [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json {
        what: what.into(),
        source,
    })
}

/// Writes a manifest or index, on many lines as BuildKit does.
///
/// # Errors
/// [`Error::Json`].
pub fn write(what: &str, document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(document).map_err(|source| Error::Json {
        what: what.into(),
        source,
    })
}

/// An index as it leaves the store: what `each` gives stands for what is listed, and what it gives
/// nothing for is left out. `None` if it stays as it is.
///
/// # Errors
/// [`Error::Json`]; those of `each`.
pub(crate) fn index_as(
    what: &str,
    bytes: &[u8],
    mut each: impl FnMut(&Descriptor) -> Result<Option<Descriptor>>,
) -> Result<Option<Vec<u8>>> {
    let mut index: Index = parse(what, bytes)?;
    let mut is_changed = false;
    let mut manifests = Vec::with_capacity(index.manifests.len());
    for listed in &index.manifests {
        let written = each(listed)?;
        is_changed |= written
            .as_ref()
            .is_none_or(|one| one.digest != listed.digest);
        manifests.extend(written);
    }
    index.manifests = manifests;
    let changed = is_changed.then(|| write("image index", &index));
    changed.transpose()
}

/// Checks that a manifest and its config belong together and can be unpacked.
///
/// # Errors
/// [`Error::Json`], [`Error::BadImage`].
pub fn check(what: &str, manifest: &Manifest, config: &[u8]) -> Result<ImageConfig> {
    check_image(what, manifest, config).map_err(|error| {
        // Old programs call the config of an image anything; so it counts only where that is none.
        let kind = &manifest.config.media_type;
        if matches!(kind.as_str(), CONFIG | DOCKER_CONFIG) {
            return error;
        }
        let kind = match manifest.artifact_type.as_str() {
            "" => kind,
            kind => kind,
        };
        let kind = kind.escape_debug();
        Error::bad_image(
            what,
            format!("it is no image but an artifact of the type {kind}"),
        )
    })
}

fn check_image(what: &str, manifest: &Manifest, config: &[u8]) -> Result<ImageConfig> {
    let config: ImageConfig = parse(&format!("image config in {what}"), config)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids || layers > LAYERS_MAX {
        let reason = format!("its manifest has {layers} layers, its config {diff_ids}");
        return Err(Error::bad_image(what, reason));
    }
    for layer in &manifest.layers {
        if layer::Compression::from_media_type(&layer.media_type).is_none() {
            let reason = format!(
                "layer {} has the unknown type {}",
                layer.digest, layer.media_type
            );
            return Err(Error::bad_image(what, reason));
        }
    }
    Ok(config)
}

/// Whether a document lists manifests.
pub fn is_index(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes)
        .is_ok_and(|document| document.get("manifests").is_some())
}

/// The media type of a manifest or index: what it says, or what it looks like.
///
/// # Errors
/// [`Error::Json`].
pub fn media_type_of(what: &str, bytes: &[u8]) -> Result<String> {
    let document: serde_json::Value = parse(what, bytes)?;
    Ok(
        match document
            .get("mediaType")
            .and_then(|media_type| media_type.as_str())
        {
            Some(media_type) => media_type.to_owned(),
            None if document.get("manifests").is_some() => INDEX.into(),
            None => MANIFEST.into(),
        },
    )
}

/// Whether a media type is that of an index.
pub fn is_index_type(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_LIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
        let text = str::to_owned;
        Platform {
            os: text(os),
            architecture: text(architecture),
            variant: text(variant),
        }
    }

    fn index(platforms: &[Option<Platform>]) -> Index {
        let manifests = platforms
            .iter()
            .enumerate()
            .map(|(number, platform)| Descriptor {
                platform: platform.clone(),
                ..Descriptor::new(MANIFEST, Digest::of(&[number as u8]), 1)
            });
        Index {
            schema_version: 2,
            media_type: INDEX.into(),
            manifests: manifests.collect(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn an_index_gives_the_manifest_of_the_platform() {
        let arm = platform("linux", "arm64", "v8");
        let index = index(&[Some(platform("linux", "amd64", "")), Some(arm)]);
        let chosen = |wanted: Platform| index.choose(&wanted).map(|found| found.digest);
        assert_eq!(
            chosen(platform("linux", "arm64", "")),
            Some(Digest::of(&[1]))
        );
        assert_eq!(
            chosen(platform("linux", "amd64", "")),
            Some(Digest::of(&[0]))
        );
        assert_eq!(chosen(platform("linux", "s390x", "")), None);
        assert_eq!(chosen(platform("windows", "amd64", "")), None);
    }

    #[test]
    fn a_single_manifest_without_a_platform_is_for_all() {
        let wanted = platform("linux", "amd64", "");
        assert!(index(&[None]).choose(&wanted).is_some());
        assert!(index(&[None, None]).choose(&wanted).is_none());
    }

    #[test]
    fn layer_types_are_translated_both_ways() {
        let oci = "application/vnd.oci.image.layer.v1.tar+gzip";
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let restricted = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        for (from, is_docker, keeps, to) in [
            (oci, false, false, oci),
            (oci, true, false, docker),
            (docker, false, false, oci),
            (docker, true, true, docker),
            (foreign, false, false, oci),
            (foreign, false, true, restricted),
            (foreign, true, true, foreign),
            (restricted, true, true, foreign),
            (restricted, true, false, docker),
            (
                LAYER_TAR,
                true,
                false,
                "application/vnd.docker.image.rootfs.diff.tar",
            ),
            ("text/plain", true, false, "text/plain"),
        ] {
            assert_eq!(
                layer_type(from, is_docker, keeps),
                to,
                "{from} {is_docker} {keeps}"
            );
        }
    }

    #[test]
    fn an_artifact_is_called_what_it_is() {
        let check = |kind: &str, artifact_type: &str, layers: usize, config: &str| {
            let layer = Descriptor::new("application/vnd.cncf.helm", Digest::of(b"l"), 1);
            let manifest = Manifest {
                schema_version: 2,
                media_type: MANIFEST.into(),
                artifact_type: artifact_type.into(),
                config: Descriptor::new(kind, Digest::of(b"c"), 1),
                layers: vec![layer; layers],
                annotations: BTreeMap::new(),
            };
            let checked = super::check("x", &manifest, config.as_bytes());
            checked.map_err(|error| error.to_string())
        };
        let helm = "application/vnd.cncf.helm.config.v1+json";
        let error = check(helm, "", 1, "{}").unwrap_err();
        assert!(error.contains(&format!("no image but an artifact of the type {helm}")));
        let error = check("application/vnd.oci.empty.v1+json", "text/\u{1b}[1m", 1, "");
        assert!(error.unwrap_err().ends_with("of the type text/\\u{1b}[1m"));
        let error = check(CONFIG, "", 1, "{}").unwrap_err();
        assert!(error.contains("1 layers"), "{error}");
        // As docker 1.10 wrote it.
        check("application/octet-stream", "", 0, "{}").unwrap();
    }

    #[test]
    fn a_manifest_that_contradicts_its_config_is_refused() {
        let config = Descriptor::new(CONFIG, Digest::of(b"c"), 1);
        let manifest = |layers: &[&str]| Manifest {
            schema_version: 2,
            media_type: MANIFEST.into(),
            artifact_type: String::new(),
            config: config.clone(),
            layers: layers
                .iter()
                .map(|t| Descriptor::new(*t, Digest::of(b"l"), 1))
                .collect(),
            annotations: BTreeMap::new(),
        };
        let diff_id = Digest::of(b"d");
        let one = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
        assert!(check("x", &manifest(&[LAYER_GZIP]), one.as_bytes()).is_ok());
        for (layers, config) in [
            (&[LAYER_GZIP, LAYER_TAR][..], &*one),
            (&["text/html"], &*one),
            (&[LAYER_GZIP], "{}"),
            (&[LAYER_GZIP], "not JSON"),
        ] {
            assert!(
                check("x", &manifest(layers), config.as_bytes()).is_err(),
                "{layers:?}"
            );
        }
    }
}
