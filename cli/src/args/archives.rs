//! What `varve save` and `varve load` take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `varve save`.
#[derive(Debug, Args)]
#[command(after_help = "\
The images have the same digests in the archive as in the store. A docker archive is an OCI layout
too; of an image for several platforms it has one unless --platform names several, the OCI forms
all that are in the store.

Examples:
  varve save -o app.tar app base:1                several images in one archive
  varve save app | ssh host docker load           to another machine
  varve save --format oci-dir -o layout app       an OCI layout directory")]
pub(crate) struct Save {
    /// File to write, or directory with oci-dir [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Form of what is written
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) format: SaveFormat,
    /// Only these platforms, as linux/arm64 (repeatable, or separated by commas)
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `--format` of `varve save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SaveFormat {
    /// What `docker load` takes.
    #[default]
    DockerArchive,
    /// An OCI image archive.
    OciArchive,
    /// An OCI layout directory.
    OciDir,
}

/// `varve load`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve load -i app.tar               what `docker save`, `varve save` or `skopeo copy` wrote
  docker save app | gzip | varve load    gzip and zstd are unpacked
  varve load -i app.tar --platform linux/arm64")]
pub(crate) struct Load {
    /// Archive to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print only what was loaded, as docker does; varve shows no more without it
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only these platforms of each image, as linux/arm64 (repeatable, or separated by commas)
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
}
