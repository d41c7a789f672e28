//! What a shell offers when somebody presses Tab: clap's commands and options, and the names of
//! what there is: images, builds, records of the build cache, stages of a Dockerfile.
//!
//! An argument is known by what `--help` calls its value, so that a new command with an IMAGE
//! completes images. Whatever goes wrong, nothing is offered and nothing is said.

mod dockerfile;
mod names;
pub(crate) mod scripts;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::ArgExt;
use clap::{Arg, Command, ValueHint};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use self::names::Store;
use crate::args::Arguments;

/// Platforms that people build for.
const PLATFORMS: [&str; 9] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "linux/loong64",
];

/// Beginnings of what `-o` takes.
const OUTPUTS: [&str; 8] = [
    "type=oci,dest=",
    "type=docker,dest=",
    "type=local,dest=",
    "type=tar,dest=",
    "type=image,name=",
    "type=image,push=true,name=",
    "type=registry",
    "type=cacheonly",
];

/// Beginnings of the value of a named context.
const CONTEXT_SCHEMES: [&str; 2] = ["docker-image://", "oci-layout://"];

/// Filters of commands.
const FILTERS: [(&str, &[&str]); 5] = [
    ("image prune", &["until=", "label=", "label!="]),
    (
        "images",
        &[
            "reference=",
            "label=",
            "before=",
            "since=",
            "until=",
            "dangling=false",
        ],
    ),
    ("du", &CACHE_FILTERS),
    ("prune", &CACHE_FILTERS),
    (
        "history",
        &[
            "status=completed",
            "status=error",
            "status=canceled",
            "name=",
            "ref=",
            "duration>",
            "startedAt>",
        ],
    ),
];

const CACHE_FILTERS: [&str; 10] = [
    "until=",
    "id=",
    "type=regular",
    "type=source.local",
    "type=exec.cachemount",
    "description~=",
    "inuse",
    "shared",
    "private",
    "mutable",
];

/// What an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    /// The first word; what follows is a command.
    ImageFirst,
    /// With a colon and a path behind it.
    ImagePath,
    ImageOrDirectory,
    Build,
    Stage,
    BuildArgument,
    Platform,
    NamedContext,
    Output,
    Runtime,
    Directory,
    Filter,
}

impl Kind {
    /// By the name of the value, of an argument of a command.
    fn of(command: &str, argument: &Arg) -> Option<Self> {
        let value = argument.get_value_names()?.first()?.as_str();
        let is_long = |name: &str| argument.get_long() == Some(name);
        Some(match value {
            "IMAGE" | "BEFORE" | "AFTER" | "NAME[:TAG]" => Kind::Image,
            "NAME" if matches!(command, "images" | "tag" | "import" | "build") => Kind::Image,
            "IMAGE [COMMAND]" => Kind::ImageFirst,
            "IMAGE:PATH" => Kind::ImagePath,
            "IMAGE|DIR" => Kind::ImageOrDirectory,
            "BUILD" => Kind::Build,
            "STAGE" => Kind::Stage,
            "NAME[=VALUE]" if is_long("build-arg") => Kind::BuildArgument,
            "PLATFORM" | "OS/ARCH" => Kind::Platform,
            "NAME=VALUE" if is_long("build-context") => Kind::NamedContext,
            "DIR|FIELDS" => Kind::Output,
            "RUNTIME" => Kind::Runtime,
            "DIR" | "CONTEXT" => Kind::Directory,
            "KEY=VALUE" | "FILTER" if is_long("filter") => Kind::Filter,
            _ => return None,
        })
    }
}

