//! What goes out: an image in the store, an OCI layout or archive, the plain files.

mod files;
mod image;
mod layers;
mod layout;

use dockerfile::config::DockerImageConfig;
use snapshotter::Manager;

use crate::content::Digest;
use crate::error::Result;
use crate::frontend;
use crate::images::Images;
use crate::progress::Progress;
use crate::request::{BuildRequest, Built, Compression, ImageFormat, Output};
use crate::result::Value;

/// A finished build, to be written.
pub(crate) struct Export {
    pub(crate) value: Value,
    pub(crate) image: DockerImageConfig,
    pub(crate) platform: llb::Platform,
    pub(crate) epoch: Option<i64>,
    pub(crate) request: BuildRequest,
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
        image_id: None,
        manifest: None,
        names: Vec::new(),
        warnings: Vec::new(),
    };
    let names = export
        .request
        .tags
        .iter()
        .map(|name| frontend::normalize(name))
        .collect::<Result<Vec<_>>>()?;
    if !names.is_empty() {
        let step = progress.step("exporting to image");
        let assembled = image::assemble(export, images, snapshots, Compression::None, &step);
        let assembled = step.end(assembled.and_then(|assembled| {
            image::name(&assembled, &names, images, snapshots)?;
            Ok(assembled)
        }))?;
        built.note(assembled.config_digest, assembled.manifest_digest);
        built.names = names;
    }
    for output in &export.request.outputs {
        match output {
            Output::Image(output) => {
                let title = match output.format {
                    ImageFormat::Oci => "exporting to oci image format",
                    ImageFormat::Docker => "exporting to docker image format",
                };
                let step = progress.step(title);
                let written = image::assemble(export, images, snapshots, output.compression, &step)
                    .and_then(|assembled| {
                        layout::write(&assembled, output, &built.names, images, &step)?;
                        Ok((assembled.config_digest, assembled.manifest_digest))
                    });
                let (config, manifest) = step.end(written)?;
                built.note(config, manifest);
            }
            Output::Local { directory } => {
                let step = progress.step("exporting to client directory");
                step.end(files::directory(&export.value, directory, snapshots))?;
            }
            Output::Tar { destination } => {
                let step = progress.step("exporting to client tarball");
                step.end(files::archive(export, destination, snapshots))?;
            }
        }
    }
    Ok(built)
}

impl Built {
    fn note(&mut self, config: Digest, manifest: Digest) {
        self.image_id = Some(config);
        self.manifest = Some(manifest);
    }
}
