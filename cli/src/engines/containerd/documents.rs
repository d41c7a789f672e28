//! The OCI documents of an archive, as far as a load looks into them.

use std::collections::{BTreeMap, HashMap};
use std::io;

use containerd_client::types;
use serde::Deserialize;

use super::client::Labels;

/// What tells containerd's collector that content refers to content.
const KEEPS: &str = "containerd.io/gc.ref.content";

/// The name that an image has in an archive.
const NAME: &str = "io.containerd.image.name";

/// A descriptor of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: i64,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl From<&Descriptor> for types::Descriptor {
    fn from(descriptor: &Descriptor) -> Self {
        types::Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            annotations: HashMap::new(),
        }
    }
}

/// An index or a manifest.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
}

impl Document {
    /// Labels that keep alive what it refers to.
    pub(super) fn labels(&self) -> Labels {
        let label = |key: String, to: &Descriptor| (format!("{KEEPS}{key}"), to.digest.clone());
        let config = self.config.iter();
        let config = config.map(|to| label(".config".to_owned(), to));
        let layers = self.layers.iter().enumerate();
        let layers = layers.map(|(index, to)| label(format!(".l.{index}"), to));
        let manifests = self.manifests.iter().enumerate();
        let manifests = manifests.map(|(index, to)| label(format!(".m.{index}"), to));
        config.chain(layers).chain(manifests).collect()
    }
}

/// The part of an image's config that tells what is in its layers.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) rootfs: RootFiles,
}

/// See [`Config`].
#[derive(Debug, Deserialize)]
pub(super) struct RootFiles {
    pub(super) diff_ids: Vec<String>,
}

/// The small documents of an archive by digest.
#[derive(Debug, Default)]
pub(super) struct Documents(pub(super) HashMap<String, Vec<u8>>);

impl Documents {
    /// Reads one.
    ///
    /// # Errors
    /// It is not there, or something else.
    pub(super) fn read<'d, T: Deserialize<'d>>(&'d self, digest: &str) -> io::Result<T> {
        let bytes = self.0.get(digest);
        let bytes = bytes.ok_or_else(|| bad(format!("it does not have {digest}")))?;
        parse(bytes)
    }
}

/// Reads a document.
///
/// # Errors
/// It is something else.
pub(super) fn parse<'d, T: Deserialize<'d>>(bytes: &'d [u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))
}

/// The images of an archive: each target, with the names that it has there.
pub(super) fn images(index: &Document) -> Vec<(&Descriptor, Vec<&str>)> {
    let mut images: Vec<(&Descriptor, Vec<&str>)> = Vec::new();
    for listed in &index.manifests {
        let name = listed.annotations.get(NAME).map(String::as_str);
        match images
            .iter_mut()
            .find(|(target, _)| target.digest == listed.digest)
        {
            Some((_, names)) => names.extend(name),
            None => images.push((listed, name.into_iter().collect())),
        }
    }
    images
}

/// An archive that makes no sense.
pub(super) fn bad(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad archive: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_what_they_refer_to() {
        let manifest: Document = parse(
            br#"{"config":{"digest":"sha256:c","size":1},
                "layers":[{"digest":"sha256:a","size":2},{"digest":"sha256:b","size":3}]}"#,
        )
        .unwrap();
        let labels = manifest.labels();
        assert_eq!(labels.len(), 3);
        for (key, digest) in [
            (".config", "sha256:c"),
            (".l.0", "sha256:a"),
            (".l.1", "sha256:b"),
        ] {
            assert_eq!(labels[&format!("{KEEPS}{key}")], digest);
        }
        let index: Document = parse(br#"{"manifests":[{"digest":"sha256:m","size":2}]}"#).unwrap();
        assert_eq!(index.labels()[&format!("{KEEPS}.m.0")], "sha256:m");
    }

    #[test]
    fn an_image_is_listed_once_for_each_name() {
        let index: Document = parse(
            br#"{"manifests":[
                {"digest":"sha256:m","size":2,"annotations":{"io.containerd.image.name":"a:1"}},
                {"digest":"sha256:n","size":2},
                {"digest":"sha256:m","size":2,"annotations":{"io.containerd.image.name":"b:1"}}]}"#,
        )
        .unwrap();
        let images = images(&index);
        let found: Vec<_> = images
            .iter()
            .map(|(target, names)| (target.digest.as_str(), names.as_slice()))
            .collect();
        assert_eq!(
            found,
            [("sha256:m", &["a:1", "b:1"][..]), ("sha256:n", &[])]
        );
    }

    #[test]
    fn what_is_no_document_is_told() {
        let error = Documents::default()
            .read::<Document>("sha256:x")
            .unwrap_err();
        assert!(error.to_string().contains("does not have sha256:x"));
        assert!(
            parse::<Document>(b"[")
                .unwrap_err()
                .to_string()
                .contains("bad archive")
        );
    }
}
