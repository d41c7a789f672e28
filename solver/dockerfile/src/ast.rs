//! The syntax tree of a Dockerfile: typed instructions with the lines they came from.
//!
//! What it is not: evaluated. Variables are expanded at lowering, because their values depend on
//! build arguments, on the platform and on earlier instructions. So every text that BuildKit
//! expands is kept as a [`Word`]: raw, with quotes and escapes still in it. Plain `String` fields
//! are literal: nothing in them is ever expanded.
//!
//! Start reading at [`Dockerfile`].

use std::fmt;
use std::time::Duration;

use crate::directives::Directives;
use crate::error::Span;
use crate::error::suggest::nearest_in_any_case;
use crate::instruction::mount::MountFlag;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Parser directives from the top of the file, with their defaults filled in.
    pub directives: Directives,
    /// `ARG` instructions before the first `FROM`. They are visible in `FROM` lines, and inside a
    /// stage only to an `ARG` that names them again without a default.
    pub meta_args: Vec<MetaArg>,
    /// The build stages in file order. May be empty: BuildKit reports "dockerfile contains no
    /// stages to build" only when it needs one.
    pub stages: Vec<Stage>,
    /// What is accepted but should be changed.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// The name of a stage that somebody may have meant who wrote `name`.
    pub fn similar_stage(&self, name: &str) -> Option<String> {
        let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
        nearest_in_any_case(name, &names.collect::<Vec<_>>())
    }
}

/// One accepted but doubtful place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// One sentence.
    pub message: String,
    /// Where to read more.
    pub url: &'static str,
    /// The lines it is about.
    pub span: Span,
}

/// An `ARG` instruction in front of the first `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaArg {
    /// The variables it declares.
    pub args: Vec<ArgDefinition>,
    /// Where it stands.
    pub origin: Origin,
}

/// Where an instruction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// First and last line, here-documents included.
    pub span: Span,
    /// The keyword as written (`RUN`, `run`).
    pub keyword: String,
    /// The logical line: continuation lines joined, comments removed, surrounding white space
    /// trimmed, here-document bodies *not* included. What history entries and progress names show.
    pub source: String,
    /// Comment lines directly above, without `#` and trimmed. Directives are not among them.
    pub comments: Vec<String>,
}

impl Origin {
    /// The text of the comment that documents `name`: a comment line above the instruction that
    /// starts with `name` and a space.
    pub fn doc_comment(&self, name: &str) -> Option<&str> {
        if name.is_empty() {
            return None;
        }
        let of_name =
            |line: &'_ String| line.strip_prefix(name).is_some_and(|r| r.starts_with(' '));
        let line = self.comments.iter().find(|line| of_name(line))?;
        Some(&line[name.len() + 1..])
    }
}

/// A `FROM` and all instructions up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name given with `AS`, in lower case.
    pub name: Option<String>,
    /// What the stage starts from.
    pub base: Base,
    /// The `FROM` line.
    pub origin: Origin,
    /// The instructions in file order.
    pub instructions: Vec<Instruction>,
}

/// The arguments of `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `scratch`, an image reference, or an earlier stage. Expanded with the global arguments.
    pub image: Word,
    /// `--platform`. Expanded with the global arguments.
    pub platform: Option<Word>,
}

