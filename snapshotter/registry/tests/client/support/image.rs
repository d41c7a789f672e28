//! An image to push and pull: made of pseudo-random bytes, so that nothing repeats.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use registry::{
    Client, Digest, Error, Manifest, ManifestReference, MediaType, Pushed, Repository,
    UploadOptions,
};

/// Sizes of the blobs: the corners, and more than one packet, buffer and window.
const SIZES: &[usize] = &[0, 1, 700, 40_000, 300_000];

#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) blobs: Vec<(Digest, Bytes)>,
    pub(crate) manifest: Bytes,
}

/// So many bytes that no other seed has.
pub(crate) fn noise(seed: u64, size: usize) -> Bytes {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes[..]);
    bytes.into()
}

impl Image {
    pub(crate) fn new(seed: u64) -> Self {
        let blob = |(index, size): (usize, &usize)| {
            let bytes = noise(seed * 100 + index as u64, *size);
            (Digest::sha256(&bytes), bytes)
        };
        let blobs: Vec<(Digest, Bytes)> = SIZES.iter().enumerate().map(blob).collect();
        let descriptor = |kind: &str, (digest, bytes): &(Digest, Bytes)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#,
                bytes.len()
            )
        };
        let layers: Vec<String> = blobs[1..]
            .iter()
            .map(|blob| descriptor("layer.v1.tar", blob))
            .collect();
        // Odd white space: whoever writes it again has other bytes.
        let manifest = format!(
            "{{ \"schemaVersion\":2,\n\t\"mediaType\":\"{}\",\"config\":{},\n\"layers\":[{}] }}\n",
            MediaType::OciManifest,
            descriptor("config.v1+json", &blobs[0]),
            layers.join(", ")
        );
        Image {
            blobs,
            manifest: manifest.into(),
        }
    }

    pub(crate) async fn push(
        &self,
        client: &Client,
        repository: &Repository,
        tag: &ManifestReference,
        options: &UploadOptions,
    ) -> Result<Vec<Pushed>, Error> {
        let mut pushed = Vec::new();
        for (digest, bytes) in &self.blobs {
            pushed.push(client.push_blob(repository, digest, bytes, options).await?);
        }
        let media_type = MediaType::OciManifest.as_str();
        let manifest = self.manifest.clone();
        let digest = client
            .push_manifest(repository, tag, media_type, manifest)
            .await?;
        assert_eq!(digest, Digest::sha256(&self.manifest));
        Ok(pushed)
    }

    /// Pulls all of it.
    ///
    /// # Panics
    /// What came is other than what was pushed.
    pub(crate) async fn pull(
        &self,
        client: &Client,
        repository: &Repository,
        tag: &ManifestReference,
    ) -> Result<(), Error> {
        let manifest: Manifest = client.manifest(repository, tag).await?;
        assert_eq!(manifest.bytes, self.manifest, "a corrupt manifest");
        assert_eq!(manifest.media_type, MediaType::OciManifest);
        for (index, (digest, bytes)) in self.blobs.iter().enumerate() {
            let size = (index % 2 == 0).then_some(bytes.len() as u64);
            let mut blob = client.blob(repository, digest, size).await?;
            let mut found = Vec::new();
            while let Some(chunk) = blob.chunk().await? {
                found.extend_from_slice(&chunk);
            }
            assert!(found == *bytes, "corrupt blob {index}");
        }
        Ok(())
    }
}
