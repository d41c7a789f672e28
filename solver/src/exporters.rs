//! What goes out: an image in the store, an OCI layout or archive, the plain files.

pub mod copy_out;
mod files;
mod image;
mod layers;
mod layout;
mod platforms;
pub(crate) mod push;

use dockerfile::config::DockerImageConfig;
use engine::CancelToken;
use snapshotter::Manager;

use self::image::Image;
use crate::error::{Error, Result};
use crate::frontend;
use crate::images::Images;
use crate::progress::Progress;
use crate::request::{BuildRequest, Built, Compression, ImageFormat, Output};
use crate::result::Value;
use crate::sources::registry::Remote;

/// A finished build, to be written.
pub(crate) struct Export {
    /// One for each platform, at least one; several make an index.
    pub(crate) results: Vec<PlatformResult>,
    pub(crate) request: BuildRequest,
    pub(crate) remote: Remote,
    pub(crate) cancel: CancelToken,
}

/// What was built for one platform.
pub(crate) struct PlatformResult {
    pub(crate) value: Value,
    pub(crate) image: DockerImageConfig,
    pub(crate) platform: llb::Platform,
    pub(crate) epoch: Option<i64>,
}

impl PlatformResult {
    /// Its directory among those of other platforms: `linux_amd64`.
    fn directory(&self) -> String {
        self.platform.normalized().to_string().replace('/', "_")
    }
}

impl Export {
    /// Whether each platform gets a directory of its own in an output of files.
    fn is_split(&self, asked: Option<bool>) -> bool {
        asked.unwrap_or(self.results.len() > 1)
    }

    /// How the layers of the image are packed that is named in the store: as they are pushed, so
    /// that both are one image; else not at all, they stay trees.
    fn kept_as(&self) -> Compression {
        let outputs = self.request.outputs.iter();
        let mut pushed = outputs.filter_map(|output| match output {
            Output::Registry(output) => Some(output.compression),
            _ => None,
        });
        pushed.next_back().unwrap_or(Compression::None)
    }

    /// SOURCE_DATE_EPOCH, which is the same for all platforms.
    fn epoch(&self) -> Option<i64> {
        self.results.first().and_then(|result| result.epoch)
    }
}

/// Refuses what no build could be written to, before anything is built.
///
/// # Errors
/// [`Error::Output`] in docker's words.
pub(crate) fn check(request: &BuildRequest) -> Result<()> {
    for output in &request.outputs {
        if let Output::Registry(output) = output {
            push::check(output, &request.tags)?;
        }
        if let Output::Image(output) = output
            && output.format == ImageFormat::Docker
            && frontend::target_platforms(&request.platforms)?.len() > 1
        {
            return Err(Error::Output {
                output: "type=docker".into(),
                reason: "docker exporter does not currently support exporting manifest lists; \
                         use type=oci, or build for one platform"
                    .into(),
            });
        }
    }
    Ok(())
}

/// Writes all outputs of a build, and names the image in the store.
///
/// # Errors
/// [`crate::Error::Io`], [`crate::Error::Layer`]; files that were begun are removed.
pub(crate) fn export(
    export: &Export,
    images: &Images,
    snapshots: &Manager,
    progress: &Progress,
) -> Result<Built> {
    let mut built = Built {
        config: None,
        target: None,
        names: Vec::new(),
        warnings: Vec::new(),
        layers: Vec::new(),
    };
    let names = export
        .request
        .tags
        .iter()
        .map(|name| frontend::normalize(name))
        .collect::<Result<Vec<_>>>()?;
    if !names.is_empty() {
        let step = progress.step("exporting to image");
        let assembled = image::assemble(export, images, snapshots, export.kept_as(), &step);
        let assembled = step.end(assembled.and_then(|assembled| {
            image::name(&assembled, &names, images, snapshots)?;
            Ok(assembled)
        }))?;
        built.note(&assembled);
        built.names = names;
    }
    for output in &export.request.outputs {
        match output {
            Output::Registry(output) => {
                let step = progress.step("exporting to image");
                let pushed = push::push(export, output, &built.names, (images, snapshots), &step);
                built.note(&step.end(pushed)?);
            }
            Output::Image(output) => {
                let title = match output.format {
                    ImageFormat::Oci => "exporting to oci image format",
                    ImageFormat::Docker => "exporting to docker image format",
                };
                let step = progress.step(title);
                let written = image::assemble(export, images, snapshots, output.compression, &step)
                    .and_then(|assembled| {
                        layout::write(&assembled, output, &built.names, images, &step)?;
                        Ok(assembled)
                    });
                built.note(&step.end(written)?);
            }
            Output::Local {
                directory,
                platform_split,
            } => {
                let step = progress.step("exporting to client directory");
                step.end(files::directory(
                    export,
                    directory,
                    *platform_split,
                    snapshots,
                ))?;
            }
            Output::Tar {
                destination,
                platform_split,
            } => {
                let step = progress.step("exporting to client tarball");
                step.end(files::archive(
                    export,
                    destination,
                    *platform_split,
                    snapshots,
                ))?;
            }
        }
    }
    Ok(built)
}

impl Built {
    fn note(&mut self, image: &Image) {
        self.config = image.config_digest();
        self.target = Some(image.target().descriptor.clone());
        self.layers = image.described_layers();
    }
}
