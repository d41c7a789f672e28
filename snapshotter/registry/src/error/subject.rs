//! What a request is about, as messages name it.

use std::fmt;
use std::sync::Arc;

use crate::digest::Digest;
use crate::names::{ManifestReference, Repository};

/// What a request is about; a handle that is cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject(Arc<(Repository, Thing)>);

/// The part of a repository that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Thing {
    /// A manifest or index.
    Manifest(ManifestReference),
    /// A layer or config.
    Blob(Digest),
    /// What tags there are.
    Tags,
    /// Nothing but who asks; the repository has no name then.
    Login,
    /// What is at an address of the web, which is given without a login; the repository has no
    /// name then.
    Address(Box<str>),
}

impl Subject {
    pub(crate) fn manifest(repository: &Repository, reference: &ManifestReference) -> Self {
        Subject(Arc::new((
            repository.clone(),
            Thing::Manifest(reference.clone()),
        )))
    }

    pub(crate) fn blob(repository: &Repository, digest: &Digest) -> Self {
        Subject(Arc::new((repository.clone(), Thing::Blob(*digest))))
    }

    pub(crate) fn tags(repository: &Repository) -> Self {
        Subject(Arc::new((repository.clone(), Thing::Tags)))
    }

    pub(crate) fn login(registry: Repository) -> Self {
        Subject(Arc::new((registry, Thing::Login)))
    }

    pub(crate) fn address(server: Repository, url: &reqwest::Url) -> Self {
        let mut shown = url.clone();
        shown.set_fragment(None);
        // An address of the web can have both; a name alone is a token.
        if !shown.username().is_empty() {
            shown.set_username("xxxxx").ok();
        }
        if shown.password().is_some() {
            shown.set_password(Some("xxxxx")).ok();
        }
        let text = String::from(shown).into_boxed_str();
        Subject(Arc::new((server, Thing::Address(text))))
    }

    /// Where it is.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.0.0
    }

    /// What it is.
    #[must_use]
    pub fn thing(&self) -> &Thing {
        &self.0.1
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repository = self.repository();
        match self.thing() {
            Thing::Manifest(ManifestReference::Tag(tag)) => {
                write!(f, "{repository}:{}", tag.as_str())
            }
            Thing::Manifest(ManifestReference::Digest(digest)) => {
                write!(f, "{repository}@{digest}")
            }
            Thing::Blob(digest) => write!(f, "blob {digest} of {repository}"),
            Thing::Tags => write!(f, "the tags of {repository}"),
            Thing::Login => f.write_str(repository.host()),
            Thing::Address(address) => f.write_str(address),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({self})")
    }
}
