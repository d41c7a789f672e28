//! Every sentence this crate can complain with.

use super::quote::quote;
use super::suggest::did_you_mean;
use crate::words::WordError;

/// What is wrong, in BuildKit's words where BuildKit has words for it.
///
/// `keyword` fields hold the instruction's name in upper case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The sentences say what the variants and their fields mean.
pub enum Problem {
    // The file as a whole.
    #[error("dockerfile of {size} bytes is larger than the maximum of {size_max} bytes")]
    TooLarge { size: usize, size_max: usize },
    #[error("more than {count_max} build stages in one dockerfile")]
    TooManyStages { count_max: usize },
    #[error("more than {count_max} instructions in one dockerfile")]
    TooManyInstructions { count_max: usize },
    #[error("not valid UTF-8 (only comments may be); save the file as UTF-8")]
    NotUtf8,
    #[error("the Dockerfile cannot be empty")]
    NoBytes,
    #[error("file with no instructions")]
    NoInstructions,
    #[error("no build stage in current context")]
    NoStage,

    // Directives.
    #[error("invalid escape token '{token}' does not match ` or \\")]
    EscapeToken { token: String },
    #[error("only one {name} parser directive can be used")]
    DirectiveRepeated { name: &'static str },
    #[error("invalid check option {}", quote(.option))]
    CheckOption { option: String },
    #[error("failed to parse check option {}: invalid boolean value", quote(.option))]
    CheckOptionValue { option: String },

    // Cutting a line into arguments.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("{keyword} must have two arguments")]
    TwoArguments { keyword: &'static str },
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quote(.word))]
    NoEqualsSign { word: String },
    #[error("{0}")]
    Word(#[from] WordError),

    // Flags. `suggestion` is the nearest known name.
    #[error("unknown flag: --{name}{}", did_you_mean(.suggestion))]
    UnknownFlag {
        name: String,
        suggestion: Option<String>,
    },
    #[error("duplicate flag specified: --{name}")]
    DuplicateFlag { name: String },
    #[error("missing a value on flag: --{name}")]
    FlagWithoutValue { name: String },
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    FlagNotBoolean { name: String, value: String },

    // Instructions.
    #[error("unknown instruction: {name}{}", did_you_mean(.suggestion))]
    UnknownInstruction {
        name: String,
        suggestion: Option<String>,
    },
    #[error("{keyword} requires at least one argument")]
    AtLeastOneArgument { keyword: &'static str },
    #[error("{keyword} requires exactly one argument")]
    ExactlyOneArgument { keyword: &'static str },
    #[error(
        "{keyword} requires at least two arguments, but only one was provided. \
         Destination could not be determined"
    )]
    NoDestination { keyword: &'static str },
    #[error("{keyword} cannot accept a heredoc as a destination")]
    HeredocDestination { keyword: &'static str },
    #[error("{keyword} names can not be blank")]
    BlankName { keyword: &'static str },
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        quote(.name)
    )]
    StageName { name: String },
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("{keyword} requires the arguments to be in JSON form")]
    NotJson { keyword: &'static str },
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    #[error("{keyword} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger { keyword: String },
    #[error("onbuild trigger should be a single expression")]
    OnbuildNotSingle,

    // HEALTHCHECK.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quote(.kind))]
    HealthcheckType { kind: String },
    #[error("time: invalid duration {}", quote(.value))]
    Duration { value: String },
    #[error("time: missing unit in duration {}", quote(.value))]
    DurationWithoutUnit { value: String },
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.value))]
    DurationUnit { unit: String, value: String },
    #[error("Interval {} cannot be less than 1ms", quote(.flag))]
    IntervalTooShort { flag: &'static str },
    #[error("--retries must be a number from 0 to 2147483647, not {}", quote(.value))]
    Retries { value: String },
    #[error("--retries cannot be negative ({value})")]
    NegativeRetries { value: i64 },

    // RUN flags.
    #[error("invalid network mode {}", quote(.value))]
    NetworkMode { value: String },
    #[error("security {} is not valid", quote(.value))]
    SecurityMode { value: String },
    #[error("failed to parse csv {what}: {reason}")]
    Csv { what: &'static str, reason: String },
    #[error("invalid field '{field}' must be a key=value pair")]
    FieldWithoutValue { field: String },
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(.suggestion))]
    UnexpectedKey {
        key: String,
        field: String,
        suggestion: Option<String>,
    },
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherMountType { key: String, kind: &'static str },
    #[error("invalid value for {key}: {value}")]
    FieldValue { key: String, value: String },
    #[error("invalid value {value} for {key}")]
    FieldNumber { key: &'static str, value: String },
    #[error("'{key}' doesn't support variable expansion, define alias stage instead")]
    VariableNotSupported { key: &'static str },
    #[error("unsupported mount type {}{}", quote(.value), did_you_mean(.suggestion))]
    MountType {
        value: String,
        suggestion: Option<String>,
    },
    #[error("unsupported sharing value {}{}", quote(.value), did_you_mean(.suggestion))]
    SharingMode {
        value: String,
        suggestion: Option<String>,
    },
    #[error("{key} not allowed for {} type mounts", quote(.kind))]
    KeyNotAllowed {
        key: &'static str,
        kind: &'static str,
    },
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutSource,
    #[error("both source and id can't be set")]
    SecretSourceAndId,
    #[error("invalid cache sharing set for {kind} mount")]
    SharingOfOtherMountType { kind: &'static str },
    #[error("device name already set to {name}")]
    DeviceNameRepeated { name: String },

    // Patterns.
    #[error("syntax error in pattern")]
    BadPattern,
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyExclusion,
    #[error("ignore file of {size} bytes is larger than the maximum of {size_max} bytes")]
    IgnoreFileTooLarge { size: usize, size_max: usize },
    #[error("more than {count_max} patterns")]
    TooManyPatterns { count_max: usize },
    #[error("pattern of {size} bytes is longer than the maximum of {size_max} bytes")]
    PatternTooLong { size: usize, size_max: usize },
}
