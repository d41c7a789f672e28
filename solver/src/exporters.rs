//! What goes out: an image in the store, an OCI layout or archive, the plain files.

mod annotations;
mod beside;
pub mod copy_out;
pub mod damage;
mod files;
mod image;
pub(crate) mod layers;
mod layout;
mod meter;
mod missing;
mod others;
mod platforms;
pub(crate) mod push;
pub mod save;

pub use self::beside::write_whole;

use dockerfile::config::{DockerImageConfig, WINDOWS};
use engine::CancelToken;
use snapshotter::Manager;

use self::image::Image;
use self::missing::Bringing;
use crate::error::{Error, Result};
use crate::frontend;
use crate::images::Images;
use crate::progress::{Progress, Step};
use crate::request::{
    BuildRequest, Built, Compression, Destination, ImageAttributes, ImageFormat, ImageOutput,
    Output, RegistryOutput, StoreOutput,
};
use crate::result::Value;
use crate::sources::registry::Remote;

/// A finished build, to be written.
pub(crate) struct Export {
    /// One for each platform, at least one.
    pub(crate) results: Vec<PlatformResult>,
    /// Whether they make an index, as several do.
    pub(crate) is_multi_platform: bool,
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
        asked.unwrap_or(self.is_multi_platform)
    }

    /// Brings layers of bases whose bytes are not here any more.
    fn bring_layers(
        &self,
        images: &Images,
        snapshots: &Manager,
        progress: &Progress,
    ) -> Result<()> {
        let bringing = Bringing {
            images,
            remote: &self.remote,
            cancel: &self.cancel,
        };
        bringing.layers_of(&self.results, snapshots, progress)
    }

    /// What is kept in the store under the names of `-t`: what is pushed, so that both are one
    /// image; else layers are not packed at all, they stay trees.
    fn kept(&self) -> StoreOutput {
        let outputs = self.request.outputs.iter();
        let mut pushed = outputs.filter_map(|output| match output {
            Output::Registry(output) => Some(output.attributes.clone()),
            _ => None,
        });
        let attributes = pushed.next_back().map(|mut attributes| {
            attributes.compression.get_or_insert(Compression::Gzip);
            attributes
        });
        StoreOutput {
            attributes: attributes.unwrap_or_default(),
            ..StoreOutput::default()
        }
    }

    /// SOURCE_DATE_EPOCH, which is the same for all platforms.
    fn epoch(&self) -> Option<i64> {
        self.results.first().and_then(|result| result.epoch)
    }
}

/// Refuses what cannot be written for a platform, before anything is built for it.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn check_platforms<'p>(
    request: &BuildRequest,
    mut platforms: impl Iterator<Item = &'p llb::Platform>,
) -> Result<()> {
    match platforms.find(|platform| platform.os == WINDOWS) {
        // Its layers are of a form of their own.
        Some(platform) if request.has_image() => Err(Error::Unsupported {
            what: format!("an image for {platform}, rather than its files (-o DIR, -o type=tar),"),
        }),
        _ => Ok(()),
    }
}

/// Refuses what no build could be written to, before anything is built.
///
/// # Errors
/// [`Error::Output`] in docker's words.
pub(crate) fn check(request: &BuildRequest) -> Result<()> {
    let platforms = frontend::target_platforms(&request.platforms)?;
    let platforms: Vec<_> = platforms
        .into_iter()
        .map(|platform| platform.unwrap_or_else(llb::Platform::host))
        .collect();
    let is_multi_platform = frontend::is_multi_platform(request, platforms.len())?;
    for output in &request.outputs {
        let attributes = match output {
            Output::Image(output) => {
                if output.format == ImageFormat::Docker && is_multi_platform {
                    return Err(Error::Output {
                        output: "type=docker".into(),
                        reason: "docker exporter does not currently support exporting manifest \
                                 lists; use type=oci, or build for one platform"
                            .into(),
                    });
                }
                &output.attributes
            }
            Output::Store(output) => &output.attributes,
            Output::Registry(output) => {
                push::check(output, &request.tags)?;
                &output.attributes
            }
            Output::Local { .. } | Output::Tar { .. } => continue,
        };
        annotations::check(attributes, &platforms, is_multi_platform)?;
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
    let mut exporter = Exporter {
        export,
        images,
        snapshots,
        progress,
        tags: normalized(&export.request.tags)?,
        built: Built::default(),
    };
    if export.request.has_image() {
        export.bring_layers(images, snapshots, progress)?;
    }
    let outputs = &export.request.outputs;
    let is_kept = |output: &Output| match output {
        Output::Store(store) => store.names.is_empty() && !store.is_unnamed,
        _ => false,
    };
    if !exporter.tags.is_empty() && !outputs.iter().any(is_kept) {
        exporter.store(&export.kept())?;
    }
    for output in outputs {
        exporter.output(output)?;
    }
    Ok(exporter.built)
}

fn normalized(names: &[String]) -> Result<Vec<String>> {
    names.iter().map(|name| frontend::normalize(name)).collect()
}

struct Exporter<'e> {
    export: &'e Export,
    images: &'e Images,
    snapshots: &'e Manager,
    progress: &'e Progress,
    /// Names of `-t`, in full.
    tags: Vec<String>,
    built: Built,
}

