//! The command line of `cargo xtask`, by hand: a few commands with a flag or two need no library.

use std::path::PathBuf;

use crate::demo;
use crate::error::{Error, Result};
use crate::package;

/// What `cargo xtask` prints for `help`, and where it does not understand.
pub(crate) const USAGE: &str = "\
cargo xtask demo [--keep] [--release]   build and run an example image, and see what is cached
cargo xtask test [--unprivileged]       format, lints, house rules and every test
cargo xtask bench [NAME] [-- ARGS]      the workloads of benches/ against a release build
cargo xtask setup                       only install packages and build the RocksDB archive
cargo xtask install [--prefix DIR] [--destdir DIR] [--profile NAME]
                                        build for release; put program, man pages, completions and
                                        systemd units below /usr/local or DIR
cargo xtask package [binary|deb|tar] [--out DIR] [--binary FILE] [--fast]
                                        what a release consists of, in target/package or DIR; of
                                        FILE instead of a program built for it; with --fast larger
cargo xtask rocksdb                     print the environment that links the RocksDB archive;
                                        use it as: eval \"$(cargo xtask rocksdb)\"

Each command installs or builds what is missing first. The archive lies in
${XDG_CACHE_HOME:-~/.cache}/varve, is built once per machine, and may be deleted at any time.";

/// A checked command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Demo(demo::Options),
    Test {
        unprivileged: bool,
    },
    Bench {
        name: Option<String>,
        arguments: Vec<String>,
    },
    Setup,
    Install(package::Installation),
    Package(package::Order),
    Rocksdb,
    Help,
}

impl Task {
    /// # Errors
    /// Names the word that is not understood.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let Some((task, rest)) = words.split_first() else {
            return Err(Error::new(format!("which task?\n\n{USAGE}")));
        };
        let asks = |word: &String| matches!(word.as_str(), "--help" | "-h");
        // A bench has a help of its own.
        if task != "bench" && rest.iter().any(asks) {
            return Ok(Self::Help);
        }
        match task.as_str() {
            "demo" => Ok(Self::Demo(demo::Options {
                keep: flags(task, rest, &["--keep", "--release"])?.contains(&"--keep"),
                release: rest.iter().any(|word| word == "--release"),
            })),
            "test" => Ok(Self::Test {
                unprivileged: !flags(task, rest, &["--unprivileged"])?.is_empty(),
            }),
            "bench" => Ok(bench(rest)),
            "setup" => flags(task, rest, &[]).map(|_| Self::Setup),
            "install" => installation(rest).map(Self::Install),
            "package" => order(rest).map(Self::Package),
            "rocksdb" => flags(task, rest, &[]).map(|_| Self::Rocksdb),
            "help" | "--help" | "-h" => Ok(Self::Help),
            other => Err(Error::new(format!("there is no task {other:?}\n\n{USAGE}"))),
        }
    }
}

fn bench(words: &[String]) -> Task {
    let (own, handed_on) = match words.iter().position(|word| word == "--") {
        Some(dashes) => (&words[..dashes], &words[dashes + 1..]),
        None => (words, &[][..]),
    };
    // A second name is no name of ours, so it belongs to the workload.
    let name = own.first().cloned();
    let arguments = own.iter().skip(1).chain(handed_on).cloned().collect();
    Task::Bench { name, arguments }
}

fn installation(words: &[String]) -> Result<package::Installation> {
    let names = ["--prefix", "--destdir", "--profile"];
    let (others, [prefix, destdir, profile]) = valued("install", words, names)?;
    match others.first() {
        None => Ok(package::Installation {
            prefix: prefix.unwrap_or(package::PREFIX_DEFAULT).into(),
            destdir: destdir.map(PathBuf::from),
            profile: profile.unwrap_or(package::PROFILE_DEFAULT).to_owned(),
        }),
        Some(word) => Err(Error::new(format!(
            "`install` knows --prefix DIR, --destdir DIR and --profile NAME, but got {word:?}"
        ))),
    }
}

