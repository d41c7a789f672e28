//! An OCI image layout with something wrong in it, written by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Media type of a layer that is plain tar.
pub const TAR_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An entry of a tar that no honest tool writes: names and link targets are taken as they are.
#[derive(Clone, Copy, Debug)]
pub struct TarEntry<'a> {
    /// Its name, unchecked.
    pub name: &'a str,
    /// What it is.
    pub kind: EntryType,
    /// Target of a link, unchecked; else empty.
    pub link: &'a str,
    /// Content of a file.
    pub body: &'a [u8],
}

impl<'a> TarEntry<'a> {
    /// A regular file.
    #[must_use]
    pub fn file(name: &'a str, body: &'a [u8]) -> Self {
        TarEntry {
            name,
            kind: EntryType::Regular,
            link: "",
            body,
        }
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(name: &'a str, link: &'a str) -> Self {
        TarEntry {
            name,
            kind: EntryType::Symlink,
            link,
            body: &[],
        }
    }

    /// A hard link.
    #[must_use]
    pub fn hard_link(name: &'a str, link: &'a str) -> Self {
        TarEntry {
            name,
            kind: EntryType::Link,
            link,
            body: &[],
        }
    }
}

/// A tar archive of these entries. The names are written past the checks of the crate `tar`.
///
/// # Panics
/// A name or a link is longer than the 100 bytes of its field.
#[must_use]
pub fn tar_archive(entries: &[TarEntry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.body.len() as u64);
        let fields = header.as_gnu_mut().expect("made as one");
        fields.name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        fields.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(entry.body);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// An image of one layer, before it is written. Every field can be made wrong.
#[derive(Clone, Debug)]
pub struct ForgedImage {
    /// Bytes of the layer.
    pub layer: Vec<u8>,
    /// Descriptor of the layer.
    pub layer_descriptor: Value,
    /// The config document, as text.
    pub config: String,
    /// Members of the manifest beside or instead of the right ones.
    pub manifest: Value,
}

impl ForgedImage {
    /// An image that is right, of a layer with these bytes.
    #[must_use]
    pub fn of(layer: Vec<u8>) -> Self {
        let layer_descriptor = descriptor(TAR_LAYER, &layer);
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer_descriptor["digest"]] },
        });
        ForgedImage {
            layer,
            layer_descriptor,
            config: config.to_string(),
            manifest: json!({}),
        }
    }

    /// Writes it as the layout `directory`, tagged `latest`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> ForgedLayout {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a directory can be made");
        let put = |media_type: &str, bytes: &[u8]| {
            let descriptor = descriptor(media_type, bytes);
            fs::write(blobs.join(hex(&descriptor)), bytes).expect("a blob can be written");
            descriptor
        };
        put(TAR_LAYER, &self.layer);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": put(CONFIG, self.config.as_bytes()),
            "layers": [self.layer_descriptor],
        });
        for (key, value) in self.manifest.as_object().expect("an object") {
            manifest[key] = value.clone();
        }
        let mut named = put(MANIFEST, manifest.to_string().as_bytes());
        named["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let layout = ForgedLayout {
            layer: blobs.join(hex(&descriptor(TAR_LAYER, &self.layer))),
            manifest: blobs.join(hex(&named)),
            directory: directory.to_owned(),
        };
        layout.replace(
            "index.json",
            json!({ "schemaVersion": 2, "manifests": [named] }).to_string(),
        );
        layout.replace("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        layout
    }
}

/// A layout that was written, to be damaged further.
#[derive(Clone, Debug)]
pub struct ForgedLayout {
    directory: PathBuf,
    /// The file of the layer.
    pub layer: PathBuf,
    /// The file of the manifest.
    pub manifest: PathBuf,
}

impl ForgedLayout {
    /// The layout directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes `index.json` or `oci-layout` anew.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), content).expect("a file can be written");
    }

    /// Puts a symbolic link to `target` in the place of the layer.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn point_layer_to(&self, target: &str) {
        fs::remove_file(&self.layer).expect("the layer was there");
        symlink(target, &self.layer).expect("a link can be made");
    }
}

/// The OCI descriptor of these bytes.
#[must_use]
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": bytes.len(),
    })
}

fn hex(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().expect("a digest");
    digest.trim_start_matches("sha256:").to_owned()
}
