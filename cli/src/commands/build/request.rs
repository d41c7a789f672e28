//! From the command line to a request: what the files, the environment and standard input say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use executor::RuntimeChoice;
use solver::frontend::{familiar, normalize};
use solver::request::{
    ArchiveSource, BuildRequest, ContextSource, DockerfileSource, GitSource, NamedContextSource,
    NetworkMode, NoCache, RemoteSource,
};

use super::keys::KeyAgent;
use super::steps;
use crate::args::allow::Allowed;
use crate::args::booleans::boolean;
use crate::args::contexts::{NamedContext, is_url};
use crate::args::{Build, NetworkChoice, exports};
use crate::caller::Caller;
use crate::configuration::Configuration;
use crate::container_proxies;
use crate::environment::Environment;
use crate::output::Mode;
use crate::registries;

use super::outputs;
use crate::commands::images::new_name;

/// Most bytes of a Dockerfile on standard input: far more than any frontend takes.
const STDIN_BYTES_MAX: u64 = 16 << 20;

/// By so many bytes an archive is known.
const ARCHIVE_START_BYTES: u64 = 512;

/// What the command line asks for beside the build.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) runtime: RuntimeChoice,
    pub(super) progress: Mode,
    pub(super) is_quiet: bool,
    /// Neither named nor written, and nobody said that this is meant.
    pub(super) goes_nowhere: bool,
    pub(super) iidfile: Option<PathBuf>,
    pub(super) metadata_file: Option<PathBuf>,
    /// Agents with keys of files, until the build has ended.
    pub(super) agents: Vec<KeyAgent>,
    /// What the file says, as it was when the build began.
    pub(super) configuration: Configuration,
}

/// Makes the request.
///
/// # Errors
/// The context is no directory, standard input no Dockerfile, an option no sense.
pub(super) fn make(
    options: Build,
    environment: &Environment,
) -> anyhow::Result<(BuildRequest, Asked)> {
    let (dockerfile, context) = sources(&options, environment)?;
    let [iidfile, metadata_file] = [&options.iidfile, &options.metadata_file]
        .map(|file| path_if_any(file.as_deref()).map(Path::to_owned));
    for (option, file) in [("--iidfile", &iidfile), ("--metadata-file", &metadata_file)] {
        file.iter()
            .try_for_each(|file| outputs::check_file(option, file))?;
    }
    let tags = options.tags;
    // Before anything is built: a name that cannot be given would waste it all.
    for tag in &tags {
        new_name(tag).with_context(|| format!("invalid -t {tag:?}"))?;
    }
    let mut exports = options.outputs;
    if options.push.push {
        exports::push(&mut exports);
    }
    let wanted = outputs::Wanted {
        exports,
        annotations: options.annotations,
        is_loaded: options.load,
        tagged: !tags.is_empty(),
        needs_id: iidfile.is_some(),
        is_quiet: options.quiet,
        may_delete: options.allow.contains(&Allowed::LocalDelete),
    };
    let (outputs, goes_nowhere) = outputs::make(wanted, environment)?;
    let named = options
        .named_contexts
        .into_iter()
        .map(|(name, value)| named(&name, value, environment));
    let (steps, agents) = steps::inputs(&options.steps, environment)?;
    let configuration = Configuration::of(environment)?;
    let request = BuildRequest {
        dockerfile,
        context,
        named_contexts: named.collect::<anyhow::Result<_>>()?,
        target: options.target.filter(|stage| !stage.is_empty()),
        build_args: build_args(&options.build_args, environment)?,
        labels: labels(&options.labels)?,
        platforms: options.platforms,
        no_cache: match (options.no_cache, options.no_cache_filter) {
            (true, _) => NoCache::All,
            (false, stages) if stages.is_empty() => NoCache::None,
            (false, stages) => NoCache::Stages(stages),
        },
        pull: options.images.pull,
        registries: registries::of(&configuration, environment)?,
        network: match options.network {
            NetworkChoice::Default => NetworkMode::Default,
            NetworkChoice::Host => NetworkMode::Host,
            NetworkChoice::None => NetworkMode::None,
        },
        tags,
        outputs,
        steps,
    };
    let asked = Asked {
        runtime: options.runtime.choice().clone(),
        progress: options.progress.unwrap_or_default(),
        is_quiet: options.quiet,
        goes_nowhere,
        iidfile,
        metadata_file,
        agents,
        configuration,
    };
    Ok((request, asked))
}

