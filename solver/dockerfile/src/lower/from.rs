//! `FROM`: what a stage is built on. Nothing is fetched here; an image that is not known yet
//! becomes a request.

use llb::Platform;
use llb::op::{ImageSource, OciLayoutSource, Source};

use super::arguments::{Globals, at};
use super::images::{ImageRequest, ResolvedImage, ResolvedImages};
use super::options::{Contexts, NamedContext, Options, Replacement};
use super::reference;
use crate::ast::Warning;
use crate::config::DockerImageConfig;
use crate::error::{Error, Span};
use crate::stages::{Base, StageNode};

/// The check of bases for other platforms.
pub(super) const PLATFORM_CHECK: &str = "InvalidBaseImagePlatform";

/// Largest image configuration that is read, in bytes. The largest seen, with thousands of history
/// entries, have less than one MiB.
const CONFIG_BYTES_MAX: usize = 8 << 20;

/// What the bases of stages are found with.
pub(super) struct Finder<'a> {
    pub(super) options: &'a Options,
    pub(super) globals: &'a Globals,
    pub(super) contexts: &'a Contexts<'a>,
    pub(super) images: &'a ResolvedImages,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    Base(Box<Foundation>),
    /// The image has to be resolved first.
    Missing(ImageRequest),
}

/// What a stage is built on.
#[derive(Debug)]
pub(super) struct Foundation {
    pub(super) files: Files,
    pub(super) image: DockerImageConfig,
    /// The image as it was resolved.
    pub(super) base_image: Option<DockerImageConfig>,
    /// What the stage is built for.
    pub(super) platform: Platform,
    /// What `RUN` steps run for, when the base says so.
    pub(super) run_platform: Option<Platform>,
    /// Why the result may not be what was wanted.
    pub(super) doubt: Option<Warning>,
}

/// Where the files of a base come from.
#[derive(Debug)]
pub(super) enum Files {
    None,
    /// An image, which is the first step of the stage: `FROM <reference>`.
    Image {
        source: Source,
        reference: String,
    },
    /// A named context that is an image.
    Context {
        source: Source,
        name: String,
    },
    /// A named context that is a local directory.
    Local(Replacement),
}

impl Finder<'_> {
    /// Finds the base of a stage that is not built on another stage.
    pub(super) fn find(&self, node: &StageNode) -> Result<Found, Error> {
        if let Some(replacement) = &node.replacement {
            let loaded = self.context(replacement, node.span)?;
            return Ok(loaded.into_found(replacement.platform.clone(), true));
        }
        match &node.base {
            Base::Image(name) => self.image(node, name),
            Base::Scratch | Base::Stage(_) => {
                let platform = self.globals.target_platform.clone();
                Ok(Found::Base(Box::new(Foundation {
                    files: Files::None,
                    image: DockerImageConfig::scratch(&platform),
                    base_image: None,
                    platform,
                    run_platform: None,
                    doubt: None,
                })))
            }
        }
    }

    fn image(&self, node: &StageNode, name: &str) -> Result<Found, Error> {
        let span = node.span;
        let parsed = reference::normalize(name);
        let parsed = parsed.map_err(|error| {
            let name = crate::error::quote::quote(name);
            at(span, format!("failed to parse stage name {name}: {error}"))
        })?;
        let platform = node
            .platform
            .as_ref()
            .unwrap_or(&self.globals.target_platform)
            .clone();
        if let Some(replacement) = self.contexts.find(&parsed.to_string(), &platform) {
            return Ok(self
                .context(&replacement, span)?
                .into_found(platform, false));
        }
        let prefix = match self.options.multi_platform {
            true => format!("[{platform} internal]"),
            false => "[internal]".to_owned(),
        };
        let request = ImageRequest {
            reference: parsed.to_string(),
            layout: None,
            platform: platform.clone(),
            log_name: format!("{prefix} load metadata for {parsed}"),
            span,
        };
        let Some(resolved) = self.images.get(&request) else {
            return Ok(Found::Missing(request));
        };
        let image = read_config(resolved, &request)?;
        let platform = match image.platform().normalized() {
            own if node.platform.is_none() && self.is_chosen_for(&own) => own,
            _ => platform,
        };
        let reference = match &resolved.digest {
            Some(digest) => reference::with_digest(&parsed, digest),
            None => parsed.to_string(),
        };
        // An image without layers is an empty file system; reading it would be a wasted step.
        let has_layers =
            !image.rootfs.diff_ids.is_empty() || image.history.iter().any(|e| !e.empty_layer);
        let files = match has_layers {
            true => Files::Image {
                source: self.source(&reference),
                reference,
            },
            false => Files::None,
        };
        let doubt = other_platform(name, &image, &platform).map(|message| Warning {
            message,
            url: "https://docs.docker.com/go/dockerfile/rule/invalid-base-image-platform/",
            span,
        });
        // Its programs are those of the platform that it is for in truth.
        let run_platform = has_layers.then(|| match doubt {
            Some(_) => image.platform().normalized(),
            None => platform.clone(),
        });
        let base_image = Some(image.clone());
        let image = DockerImageConfig {
            created: None,
            ..image
        };
        Ok(Found::Base(Box::new(Foundation {
            files,
            image,
            base_image,
            platform,
            run_platform,
            doubt,
        })))
    }

    /// Whether a base decides what is built for: nobody said it, and the machine runs programs of
    /// that platform without help.
    fn is_chosen_for(&self, base: &Platform) -> bool {
        let machine = &self.options.build_platform;
        self.globals.implicit_target
            && base.os == machine.os
            && (machine.architecture.as_str(), base.architecture.as_str()) == ("amd64", "386")
    }

    fn source(&self, reference: &str) -> Source {
        let resolve_mode = self.options.resolve_mode;
        ImageSource {
            resolve_mode,
            ..ImageSource::new(reference)
        }
        .into()
    }

    /// Reads a named context.
    fn context(&self, replacement: &Replacement, span: Span) -> Result<Loaded, Error> {
        let Replacement {
            name,
            short_name,
            context,
            platform,
        } = replacement;
        let request = |reference: String, layout| ImageRequest {
            log_name: format!("[context {name}] load metadata for {reference}"),
            reference,
            layout,
            platform: platform.clone(),
            span,
        };
        match context {
            NamedContext::Local { .. } => Ok(Loaded::Files {
                files: Files::Local(replacement.clone()),
                image: None,
            }),
            NamedContext::Image { reference } if reference == "scratch" => Ok(Loaded::Files {
                files: Files::None,
                image: None,
            }),
            NamedContext::Image { reference } => {
                let parsed = reference::normalize(reference).map_err(|error| at(span, error))?;
                let request = request(parsed.to_string(), None);
                let Some(resolved) = self.images.get(&request) else {
                    return Ok(Loaded::Missing(request));
                };
                let pinned = match &resolved.digest {
                    Some(digest) => reference::with_digest(&parsed, digest),
                    None => parsed.to_string(),
                };
                let name = format!("[context {name}] {reference}");
                let files = Files::Context {
                    source: self.source(&pinned),
                    name,
                };
                let image = Some(Box::new(read_config(resolved, &request)?));
                Ok(Loaded::Files { files, image })
            }
            NamedContext::OciLayout { store, digest } => {
                let parsed = reference::normalize(short_name).map_err(|error| at(span, error))?;
                let mut reference = reference::with_digest(&parsed, digest);
                if parsed.tag() == Some("latest") {
                    reference = reference.replacen(":latest@", "@", 1);
                }
                let request = request(reference.clone(), Some(store.clone()));
                let Some(resolved) = self.images.get(&request) else {
                    return Ok(Loaded::Missing(request));
                };
                let source = OciLayoutSource {
                    reference,
                    session: self.options.session.clone().unwrap_or_default(),
                    store: store.clone(),
                    layer_limit: None,
                };
                let name = format!("[context {name}] OCI load from client");
                let files = Files::Context {
                    source: source.into(),
                    name,
                };
                let image = Some(Box::new(read_config(resolved, &request)?));
                Ok(Loaded::Files { files, image })
            }
        }
    }
}

