//! The command line: clap's types, and the checks that need no more than the text.
//!
//! What a value means ([`exports`], [`contexts`]) is decided here; what is on disk is not looked
//! at.

pub(crate) mod allow;
pub(crate) mod archives;
pub(crate) mod booleans;
pub(crate) mod contents;
pub(crate) mod contexts;
mod csv;
mod disk_space;
pub(crate) mod documents;
pub(crate) mod elsewhere;
pub(crate) mod exports;
mod familiar;
pub(crate) mod groups;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod isolation;
pub(crate) mod login;
pub(crate) mod observation;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod space;
pub(crate) mod steps;
pub(crate) mod unknown;
mod variables;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use executor::RuntimeChoice;

use crate::completion::scripts::COMMAND as COMPLETE;
use crate::environment::Environment;
use crate::output::Mode;

use self::contexts::NamedContext;
pub(crate) use self::disk_space::DiskSpace;
use self::exports::Export;
use self::groups::Said;
use self::history::History;
use self::observation::{Debug, LogFormat, MetricsAddress, Snapshots};
use self::pull::BaseImages;
pub(crate) use self::pull::Pull;
pub(crate) use self::push::Push;
use self::push::PushResult;
use self::steps::StepOptions;

/// What `varve --help` says below the list of commands.
const AFTER_HELP: &str = "\
Examples:
  varve build -t hello .                       build ./Dockerfile, keep the image as `hello`
  varve build -o type=oci,dest=hello.tar .     write an OCI archive for skopeo, docker, podman
  varve build --target test --build-arg V=2 .  build up to a stage, with an argument
  varve run --rm hello                         run it
  varve doctor                                 what this machine can do, and what is used
  varve COMMAND --help                         all of a command, with examples

Exit codes:
  0    all went well
  1    the build or the command failed; the reason is on standard error
  2    the command line was wrong
  130  Ctrl-C (143: terminated). A second Ctrl-C ends varve at once.
  `varve run` exits with the code of the process, 128 + N if signal N killed it; 125 if there
  was none because varve failed, 126 if it could not be started, 127 if it was not found.";

/// A container image builder with its own storage.
///
/// Builds Dockerfiles as BuildKit does, in parallel and incrementally, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "varve", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
// As with docker, of an option that stands there twice the last counts.
#[command(args_override_self = true)]
struct Line {
    /// What every command takes.
    #[command(flatten)]
    global: Global,
    /// What to do.
    #[command(subcommand)]
    said: Said,
}

/// A command line that was read.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// What every command takes.
    pub(crate) global: Global,
    /// What to do.
    pub(crate) command: Command,
}

impl Arguments {
    /// The definition of the command line.
    pub(crate) fn command() -> clap::Command {
        Line::command()
    }

    /// Reads a command line. The first word is the program.
    ///
    /// # Errors
    /// It is wrong, or asks for help or the version.
    pub(crate) fn try_parse_from<W: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        let Line { global, said } = Line::try_parse_from(words)?;
        let command = said.meant();
        Ok(Arguments { global, command })
    }

    /// The same, with what the environment says of the rest.
    ///
    /// # Errors
    /// As [`Self::try_parse_from`]; a variable has no value that makes sense.
    pub(crate) fn read<W: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
        environment: &Environment,
    ) -> Result<Self, clap::Error> {
        Arguments::try_parse_from(words)?.complete(environment)
    }
}