/// Whether the Dockerfile or the context comes from standard input.
pub(super) fn reads_stdin(options: &Build) -> bool {
    options.context == "-" || options.file.as_deref().is_some_and(|file| file == "-")
}

/// The path, unless the word is empty: scripts say `--iidfile "$FILE"`.
fn path_if_any(word: Option<&OsStr>) -> Option<&Path> {
    word.filter(|word| !word.is_empty()).map(Path::new)
}

/// Where the Dockerfile and the context are.
fn sources(
    options: &Build,
    environment: &Environment,
) -> anyhow::Result<(DockerfileSource, Option<ContextSource>)> {
    let (context, file) = (&options.context, path_if_any(options.file.as_deref()));
    let is_stdin = file == Some(Path::new("-"));
    if context == "-" {
        return piped(file);
    }
    let git = GitSource::parse(context);
    let git = git.map_err(|error| anyhow::anyhow!("invalid context {context}: {error}"))?;
    let remote = match git {
        Some(git) => Some(RemoteSource::Git(git_source(
            git,
            &options.build_args,
            environment,
        ))),
        None => is_url(context).then(|| RemoteSource::Web(context.clone())),
    };
    if let Some(remote) = remote {
        let dockerfile = match is_stdin {
            true => DockerfileSource::Bytes(read_stdin()?),
            false => DockerfileSource::InContext(in_context(file)),
        };
        return Ok((dockerfile, Some(ContextSource::Remote(remote))));
    }
    let directory = directory(Path::new(context), "unable to prepare context")?;
    let dockerfile = match file {
        Some(_) if is_stdin => DockerfileSource::Bytes(read_stdin()?),
        Some(file) => DockerfileSource::File(Environment::absolute(file)?),
        None => DockerfileSource::File(default_dockerfile(&directory)?),
    };
    Ok((dockerfile, Some(ContextSource::Directory(directory))))
}

/// What `-` as context means: an archive with everything, or a Dockerfile that needs nothing.
fn piped(file: Option<&Path>) -> anyhow::Result<(DockerfileSource, Option<ContextSource>)> {
    if file == Some(Path::new("-")) {
        bail!("standard input cannot be both the context and the Dockerfile; name a directory");
    }
    let mut start = Vec::new();
    let input = Caller::current().stdin_file();
    let input = input.and_then(|mut input| {
        input
            .by_ref()
            .take(ARCHIVE_START_BYTES)
            .read_to_end(&mut start)?;
        Ok(input)
    });
    let input = input.context("cannot read the context from standard input")?;
    if ArchiveSource::is_archive(&start) {
        let archive = RemoteSource::Archive(ArchiveSource::new(start, input));
        let dockerfile = DockerfileSource::InContext(in_context(file));
        return Ok((dockerfile, Some(ContextSource::Remote(archive))));
    }
    if file.is_some() {
        bail!(
            "with `-` as context and no archive on standard input, the Dockerfile is read from \
             there: leave -f out, or name a directory as context"
        );
    }
    let dockerfile = dockerfile_of(Cursor::new(start).chain(input))?;
    Ok((DockerfileSource::Bytes(dockerfile), None))
}

/// The path of `-f` in a context that is fetched.
fn in_context(file: Option<&Path>) -> Option<String> {
    file.map(|file| file.to_string_lossy().into_owned())
}

