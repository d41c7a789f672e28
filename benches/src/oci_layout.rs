//! OCI image layouts of large layers: a layer is written once, as a stream, and may be in several
//! images.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// A layout that is being written.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    packing: Packing,
}

/// How its layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// At the fastest level: registries have slower ones, and unpacking takes the same time.
    Gzip,
    /// At the usual level.
    Zstd,
}

/// A layer of it, packed as registries have them.
#[derive(Debug, Clone)]
pub struct Layer {
    descriptor: Value,
    /// Digest of what is packed.
    diff_id: String,
}

impl Layout {
    /// An empty one in the new directory.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(directory: &Path) -> Result<Self> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        fs::write(directory.join("oci-layout"), version.to_string())?;
        Ok(Self {
            directory: directory.to_owned(),
            packing: Packing::Gzip,
        })
    }

    /// The same with layers that are packed in this way from now on.
    #[must_use]
    pub fn packed_by(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    /// The file of a layer.
    #[must_use]
    pub fn file(&self, layer: &Layer) -> PathBuf {
        self.blob(&layer.descriptor)
    }

    /// Adds a layer; `write` writes its tar. `name` is for the time until its digest is known.
    ///
    /// # Errors
    /// Where `write` fails or a file cannot be written.
    pub fn layer(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Layer> {
        let unfinished = self.directory.join(format!("layer-{name}"));
        let file = BufWriter::new(File::create(&unfinished)?);
        let file = Hashing::new(file);
        let failed = || format!("write layer {name}");
        let (diff_id, mut packed) = match self.packing {
            Packing::Gzip => {
                let packer = GzEncoder::new(file, flate2::Compression::fast());
                let mut tar = Hashing::new(packer);
                write(&mut tar).with_context(failed)?;
                (digest(tar.hash), tar.inner.finish()?)
            }
            Packing::Zstd => {
                let mut tar =
                    Hashing::new(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?);
                write(&mut tar).with_context(failed)?;
                (digest(tar.hash), tar.inner.finish()?)
            }
        };
        packed.flush()?;
        let descriptor = json!({
            "mediaType": self.packing.media_type(),
            "digest": digest(packed.hash),
            "size": packed.count,
        });
        fs::rename(&unfinished, self.blob(&descriptor))?;
        Ok(Layer {
            descriptor,
            diff_id,
        })
    }

    /// Writes the index with one image of these layers, lowest first, tagged `latest` and called
    /// `name` by whoever imports it. An earlier image is no longer in the index.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn image(&self, name: &str, layers: &[Layer]) -> Result<()> {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let layers: Vec<_> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.document(CONFIG_TYPE, &config)?,
            "layers": layers,
        });
        let mut named = self.document(MANIFEST_TYPE, &manifest)?;
        named["annotations"] = json!({
            "org.opencontainers.image.ref.name": "latest",
            "io.containerd.image.name": name,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [named],
        });
        fs::write(self.directory.join("index.json"), index.to_string())?;
        Ok(())
    }

    /// Packs the whole layout as an archive.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn archive(&self, file: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(File::create(file)?));
        tar.append_dir_all("", &self.directory)?;
        tar.into_inner()?.flush()?;
        Ok(())
    }

    fn document(&self, media_type: &str, content: &Value) -> Result<Value> {
        let bytes = content.to_string();
        let descriptor = json!({
            "mediaType": media_type,
            "digest": digest(Sha256::new_with_prefix(&bytes)),
            "size": bytes.len(),
        });
        fs::write(self.blob(&descriptor), bytes)?;
        Ok(descriptor)
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let blobs = self.directory.join("blobs/sha256");
        blobs.join(digest.trim_start_matches("sha256:"))
    }
}

impl Packing {
    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The name under which containerd knows the snapshot of these layers (`ChainID` of the image
/// specification).
#[must_use]
pub fn chain_id(layers: &[Layer]) -> String {
    let mut ids = layers.iter().map(|layer| layer.diff_id.clone());
    let first = ids.next().unwrap_or_default();
    ids.fold(first, |below, id| {
        digest(Sha256::new_with_prefix(format!("{below} {id}")))
    })
}

/// The lowest layer of the only image of a layout, as it is stored.
///
/// # Errors
/// Where it is no layout.
pub fn lowest_layer(layout: &Path) -> Result<Vec<u8>> {
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("read {}", path.display()));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let blobs = layout.join("blobs/sha256");
        read(blobs.join(digest.trim_start_matches("sha256:")))
    };
    let index: Value = serde_json::from_slice(&read(layout.join("index.json"))?)?;
    let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])?)?;
    blob(&manifest["layers"][0])
}

fn digest(hash: Sha256) -> String {
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Hashes and counts what goes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            count: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_packed_under_its_digest_and_named_by_what_is_in_it() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::create(home.path()).unwrap();
        let write = |text: &'static str| {
            layout
                .layer("x", |tar| Ok(tar.write_all(text.as_bytes())?))
                .unwrap()
        };
        let (a, b) = (write("a"), write("b"));
        // As `printf a | sha256sum` says.
        let of_a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(a.diff_id, format!("sha256:{of_a}"));
        assert_eq!(chain_id(std::slice::from_ref(&a)), a.diff_id);
        let both = format!("{} {}", a.diff_id, b.diff_id);
        let chain = digest(Sha256::new_with_prefix(both));
        assert_eq!(chain_id(&[a.clone(), b.clone()]), chain);

        layout.image("test", &[a.clone(), b]).unwrap();
        let packed = lowest_layer(home.path()).unwrap();
        assert_eq!(packed.len() as u64, a.descriptor["size"].as_u64().unwrap());
        assert_eq!(packed[..2], [0x1f, 0x8b]);
    }
}
