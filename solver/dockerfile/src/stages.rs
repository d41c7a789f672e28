//! Which stages a Dockerfile has, what they are built on, and which of them the target needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use llb::Platform;

use crate::ast::{Dockerfile, Instruction, InstructionKind, Stage};
use crate::error::suggest::{did_you_mean, nearest};
use crate::error::{Error, Span};
use crate::lower::arguments::{Globals, at};
use crate::lower::options::{Contexts, Options, Replacement};
use crate::words::{Lexer, NoVariables};

/// All stages in file order, then the images that `COPY --from` and `RUN --mount=from=` name.
#[derive(Debug)]
pub(crate) struct StageTable {
    pub(crate) stages: Vec<StageNode>,
    /// By name in lower case; of several stages with one name the last.
    names: HashMap<String, usize>,
    /// Images that `--from` and `from=` name, by that name.
    images: HashMap<String, usize>,
    /// How many of them the file declares.
    declared: usize,
}

/// One stage.
#[derive(Debug)]
pub(crate) struct StageNode {
    /// What steps of the stage are named after; empty when there is one stage only.
    pub(crate) label: String,
    /// What it is built on.
    pub(crate) base: Base,
    /// A named context that takes its place: its instructions are not run.
    pub(crate) replacement: Option<Replacement>,
    /// `FROM --platform`.
    pub(crate) platform: Option<Platform>,
    /// Its instructions, those of triggers first.
    pub(crate) commands: Vec<Command>,
    /// The `FROM` line.
    pub(crate) source: String,
    /// The lines of `FROM`, or of the instruction that names the image.
    pub(crate) span: Span,
    /// More instructions that name the image.
    pub(crate) more_spans: Vec<Span>,
    /// How many steps are shown.
    pub(crate) step_count: usize,
    /// Its steps ignore the cache.
    pub(crate) ignore_cache: bool,
    /// It is an image that an instruction names, not a stage of the file.
    pub(crate) implicit: bool,
    /// Its triggers were added.
    pub(crate) triggered: bool,
}

/// What a stage is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, as the file names it.
    Image(String),
}

/// One instruction of a stage.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) instruction: Instruction,
    /// The stage that it copies from.
    pub(crate) from: Option<usize>,
    /// The stages that its mounts show, one for each `--mount` of `RUN`.
    pub(crate) mounts_from: Vec<Option<usize>>,
    /// It comes from a trigger of the base image.
    pub(crate) is_trigger: bool,
}

impl Command {
    /// The stages that it needs.
    pub(crate) fn sources(&self) -> impl Iterator<Item = usize> + '_ {
        let mounted = self.mounts_from.iter().copied().flatten();
        self.from.into_iter().chain(mounted)
    }
}

impl StageTable {
    /// Reads all `FROM` lines and all `--from` flags.
    pub(crate) fn new(
        dockerfile: &Dockerfile,
        options: &Options,
        globals: &Globals,
        contexts: &Contexts<'_>,
    ) -> Result<Self, Error> {
        let mut table = Self {
            stages: Vec::new(),
            names: HashMap::new(),
            images: HashMap::new(),
            declared: 0,
        };
        for stage in &dockerfile.stages {
            let node = table.node(stage, options, globals, contexts)?;
            if let Some(name) = &stage.name {
                table.names.insert(name.to_lowercase(), table.stages.len());
            }
            table.stages.push(node);
        }
        table.declared = table.stages.len();
        for (at, stage) in dockerfile.stages.iter().enumerate() {
            let mut commands = Vec::with_capacity(stage.instructions.len());
            for instruction in &stage.instructions {
                commands.push(table.command(instruction.clone(), false)?);
            }
            table.stages[at].commands = commands;
        }
        table.check_circles()?;
        if let [only] = table.stages.as_mut_slice() {
            only.label.clear();
        }
        Ok(table)
    }