/// Options of every command, before or after its name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of all state [env: VARVE_ROOT] [default: /var/lib/varve for root, else
    /// ~/.local/share/varve]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Log what varve itself does, to standard error
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// How trees are mounted: kernel (EROFS images), dirs (plain directories, copied out), or as a
    /// self-test finds best
    #[arg(
        long,
        global = true,
        value_name = "HOW",
        default_value = "auto",
        value_enum
    )]
    #[arg(hide_short_help = true, hide_possible_values = true)]
    pub(crate) mounts: MountsChoice,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Run a process in an image; what it writes is thrown away
    Run(Box<run::Run>),
    /// List the images in the store
    #[command(visible_alias = "ls")]
    Images(images::Images),
    /// Show all that is known of images
    Inspect(images::Inspect),
    /// Give an image one more name
    Tag(images::Tag),
    /// Take names of images away; `varve prune` then frees the space
    Rmi(images::Remove),
    /// Show what differs between the files of two images
    Diff(contents::Diff),
    /// Copy files out of an image
    Cp(contents::Cp),
    /// Mount an image read-only, or list what is mounted
    Mount(contents::Mount),
    /// Unmount images
    #[command(visible_alias = "unmount")]
    Umount(contents::Unmount),
    /// Take in images from an OCI layout, an OCI archive or a docker archive
    Import(Import),
    /// Take in an image from a registry
    Pull(Pull),
    /// Bring an image to a registry
    Push(Push),
    /// Log in to a registry
    Login(login::Login),
    /// Forget the login of a registry
    Logout(login::Logout),
    /// Write images into an archive or layout, for `docker load`, skopeo or `varve load`
    Save(archives::Save),
    /// Take in the images of an archive, from a file or standard input
    Load(archives::Load),
    /// List earlier builds, their logs and times; with an image's name, how that was made
    History(History),
    /// Show what takes space
    Du(space::Usage),
    /// Free the space of what nothing needs any more
    Prune(space::Prune),
    /// `varve system df`
    #[command(skip)]
    SystemDf(space::SystemDf),
    /// `varve image prune`
    #[command(skip)]
    ImagePrune(groups::Prune),
    /// Verify everything in the store, and repair it
    Fsck(Fsck),
    /// Tell what this machine can do and which way varve goes on it
    Doctor(Doctor),
    /// Print what makes a shell complete commands and options
    Completion(documents::Completion),
    /// Write man pages
    Man(documents::Man),
    /// Answer a shell that completes a command line
    #[command(name = COMPLETE, hide = true)]
    Complete(documents::Complete),
    /// Serve containerd: its snapshotter and differ
    Daemon(Daemon),
    /// List the snapshots that a daemon has for containerd
    Snapshots(Snapshots),
    /// Look into a daemon that runs
    Debug(Debug),
}

/// What `varve daemon --help` says below the options.
const DAEMON_HELP: &str = "\
Examples:
  varve daemon --print-containerd-config         what to put into /etc/containerd/config.toml
  varve daemon                                   serve until SIGTERM
  ctr images pull --snapshotter varve NAME       use it";

/// `varve daemon`.
#[derive(Debug, Args)]
#[command(after_help = DAEMON_HELP)]
pub(crate) struct Daemon {
    /// Socket on which containerd finds the snapshotter and the differ
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = observation::SNAPSHOTTER_ADDRESS
    )]
    pub(crate) snapshotter_address: PathBuf,
    /// Socket of the containerd whose layers the differ reads and writes
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub(crate) containerd_address: PathBuf,
    /// Most that the root directory may take: an amount (100GB) or a part of the disk (80%);
    /// then new containers and layers are refused [default: no limit]
    #[arg(long, value_name = "SPACE")]
    pub(crate) max_used_space: Option<DiskSpace>,
    /// The build cache is kept as long as no more than this is used [default: 0]
    #[arg(long, value_name = "SPACE")]
    pub(crate) reserved_space: Option<DiskSpace>,
    /// So much of the disk is left to others [default: 0]
    #[arg(long, value_name = "SPACE")]
    pub(crate) min_free_space: Option<DiskSpace>,
    /// File with maxUsedSpace, reservedSpace, minFreeSpace and debug, which SIGHUP has read again;
    /// options go before it [default: /etc/varve/varve.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name under which containerd knows the snapshotter, for --print-containerd-config
    #[arg(long, value_name = "NAME", default_value = "varve")]
    pub(crate) name: String,
    /// Version that the printed configuration is for [default: that of `containerd` on PATH]
    #[arg(long, value_name = "VERSION")]
    pub(crate) containerd_version: Option<String>,
    /// Print the part of containerd's configuration that makes it use this daemon, and end
    #[arg(long)]
    pub(crate) print_containerd_config: bool,
    /// Serve /metrics (Prometheus) and /healthz here: HOST:PORT or unix:///PATH [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_address: Option<MetricsAddress>,
    /// Form of what the daemon says on standard error
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// `--mounts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MountsChoice {
    /// By the self-test.
    #[default]
    Auto,
    /// EROFS images with overlay redirects.
    Kernel,
    /// Plain directories, copied out.
    Dirs,
}

