//! What is known of a finished build. Every list and every text in it is bounded.
//!
//! A field that a row does not have is empty: rows of earlier programs stay readable.
//! Values of build arguments and secrets are not in it, only their names.

use serde::{Deserialize, Serialize};

use crate::request::{BuildRequest, BuiltLayer, ContextSource, DockerfileSource};

/// A finished build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// What lists show.
    pub summary: Summary,
    /// The rest.
    pub details: Details,
}

/// What lists show of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// What it is called in the history; 0 as long as it is not there.
    pub number: u64,
    /// Milliseconds since 1970 when it began.
    pub started_ms: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub status: Status,
    /// What was asked for.
    pub asked: Asked,
    /// Steps of the graph.
    pub steps: Counts,
    /// How long the steps on the critical path ran, in microseconds.
    pub critical_path_us: u64,
    /// What went through the network and into the store.
    pub traffic: Traffic,
    /// Bytes of the details, as they are stored.
    pub bytes: u64,
    /// The process that carries it out, as long as it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<u64>,
}

/// How a build ended, if it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    #[default]
    Completed,
    /// With an error.
    Error,
    /// Somebody stopped it.
    Canceled,
    /// Not at all yet.
    Running,
    /// Not by itself: the process was killed, or the machine went down.
    Killed,
}

/// What was asked for, without the values of arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Directory of the context.
    pub context: Option<String>,
    /// The Dockerfile; `-` from standard input.
    pub dockerfile: String,
    /// The stage.
    pub target: Option<String>,
    /// The platforms, unless it was the host's.
    pub platforms: Vec<String>,
    /// Names of build arguments.
    pub build_args: Vec<String>,
    /// Names of further contexts.
    pub named_contexts: Vec<String>,
    /// Names for the image.
    pub tags: Vec<String>,
}

impl Asked {
    /// What a request asks for.
    pub fn of(request: &BuildRequest) -> Self {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        Asked {
            context: match &request.context {
                Some(ContextSource::Directory(path)) => Some(text(path)),
                Some(ContextSource::Remote(remote)) => Some(remote.name()),
                Some(ContextSource::Tree(_)) | None => None,
            },
            dockerfile: match &request.dockerfile {
                DockerfileSource::InContext(name) => {
                    name.clone().unwrap_or_else(|| "Dockerfile".to_owned())
                }
                DockerfileSource::File(path) => text(path),
                DockerfileSource::Bytes(_) => "-".into(),
            },
            target: request.target.clone(),
            platforms: request.platforms.clone(),
            build_args: request.build_args.keys().cloned().collect(),
            named_contexts: request.named_contexts.keys().cloned().collect(),
            tags: request.tags.clone(),
        }
    }

    /// What a person calls such a build: the directory, the Dockerfile if it is not the usual one,
    /// the stage.
    pub fn name(&self) -> String {
        let context = self.context.as_deref().unwrap_or_default();
        let directory = context.trim_end_matches('/').rsplit('/').next();
        let mut name = match directory {
            None | Some("" | ".") => String::new(),
            Some(directory) => directory.to_owned(),
        };
        let file = std::path::Path::new(&self.dockerfile);
        let within = file.strip_prefix(context).unwrap_or(file);
        if within != std::path::Path::new("Dockerfile") {
            let within = match within.is_absolute() {
                // Elsewhere: its last name says enough.
                true => within.file_name().unwrap_or_default().to_string_lossy(),
                false => within.to_string_lossy(),
            };
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(&within);
        }
        if let Some(target) = &self.target {
            name.push_str(&format!(" ({target})"));
        }
        name
    }
}

/// How many steps of the graph ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// They ran.
    pub run: u64,
    /// Their results were known.
    pub cached: u64,
    /// They failed.
    pub failed: u64,
    /// They were running when the build ended, or never began.
    pub canceled: u64,
}

impl Counts {
    /// All steps of the graph.
    pub fn total(&self) -> u64 {
        self.run + self.cached + self.failed + self.canceled
    }
}

/// Bytes that a build moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Came over a network.
    pub downloaded: u64,
    /// Contents that were written into the store.
    pub written: u64,
    /// Contents that the store had already, so that they were not written again.
    pub deduplicated: u64,
}

/// What only a look at one build needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Its steps, in the order in which they became known: inputs before what reads them.
    pub steps: Vec<StepRecord>,
    /// Steps that were too many.
    pub steps_left_out: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The lines of the Dockerfile that are to blame.
    pub excerpt: Option<String>,
    /// What the Dockerfile was warned for.
    pub warnings: Vec<String>,
    /// Digest of the image's config.
    pub image_id: Option<String>,
    /// Digest of the manifest, or of the index of several platforms.
    pub manifest: Option<String>,
    /// Names that the image got.
    pub names: Vec<String>,
    /// The image's layers, lowest first.
    pub layers: Vec<LayerRecord>,
}

