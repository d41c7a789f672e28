//! Layers that may not be in registries ("foreign", "nondistributable"): their descriptors say where
//! in the web they are.

use reqwest::Url;

use crate::blob_stream::BlobStream;
use crate::client::Client;
use crate::digest::Digest;
use crate::error::{Error, Result, Subject, shortened};
use crate::names::Repository;

/// Most addresses of one layer that are asked.
const URLS_MAX: usize = 16;

impl Client {
    /// As [`Client::blob`]; what the registry does not have is asked for at these addresses, one
    /// after the other. Nobody is told there who asks, and the digest decides as always.
    ///
    /// # Errors
    /// [`Error::Nowhere`], which names the addresses; else as [`Client::blob`].
    pub async fn blob_or_foreign(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
        urls: &[String],
    ) -> Result<BlobStream> {
        let missing = match self.blob(repository, digest, size).await {
            Err(error) if error.is_not_found() && !urls.is_empty() => error,
            other => return other,
        };
        let subject = Subject::blob(repository, digest);
        let mut asked = vec![missing.brief()];
        for text in urls.iter().take(URLS_MAX) {
            let url = Url::parse(text).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            let Some(url) = url else {
                asked.push(format!("{:?} is no http or https address", shortened(text)));
                continue;
            };
            match self.blob_at((&subject, digest), size, &url).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let why = error
                        .answer()
                        .map_or_else(|| error.brief(), ToString::to_string);
                    asked.push(format!("{}: {why}", shortened(text)));
                }
            }
        }
        Err(Error::Nowhere { subject, asked })
    }
}
