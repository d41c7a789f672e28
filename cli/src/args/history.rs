//! `varve history`: builds, or an image.

pub(crate) mod filter;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use crate::output::format::Format;

use self::filter::Filter;

/// What `varve history --help` says below the options.
const HISTORY_HELP: &str = "\
The newest 100 builds are kept, failed and cancelled ones too. BUILD is a number of the list, `^1`
for the one before the last, or nothing for the last. Secrets and values of build arguments are not
kept: their names stand in their place, unless they have fewer than 4 characters. SIZE of a layer
is that of its files, a file of several names once.

Examples:
  varve history                                  the builds, newest first
  varve history ls --filter status=error --filter 'duration>30s'
  varve history logs                             what the last build wrote
  varve history inspect 12 --format json         all that is known of build 12
  varve history open                             the last build as a page with a timeline
  varve history debian:12                        how an image was made, layer by layer";

/// `varve history`.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_HELP, subcommand_precedence_over_arg = true)]
pub(crate) struct History {
    /// What to do with builds
    #[command(subcommand)]
    pub(crate) command: Option<HistoryCommand>,
    /// An image of the store: show how it was made instead
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// How the list looks
    #[command(flatten)]
    pub(crate) list: List,
    /// The platform, as linux/arm64, of an image that has several [default: this machine's]
    #[arg(long, value_name = "PLATFORM", requires = "image")]
    pub(crate) platform: Option<String>,
    /// Times and sizes for people; `-H=false` prints RFC 3339 and bytes (of an image)
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
}

/// Options of lists.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Form of the list: table, json, or a template
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: Format,
    /// Only builds of which this is true: status=error, name!=app, duration>30s, startedAt>24h
    /// (repeatable)
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<Filter>,
    /// Do not shorten names and instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print numbers (of an image: ids) only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What can be done with builds.
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// List builds, newest first
    #[command(after_help = "\
Examples:
  varve history ls
  varve history ls --filter status=error       what has failed
  varve history ls --format '{{.Ref}} {{.Name}}'   for a script")]
    Ls(List),
    /// Print what a build wrote, step by step
    #[command(after_help = "\
Examples:
  varve history logs                           of the last build
  varve history logs ^1                        of the one before
  varve history logs 12 --progress rawjson     for a program")]
    Logs {
        /// Which build [default: the last]
        #[arg(value_name = "BUILD", default_value = "^0", hide_default_value = true)]
        build: BuildReference,
        /// Form
        #[arg(long, value_enum, default_value_t)]
        progress: LogForm,
    },
    /// Show what is known of a build
    #[command(after_help = "\
Examples:
  varve history inspect                        of the last build
  varve history inspect 12 --format json       all that is known of build 12")]
    Inspect {
        /// Which build [default: the last]
        #[arg(value_name = "BUILD", default_value = "^0", hide_default_value = true)]
        build: BuildReference,
        /// Form
        #[arg(long, value_enum, default_value_t)]
        format: InspectForm,
    },
    /// Write a build as a page with a timeline, and show it
    #[command(after_help = "\
Examples:
  varve history open                           the last build, in a browser
  varve history open 12 -o page.html --no-open   to send it to somebody")]
    Open {
        /// Which build [default: the last]
        #[arg(value_name = "BUILD", default_value = "^0", hide_default_value = true)]
        build: BuildReference,
        /// The file, `-` for standard output [default: a new one in $TMPDIR or /tmp]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only write it, start no browser
        #[arg(long)]
        no_open: bool,
    },
    /// Forget builds
    #[command(after_help = "\
Examples:
  varve history rm 3 4
  varve history rm --all")]
    Rm {
        /// Which builds
        #[arg(
            value_name = "BUILD",
            required_unless_present = "all",
            conflicts_with = "all"
        )]
        builds: Vec<BuildReference>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// `varve history logs --progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogForm {
    /// Lines.
    #[default]
    Plain,
    /// JSON lines, in BuildKit's form.
    Rawjson,
}

/// `varve history inspect --format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum InspectForm {
    /// For a person.
    #[default]
    Pretty,
    /// One object for a program.
    Json,
}

/// How a build is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildReference {
    /// By its number.
    Number(u64),
    /// By how many came after it.
    Back(usize),
}

impl FromStr for BuildReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix('^') {
            Some("") => Some(BuildReference::Back(0)),
            Some(back) => back.parse().ok().map(BuildReference::Back),
            None => text.parse().ok().map(BuildReference::Number),
        };
        parsed.ok_or_else(|| {
            "a build is named by its number, or by ^N for the Nth before the last; `varve history` \
             lists them"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_named_by_number_or_from_the_end() {
        use BuildReference::{Back, Number};
        for (text, expect) in [
            ("12", Some(Number(12))),
            ("^0", Some(Back(0))),
            ("^", Some(Back(0))),
            ("^3", Some(Back(3))),
            ("-1", None),
            ("app", None),
            ("", None),
            ("^x", None),
        ] {
            assert_eq!(text.parse::<BuildReference>().ok(), expect, "{text:?}");
        }
    }
}