/// What to offer for the last of `words`, the command line as far as the cursor. The first word is
/// the program. Each with what it is.
pub(crate) fn candidates(words: &[OsString], root: &Path, program: &Path) -> Vec<(String, String)> {
    let Some(last) = words.len().checked_sub(1) else {
        return Vec::new();
    };
    let here = PathBuf::from(".");
    let place = Place {
        store: Store::new(
            named_root(words).unwrap_or_else(|| root.to_owned()),
            program,
        ),
        words: words.to_vec(),
    };
    let mut command = with_names(Arguments::command(), "", &Arc::new(place));
    let found = clap_complete::engine::complete(&mut command, words.to_vec(), last, Some(&here));
    let found = found.unwrap_or_default().into_iter();
    let shown = found.filter(|candidate| !candidate.is_hide_set());
    let text = |candidate: CompletionCandidate| {
        let value = candidate.get_value().to_str()?.to_owned();
        let help = candidate.get_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        Some((value, help.lines().next().unwrap_or_default().to_owned()))
    };
    let mut offered: Vec<_> = shown.filter_map(text).collect();
    // Options only for who asks for them, or where there is nothing else.
    let is_option = |value: &str| value.starts_with('-');
    if words[last].is_empty() && offered.iter().any(|(value, _)| !is_option(value)) {
        offered.retain(|(value, _)| !is_option(value));
    }
    offered
}

/// What candidates are looked for with.
#[derive(Debug)]
struct Place {
    store: Store,
    words: Vec<OsString>,
}

/// The directory that `--root` names on the command line.
fn named_root(words: &[OsString]) -> Option<PathBuf> {
    let texts = words.iter().map(|word| word.to_str().unwrap_or_default());
    let texts: Vec<_> = texts.collect();
    let behind = |at: usize, word: &str| match word.strip_prefix("--root=") {
        Some(root) => Some(root.to_owned()),
        None if word == "--root" => texts.get(at + 1).map(|root| (*root).to_owned()),
        None => None,
    };
    let mut found = texts
        .iter()
        .enumerate()
        .filter_map(|(at, word)| behind(at, word));
    let root = found.next()?;
    Some(PathBuf::from(root.trim_matches(['"', '\''])))
}

/// `family` is the command below `varve` that this one is or belongs to.
fn with_names(command: Command, family: &str, place: &Arc<Place>) -> Command {
    let own = command.get_name().to_owned();
    let command = command.mut_args(|argument| {
        let family = if family.is_empty() { &own } else { family };
        match Kind::of(family, &argument) {
            None => argument,
            Some(kind) => add(argument, kind, family, place),
        }
    });
    let is_top = family.is_empty() && command.get_name() == "varve";
    command.mut_subcommands(|below| {
        let name = below.get_name().to_owned();
        let family = match family {
            _ if is_top => &name,
            "image" | "builder" | "system" => in_group(family, &name),
            family => family,
        };
        with_names(below, family, place)
    })
}

/// The command that one of a group stands for.
fn in_group<'n>(group: &str, name: &'n str) -> &'n str {
    match (group, name) {
        ("image", "ls") => "images",
        ("image", "prune") => "image prune",
        (_, name) => name,
    }
}

fn add(argument: Arg, kind: Kind, family: &str, place: &Arc<Place>) -> Arg {
    if kind == Kind::Directory {
        return argument.value_hint(ValueHint::DirPath);
    }
    let completer = Completer {
        kind,
        family: family.to_owned(),
        place: place.clone(),
    };
    argument.add(ArgValueCompleter::new(completer))
}

/// Knows what an argument takes.
#[derive(Clone, Debug)]
struct Completer {
    kind: Kind,
    family: String,
    place: Arc<Place>,
}

impl ArgExt for Completer {}

impl ValueCompleter for Completer {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(typed) = current.to_str() else {
            return Vec::new();
        };
        let mut offered = match self.kind {
            // A command in a container: nothing is known of its words.
            Kind::ImageFirst if index > 0 => Vec::new(),
            Kind::NamedContext => return self.named_context(typed),
            _ => self.values(typed),
        };
        offered.retain(|(value, _)| value.starts_with(typed));
        let mut candidates: Vec<_> = offered.into_iter().map(candidate).collect();
        match self.kind {
            Kind::ImageOrDirectory | Kind::Output => {
                candidates.extend(PathCompleter::dir().complete(current));
            }
            Kind::Runtime if typed.contains('/') => {
                candidates.extend(PathCompleter::any().complete(current));
            }
            _ => {}
        }
        candidates
    }
}

