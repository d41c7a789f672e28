//! All names that a registry or the store has in one repository, and all platforms of one name:
//! `--all-tags`, `--all-platforms`.

use engine::CancelToken;

use super::{Remote, split};
use crate::build::{Solver, blocking};
use crate::error::{Error, Result};
use crate::frontend;
use crate::images::document::{self, Index};
use crate::progress::Progress;
use crate::sources::registry::Registries;

impl Solver {
    /// The full names of all images that a registry has in a repository.
    ///
    /// # Errors
    /// [`Error::BadImage`] for a name with a tag or digest, or a repository without tags;
    /// [`Error::Registry`], [`Error::Cancelled`].
    pub async fn tags(
        &self,
        registries: &Registries,
        repository: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let name = whole(repository)?;
        let remote = Remote::new(registries, progress);
        let (said, progress, cancel) = (repository.to_owned(), progress.clone(), cancel.clone());
        blocking(move || {
            let (repository, _) = split(&name)?;
            let step = progress.step(format!("[internal] list tags of {repository}"));
            let told = remote.retries.tell(&repository, &step.reporter());
            let tags = remote.wait(&cancel, remote.client.tags(&repository));
            drop(told);
            let tags = step.end(tags)?;
            if tags.is_empty() {
                return Err(Error::bad_image(said, "the registry has no tags of it"));
            }
            let tags = tags.iter();
            Ok(tags
                .map(|tag| format!("{repository}:{}", tag.as_str()))
                .collect())
        })
        .await
    }

    /// The platforms that a registry has an image for; none if it is no index.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Cancelled`]; [`Error::BadImage`] for what is no image's name.
    pub async fn platforms(
        &self,
        registries: &Registries,
        name: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let name = frontend::normalize(name)?;
        let remote = Remote::new(registries, progress);
        let (progress, cancel) = (progress.clone(), cancel.clone());
        blocking(move || {
            let (repository, reference) = split(&name)?;
            let step = progress.step(format!("[internal] list platforms of {name}"));
            let told = remote.retries.tell(&repository, &step.reporter());
            let fetched = remote.client.manifest(&repository, &reference);
            let fetched = remote.wait(&cancel, fetched);
            drop(told);
            let bytes = step.end(fetched)?.bytes;
            if !document::is_index(&bytes) {
                return Ok(Vec::new());
            }
            let index: Index = document::parse(&name, &bytes)?;
            Ok(index.platforms())
        })
        .await
    }

    /// The full names of all images that the store has in a repository, sorted.
    ///
    /// # Errors
    /// [`Error::BadImage`] for a name with a tag or digest, or one that is not here; those of the
    /// store.
    pub fn tags_here(&self, repository: &str) -> Result<Vec<String>> {
        let wanted = whole(repository)?;
        let wanted = frontend::repository(&wanted);
        let names = self.images().list()?.into_iter().map(|named| named.name);
        let names: Vec<_> = names
            .filter(|name| !name.contains('@') && frontend::repository(name) == wanted)
            .collect();
        match names.is_empty() {
            true => Err(Error::bad_image(
                repository,
                "an image does not exist locally with that name; `varve images` lists those that do",
            )),
            false => Ok(names),
        }
    }
}

/// The full name of what is said without a tag.
fn whole(repository: &str) -> Result<String> {
    let last = repository.rsplit('/').next().unwrap_or(repository);
    if last.contains([':', '@']) {
        let reason = "tag can't be used with --all-tags/-a";
        return Err(Error::bad_image(repository, reason));
    }
    frontend::normalize(repository)
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn a_repository_is_said_without_a_tag() {
        for (said, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("h:5000/a/b", "h:5000/a/b:latest"),
        ] {
            assert_eq!(whole(said).unwrap(), full);
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for said in ["busybox:1", "h:5000/a:1", &digest, "A"] {
            whole(said).unwrap_err();
        }
    }
}
