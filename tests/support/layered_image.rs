//! An OCI image layout of given layers, written by hand.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::forged_image::{TAR_LAYER, descriptor};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Writes the layers (plain tar, lowest first) as the layout `directory`, tagged `latest`.
/// `container` is the `config` of the config: command, environment and so on.
///
/// # Panics
/// It cannot be written.
pub fn write(directory: &Path, layers: &[Vec<u8>], container: &Value) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory can be made");
    let put = |media_type: &str, bytes: &[u8]| {
        let descriptor = descriptor(media_type, bytes);
        fs::write(blobs.join(hex(&descriptor["digest"])), bytes).expect("a blob can be written");
        descriptor
    };
    let layers: Vec<_> = layers.iter().map(|layer| put(TAR_LAYER, layer)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": container,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(CONFIG, config.to_string().as_bytes()),
        "layers": layers,
    });
    let mut named = put(MANIFEST, manifest.to_string().as_bytes());
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [named] });
    fs::write(directory.join("index.json"), index.to_string()).expect("an index can be written");
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(directory.join("oci-layout"), version).expect("a version can be written");
}

/// The layers of the one image of a layout, as they are stored, lowest first.
///
/// # Panics
/// It is no layout.
#[must_use]
pub fn layers(directory: &Path) -> Vec<Vec<u8>> {
    let blob = |digest: &Value| {
        let path = directory.join("blobs/sha256").join(hex(digest));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let index = fs::read(directory.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let manifest = blob(&index["manifests"][0]["digest"]);
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    layers.iter().map(|layer| blob(&layer["digest"])).collect()
}

fn hex(digest: &Value) -> &str {
    let digest = digest.as_str().expect("a digest");
    digest.strip_prefix("sha256:").expect("of SHA-256")
}
