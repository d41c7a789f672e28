//! Bring something in from outside: an image, a directory of the client, an OCI layout, …
//!
//! A source is an identifier (`scheme://rest`) and attributes. [`Source`] keeps both as they are,
//! because unknown schemes and attributes must survive; [`ImageSource`], [`LocalSource`],
//! [`OciLayoutSource`], [`HttpSource`] and [`GitSource`] are the checked forms of those that this
//! project runs.

mod web;

use std::collections::BTreeMap;

pub use self::web::{GitSource, HttpSource};
use crate::error::Error;

/// Names of attributes (BuildKit's solver/pb/attr.go).
pub mod attribute {
    /// Session that a local source is read through.
    pub const LOCAL_SESSION: &str = "local.session";
    /// Tells local sources of one name apart when no session is named.
    pub const LOCAL_UNIQUE: &str = "local.unique";
    /// JSON list of patterns: only these.
    pub const LOCAL_INCLUDE_PATTERNS: &str = "local.includepattern";
    /// JSON list of paths: only these, and what their symbolic links lead to.
    pub const LOCAL_FOLLOW_PATHS: &str = "local.followpaths";
    /// JSON list of patterns: not these.
    pub const LOCAL_EXCLUDE_PATTERNS: &str = "local.excludepatterns";
    /// Local sources with one hint share a stored copy.
    pub const LOCAL_SHARED_KEY_HINT: &str = "local.sharedkeyhint";
    /// `none` or `metadata`: how changed files are found.
    pub const LOCAL_DIFFER: &str = "local.differ";
    /// How a tag is resolved: `default`, `pull` or `local`.
    pub const IMAGE_RESOLVE_MODE: &str = "image.resolvemode";
    /// What the record of an image is for; `internal` hides it.
    pub const IMAGE_RECORD_TYPE: &str = "image.recordtype";
    /// Only so many layers.
    pub const IMAGE_LAYER_LIMIT: &str = "image.layerlimit";
    /// Digest that the image must have.
    pub const IMAGE_CHECKSUM: &str = "image.checksum";
    /// Session that an OCI layout is read through.
    pub const OCI_SESSION: &str = "oci.session";
    /// Which OCI layout of the client.
    pub const OCI_STORE: &str = "oci.store";
    /// Only so many layers.
    pub const OCI_LAYER_LIMIT: &str = "oci.layerlimit";
    /// Digest that a file of the web must have.
    pub const HTTP_CHECKSUM: &str = "http.checksum";
    /// What a file of the web is called here.
    pub const HTTP_FILENAME: &str = "http.filename";
    /// Its permissions, octal with a leading zero.
    pub const HTTP_PERM: &str = "http.perm";
    /// Its owner.
    pub const HTTP_UID: &str = "http.uid";
    /// Its group.
    pub const HTTP_GID: &str = "http.gid";
    /// The secret that is sent as `Authorization`.
    pub const HTTP_AUTH_HEADER_SECRET: &str = "http.authheadersecret";
    /// What the names of further headers begin with.
    pub const HTTP_HEADER_PREFIX: &str = "http.header.";
    /// Whom a signature of a file of the web must be of.
    pub const HTTP_SIGNATURE_KEY: &str = "http.sig.pubkey";
    /// The signature.
    pub const HTTP_SIGNATURE: &str = "http.sig.signature";
    /// Whether `.git` is kept.
    pub const GIT_KEEP_GIT_DIR: &str = "git.keepgitdir";
    /// The address of a repository, as git takes it.
    pub const GIT_FULL_URL: &str = "git.fullurl";
    /// The secret that is sent as the header `Authorization`.
    pub const GIT_AUTH_HEADER_SECRET: &str = "git.authheadersecret";
    /// The secret that is sent as a token.
    pub const GIT_AUTH_TOKEN_SECRET: &str = "git.authtokensecret";
    /// Keys that the host of a repository may have.
    pub const GIT_KNOWN_SSH_HOSTS: &str = "git.knownsshhosts";
    /// Which ssh agent is asked.
    pub const GIT_MOUNT_SSH_SOCK: &str = "git.mountsshsock";
    /// Commit that the revision must be.
    pub const GIT_CHECKSUM: &str = "git.checksum";
    /// Whether submodules are left out.
    pub const GIT_SKIP_SUBMODULES: &str = "git.skipsubmodules";
    /// File that a nested build reads its graph from.
    pub const BUILD_FILE_NAME: &str = "llbbuild.filename";
}

/// Something from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `scheme://rest`; not empty.
    pub identifier: String,
    /// Options by name.
    pub attributes: BTreeMap<String, String>,
}

impl Source {
    /// What stands before `://`; all of the identifier when there is none.
    pub fn scheme(&self) -> &str {
        self.identifier
            .split_once("://")
            .map_or(&self.identifier, |(scheme, _)| scheme)
    }

    /// What stands after `://`; empty when there is none.
    pub fn reference(&self) -> &str {
        self.identifier
            .split_once("://")
            .map_or("", |(_, reference)| reference)
    }

