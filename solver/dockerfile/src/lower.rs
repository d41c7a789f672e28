//! Instructions → graph and image configuration.
//!
//! [`lower`] is pure and resumable: it never fetches. When it meets an image that it does not know
//! it answers [`Lowering::NeedImages`]; the caller resolves them, adds them to [`ResolvedImages`]
//! and calls again. Everything that was known before gives the same result again.
//!
//! The graph is the one that BuildKit's Dockerfile frontend makes (operations, mounts, copy flags,
//! step names), so caches, progress displays and people find what they expect. What is parsed but
//! not lowered yet is refused in a sentence that says so.
//!
//! Read next: `lower/from.rs` (what a stage starts with), `lower/run.rs`, `lower/copy.rs`.

pub(crate) mod arguments;
mod copy;
mod environment;
mod expose;
mod from;
mod history;
mod images;
mod instruction;
mod mounts;
mod onbuild;
pub(crate) mod options;
mod paths;
mod reference;
mod remote;
mod run;
mod stage;
mod targets;
mod variables;
mod workdir;

use std::collections::{BTreeMap, BTreeSet};

use llb::op::{LocalSource, Source};
use llb::{Graph, GraphBuilder, Location, Metadata, Output, Platform, Range, SourceFile};

use self::arguments::{Globals, at};
use self::from::{Files, Finder, Found, Foundation, PLATFORM_CHECK};
use self::options::{Contexts, Replacement};
use self::stage::StageState;
use crate::ast::{Dockerfile, Warning, Word};
use crate::config::{DockerImageConfig, WINDOWS};
use crate::directives::CheckOptions;
use crate::error::{Error, Span};
use crate::stages::{Base, StageTable};

pub use self::images::{ImageRequest, ResolvedImage, ResolvedImages};
pub use self::options::{NamedContext, NoCache, Options};
pub use self::reference::normalize as normalize_reference;
pub use self::targets::{Target, targets};

/// Most text that one lowering may produce, in bytes: environments, history entries and expanded
/// words. A Dockerfile of some kilobytes can otherwise ask for any amount of memory.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// The answer of [`lower`].
#[derive(Debug)]
pub enum Lowering {
    /// These images have to be resolved first.
    NeedImages(Vec<ImageRequest>),
    /// Done.
    Done(Box<Lowered>),
}

/// What a Dockerfile means.
#[derive(Debug)]
pub struct Lowered {
    /// How to make the file system. Its vertices say which lines they come from; file 0 of the
    /// graph is the Dockerfile.
    pub graph: Graph,
    /// The image that is made of it. Layers and creation times are the exporter's to fill in.
    pub image: DockerImageConfig,
    /// The configuration of the image that the target was built on.
    pub base_image: Option<DockerImageConfig>,
    /// What the image is for, normalised.
    pub platform: Platform,
    /// Time of the build in seconds since the epoch, when one was given.
    pub epoch: Option<i64>,
    /// The target ignores the cache.
    pub ignore_cache: bool,
    /// What should be changed.
    pub warnings: Vec<Warning>,
}

impl Lowered {
    /// The local directories that the graph reads, and which paths of them.
    pub fn local_sources(&self) -> Vec<LocalSource> {
        let local = |vertex: &llb::Vertex| match vertex.op() {
            // Attributes that this crate wrote can be read.
            llb::op::Op::Source(source) => LocalSource::read(source).ok().flatten(),
            _ => None,
        };
        self.graph.vertices().iter().filter_map(local).collect()
    }

    /// The lines of the Dockerfile that a vertex comes from; empty for what no line asks for.
    pub fn lines(&self, vertex: llb::VertexDigest) -> Vec<Span> {
        let Some(vertex) = self.graph.vertex(vertex) else {
            return Vec::new();
        };
        let line = |line: i32| usize::try_from(line).unwrap_or_default();
        let mut spans: Vec<Span> = Vec::new();
        for range in vertex
            .metadata()
            .locations
            .iter()
            .flat_map(|location| &location.ranges)
        {
            let span = Span::new(line(range.start.line), line(range.end.line));
            match spans.last_mut().filter(|last| last.end + 1 == span.start) {
                Some(last) => last.end = span.end,
                None => spans.push(span),
            }
        }
        spans
    }
}

