//! What a build is asked for: everything beside the Dockerfile that changes the graph.

use std::collections::BTreeMap;

use llb::Platform;
use llb::op::{HostIp, ResolveMode, Ulimit};

use super::reference;
use crate::ast::NetworkMode;

/// Arguments of [`lower`](super::lower). All of them change the result; none is read from the
/// environment.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stage to build; the last one when `None`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What builds: `BUILDPLATFORM`.
    pub build_platform: Platform,
    /// What is built for. `None` means the build platform, or that of a base image that has
    /// another one.
    pub target_platform: Option<Platform>,
    /// Step names start with the platform, because several are built at once.
    pub multi_platform: bool,
    /// Which stages ignore the cache.
    pub no_cache: NoCache,
    /// `--build-context`, by name. Names of images are in any form (`alpine`,
    /// `docker.io/library/alpine:latest`); `name::os/arch` is for one platform only.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Name of the local directory that is the build context.
    pub context_name: String,
    /// Lines of the context's `.dockerignore`.
    pub context_excludes: Vec<String>,
    /// Session that local directories are read through; any session of the build when `None`.
    pub session: Option<String>,
    /// How image tags become digests.
    pub resolve_mode: ResolveMode,
    /// Network of `RUN` steps that name none.
    pub network: NetworkMode,
    /// Size of /dev/shm in `RUN` steps, in bytes; the worker's own when `None`.
    pub shm_size_bytes: Option<u64>,
    /// Limits of the processes of `RUN` steps.
    pub ulimits: Vec<Ulimit>,
    /// Further lines of /etc/hosts in `RUN` steps.
    pub extra_hosts: Vec<HostIp>,
    /// Lower `COPY --link` to a merge. When the solver cannot merge, it becomes a plain copy.
    pub link_as_merge: bool,
    /// Time of history entries and new directories, in seconds since the epoch. A
    /// `SOURCE_DATE_EPOCH` build argument wins.
    pub source_date_epoch: Option<i64>,
    /// Name of the Dockerfile, for source locations.
    pub file_name: String,
    /// Content of the Dockerfile, for source locations.
    pub file_data: Vec<u8>,
}

impl Default for Options {
    /// A build of the default target on and for this host, with a context named `context`.
    fn default() -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            build_platform: Platform::host(),
            target_platform: None,
            multi_platform: false,
            no_cache: NoCache::None,
            contexts: BTreeMap::new(),
            context_name: "context".to_owned(),
            context_excludes: Vec::new(),
            session: None,
            resolve_mode: ResolveMode::Default,
            network: NetworkMode::Default,
            shm_size_bytes: None,
            ulimits: Vec::new(),
            extra_hosts: Vec::new(),
            link_as_merge: false,
            source_date_epoch: None,
            file_name: "Dockerfile".to_owned(),
            file_data: Vec::new(),
        }
    }
}

/// Which stages ignore the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names, in any case.
    Stages(Vec<String>),
}

impl NoCache {
    pub(crate) fn covers(&self, stage: Option<&str>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Stages(names) => names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(stage.unwrap_or_default())),
        }
    }
}

/// Where the files of a named context come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image.
    Image {
        /// Its reference in any form; `scratch` for an empty file system.
        reference: String,
    },
    /// An image of an OCI layout.
    OciLayout {
        /// Which layout.
        store: String,
        /// Digest of the manifest or index: `sha256:…`.
        digest: String,
    },
    /// A local directory.
    Local {
        /// Its name.
        name: String,
        /// Lines of its `.dockerignore`.
        excludes: Vec<String>,
    },
}