    fn node(
        &self,
        stage: &Stage,
        options: &Options,
        globals: &Globals,
        contexts: &Contexts<'_>,
    ) -> Result<StageNode, Error> {
        let span = stage.origin.span;
        let fail = |message: String| at(span, message);
        let word = stage.base.image.as_str();
        let expanded = globals.lexer.process_word(word, &globals.variables);
        let name = expanded.map_err(|error| at(span, error))?;
        if name.is_empty() {
            return Err(fail(format!("base name ({word}) should not be blank")));
        }
        let platform = platform(stage, options, globals)?;
        let wanted = platform.as_ref().unwrap_or(&globals.target_platform);
        let replacement = stage
            .name
            .as_deref()
            .and_then(|name| contexts.find(name, wanted));
        let base = match self.names.get(&name) {
            // Names are kept in lower case and looked up as written, as in BuildKit.
            Some(earlier) => Base::Stage(*earlier),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(name),
        };
        let is_step = |instruction: &&Instruction| {
            use InstructionKind::{Add, Copy, Run, Workdir};
            matches!(instruction.kind, Add(_) | Copy(_) | Run(_) | Workdir(_))
        };
        let steps = stage.instructions.iter().filter(is_step).count();
        let default_label = || format!("stage-{}", self.stages.len());
        Ok(StageNode {
            label: stage.name.clone().unwrap_or_else(default_label),
            step_count: steps + usize::from(matches!(base, Base::Image(_))),
            base,
            replacement,
            platform,
            commands: Vec::new(),
            source: stage.origin.source.clone(),
            span,
            more_spans: Vec::new(),
            ignore_cache: options.no_cache.covers(stage.name.as_deref()),
            implicit: false,
            triggered: false,
        })
    }

    /// Finds what an instruction copies from; adds an image that is named for the first time.
    pub(crate) fn command(
        &mut self,
        instruction: Instruction,
        is_trigger: bool,
    ) -> Result<Command, Error> {
        let from = match &instruction.kind {
            InstructionKind::Copy(copy) => copy.from.clone(),
            _ => None,
        };
        let span = instruction.origin.span;
        let from = match from.filter(|name| !name.is_empty()) {
            Some(name) => Some(self.source(&name, span)?),
            None => None,
        };
        let mounted = match &instruction.kind {
            InstructionKind::Run(run) => run.mounts.as_slice(),
            _ => &[],
        };
        let mounts_from = mounted
            .iter()
            .map(|mount| mount.from().map(|name| self.source(name, span)).transpose())
            .collect::<Result<_, Error>>()?;
        Ok(Command {
            instruction,
            from,
            mounts_from,
            is_trigger,
        })
    }

    fn source(&mut self, name: &str, span: Span) -> Result<usize, Error> {
        let expanded = Lexer::new('\\').process_word(name, &NoVariables);
        if expanded.map_err(|error| at(span, error))? != name {
            let message = "variable expansion is not supported for --from, define a new stage \
                           with FROM using ARG from global scope as a workaround";
            return Err(at(span, message));
        }
        if let Ok(index) = name.parse::<i64>() {
            let found = usize::try_from(index)
                .ok()
                .filter(|index| *index < self.declared);
            return found.ok_or_else(|| at(span, format!("invalid stage index {index}")));
        }
        if let Some(found) = self.names.get(&name.to_lowercase()) {
            return Ok(*found);
        }
        if let Some(found) = self.images.get(name) {
            return Ok(*found);
        }
        self.images.insert(name.to_owned(), self.stages.len());
        let base = match name {
            "scratch" => Base::Scratch,
            name => Base::Image(name.to_owned()),
        };
        self.stages.push(StageNode {
            label: String::new(),
            base,
            replacement: None,
            platform: None,
            commands: Vec::new(),
            source: String::new(),
            span,
            more_spans: Vec::new(),
            step_count: 0,
            ignore_cache: false,
            implicit: true,
            triggered: true,
        });
        Ok(self.stages.len() - 1)
    }