/// Lowers the target stage of a Dockerfile and what it needs.
///
/// # Errors
/// [`Error::Lower`], [`Error::Syntax`] and [`Error::Instruction`] (of triggers), with the lines
/// that are wrong. Sentences are BuildKit's where BuildKit has one.
pub fn lower(
    dockerfile: &Dockerfile,
    options: &Options,
    images: &ResolvedImages,
) -> Result<Lowering, Error> {
    if dockerfile.stages.is_empty() {
        return Err(at(Span::line(1), "dockerfile contains no stages to build"));
    }
    let globals = Globals::new(dockerfile, options)?;
    let contexts = Contexts::new(options);
    let mut table = StageTable::new(dockerfile, options, &globals, &contexts)?;
    let target = table.target(options.target.as_deref())?;
    let mut bases = BTreeMap::new();
    let needed = loop {
        let needed = table.needed(target);
        table.place_images(&needed);
        let finder = Finder {
            options,
            globals: &globals,
            contexts: &contexts,
            images,
        };
        let missing = find_bases(&finder, &table, &needed, &mut bases)?;
        if !missing.is_empty() {
            return Ok(Lowering::NeedImages(missing));
        }
        if !onbuild::add_triggers(&mut table, &needed, &bases)? {
            break needed;
        }
    };
    let mut lowerer = Lowerer::new(options, &globals, &table);
    lowerer.lay(&needed, bases)?;
    for stage in needed {
        lowerer.stage(stage)?;
    }
    let lowered = lowerer.finish(target, dockerfile)?;
    Ok(Lowering::Done(Box::new(lowered)))
}

/// Finds what needed stages are built on; gives the images that are not known yet, each once.
fn find_bases(
    finder: &Finder<'_>,
    table: &StageTable,
    needed: &BTreeSet<usize>,
    bases: &mut BTreeMap<usize, Box<Foundation>>,
) -> Result<Vec<ImageRequest>, Error> {
    let mut missing = Vec::new();
    let mut asked = BTreeSet::new();
    for stage in needed.iter().copied() {
        let node = &table.stages[stage];
        let is_base = !matches!(node.base, Base::Stage(_)) || node.replacement.is_some();
        if !is_base || bases.contains_key(&stage) {
            continue;
        }
        match finder.find(node)? {
            Found::Base(base) => drop(bases.insert(stage, base)),
            Found::Missing(request) if asked.insert(request.key()) => missing.push(request),
            Found::Missing(_) => {}
        }
    }
    Ok(missing)
}

/// Build argument: in place of `# check=`.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Builds the graph.
struct Lowerer<'a> {
    options: &'a Options,
    globals: &'a Globals,
    table: &'a StageTable,
    graph: GraphBuilder,
    /// Finished stages.
    states: BTreeMap<usize, StageState>,
    /// What stages are waiting for: bases that were found.
    foundations: BTreeMap<usize, StageState>,
    /// The build context; which paths of it are needed is known at the end.
    context: Output,
    context_paths: BTreeSet<String>,
    /// Named contexts that are local directories.
    locals: Vec<(Output, Replacement, usize)>,
    /// Paths that are read of stages.
    path_sets: Vec<BTreeSet<String>>,
    /// Bytes of text produced so far.
    text_bytes: usize,
    /// What is to be said besides what the text's own warnings are.
    warnings: Vec<Warning>,
}

impl<'a> Lowerer<'a> {
    fn new(options: &'a Options, globals: &'a Globals, table: &'a StageTable) -> Self {
        let mut graph = GraphBuilder::new();
        graph.source_file(SourceFile {
            name: options.file_name.clone(),
            data: options.file_data.clone(),
            language: "Dockerfile".to_owned(),
            definition: None,
        });
        let context = graph.defer();
        Self {
            options,
            globals,
            table,
            graph,
            states: BTreeMap::new(),
            foundations: BTreeMap::new(),
            context,
            context_paths: BTreeSet::new(),
            locals: Vec::new(),
            path_sets: Vec::new(),
            text_bytes: 0,
            warnings: Vec::new(),
        }
    }