/// A named context.
enum Loaded {
    Files {
        files: Files,
        image: Option<Box<DockerImageConfig>>,
    },
    Missing(ImageRequest),
}

impl Loaded {
    /// `instead_of_stage`: the context says what it is for; otherwise the `FROM` line does.
    fn into_found(self, wanted: Platform, instead_of_stage: bool) -> Found {
        let (files, loaded) = match self {
            Self::Files { files, image } => (files, image),
            Self::Missing(request) => return Found::Missing(request),
        };
        let own = loaded.as_deref().map(DockerImageConfig::platform);
        let own = own.filter(|own| !own.os.is_empty() && !own.architecture.is_empty());
        let (platform, run_platform) = match (instead_of_stage, own) {
            (true, own) => (own.clone().unwrap_or(wanted), own),
            (false, _) => (wanted.clone(), Some(wanted)),
        };
        let image = loaded.map_or_else(|| DockerImageConfig::scratch(&platform), |image| *image);
        let base_image = (!instead_of_stage).then(|| image.clone());
        let image = DockerImageConfig {
            created: None,
            ..image
        };
        Found::Base(Box::new(Foundation {
            files,
            image,
            base_image,
            platform,
            run_platform,
            doubt: None,
        }))
    }
}

/// What is to be said of a base that is for another platform: an image that has only one is taken
/// for whatever is built. BuildKit's words.
fn other_platform(name: &str, image: &DockerImageConfig, wanted: &Platform) -> Option<String> {
    let own = image.platform();
    let is_said = !own.os.is_empty() && !own.architecture.is_empty();
    let differs = (&own.os, &own.architecture) != (&wanted.os, &wanted.architecture);
    (is_said && differs).then(|| {
        let (own, wanted) = (own.normalized(), wanted.normalized());
        format!(
            "{PLATFORM_CHECK}: Base image {name} was pulled with platform \"{own}\", \
             expected \"{wanted}\" for current build"
        )
    })
}

fn read_config(
    resolved: &ResolvedImage,
    request: &ImageRequest,
) -> Result<DockerImageConfig, Error> {
    let fail = |reason: String| {
        let reference = &request.reference;
        at(
            request.span,
            format!("failed to parse image config of {reference}: {reason}"),
        )
    };
    let size = resolved.config.len();
    if size > CONFIG_BYTES_MAX {
        return Err(fail(format!(
            "{size} bytes, the limit is {CONFIG_BYTES_MAX}"
        )));
    }
    // A list would be read as the values of the fields.
    if resolved.config.trim_ascii_start().first() != Some(&b'{') {
        return Err(fail("it is no JSON object".to_owned()));
    }
    serde_json::from_slice(&resolved.config).map_err(|error| fail(error.to_string()))
}
