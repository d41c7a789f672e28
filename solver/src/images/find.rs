//! An image by what a person calls it: a name, a name with a digest, an id or the beginning of one.

use std::collections::BTreeMap;

use super::document::{Descriptor, Manifest, Platform};
use super::{Images, Named};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::frontend;
use crate::ops;

/// Fewest digits of an id that name an image: `a` is more likely to be a name that is gone.
pub const ID_DIGITS_MIN: usize = 4;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name by which it was found; `None` if by its id.
    pub name: Option<String>,
    /// The manifest or index.
    pub target: Descriptor,
    /// All names that stand for this image, sorted.
    pub names: Vec<Named>,
}

impl Found {
    /// How to call it in a message about the image.
    pub fn called(&self) -> String {
        let first = self.names.first().map(|named| &named.name);
        let name = self.name.as_ref().or(first);
        name.cloned()
            .unwrap_or_else(|| self.target.digest.to_string())
    }
}

/// The platform that a person names, or this machine's.
///
/// # Errors
/// [`Error::Graph`] for what is none.
pub fn platform(text: Option<&str>) -> Result<Platform> {
    let platform = frontend::platform(text)?;
    Ok(ops::source_platform(
        &platform.unwrap_or_else(llb::Platform::host),
    ))
}

impl Images {
    /// The image that `text` means: the image of that name if there is one, else the one whose id,
    /// or whose digest of manifest or index, begins with it.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::BadImage`] for what cannot be a name, and for the beginning of
    /// several ids.
    pub fn meant_by(&self, text: &str, platform: &Platform) -> Result<Found> {
        // A dangling image's name is no reference: `<none>@sha256:…`.
        let normalized = match self.has_name(text)? {
            true => Ok(text.to_owned()),
            false => frontend::normalize(text),
        };
        if let Ok(name) = &normalized
            && let Some(target) = self.resolve(name)?
        {
            let mut names = self.list()?;
            names.retain(|named| named.target.digest == target.digest);
            return Ok(Found {
                name: Some(name.clone()),
                target,
                names,
            });
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if digits.len() < ID_DIGITS_MIN || digits.len() > 64 || !digits.chars().all(is_hex) {
            normalized?;
            return Err(no_image(text));
        }
        let begins = |digest: Digest| {
            let digest = digest.to_string();
            let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
            hex.starts_with(digits)
        };
        let names = self.named(
            |named, id| begins(id) || begins(named.target.digest),
            platform,
        )?;
        let mut targets = BTreeMap::new();
        for named in &names {
            let id = self.id(&named.name, &named.target, platform);
            targets.entry(id.to_string()).or_insert(&named.target);
        }
        match targets.len() {
            0 => Err(no_image(text)),
            1 => Ok(Found {
                name: None,
                target: names[0].target.clone(),
                names,
            }),
            _ => {
                let ids: Vec<_> = targets.into_keys().collect();
                let reason = format!("several ids begin with this: {}", ids.join(", "));
                Err(Error::bad_image(text, reason))
            }
        }
    }

    /// The id of an image: the digest of its config for a platform; of an image that has none for
    /// it, or is damaged, that of the manifest or index.
    pub fn id(&self, what: &str, target: &Descriptor, platform: &Platform) -> Digest {
        match self.config_digest(target, platform) {
            Ok(Some(digest)) => digest,
            Ok(None) => target.digest,
            Err(error) => {
                tracing::debug!(what, %error, "cannot open an image");
                target.digest
            }
        }
    }

    /// As [`Images::open`] as far as it needs to go for the digest of the config.
    fn config_digest(&self, target: &Descriptor, platform: &Platform) -> Result<Option<Digest>> {
        let what = "image";
        let document = |digest| self.content().document(what, digest);
        let digest = match self.choose(what, target, platform, &document) {
            Err(Error::NoPlatform { .. }) => return Ok(None),
            digest => digest?,
        };
        let manifest: Manifest = super::document::parse(what, &document(digest)?)?;
        Ok(Some(manifest.config.digest))
    }

    /// The names of which `wanted` says so, given the id too; sorted.
    fn named(
        &self,
        wanted: impl Fn(&Named, Digest) -> bool,
        platform: &Platform,
    ) -> Result<Vec<Named>> {
        let mut names = self.list()?;
        names.retain(|named| wanted(named, self.id(&named.name, &named.target, platform)));
        Ok(names)
    }
}

fn no_image(text: &str) -> Error {
    let reference = text.to_owned();
    Error::NoImage { reference }
}