    /// Counts text that is kept until the end.
    fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Error> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if self.text_bytes <= TEXT_BYTES_MAX {
            return Ok(());
        }
        let limit = TEXT_BYTES_MAX >> 20;
        Err(at(
            span,
            format!("variables and history of the stages exceed {limit} MiB"),
        ))
    }

    /// The value of a word.
    fn expand(&mut self, stage: &StageState, word: &Word, span: Span) -> Result<String, Error> {
        let text = self
            .globals
            .lexer
            .process_word(word.as_str(), &stage.environment);
        let text = text.map_err(|error| at(span, error))?;
        self.spend(text.len(), span)?;
        Ok(text)
    }

    /// Adds what needed stages are built on to the graph. Images that only a `COPY --from` names
    /// and stages that a named context replaces are finished with that.
    fn lay(
        &mut self,
        needed: &BTreeSet<usize>,
        bases: BTreeMap<usize, Box<Foundation>>,
    ) -> Result<(), Error> {
        for (stage, base) in bases
            .into_iter()
            .filter(|(stage, _)| needed.contains(stage))
        {
            let node = &self.table.stages[stage];
            if base.platform.os == WINDOWS && !matches!(base.files, Files::None) {
                return Err(at(node.span, "nothing can be built on images for windows"));
            }
            self.path_sets.push(BTreeSet::new());
            let path_set = self.path_sets.len() - 1;
            let mut state = self.globals.state(base.image, base.platform, path_set);
            state.base_image = base.base_image;
            state.run_platform = base.run_platform;
            self.warnings.extend(base.doubt);
            state.begin(node, self.options.multi_platform && !node.implicit);
            state.root = match base.files {
                Files::None => None,
                Files::Image { source, reference } => {
                    Some(self.image(&mut state, stage, source, &reference))
                }
                Files::Context { source, name } => {
                    let platform = Some(state.platform.clone());
                    Some(self.graph.source(source, platform, Metadata::named(name)))
                }
                Files::Local(replacement) => {
                    let deferred = self.graph.defer();
                    self.locals.push((deferred, replacement, path_set));
                    Some(deferred)
                }
            };
            // Triggers have been put in front of the stage.
            state.image.config.on_build.clear();
            if node.implicit || node.replacement.is_some() {
                self.states.insert(stage, state);
            } else {
                self.foundations.insert(stage, state);
            }
        }
        Ok(())
    }

    fn image(
        &mut self,
        state: &mut StageState,
        stage: usize,
        source: Source,
        reference: &str,
    ) -> Output {
        let node = &self.table.stages[stage];
        let platform = state.platform.clone();
        let name = state.step_name(&format!("FROM {reference}"), Some(&platform));
        let spans = std::iter::once(&node.span).chain(&node.more_spans);
        let mut metadata = Metadata {
            locations: spans.flat_map(|span| locations(*span)).collect(),
            ..Metadata::named(name)
        };
        metadata
            .description
            .insert(COMMAND.to_owned(), node.source.clone());
        self.graph.source(source, Some(platform), metadata)
    }

    /// Lowers one stage; all that it needs and that stands before it is there.
    fn stage(&mut self, stage: usize) -> Result<(), Error> {
        if self.states.contains_key(&stage) {
            return Ok(());
        }
        let table = self.table;
        let node = &table.stages[stage];
        let mut state = match (node.base.clone(), self.foundations.remove(&stage)) {
            (Base::Stage(base), _) => {
                let unfinished = || at(node.span, "a stage can only be built on an earlier one");
                let base = self.states.get(&base).ok_or_else(unfinished)?;
                let mut state = base.child();
                state.begin(node, self.options.multi_platform);
                state
            }
            (_, Some(foundation)) => foundation,
            (_, None) => return Err(at(node.span, "the base of the stage was not found")),
        };
        let history = &state.image.history;
        let history: usize = history
            .iter()
            .map(|entry| entry.created_by.len() + 64)
            .sum();
        self.spend(history + state.environment.size(), node.span)?;
        state.inherit(node.span)?;
        for command in &node.commands {
            state.naming.is_trigger = command.is_trigger;
            self.instruction(&mut state, command)?;
        }
        self.states.insert(stage, state);
        Ok(())
    }

    fn finish(mut self, target: usize, dockerfile: &Dockerfile) -> Result<Lowered, Error> {
        let span = self.table.stages[target].span;
        let missing = || at(span, "the target stage was not lowered");
        let state = self.states.remove(&target).ok_or_else(missing)?;
        // All of the target is used, whatever reads it.
        self.path_sets[state.path_set].insert("/".to_owned());
        self.fill_contexts();
        self.check(dockerfile)?;
        let graph = self
            .graph
            .finish(state.root)
            .map_err(|error| at(span, error))?;
        let mut image = state.image;
        image.config.labels.extend(self.options.labels.clone());
        if !self.globals.implicit_target {
            set_target_platform(&mut image, &self.globals.target_platform);
        }
        let platform = image.platform().normalized();
        image.set_platform(platform.clone());
        Ok(Lowered {
            graph,
            image,
            base_image: state.base_image,
            platform,
            epoch: self.globals.epoch,
            ignore_cache: state.ignore_cache,
            warnings: [&dockerfile.warnings[..], &self.warnings].concat(),
        })
    }

    /// Does with the warnings what `# check=` says, or the build argument in its place.
    fn check(&mut self, dockerfile: &Dockerfile) -> Result<(), Error> {
        let check = match self.options.build_args.get(CHECK) {
            Some(text) => CheckOptions::parse(text)
                .map_err(|problem| at(Span::line(1), problem.to_string()))?,
            None => dockerfile.directives.check.clone(),
        };
        if check.skip.covers(PLATFORM_CHECK) {
            self.warnings.clear();
        }
        match self.warnings.first() {
            Some(warning) if check.error => {
                let message = format!("lint violation found for rules: {PLATFORM_CHECK}");
                Err(at(warning.span, message))
            }
            _ => Ok(()),
        }
    }

    /// Says of local directories which paths are needed.
    fn fill_contexts(&mut self) {
        let session = self.options.session.clone().unwrap_or_default();
        let context = LocalSource {
            session: session.clone(),
            follow_paths: follow_paths(&self.context_paths),
            exclude_patterns: self.options.context_excludes.clone(),
            shared_key_hint: self.options.context_name.clone(),
            ..LocalSource::new(&self.options.context_name)
        };
        let name = Metadata::named("[internal] load build context");
        self.graph.fill(self.context, context, None, name);
        for (output, replacement, path_set) in std::mem::take(&mut self.locals) {
            let options::NamedContext::Local { name, excludes } = replacement.context else {
                continue;
            };
            let local = LocalSource {
                session: session.clone(),
                follow_paths: follow_paths(&self.path_sets[path_set]),
                exclude_patterns: excludes,
                shared_key_hint: format!("context:{}-", replacement.name),
                ..LocalSource::new(&name)
            };
            let title = format!("[context {}] load from client", replacement.name);
            self.graph.fill(output, local, None, Metadata::named(title));
        }
    }
}