impl Exporter<'_> {
    fn output(&mut self, output: &Output) -> Result<()> {
        let (export, snapshots) = (self.export, self.snapshots);
        match output {
            Output::Image(output) => self.archive(output),
            Output::Store(output) => self.store(output),
            Output::Registry(output) => self.push(output),
            Output::Local {
                directory,
                deletes_others,
                epoch,
                platform_split,
            } => {
                let step = self.progress.step("exporting to client directory");
                let split = *platform_split;
                let written =
                    files::directory(export, directory, *epoch, split, (snapshots, &step));
                let written = written.and_then(|()| match deletes_others {
                    true => others::remove(export, directory, export.is_split(split), snapshots),
                    false => Ok(()),
                });
                step.end(written)
            }
            Output::Tar {
                destination,
                epoch,
                platform_split,
            } => {
                let step = self.progress.step("exporting to client tarball");
                let split = *platform_split;
                let written =
                    files::archive(export, destination, *epoch, split, (snapshots, &step));
                step.end(written)
            }
        }
    }

    /// Makes the image, and keeps it in the store under its names.
    fn store(&mut self, output: &StoreOutput) -> Result<()> {
        let step = self.progress.step("exporting to image");
        let stored = self.store_image(output, &step);
        let (image, names) = step.end(stored)?;
        self.built.note(&image, names);
        Ok(())
    }

    fn store_image(&self, output: &StoreOutput, step: &Step) -> Result<(Image, Vec<String>)> {
        let image = self.assemble(&output.attributes, Compression::None, step)?;
        let mut names = match output.names.as_slice() {
            [] => self.tags.clone(),
            names => normalized(names)?,
        };
        let digest = image.target().digest();
        if output.is_canonical {
            let canonical = names.iter().map(|name| {
                let name = frontend::repository(name);
                format!("{name}@{digest}")
            });
            names.extend(canonical.collect::<Vec<_>>());
        }
        if let Some(prefix) = &output.dangling_prefix
            && (names.is_empty() || !output.dangling_empty_only)
        {
            names.push(format!("{prefix}@{digest}"));
        }
        let mut kept = names.clone();
        if names.is_empty() && output.keeps_unnamed && !self.images.has_target(digest)? {
            kept.push(crate::images::without_name(digest));
        }
        if !output.is_unnamed && !kept.is_empty() {
            image::name(&image, &kept, self.images, self.snapshots)?;
            for name in &kept {
                step.status(format!("naming to {name}"), 0, None, true);
            }
        }
        Ok((image, names))
    }

    /// Sends the image to registries.
    fn push(&mut self, output: &RegistryOutput) -> Result<()> {
        let step = self.progress.step("exporting to image");
        let (images, snapshots) = (self.images, self.snapshots);
        let pushed = push::push(self.export, output, &self.tags, (images, snapshots), &step);
        let (image, names) = step.end(pushed)?;
        self.built.note(&image, names);
        Ok(())
    }

    /// Writes the image as an archive or layout.
    fn archive(&mut self, output: &ImageOutput) -> Result<()> {
        let title = match output.format {
            ImageFormat::Oci => "exporting to oci image format",
            ImageFormat::Docker => "exporting to docker image format",
        };
        let step = self.progress.step(title);
        // An engine unpacks what it gets at once.
        let usual = match output.destination {
            Destination::Engine(_) => Compression::None,
            Destination::Path(_) | Destination::Stdout | Destination::Open(_) => Compression::Gzip,
        };
        let written = self
            .assemble(&output.attributes, usual, &step)
            .and_then(|image| {
                let names = match output.names.as_slice() {
                    [] => self.tags.clone(),
                    names => normalized(names)?,
                };
                layout::write(&image, output, &names, self.images, &step)?;
                Ok((image, names))
            });
        let (image, names) = step.end(written)?;
        self.built.note(&image, names);
        Ok(())
    }

    fn assemble(
        &self,
        attributes: &ImageAttributes,
        usual: Compression,
        step: &Step,
    ) -> Result<Image> {
        let (images, snapshots) = (self.images, self.snapshots);
        image::assemble(self.export, images, snapshots, attributes, usual, step)
    }
}

impl Built {
    fn note(&mut self, image: &Image, names: Vec<String>) {
        self.config = image.config_digest();
        self.target = Some(image.target().descriptor.clone());
        self.layers = image.described_layers();
        for name in names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }
}