/// `--network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// The host's, as long as varve has no networks of its own.
    #[default]
    #[value(alias = "")]
    Default,
    /// The host's.
    Host,
    /// Loopback only.
    None,
}

/// What `varve build --help` says below the options.
const BUILD_HELP: &str = "\
Outputs (-o, repeatable; FIELDS are separated by commas):
  type=oci,dest=FILE[,tar=false]    OCI image archive; a layout directory with tar=false
  type=docker[,dest=FILE]           archive for `docker load`; without dest into docker, as --load
  type=local,dest=DIR  or  -o DIR   the files of the result
  type=tar,dest=FILE   or  -o -     the same as a tar archive (- is standard output)
  type=image[,push=true]            keep it in the store, as -t does; and push it
  type=registry                     push it, as --push does; both take push-by-digest=true and
                                    registry.insecure=true
  type=cacheonly                    nothing: fill the build cache

 All images take name=NAME (\"name=A,B\" for several), compression=gzip|zstd|uncompressed,
 compression-level=N, force-compression (layers of the base too), oci-mediatypes=false,
 source-date-epoch=SECONDS, rewrite-timestamp=false (keep times of files), prefer-nondist-layers,
 annotation.KEY=VALUE, annotation-index.KEY=VALUE, annotation[linux/arm64].KEY=VALUE and so on.
 image takes name-canonical, dangling-name-prefix=PREFIX and store=false as well;
 local and tar take platform-split=false and source-date-epoch; local takes mode=delete, which
 removes what is in DIR and not in the result.

Examples:
  varve build -t app .                          CONTEXT/Dockerfile, its last stage
  varve build -f docker/Dockerfile.prod .       another file; FILE.dockerignore beside it counts
  varve build - < Dockerfile                    no context at all
  git archive HEAD | varve build -t app -       an archive as context
  varve build -t app https://example.com/app.git#v2:docker
  varve build --build-context base=oci-layout:///images/debian:12 .
                                                FROM base means that image
  varve build --platform linux/amd64,linux/arm64 -t app -o type=oci,dest=app.tar .
  varve build --build-arg VERSION -o out .      VERSION from the environment, files to ./out";

/// `varve build`.
#[derive(Debug, Args)]
#[command(after_help = BUILD_HELP)]
pub(crate) struct Build {
    /// What COPY and ADD read from: a directory, a git repository, a URL, `-` for standard input
    #[arg(value_name = "CONTEXT")]
    #[arg(
        long_help = "What COPY and ADD read from: a directory; a git repository, as \
        https://HOST/PATH.git, git://, ssh:// or USER@HOST:PATH, each with #REVISION:DIRECTORY; \
        a URL or `-` for standard input: an archive there, or a Dockerfile that needs no context"
    )]
    pub(crate) context: String,
    /// The Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<OsString>,
    /// Name of the image in the store: NAME or NAME:TAG (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; without a value, that of the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Label of the image (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Directory, repository, image or layout under a name of its own (repeatable)
    #[arg(long = "build-context", value_name = "NAME=VALUE", value_parser = contexts::parse)]
    #[arg(
        long_help = "Directory, repository, image or layout that FROM and --from can name (repeatable): \
        NAME=DIR, NAME=https://HOST/PATH.git#REVISION:DIRECTORY, NAME=URL (a file), \
        NAME=docker-image://REFERENCE (of the store or of a registry), \
        NAME=oci-layout://PATH[:TAG|@DIGEST]"
    )]
    pub(crate) named_contexts: Vec<(String, NamedContext)>,
    /// What to write, see below (repeatable)
    #[arg(short, long = "output", value_name = "DIR|FIELDS", value_parser = exports::parse)]
    pub(crate) outputs: Vec<Export>,
    /// Note on the image: [TYPE[PLATFORM],...:]KEY=VALUE (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = exports::annotations::parse)]
    #[arg(
        long_help = "Note on the image (repeatable): KEY=VALUE is on the manifest of each \
        platform; TYPE:KEY=VALUE on what TYPE says, one or more of manifest, manifest-descriptor, \
        index, index-descriptor, separated by commas; manifest[linux/arm64]:KEY=VALUE on that of \
        one platform"
    )]
    pub(crate) annotations: Vec<exports::annotations::Annotations>,
    /// Hand the image to the docker, or else the containerd, of this machine (-o type=docker)
    #[arg(long)]
    pub(crate) load: bool,
    /// Platforms to build for: several, separated by commas, make one index; `local` is this
    /// machine's [env: DOCKER_DEFAULT_PLATFORM] [default: local]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// Where the image goes to
    #[command(flatten)]
    pub(crate) push: PushResult,
    /// Where base images come from
    #[command(flatten)]
    pub(crate) images: BaseImages,
    /// Network of RUN steps
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkChoice,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run the steps of these stages again (repeatable, or separated by commas)
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        conflicts_with = "no_cache"
    )]
    pub(crate) no_cache_filter: Vec<String>,
    /// How to show progress, on standard error [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) progress: Option<Mode>,
    /// Show nothing but errors; print the image id, under which an unnamed image is kept
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the image id to a file; an unnamed image is kept under it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) iidfile: Option<OsString>,
    /// Write digests and names of the result to a JSON file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) metadata_file: Option<OsString>,
    /// What makes the containers
    #[command(flatten)]
    pub(crate) runtime: Runtime,
    /// What RUN steps get
    #[command(flatten)]
    pub(crate) steps: StepOptions,
    /// Give the build a right (repeatable): buildx.local.delete, for mode=delete in directories
    /// that are not below the working directory; network.host, which builds have anyway
    #[arg(long, value_name = "RIGHT")]
    pub(crate) allow: Vec<allow::Allowed>,
    /// What changes nothing
    #[command(flatten)]
    pub(crate) familiar: familiar::Familiar,
}