/// Key of the description that holds an instruction as written.
const COMMAND: &str = "com.docker.dockerfile.v1.command";

/// The paths to send of a directory, sorted; none means all.
fn follow_paths(paths: &BTreeSet<String>) -> Vec<String> {
    if paths.contains("/") {
        return Vec::new();
    }
    let mut relative: Vec<_> = paths
        .iter()
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect();
    relative.sort();
    relative
}

/// A place in the Dockerfile: one range for each line, as BuildKit writes it.
fn locations(span: Span) -> Vec<Location> {
    let line = |line: usize| i32::try_from(line).unwrap_or(i32::MAX);
    let ranges = (span.start..=span.end)
        .map(|at| Range::lines(line(at), line(at)))
        .collect();
    vec![Location { file: 0, ranges }]
}

/// The image is for what was asked for, even when its base is not.
fn set_target_platform(image: &mut DockerImageConfig, target: &Platform) {
    let same = target.os == image.os && target.architecture == image.architecture;
    image.os.clone_from(&target.os);
    image.architecture.clone_from(&target.architecture);
    if !target.variant.is_empty() || !same {
        image.variant.clone_from(&target.variant);
    }
    if !target.os_version.is_empty() || !same {
        image.os_version.clone_from(&target.os_version);
    }
    if !target.os_features.is_empty() {
        image.os_features.clone_from(&target.os_features);
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod refusals;