/// A layer of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its digest.
    pub digest: String,
    /// Its bytes, as it is in the manifest.
    pub size: u64,
    /// The instruction that made it; empty where nobody knows.
    pub created_by: String,
    /// Whether it came with the base image.
    pub is_base: bool,
    /// For which platform, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

impl LayerRecord {
    /// What is remembered of a layer.
    pub(super) fn of(layer: &BuiltLayer) -> Self {
        LayerRecord {
            digest: layer.digest.to_string(),
            size: layer.size,
            created_by: without_arguments(&layer.created_by),
            is_base: layer.is_base,
            platform: layer.platform.clone(),
        }
    }
}

/// An entry of an image's history without the values of build arguments, which stand before the
/// shell: `RUN |1 TOKEN=secret /bin/sh -c make # buildkit`. They may hold anything, so nothing up
/// to the last shell is believed to be part of the command.
fn without_arguments(created_by: &str) -> String {
    const SHELL: &str = "/bin/sh -c ";
    let is_run = created_by
        .strip_prefix("RUN |")
        .or(created_by.strip_prefix('|'));
    match is_run.map(|rest| rest.rfind(SHELL).map(|at| &rest[at..])) {
        None => created_by.to_owned(),
        Some(Some(command)) => format!("RUN {command}"),
        Some(None) => "RUN".to_owned(),
    }
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Its id, which is a digest.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// Whether it is a vertex of the graph.
    pub in_graph: bool,
    /// Indexes of the steps that it reads.
    pub inputs: Vec<usize>,
    /// When it began, in microseconds after the build did; `None` if it never did.
    pub started_us: Option<u64>,
    /// When it ended; `None` if it never did.
    pub ended_us: Option<u64>,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why it failed.
    pub error: Option<String>,
    /// Transfers and the like.
    pub parts: Vec<PartRecord>,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// What it wrote.
    pub log: LogExcerpt,
}

impl StepRecord {
    /// How long it ran, in microseconds.
    pub fn duration_us(&self) -> u64 {
        let (Some(started), Some(ended)) = (self.started_us, self.ended_us) else {
            return 0;
        };
        ended.saturating_sub(started)
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// It ran.
    Done,
    /// Its result was known.
    Cached,
    /// It failed.
    Failed,
    /// The build ended before it did.
    #[default]
    Canceled,
}

/// A part of a step that told how far it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartRecord {
    /// What it is called.
    pub id: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all, if that was known.
    pub total: Option<u64>,
    /// When it was first heard of, in microseconds after the build began.
    pub started_us: u64,
    /// When it was last heard of.
    pub ended_us: u64,
    /// Whether it was finished.
    pub completed: bool,
}

/// The beginning and the end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogExcerpt {
    /// Its lines.
    pub lines: Vec<LogLine>,
    /// Lines that are missing …
    pub left_out: u64,
    /// … before the one with this index.
    pub gap_at: usize,
    /// All bytes that were ever written.
    pub written: u64,
}

/// A line of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// When it came, in microseconds after the build began.
    pub at_us: u64,
    /// Whether it was written to standard error.
    #[serde(skip_serializing_if = "is_false")]
    pub is_stderr: bool,
    /// Its text, as far as it is text, cut if it is long. It may hold control characters.
    pub text: String,
}

// serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_arguments_are_not_remembered() {
        for (created_by, expect) in [
            (
                "RUN /bin/sh -c make # buildkit",
                "RUN /bin/sh -c make # buildkit",
            ),
            ("COPY a b # buildkit", "COPY a b # buildkit"),
            ("RUN |1 T=s3cret /bin/sh -c make", "RUN /bin/sh -c make"),
            (
                "RUN |2 A=/bin/sh -c s3cret B=s3cret /bin/sh -c make",
                "RUN /bin/sh -c make",
            ),
            ("RUN |1 T=s3cret make -j", "RUN"),
            ("|1 T=s3cret /bin/sh -c make", "RUN /bin/sh -c make"),
        ] {
            assert_eq!(without_arguments(created_by), expect);
        }
    }

    #[test]
    fn builds_are_named_by_directory_dockerfile_and_stage() {
        for (context, dockerfile, target, expect) in [
            (Some("/src/app"), "/src/app/Dockerfile", None, "app"),
            (
                Some("/src/app/"),
                "/src/app/Dockerfile",
                Some("test"),
                "app (test)",
            ),
            (
                Some("/src/app"),
                "/src/app/docker/prod",
                None,
                "app/docker/prod",
            ),
            (
                Some("/src/app"),
                "/else/where/Dockerfile",
                None,
                "app/Dockerfile",
            ),
            (Some("/src/app"), "-", None, "app/-"),
            (None, "-", None, "-"),
        ] {
            let asked = Asked {
                context: context.map(str::to_owned),
                dockerfile: dockerfile.into(),
                target: target.map(str::to_owned),
                ..Asked::default()
            };
            assert_eq!(asked.name(), expect);
        }
    }
}