fn order(words: &[String]) -> Result<package::Order> {
    let (words, [directory, binary]) = valued("package", words, ["--out", "--binary"])?;
    let mut forms = Vec::new();
    let fast = words.contains(&"--fast");
    for word in words.into_iter().filter(|word| *word != "--fast") {
        let form = package::Form::parse(word).ok_or_else(|| {
            Error::new(format!(
                "`package` makes binary, deb and tar, but not {word:?}"
            ))
        })?;
        forms.push(form);
    }
    if forms.is_empty() {
        forms = package::Form::ALL.to_vec();
    }
    Ok(package::Order {
        forms,
        directory: directory.map(PathBuf::from),
        binary: binary.map(PathBuf::from),
        fast,
    })
}

/// What stands behind each of some options (`--name VALUE` or `--name=VALUE`), and the other words.
fn valued<'a, const N: usize>(
    task: &str,
    words: &'a [String],
    names: [&str; N],
) -> Result<(Vec<&'a str>, [Option<&'a str>; N])> {
    let mut others = Vec::new();
    let mut values = [None; N];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let Some(at) = names.iter().position(|known| *known == name) else {
            others.push(word.as_str());
            continue;
        };
        let value = inline.or_else(|| words.next().map(String::as_str));
        let value = value.filter(|value| !value.is_empty());
        let missing = || Error::new(format!("`{task}`: a value is missing after {name}"));
        values[at] = Some(value.ok_or_else(missing)?);
    }
    Ok((others, values))
}

/// The given words, each of which must be one of `known`.
fn flags<'a>(task: &str, words: &'a [String], known: &[&str]) -> Result<Vec<&'a str>> {
    match words.iter().find(|word| !known.contains(&word.as_str())) {
        None => Ok(words.iter().map(String::as_str).collect()),
        Some(word) if known.is_empty() => Err(Error::new(format!(
            "`{task}` takes no arguments, but got {word:?}"
        ))),
        Some(word) => Err(Error::new(format!(
            "`{task}` does not know {word:?}; it knows {}",
            known.join(" and ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Task, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Task::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn every_task_is_understood() {
        let check = |line: &str, expect: Task| assert_eq!(parse(line), Ok(expect), "{line}");
        let bench = |name: Option<&str>, arguments: &[&str]| Task::Bench {
            name: name.map(str::to_owned),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        check(
            "demo",
            Task::Demo(demo::Options {
                keep: false,
                release: false,
            }),
        );
        check(
            "demo --release --keep",
            Task::Demo(demo::Options {
                keep: true,
                release: true,
            }),
        );
        check(
            "test",
            Task::Test {
                unprivileged: false,
            },
        );
        check("test --unprivileged", Task::Test { unprivileged: true });
        check("bench", bench(None, &[]));
        check(
            "bench end_to_end -- noop --runs 3",
            bench(Some("end_to_end"), &["noop", "--runs", "3"]),
        );
        check("bench -- --runs 3", bench(None, &["--runs", "3"]));
        check("setup", Task::Setup);
        let installation = |prefix: &str, destdir: Option<&str>| {
            Task::Install(package::Installation {
                prefix: prefix.into(),
                destdir: destdir.map(PathBuf::from),
                profile: "dist".into(),
            })
        };
        check("install", installation("/usr/local", None));
        check(
            "install --prefix=/opt/v --destdir image",
            installation("/opt/v", Some("image")),
        );
        let package = |forms: &[package::Form], directory: Option<&str>, binary: Option<&str>| {
            Task::Package(package::Order {
                forms: forms.to_vec(),
                directory: directory.map(PathBuf::from),
                binary: binary.map(PathBuf::from),
                fast: binary.is_some(),
            })
        };
        check("package", package(&package::Form::ALL, None, None));
        check(
            "package deb --out d --binary b/varve --fast",
            package(&[package::Form::Deb], Some("d"), Some("b/varve")),
        );
        check("rocksdb", Task::Rocksdb);
        for line in ["--help", "help", "package --help", "test -h"] {
            check(line, Task::Help);
        }
        check("bench e2e --help", bench(Some("e2e"), &["--help"]));
    }

    #[test]
    fn an_unknown_word_is_named() {
        let check = |line: &str, part: &str| {
            let message = parse(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        };
        check("", "which task?");
        check("tset", "no task \"tset\"");
        check("test --fast", "\"--fast\"; it knows --unprivileged");
        check("setup runc", "`setup` takes no arguments, but got \"runc\"");
        check("install runc", "--profile NAME, but got \"runc\"");
        check("package rpm", "not \"rpm\"");
        check("package deb --out", "missing after --out");
    }
}
