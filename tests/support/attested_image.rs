//! An image index as buildx writes it: for each platform an image, and an attestation of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::forged_image::{TAR_LAYER, TarEntry, descriptor, tar_archive};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The architecture of this machine, as images call it.
pub const OWN: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// A layout on its way.
#[derive(Clone, Copy, Debug)]
pub struct AttestedLayout<'l> {
    directory: &'l Path,
}

impl<'l> AttestedLayout<'l> {
    /// Begins one in a directory that need not be there.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn begin(directory: &'l Path) -> Self {
        fs::create_dir_all(directory.join("blobs/sha256")).expect("a directory");
        fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("a file");
        AttestedLayout { directory }
    }

    /// Puts a blob; its descriptor.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let descriptor = descriptor(media_type, bytes);
        let name = descriptor["digest"].as_str().expect("a digest");
        let path = self.directory.join("blobs").join(name.replace(':', "/"));
        fs::write(path, bytes).expect("a blob");
        descriptor
    }

    /// An image with `/file`, which names its architecture, and an attestation of it.
    #[must_use]
    pub fn image(&self, architecture: &str) -> [Value; 2] {
        let layer = tar_archive(&[TarEntry::file("file", architecture.as_bytes())]);
        let mut image = self.manifest(architecture, "linux", self.put(TAR_LAYER, &layer));
        image["platform"] = json!({ "architecture": architecture, "os": "linux" });
        let statement = format!(r#"{{"_type":"statement","of":"{architecture}"}}"#);
        let mut statement = self.put("application/vnd.in-toto+json", statement.as_bytes());
        statement["annotations"] = json!({ "in-toto.io/predicate-type": "provenance" });
        let mut attestation = self.manifest("unknown", "unknown", statement);
        attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        attestation["annotations"] = json!({
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        });
        [image, attestation]
    }

    fn manifest(&self, architecture: &str, os: &str, layer: Value) -> Value {
        let config = json!({
            "architecture": architecture, "os": os,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = self.put(CONFIG, config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        });
        self.put(MANIFEST, manifest.to_string().as_bytes())
    }

    /// An index of these.
    #[must_use]
    pub fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.put(INDEX, index.to_string().as_bytes())
    }

    /// Ends the layout: `target` is called `latest`, and by containerd's annotation `name`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn end(&self, target: &Value, name: &str) {
        let mut target = target.clone();
        target["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": "latest",
        });
        let index = json!({ "schemaVersion": 2, "manifests": [target] });
        fs::write(self.directory.join("index.json"), index.to_string()).expect("a file");
    }
}