/// One instruction inside a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands and how it was written.
    pub origin: Origin,
    /// What it says.
    pub kind: InstructionKind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`.
    Add(AddCommand),
    /// `ARG`: one or more variables.
    Arg(Vec<ArgDefinition>),
    /// `CMD`. `Exec` of an empty list resets it.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(CopyCommand),
    /// `ENTRYPOINT`. `Exec` of an empty list resets it.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<KeyValue>),
    /// `EXPOSE`: raw port words in ascending text order, as BuildKit keeps them. One word may
    /// expand to several ports: use [`crate::words::Lexer::process_words`].
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<KeyValue>),
    /// `MAINTAINER` (deprecated). Literal.
    Maintainer(String),
    /// `ONBUILD`.
    Onbuild(OnbuildCommand),
    /// `RUN`.
    Run(Box<RunCommand>),
    /// `SHELL`: never empty.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

/// A raw word: quotes, escapes and variable references are still in it.
///
/// Give [`Word::as_str`] to [`crate::words::Lexer`] to get the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Word(String);

impl Word {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Word {
    fn from(raw: String) -> Self {
        Self(raw)
    }
}

impl From<&str> for Word {
    fn from(raw: &str) -> Self {
        Self(raw.to_owned())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One variable of an `ARG` instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The variable's name. Not expanded.
    pub name: String,
    /// The default. `None` without `=`; `Some` of an empty word for `ARG name=`.
    pub default: Option<Word>,
    /// The comment above the instruction that starts with the name.
    pub doc_comment: Option<String>,
}

/// One pair of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name; never empty before expansion.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Written in the old form `KEY value` without `=`.
    pub legacy: bool,
}

/// The command of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK CMD`. Never expanded here: the shell
/// in the container does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Shell form: to be prefixed with the `SHELL` of the stage. May be empty.
    Shell(String),
    /// Exec (JSON) form.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; for `COPY` and `ADD` also the file name.
    pub name: String,
    /// The number before `<<`; 0 when there is none. BuildKit reads but does not use it.
    pub file_descriptor: u32,
    /// No part of the delimiter was quoted, so `COPY` and `ADD` expand variables in the body.
    pub expand: bool,
    /// `<<-`: leading tabs of each line are removed, see [`Heredoc::chomped`].
    pub chomp: bool,
    /// The body as written, with line endings, leading tabs still there, without the delimiter
    /// line.
    pub content: String,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// The command.
    pub command: CommandLine,
    /// Here-documents in order of appearance; only with [`CommandLine::Shell`].
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order. Typed at lowering with [`MountFlag::resolve`].
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: NetworkMode,
    /// `--security`.
    pub security: SecurityMode,
    /// `--device`, in order.
    pub devices: Vec<Device>,
    /// Names of the flags that were given, in ascending order.
    pub flags_used: Vec<&'static str>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// The build's own default.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityMode {
    /// The default confinement.
    #[default]
    Sandbox,
    /// No confinement; needs an entitlement.
    Insecure,
}

/// `RUN --device`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The CDI device name, for example `vendor1.com/device=foo`.
    pub name: String,
    /// The build fails when the device is missing.
    pub required: bool,
}

/// Sources and destination of `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesAndDestination {
    /// Paths, wildcards or (for `ADD`) URLs.
    pub paths: Vec<Word>,
    /// Files written inline as here-documents.
    pub inline_files: Vec<InlineFile>,
    /// The last argument.
    pub destination: Word,
}

/// A here-document used as a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// The file's name: the delimiter.
    pub name: String,
    /// The content, leading tabs already removed for `<<-`. When `expand` is set, pass it through
    /// `Lexer::new('\\').skip_process_quotes()` before use.
    pub content: String,
    /// Variables in the content are expanded.
    pub expand: bool,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyCommand {
    /// What goes where.
    pub files: SourcesAndDestination,
    /// `--from`: a stage, an image or a named context. Literal; BuildKit refuses variables at
    /// lowering ("variable expansion is not supported for --from, ...").
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order. Not expanded, as in BuildKit.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCommand {
    /// What goes where.
    pub files: SourcesAndDestination,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order. Not expanded, as in BuildKit.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`; `None` when not given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`; `None` when not given (local archives are unpacked, remote ones not).
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: also forgets the base image's check.
    None,
    /// `HEALTHCHECK CMD`.
    Check(Box<HealthCommand>),
}

/// `HEALTHCHECK [flags] CMD`. A zero duration or count means "not given, inherit".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCommand {
    /// The command: `Shell` becomes `["CMD-SHELL", text]`, `Exec` becomes `["CMD", ...]`.
    pub command: CommandLine,
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnbuildCommand {
    /// The trigger as it is stored in the image config: the instruction's text with its
    /// here-documents. Parsed by [`crate::parse_trigger`] when a stage builds on the image. Only
    /// its form is checked before that, as in BuildKit.
    pub trigger: String,
    /// The trigger's keyword as written.
    pub keyword: String,
}