    /// Whether the result depends on the platform of the vertex. Others are written without one.
    pub fn is_platform_specific(&self) -> bool {
        matches!(self.scheme(), "docker-image" | "oci-layout")
    }

    fn text(&self, name: &str) -> String {
        self.attributes.get(name).cloned().unwrap_or_default()
    }

    fn list(&self, name: &'static str) -> Result<Vec<String>, Error> {
        let Some(json) = self.attributes.get(name).filter(|json| !json.is_empty()) else {
            return Ok(Vec::new());
        };
        serde_json::from_str(json).map_err(|error| self.invalid(name, error.to_string()))
    }

    fn number(&self, name: &'static str) -> Result<Option<usize>, Error> {
        let Some(text) = self.attributes.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| self.invalid(name, format!("{text:?} is no number")))
    }

    fn invalid(&self, name: &'static str, reason: String) -> Error {
        Error::InvalidAttribute {
            identifier: self.identifier.clone(),
            name,
            reason,
        }
    }
}

/// A directory of the client: `local://<name>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSource {
    /// The name that the client gave it.
    pub name: String,
    /// Session to read it through; empty for any session of the build.
    pub session: String,
    /// Tells sources of one name apart when there is no session.
    pub unique: String,
    /// Only these patterns; everything when empty.
    pub include_patterns: Vec<String>,
    /// Only these paths and what their symbolic links lead to; everything when empty.
    pub follow_paths: Vec<String>,
    /// Not these patterns, in `.dockerignore` syntax.
    pub exclude_patterns: Vec<String>,
    /// Sources with one hint share a stored copy.
    pub shared_key_hint: String,
    /// `none`, `metadata` or empty.
    pub differ: String,
}

impl LocalSource {
    /// The local directory of this name, all of it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Reads a source of scheme `local`; `Ok(None)` for other schemes.
    ///
    /// # Errors
    /// [`Error::InvalidAttribute`] when a list is no JSON list of strings.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        if source.scheme() != "local" {
            return Ok(None);
        }
        Ok(Some(Self {
            name: source.reference().to_owned(),
            session: source.text(attribute::LOCAL_SESSION),
            unique: source.text(attribute::LOCAL_UNIQUE),
            include_patterns: source.list(attribute::LOCAL_INCLUDE_PATTERNS)?,
            follow_paths: source.list(attribute::LOCAL_FOLLOW_PATHS)?,
            exclude_patterns: source.list(attribute::LOCAL_EXCLUDE_PATTERNS)?,
            shared_key_hint: source.text(attribute::LOCAL_SHARED_KEY_HINT),
            differ: source.text(attribute::LOCAL_DIFFER),
        }))
    }
}

impl From<LocalSource> for Source {
    fn from(local: LocalSource) -> Self {
        let mut attributes = Attributes::default();
        attributes.list(attribute::LOCAL_INCLUDE_PATTERNS, &local.include_patterns);
        attributes.list(attribute::LOCAL_FOLLOW_PATHS, &local.follow_paths);
        attributes.list(attribute::LOCAL_EXCLUDE_PATTERNS, &local.exclude_patterns);
        attributes.text(attribute::LOCAL_SESSION, local.session);
        attributes.text(attribute::LOCAL_UNIQUE, local.unique);
        attributes.text(attribute::LOCAL_SHARED_KEY_HINT, local.shared_key_hint);
        attributes.text(attribute::LOCAL_DIFFER, local.differ);
        Source {
            identifier: format!("local://{}", local.name),
            attributes: attributes.0,
        }
    }
}

/// How a tag becomes a digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// As the daemon is configured.
    #[default]
    Default,
    /// Always ask the registry.
    Pull,
    /// What is here already is good enough.
    Local,
}

/// An image of a registry: `docker-image://<reference>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSource {
    /// Normalised reference: registry, repository, and a tag or a digest or both.
    pub reference: String,
    /// How the tag is resolved.
    pub resolve_mode: ResolveMode,
    /// Only so many layers, from the bottom.
    pub layer_limit: Option<usize>,
    /// Digest that the image must have; empty for any.
    pub checksum: String,
}

impl ImageSource {
    /// The image of this normalised reference.
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            ..Self::default()
        }
    }

    /// Reads a source of scheme `docker-image`; `Ok(None)` for other schemes.
    ///
    /// # Errors
    /// [`Error::InvalidAttribute`] for an unknown resolve mode or a layer limit that is no number.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        if source.scheme() != "docker-image" {
            return Ok(None);
        }
        let mode = source.text(attribute::IMAGE_RESOLVE_MODE);
        let resolve_mode = match mode.as_str() {
            "" | "default" => ResolveMode::Default,
            "pull" => ResolveMode::Pull,
            "local" => ResolveMode::Local,
            _ => {
                let reason = format!("unknown mode {mode:?}");
                return Err(source.invalid(attribute::IMAGE_RESOLVE_MODE, reason));
            }
        };
        Ok(Some(Self {
            reference: source.reference().to_owned(),
            resolve_mode,
            layer_limit: source.number(attribute::IMAGE_LAYER_LIMIT)?,
            checksum: source.text(attribute::IMAGE_CHECKSUM),
        }))
    }
}

