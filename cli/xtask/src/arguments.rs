//! The command line of `cargo xtask`, by hand: five commands with a flag or two need no library.

use crate::demo;
use crate::error::{Error, Result};

/// What `cargo xtask` prints for `help`, and where it does not understand.
pub(crate) const USAGE: &str = "\
cargo xtask demo [--keep] [--release]   build and run an example image, and see what is cached
cargo xtask test [--unprivileged]       format, lints, house rules and every test
cargo xtask bench [NAME] [-- ARGS]      the workloads of benches/ against a release build
cargo xtask install                     only install packages and build the RocksDB archive
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
    Install,
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
        match task.as_str() {
            "demo" => Ok(Self::Demo(demo::Options {
                keep: flags(task, rest, &["--keep", "--release"])?.contains(&"--keep"),
                release: rest.iter().any(|word| word == "--release"),
            })),
            "test" => Ok(Self::Test {
                unprivileged: !flags(task, rest, &["--unprivileged"])?.is_empty(),
            }),
            "bench" => Ok(bench(rest)),
            "install" => flags(task, rest, &[]).map(|_| Self::Install),
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
        check("install", Task::Install);
        check("rocksdb", Task::Rocksdb);
        check("--help", Task::Help);
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
        check(
            "install runc",
            "`install` takes no arguments, but got \"runc\"",
        );
    }
}