impl NamedContext {
    /// Reads the form that frontends get: `docker-image://ref`, `oci-layout://store@sha256:…`,
    /// `local:name`. What a directory ignores is not in that form.
    ///
    /// # Errors
    /// A sentence that names the context.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("invalid context specifier {text} for {name}"))?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match kind {
            "docker-image" => Ok(Self::Image {
                reference: rest.to_owned(),
            }),
            "oci-layout" => match rest.split_once('@') {
                Some((store, digest)) if !store.is_empty() => Ok(Self::OciLayout {
                    store: store.to_owned(),
                    digest: digest.to_owned(),
                }),
                _ => Err(format!("oci-layout reference {rest:?} has no digest")),
            },
            "local" => Ok(Self::Local {
                name: rest.to_owned(),
                excludes: Vec::new(),
            }),
            _ => Err(format!("unsupported context source {kind} for {name}")),
        }
    }
}

/// Named contexts by the short form of their names.
#[derive(Debug, Default)]
pub(crate) struct Contexts<'a>(BTreeMap<String, &'a NamedContext>);

/// A named context that replaces a stage or an image.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    /// Its name, with the platform when it is for one only.
    pub(crate) name: String,
    /// The name alone.
    pub(crate) short_name: String,
    /// What it is.
    pub(crate) context: NamedContext,
    /// What it is wanted for.
    pub(crate) platform: Platform,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        let key = |name: &str| match name.split_once("::") {
            Some((name, platform)) => {
                let parsed = Platform::parse(platform, &options.build_platform);
                let platform = parsed.map_or(platform.to_owned(), |p| p.normalized().to_string());
                format!("{}::{platform}", reference::familiar(name))
            }
            None => reference::familiar(name),
        };
        Self(
            options
                .contexts
                .iter()
                .map(|(name, context)| (key(name), context))
                .collect(),
        )
    }

    /// The context that replaces the stage or image `name`.
    pub(crate) fn find(&self, name: &str, platform: &Platform) -> Option<Replacement> {
        // `scratch` and the build context itself cannot be replaced.
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let short_name = reference::familiar(name);
        let for_platform = format!("{short_name}::{}", platform.normalized());
        let (name, context) = self
            .0
            .get_key_value(&for_platform)
            .or_else(|| self.0.get_key_value(&short_name))?;
        Some(Replacement {
            name: name.clone(),
            short_name,
            context: (*context).clone(),
            platform: platform.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_found_by_any_form_of_their_name() {
        let local = |name: &str| NamedContext::Local {
            name: name.into(),
            excludes: vec![],
        };
        let mut options = Options::default();
        options
            .contexts
            .insert("docker.io/library/alpine:latest".into(), local("a"));
        options
            .contexts
            .insert("alpine::linux/aarch64".into(), local("b"));
        let contexts = Contexts::new(&options);
        let find = |name: &str, architecture: &str| {
            let found = contexts.find(name, &Platform::new("linux", architecture))?;
            Some((found.name, found.context))
        };
        assert_eq!(find("alpine", "amd64"), Some(("alpine".into(), local("a"))));
        let arm = Some(("alpine::linux/arm64".into(), local("b")));
        assert_eq!(find("docker.io/library/alpine", "arm64"), arm);
        assert_eq!(find("alpine:3", "amd64"), None);
    }

    #[test]
    fn context_specifiers_are_read() {
        let parse = |text| NamedContext::parse("n", text);
        let image = NamedContext::Image {
            reference: "alpine:3".into(),
        };
        assert_eq!(parse("docker-image://alpine:3"), Ok(image));
        let layout = NamedContext::OciLayout {
            store: "s".into(),
            digest: "sha256:0".into(),
        };
        assert_eq!(parse("oci-layout://s@sha256:0"), Ok(layout));
        let local = NamedContext::Local {
            name: "dir".into(),
            excludes: vec![],
        };
        assert_eq!(parse("local:dir"), Ok(local));
        assert_eq!(parse("x"), Err("invalid context specifier x for n".into()));
        assert_eq!(
            parse("ftp://x"),
            Err("unsupported context source ftp for n".into())
        );
        assert!(parse("oci-layout://s").is_err());
    }
}
