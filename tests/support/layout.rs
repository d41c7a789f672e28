//! An exported OCI image layout, read the way the image specification describes it and with no
//! code of varve.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::EntryType;

/// A layout directory with one image.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
    manifest: Value,
    manifest_digest: String,
    config: Value,
}

/// An entry of a layer's tar archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// Without a leading `./` and a trailing `/`.
    pub path: String,
    /// Its kind.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
    /// Seconds since the epoch.
    pub mtime: u64,
    /// Target of a link.
    pub link: Option<String>,
    /// Content.
    pub body: Vec<u8>,
}

impl Layout {
    /// Opens a layout directory.
    ///
    /// # Panics
    /// It is none, it has not one image, or a blob has not its digest.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let version = parse(&read(&directory.join("oci-layout")));
        assert_eq!(version["imageLayoutVersion"], "1.0.0");
        let index = parse(&read(&directory.join("index.json")));
        let manifests = index["manifests"]
            .as_array()
            .expect("an index has manifests");
        assert_eq!(manifests.len(), 1, "one image: {index}");
        Self::of_manifest(directory, &manifests[0])
    }

    fn of_manifest(directory: &Path, descriptor: &Value) -> Self {
        let manifest = parse(&blob(directory, descriptor));
        let config = parse(&blob(directory, &manifest["config"]));
        Layout {
            directory: directory.to_owned(),
            manifest_digest: descriptor["digest"].as_str().expect("a digest").to_owned(),
            manifest,
            config,
        }
    }

    /// Opens a layout directory with one image of several platforms: its index, and for each
    /// platform of that the descriptor and the image.
    ///
    /// # Panics
    /// As [`Layout::open`].
    #[must_use]
    pub fn open_index(directory: &Path) -> (Value, Vec<(Value, Self)>) {
        let outer = parse(&read(&directory.join("index.json")));
        let listed = outer["manifests"]
            .as_array()
            .expect("an index has manifests");
        assert_eq!(listed.len(), 1, "one image: {outer}");
        let index = parse(&blob(directory, &listed[0]));
        let manifests = index["manifests"]
            .as_array()
            .expect("an index has manifests");
        let image = |descriptor: &Value| {
            let image = Self::of_manifest(directory, descriptor);
            (descriptor.clone(), image)
        };
        let images = manifests.iter().map(image).collect();
        (index, images)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.manifest_digest
    }

    /// The whole config document; what a container gets is `["config"]` of it.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The digests of the layers, from the lowest.
    #[must_use]
    pub fn layer_digests(&self) -> Vec<String> {
        let layers = self.manifest["layers"]
            .as_array()
            .expect("a manifest has layers");
        let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
        layers.iter().map(digest).collect()
    }

    /// The history as pairs of `created_by` and whether there is no layer for it.
    #[must_use]
    pub fn history(&self) -> Vec<(String, bool)> {
        let history = self.config["history"]
            .as_array()
            .expect("a config has a history");
        let pair = |entry: &Value| {
            let by = entry["created_by"].as_str().unwrap_or_default().to_owned();
            (by, entry["empty_layer"].as_bool().unwrap_or(false))
        };
        history.iter().map(pair).collect()
    }

    /// The entries of a layer, 0 for the lowest; its diff id is checked.
    ///
    /// # Panics
    /// The layer is not what manifest and config say, or neither plain nor gzip.
    #[must_use]
    pub fn layer(&self, index: usize) -> Vec<LayerEntry> {
        let descriptor = &self.manifest["layers"][index];
        let stored = blob(&self.directory, descriptor);
        let kind = descriptor["mediaType"].as_str().unwrap_or_default();
        let bytes = match kind.strip_prefix("application/vnd.oci.image.layer.v1.tar") {
            Some("") => stored,
            Some("+gzip") => {
                let mut bytes = Vec::new();
                flate2::read::GzDecoder::new(&*stored)
                    .read_to_end(&mut bytes)
                    .expect("gzip");
                bytes
            }
            _ => panic!("a layer of type {kind:?}"),
        };
        assert_eq!(
            self.config["rootfs"]["diff_ids"][index],
            digest_of(&bytes).as_str()
        );
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("a tar archive");
        entries
            .map(|entry| LayerEntry::of(entry.expect("an entry")))
            .collect()
    }

    /// The entries of the highest layer.
    #[must_use]
    pub fn last_layer(&self) -> Vec<LayerEntry> {
        self.layer(self.layer_digests().len() - 1)
    }
}

impl LayerEntry {
    fn of<R: Read>(mut entry: tar::Entry<'_, R>) -> Self {
        let text = |path: &Path| path.to_str().expect("a name of a test is text").to_owned();
        let path = text(&entry.path().expect("a path"));
        let link = entry.link_name().expect("a link").map(|link| text(&link));
        let mut body = Vec::new();
        entry.read_to_end(&mut body).expect("a body");
        let header = entry.header();
        LayerEntry {
            path: path
                .trim_start_matches("./")
                .trim_end_matches('/')
                .to_owned(),
            kind: header.entry_type(),
            mode: header.mode().expect("a mode") & 0o7777,
            owner: (
                header.uid().expect("an owner"),
                header.gid().expect("a group"),
            ),
            mtime: header.mtime().expect("a time"),
            link,
            body,
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a JSON document")
}

/// Reads what a descriptor describes.
fn blob(directory: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"]
        .as_str()
        .expect("a descriptor has a digest");
    let bytes = read(&directory.join("blobs").join(digest.replace(':', "/")));
    assert_eq!(digest_of(&bytes), digest, "a blob has its digest");
    assert_eq!(descriptor["size"], bytes.len(), "a blob has its size");
    bytes
}

/// The digest of these bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