    /// The stage to build.
    pub(crate) fn target(&self, name: Option<&str>) -> Result<usize, Error> {
        let Some(name) = name else {
            return Ok(self.declared - 1);
        };
        if let Some(found) = self.names.get(&name.to_lowercase()) {
            return Ok(*found);
        }
        // A stage that is alone has no label, and may still have a name.
        let labels = self.stages.iter().map(|stage| stage.label.as_str());
        let mut known: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
        if known.is_empty() {
            known.extend(self.names.keys().map(String::as_str));
        }
        let hint = did_you_mean(&nearest(name, &known));
        let quoted = crate::error::quote::quote(name);
        // The request is wrong and no line is: line 0 shows none.
        let message = format!("target stage {quoted} could not be found{hint}");
        Err(at(Span::line(0), message))
    }

    /// What a stage needs beside what it is built on.
    fn sources(&self, stage: usize) -> impl Iterator<Item = (usize, Span)> {
        let node = &self.stages[stage];
        let commands = match node.replacement {
            Some(_) => &[],
            None => node.commands.as_slice(),
        };
        commands.iter().flat_map(|command| {
            let span = command.instruction.origin.span;
            command.sources().map(move |from| (from, span))
        })
    }

    /// The stages that `target` needs, itself among them.
    pub(crate) fn needed(&self, target: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut waiting = vec![target];
        while let Some(stage) = waiting.pop() {
            if !needed.insert(stage) {
                continue;
            }
            waiting.extend(self.sources(stage).map(|(source, _)| source));
            if let (Base::Stage(base), None) =
                (&self.stages[stage].base, &self.stages[stage].replacement)
            {
                waiting.push(*base);
            }
        }
        needed
    }

    /// Says of images that instructions name where needed stages name them.
    pub(crate) fn place_images(&mut self, needed: &BTreeSet<usize>) {
        let mut spans: BTreeMap<usize, Vec<Span>> = BTreeMap::new();
        for (image, span) in needed.iter().flat_map(|stage| self.sources(*stage)) {
            spans.entry(image).or_default().push(span);
        }
        for (image, spans) in spans {
            let node = &mut self.stages[image];
            if node.implicit {
                node.span = spans[0];
                node.more_spans = spans[1..].to_vec();
            }
        }
    }

    /// Stages that copy from each other in a circle are refused, needed or not.
    fn check_circles(&self) -> Result<(), Error> {
        let mut done = vec![false; self.stages.len()];
        let mut open = vec![false; self.stages.len()];
        for start in 0..self.stages.len() {
            // A stack of our own: thousands of stages may copy from each other in a chain.
            let mut stack = vec![(start, self.sources(start).collect::<Vec<_>>().into_iter())];
            if std::mem::replace(&mut done[start], true) {
                continue;
            }
            open[start] = true;
            while let Some((stage, sources)) = stack.last_mut() {
                let Some((source, span)) = sources.next() else {
                    open[*stage] = false;
                    stack.pop();
                    continue;
                };
                if open[source] {
                    let label = &self.stages[start].label;
                    let message = format!("circular dependency detected on stage: {label}");
                    return Err(at(span, message));
                }
                if !std::mem::replace(&mut done[source], true) {
                    open[source] = true;
                    stack.push((source, self.sources(source).collect::<Vec<_>>().into_iter()));
                }
            }
        }
        Ok(())
    }
}

/// The value of `FROM --platform`.
fn platform(
    stage: &Stage,
    options: &Options,
    globals: &Globals,
) -> Result<Option<Platform>, Error> {
    let Some(word) = &stage.base.platform else {
        return Ok(None);
    };
    let span = stage.origin.span;
    if word.as_str().is_empty() {
        return Ok(None);
    }
    let text = globals
        .lexer
        .process_word(word.as_str(), &globals.variables)
        .map_err(|error| {
            at(
                span,
                format!("failed to process arguments for platform {word}: {error}"),
            )
        })?;
    if text.is_empty() {
        return Err(at(
            span,
            format!("empty platform value from expression {word}"),
        ));
    }
    let parsed = Platform::parse(&text, &options.build_platform);
    let parsed =
        parsed.map_err(|error| at(span, format!("failed to parse platform {word}: {error}")))?;
    Ok(Some(parsed))
}