impl From<ImageSource> for Source {
    fn from(image: ImageSource) -> Self {
        let mut attributes = Attributes::default();
        let mode = match image.resolve_mode {
            ResolveMode::Default => "",
            ResolveMode::Pull => "pull",
            ResolveMode::Local => "local",
        };
        attributes.text(attribute::IMAGE_RESOLVE_MODE, mode.to_owned());
        attributes.text(attribute::IMAGE_LAYER_LIMIT, decimal(image.layer_limit));
        attributes.text(attribute::IMAGE_CHECKSUM, image.checksum);
        let identifier = format!("docker-image://{}", image.reference);
        Source {
            identifier,
            attributes: attributes.0,
        }
    }
}

/// An image of an OCI layout of the client: `oci-layout://<name>@<digest>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OciLayoutSource {
    /// A name for people and the digest: `<name>@sha256:…`.
    pub reference: String,
    /// Session to read it through; empty for any session of the build.
    pub session: String,
    /// Which layout of the client.
    pub store: String,
    /// Only so many layers, from the bottom.
    pub layer_limit: Option<usize>,
}

impl OciLayoutSource {
    /// Reads a source of scheme `oci-layout`; `Ok(None)` for other schemes.
    ///
    /// # Errors
    /// [`Error::InvalidAttribute`] when the layer limit is no number.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        if source.scheme() != "oci-layout" {
            return Ok(None);
        }
        Ok(Some(Self {
            reference: source.reference().to_owned(),
            session: source.text(attribute::OCI_SESSION),
            store: source.text(attribute::OCI_STORE),
            layer_limit: source.number(attribute::OCI_LAYER_LIMIT)?,
        }))
    }
}

impl From<OciLayoutSource> for Source {
    fn from(layout: OciLayoutSource) -> Self {
        let mut attributes = Attributes::default();
        attributes.text(attribute::OCI_SESSION, layout.session);
        attributes.text(attribute::OCI_STORE, layout.store);
        attributes.text(attribute::OCI_LAYER_LIMIT, decimal(layout.layer_limit));
        let identifier = format!("oci-layout://{}", layout.reference);
        Source {
            identifier,
            attributes: attributes.0,
        }
    }
}

fn decimal(number: Option<usize>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// Attributes under construction: what is empty is left out, as BuildKit's clients do.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn text(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn list(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.text(name, serde_json::Value::from(values).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_source_reads_back_what_it_writes() {
        let local = LocalSource {
            session: "s1".into(),
            follow_paths: vec!["src".into(), "a \"b\"".into()],
            exclude_patterns: vec!["**/*.o".into()],
            shared_key_hint: "context".into(),
            ..LocalSource::new("context")
        };
        let source = Source::from(local.clone());
        assert_eq!(source.identifier, "local://context");
        assert_eq!(
            source.attributes["local.followpaths"],
            r#"["src","a \"b\""]"#
        );
        assert!(!source.attributes.contains_key("local.includepattern"));
        assert_eq!(LocalSource::read(&source).unwrap(), Some(local));
        assert_eq!(ImageSource::read(&source).unwrap(), None);
    }

    #[test]
    fn an_image_source_reads_back_what_it_writes() {
        let image = ImageSource {
            resolve_mode: ResolveMode::Pull,
            layer_limit: Some(3),
            ..ImageSource::new("docker.io/library/busybox:latest")
        };
        let source = Source::from(image.clone());
        assert_eq!(
            source.identifier,
            "docker-image://docker.io/library/busybox:latest"
        );
        assert_eq!(ImageSource::read(&source).unwrap(), Some(image));
    }

    #[test]
    fn an_oci_layout_source_reads_back_what_it_writes() {
        let layout = OciLayoutSource {
            reference: "docker.io/library/base@sha256:0".into(),
            store: "base".into(),
            ..OciLayoutSource::default()
        };
        let source = Source::from(layout.clone());
        assert_eq!(source.scheme(), "oci-layout");
        assert!(source.is_platform_specific());
        assert_eq!(OciLayoutSource::read(&source).unwrap(), Some(layout));
    }

    #[test]
    fn attributes_that_lie_are_refused_by_name() {
        let mut source = Source::from(LocalSource::new("context"));
        source
            .attributes
            .insert("local.followpaths".into(), "{".into());
        let error = LocalSource::read(&source).unwrap_err().to_string();
        assert!(error.contains("local.followpaths"), "{error}");
        let mut source = Source::from(ImageSource::new("a"));
        source
            .attributes
            .insert("image.resolvemode".into(), "maybe".into());
        assert!(ImageSource::read(&source).is_err());
        source
            .attributes
            .insert("image.resolvemode".into(), "local".into());
        source
            .attributes
            .insert("image.layerlimit".into(), "-1".into());
        assert!(ImageSource::read(&source).is_err());
    }
}
