//! What an OCI archive really holds: an export that wrote something else, or nothing, is not fast.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::side::Compression;

/// Larger entries are layers; only documents are kept in memory.
const DOCUMENT_SIZE_MAX: u64 = 1 << 20;

/// Sizes of all entries of the archive, and the contents of the small ones.
struct Archive {
    sizes: HashMap<String, u64>,
    documents: HashMap<String, Vec<u8>>,
}

/// Checks that the archive holds an image whose largest layer is compressed as said and has at
/// least `layer_bytes_min` bytes, every layer being in the archive with its size. Returns how many
/// bytes the largest has. The other layers are those of the base: they may stay as they came.
pub(crate) fn check(path: &Path, compression: Compression, layer_bytes_min: u64) -> Result<u64> {
    let archive = Archive::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut document = archive.document("index.json")?;
    // An index may lead to another one, as `docker buildx` writes it.
    while let Some(inner) = document["manifests"].get(0) {
        document = archive.blob(inner)?;
    }
    let layers = document["layers"]
        .as_array()
        .context("the manifest has no layers")?;
    let mut largest = (0, "");
    for layer in layers {
        let name = blob_name(layer)?;
        let size = layer["size"].as_u64().unwrap_or_default();
        ensure!(
            archive.sizes.get(&name) == Some(&size),
            "the manifest says that {name} has {size} bytes; the archive: {:?}",
            archive.sizes.get(&name)
        );
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        largest = largest.max((size, media_type));
    }
    let (size, media_type) = largest;
    ensure!(
        size >= layer_bytes_min,
        "the largest layer has {size} bytes; at least {layer_bytes_min} were built"
    );
    let expected = match compression {
        Compression::Uncompressed => "tar",
        compressed => compressed.word(),
    };
    ensure!(
        media_type.ends_with(expected),
        "the largest layer is {media_type}, which is not what was asked for"
    );
    Ok(size)
}

impl Archive {
    fn read(path: &Path) -> Result<Self> {
        let mut archive = tar::Archive::new(BufReader::new(File::open(path)?));
        let mut sizes = HashMap::new();
        let mut documents = HashMap::new();
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if entry.size() <= DOCUMENT_SIZE_MAX {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                documents.insert(name.clone(), content);
            }
            sizes.insert(name, entry.size());
        }
        Ok(Self { sizes, documents })
    }

    fn document(&self, name: &str) -> Result<Value> {
        let content = self
            .documents
            .get(name)
            .with_context(|| format!("the archive has no {name}"))?;
        serde_json::from_slice(content).with_context(|| format!("understand {name}"))
    }

    fn blob(&self, descriptor: &Value) -> Result<Value> {
        self.document(&blob_name(descriptor)?)
    }
}

fn blob_name(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let hash = digest
        .strip_prefix("sha256:")
        .with_context(|| format!("{digest:?} is not a sha256 digest"))?;
    Ok(format!("blobs/sha256/{hash}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An archive with one layer of 2 MiB whose manifest says `size`.
    fn archive(media_type: &str, size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content).unwrap();
        };
        let index = json!({ "manifests": [{ "digest": "sha256:aa" }] });
        let layer = json!({ "mediaType": media_type, "digest": "sha256:bb", "size": size });
        let manifest = json!({ "layers": [layer] });
        add("index.json", index.to_string().as_bytes());
        add("blobs/sha256/aa", manifest.to_string().as_bytes());
        add("blobs/sha256/bb", &vec![7; 2 << 20]);
        tar.finish().unwrap();
        file
    }

    #[test]
    fn an_archive_is_what_it_says() {
        let file = archive("application/vnd.oci.image.layer.v1.tar+gzip", 2 << 20);
        let size = check(file.path(), Compression::Gzip, 1 << 20).unwrap();
        assert_eq!(size, 2 << 20);
    }

    #[test]
    fn an_archive_that_is_something_else_is_refused() {
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let refuse = |media_type: &str, size: u64, min: u64, part: &str| {
            let file = archive(media_type, size);
            let error = check(file.path(), Compression::Gzip, min).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        refuse(
            "application/vnd.oci.image.layer.v1.tar",
            2 << 20,
            0,
            "not what was asked for",
        );
        refuse(gzip, 1, 0, "has 1 bytes; the archive: Some(2097152)");
        refuse(gzip, 2 << 20, 3 << 20, "at least 3145728 were built");
    }
}