impl Completer {
    fn values(&self, typed: &str) -> Vec<(String, String)> {
        match self.kind {
            Kind::Image | Kind::ImageFirst | Kind::ImageOrDirectory => self.place.store.images(),
            Kind::ImagePath => {
                let images = self.place.store.images().into_iter();
                images.map(|(name, what)| (name + ":", what)).collect()
            }
            Kind::Build => self.place.store.builds(),
            Kind::Stage => dockerfile::stages(&self.place.words),
            Kind::BuildArgument => dockerfile::arguments(&self.place.words),
            Kind::Platform => plain(&PLATFORMS),
            Kind::Output => plain(&OUTPUTS),
            Kind::Runtime => plain(&["auto", "embedded", "runc", "crun"]),
            Kind::Filter => self.filters(typed),
            Kind::NamedContext | Kind::Directory => Vec::new(),
        }
    }

    fn filters(&self, typed: &str) -> Vec<(String, String)> {
        let of_names = |key: &str, names: Vec<(String, String)>| {
            let names = names.into_iter();
            names
                .map(|(name, what)| (format!("{key}{name}"), what))
                .collect()
        };
        let is_cache = matches!(&*self.family, "du" | "prune");
        for key in ["id=", "parents="] {
            if is_cache && typed.starts_with(key) {
                return of_names(key, self.place.store.records());
            }
        }
        for key in ["before=", "since=", "reference="] {
            if self.family == "images" && typed.starts_with(key) {
                return of_names(key, self.place.store.images());
            }
        }
        let of_command = FILTERS.iter().filter(|(family, _)| *family == self.family);
        let filters = of_command.flat_map(|(_, filters)| *filters);
        filters
            .map(|filter| ((*filter).into(), String::new()))
            .collect()
    }

    /// `NAME=` of what a Dockerfile starts from, then a directory or a scheme.
    fn named_context(&self, typed: &str) -> Vec<CompletionCandidate> {
        let Some((name, value)) = typed.split_once('=') else {
            let mut names = dockerfile::bases(&self.place.words);
            names.retain(|(name, _)| name.starts_with(typed));
            let names = names.into_iter().map(|(name, what)| (name + "=", what));
            return names.map(candidate).collect();
        };
        let prefix = format!("{name}=");
        let mut found: Vec<_> = match value.split_once("://") {
            Some(("docker-image", image)) => {
                let mut images = self.place.store.images();
                images.retain(|(name, _)| name.starts_with(image));
                let images = images.into_iter();
                let images = images.map(|(name, what)| (format!("docker-image://{name}"), what));
                images.map(candidate).collect()
            }
            Some((scheme, path)) => {
                let paths = PathCompleter::dir().complete(OsStr::new(path)).into_iter();
                paths
                    .map(|path| path.add_prefix(format!("{scheme}://")))
                    .collect()
            }
            None => PathCompleter::dir().complete(OsStr::new(value)),
        };
        if !value.contains("://") {
            let schemes = CONTEXT_SCHEMES.into_iter();
            let schemes = schemes.filter(|scheme| scheme.starts_with(value));
            found.extend(schemes.map(CompletionCandidate::new));
        }
        found
            .into_iter()
            .map(|one| one.add_prefix(&prefix))
            .collect()
    }
}

/// Values that need no explanation.
fn plain(values: &[&str]) -> Vec<(String, String)> {
    let values = values.iter();
    values
        .map(|value| ((*value).to_owned(), String::new()))
        .collect()
}

fn candidate((value, what): (String, String)) -> CompletionCandidate {
    let help = Some(what).filter(|what| !what.is_empty());
    CompletionCandidate::new(value).help(help.map(Into::into))
}

#[cfg(test)]
mod tests;