/// Options of everything that runs containers.
#[derive(Clone, Debug, Args)]
pub(crate) struct Runtime {
    /// Container runtime: auto, embedded, runc, or the path of a program like runc
    /// [env: VARVE_RUNTIME] [default: auto]
    #[arg(long = "runtime", value_name = "RUNTIME")]
    said: Option<RuntimeChoice>,
}

impl Runtime {
    /// What it says, or would say if nothing was said.
    pub(crate) fn choice(&self) -> &RuntimeChoice {
        self.said.as_ref().unwrap_or(&RuntimeChoice::Auto)
    }
}

/// `--format` of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns for a person.
    #[default]
    Table,
    /// One array for a program.
    Json,
}

/// `varve import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve import busybox.tar                  what `docker save` or `skopeo copy` wrote
  varve import ./layout debian:12           an OCI layout directory with one image
  skopeo copy docker://debian:12 oci-archive:debian.tar:debian:12 && varve import debian.tar")]
pub(crate) struct Import {
    /// OCI layout directory, OCI archive or docker archive
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Name for its one image [default: the name that it has there]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `varve fsck`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0: all is well, or was repaired. 1: something is damaged.
What a repair takes out is a cache miss afterwards: the next build makes it again.

Examples:
  varve fsck                                    read and check everything
  varve fsck --quick                            look at lengths only
  varve fsck --repair --source /mnt/backup      mend what is damaged, from copies if there are any")]
pub(crate) struct Fsck {
    /// Bring back what is damaged from other copies, and take out the rest with everything that
    /// needs it
    #[arg(long)]
    pub(crate) repair: bool,
    /// Look for copies here too: a file, or a directory of files or layers (repeatable); where
    /// containerd keeps layers is always looked at
    #[arg(long, value_name = "PATH", requires = "repair")]
    pub(crate) source: Vec<PathBuf>,
    /// Compare lengths only, do not read the files
    #[arg(long)]
    pub(crate) quick: bool,
}

/// `varve doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve doctor                                  before the first build, or when one is slow
  varve doctor --root /mnt/varve                of another directory: file systems differ")]
pub(crate) struct Doctor {
    /// What would make the containers
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

#[cfg(test)]
mod tests;