/// With what git needs of the caller.
fn git_source(mut git: GitSource, build_args: &[String], environment: &Environment) -> GitSource {
    let keeps = build_args.iter().rev().find_map(|entry| {
        let value = entry.strip_prefix("BUILDKIT_CONTEXT_KEEP_GIT_DIR=")?;
        Some(boolean(value).unwrap_or_default())
    });
    if keeps == Some(true) {
        git.reference.keeps_git_directory = keeps;
    }
    git.environment = environment.all();
    git
}

fn directory(path: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let absolute = Environment::absolute(path)?;
    match std::fs::metadata(&absolute) {
        Ok(found) if found.is_dir() => Ok(absolute),
        Ok(_) => bail!("{what}: {} is not a directory", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{what}: path {:?} not found", path.display().to_string())
        }
        Err(error) => Err(error).with_context(|| format!("{what}: {}", path.display())),
    }
}

/// `Dockerfile`, or `dockerfile` if only that is there.
fn default_dockerfile(context: &Path) -> anyhow::Result<PathBuf> {
    let names = ["Dockerfile", "dockerfile"].map(|name| context.join(name));
    match names.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "failed to read dockerfile: open {}: no such file or directory; name another one \
             with -f",
            names[0].display()
        ),
    }
}

fn read_stdin() -> anyhow::Result<Vec<u8>> {
    dockerfile_of(Caller::current().stdin())
}

fn dockerfile_of(input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.context("cannot read the Dockerfile from standard input")?;
    if bytes.is_empty() {
        bail!("standard input is empty, but the Dockerfile was to be read from it");
    }
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        bail!("standard input has more than 16 MiB, which is too large for a Dockerfile");
    }
    Ok(bytes)
}

/// `--build-arg`, and the one variable that buildx passes on unasked.
fn build_args(
    given: &[String],
    environment: &Environment,
) -> anyhow::Result<BTreeMap<String, String>> {
    let epoch = "SOURCE_DATE_EPOCH";
    let mut arguments = BTreeMap::new();
    arguments.extend(
        environment
            .get(epoch)
            .map(|value| (epoch.to_owned(), value.to_owned())),
    );
    arguments.extend(container_proxies::configured(environment)?);
    for entry in given {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entry.as_str(), environment.get(entry)),
        };
        if name.is_empty() {
            bail!("invalid --build-arg {entry:?}: it is not NAME=VALUE");
        }
        arguments.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    Ok(arguments)
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for entry in given {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if name.is_empty() {
            bail!("invalid --label {entry:?}: it is not NAME=VALUE");
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

fn named(
    name: &str,
    value: NamedContext,
    environment: &Environment,
) -> anyhow::Result<(String, NamedContextSource)> {
    // As buildx does: `docker.io/library/alpine:latest` and `alpine` are one name.
    let full = normalize(name).with_context(|| format!("invalid context name {name:?}"))?;
    let what = format!("build context {name}");
    let source = match value {
        NamedContext::Directory(path) => NamedContextSource::Directory(directory(&path, &what)?),
        NamedContext::Git(git) => {
            let git = git_source(git, &[], environment);
            NamedContextSource::Remote(RemoteSource::Git(git))
        }
        NamedContext::Web(url) => NamedContextSource::Remote(RemoteSource::Web(url)),
        // No image's name: it is the one that has nothing.
        NamedContext::Image(reference) if reference == "scratch" => {
            NamedContextSource::Image(reference)
        }
        NamedContext::Image(reference) => {
            NamedContextSource::Image(normalize(&reference).context(what)?)
        }
        NamedContext::Layout { path, tag, digest } => {
            let absolute = Environment::absolute(&path)?;
            std::fs::metadata(&absolute).with_context(|| format!("{what}: {}", path.display()))?;
            NamedContextSource::Layout {
                path: absolute,
                tag,
                digest,
            }
        }
    };
    Ok((familiar(&full), source))
}

#[cfg(test)]
mod tests;
