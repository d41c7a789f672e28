//! What may be named where: unsafe code, the environment, RocksDB, wire types, clocks.

use crate::source::{SourceFile, Violation, find_path, find_words};

/// How a rule looks for its subject.
enum Subject {
    /// An identifier or keyword.
    Word(&'static str),
    /// `first::second`, also inside a group of imports.
    Path(&'static str, &'static str),
    /// An attribute or macro, as text.
    Text(&'static str),
}

/// Where the subject is looked for.
enum Scope {
    /// Everywhere except below these places.
    Outside(&'static [&'static str]),
    /// Everywhere except below these places, tests left out.
    ProductOutside(&'static [&'static str]),
    /// Only below these places, tests left out.
    ProductIn(&'static [&'static str]),
}

struct Rule {
    subjects: &'static [Subject],
    scope: Scope,
    /// What to do instead, and why.
    instead: &'static str,
}

use Scope::{Outside, ProductIn, ProductOutside};
use Subject::{Path, Text, Word};

const RULES: &[Rule] = &[
    Rule {
        subjects: &[
            Word("unsafe"),
            Text("allow(unsafe_code"),
            Text("expect(unsafe_code"),
        ],
        scope: Outside(&["snapshotter/mount"]),
        instead: "unsafe code lives in snapshotter/mount only: add a safe function there",
    },
    Rule {
        subjects: &[Path("std", "env")],
        scope: ProductOutside(&["cli", "proto/build.rs", "solver/executor/src/bin"]),
        instead: "a library takes what it needs as an argument; only cli reads the environment",
    },
    Rule {
        subjects: &[Word("rocksdb")],
        scope: Outside(&[
            "snapshotter/store/src/key_value/rocks.rs",
            "snapshotter/store/src/key_value/rocks",
            // Builds the archive that the crate links.
            "cli/xtask/src/rocksdb_archive.rs",
        ]),
        instead: "only store/src/key_value/rocks.rs names rocksdb; use the trait KeyValue",
    },
    Rule {
        subjects: &[Word("fuser")],
        scope: Outside(&["snapshotter/lazyfs"]),
        instead: "only lazyfs speaks FUSE",
    },
    Rule {
        subjects: &[Word("libcontainer")],
        scope: Outside(&["solver/executor"]),
        instead: "only executor knows the runtime; use its trait Runtime",
    },
    Rule {
        subjects: &[
            Word("async"),
            Word("tokio"),
            Path("std", "time"),
            Path("std", "fs"),
            Path("std", "thread"),
            Word("Instant"),
            Word("SystemTime"),
        ],
        scope: ProductIn(&[
            "solver/engine/src/scheduler.rs",
            "solver/engine/src/scheduler",
        ]),
        instead: "the scheduler is apply(event) -> actions: no clock, no IO; let the driver do it and feed an event",
    },
    Rule {
        subjects: &[
            Path("std", "fs"),
            Path("std", "net"),
            Path("std", "process"),
            Word("Instant"),
            Word("SystemTime"),
        ],
        scope: ProductIn(&["solver/dockerfile/src", "solver/llb/src"]),
        instead: "this crate is text to graph and nothing else: ask the caller (NeedImages, an argument)",
    },
    Rule {
        subjects: &[Text("#[ignore")],
        scope: Outside(&[]),
        instead: "an ignored test guarantees nothing; one that needs root goes into a module `privileged`",
    },
    Rule {
        subjects: &[Text("todo!("), Text("unimplemented!(")],
        scope: Outside(&[]),
        instead: "return an error that says what is not supported, and name the line",
    },
];

/// Wire types end at the edge: modules of these names turn them into ours.
const WIRE_MODULES: &[&str] = &["wire", "plugin", "control", "session", "gateway", "connect"];

/// Checks all Rust files.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        for rule in RULES {
            let searched = match rule.scope {
                Outside(places) if !places.iter().any(|place| file.is_below(place)) => &file.code,
                ProductOutside(places) if !places.iter().any(|place| file.is_below(place)) => {
                    &file.product
                }
                ProductIn(places) if places.iter().any(|place| file.is_below(place)) => {
                    &file.product
                }
                _ => continue,
            };
            for subject in rule.subjects {
                let (name, found) = subject.find(searched);
                let message = format!("{name}: {}", rule.instead);
                violations.extend(
                    found
                        .into_iter()
                        .map(|offset| file.violation_at(offset, message.clone())),
                );
            }
        }
        check_wire_types(file, &mut violations);
        check_glob_exports(file, &mut violations);
    }
    violations
}

impl Subject {
    fn find(&self, code: &str) -> (String, Vec<usize>) {
        match self {
            Word(word) => (format!("`{word}`"), find_words(code, word)),
            Path(first, second) => (
                format!("`{first}::{second}`"),
                find_path(code, first, second),
            ),
            Text(text) => (
                format!("`{text}`"),
                code.match_indices(text).map(|(offset, _)| offset).collect(),
            ),
        }
    }
}

fn check_wire_types(file: &SourceFile, violations: &mut Vec<Violation>) {
    let is_edge = file.path.split('/').any(|part| {
        let stem = part.strip_suffix(".rs").unwrap_or(part);
        WIRE_MODULES.iter().any(|module| stem.starts_with(module))
    });
    if is_edge
        || ["proto", "tests", "benches"]
            .iter()
            .any(|place| file.is_below(place))
    {
        return;
    }
    for offset in find_words(&file.product, "proto") {
        let rest = &file.product[offset + "proto".len()..];
        let line_start = file.product[..offset].rfind('\n').map_or(0, |at| at + 1);
        let is_import = file.product[line_start..offset]
            .trim_start()
            .starts_with("use ");
        if rest.starts_with("::") || is_import {
            violations.push(file.violation_at(
                offset,
                "`proto`: wire types stay at the edge; convert in wire.rs, plugin, control, session or gateway.rs",
            ));
        }
    }
}

/// `pub use x::*` hides where a name comes from, and adds names nobody has decided to export.
fn check_glob_exports(file: &SourceFile, violations: &mut Vec<Violation>) {
    for offset in find_words(&file.code, "use") {
        // What stands between the end of the last item and `use`: nothing, or who may see it.
        let before = file.code[..offset]
            .rfind([';', '{', '}', ']'])
            .map_or(0, |at| at + 1);
        let is_public = file.code[before..offset].trim_start().starts_with("pub");
        let statement = file.code[offset..].split(';').next().unwrap_or_default();
        if is_public && (statement.contains("::*") || statement.contains("*}")) {
            violations.push(file.violation_at(offset, "`pub use …::*`: name what is exported"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(path: &str, text: &str) -> Vec<String> {
        check(&[SourceFile::new(path, text)])
            .into_iter()
            .map(|violation| violation.to_string())
            .collect()
    }

    #[test]
    fn a_planted_word_is_found_with_its_line() {
        let check = |path: &str, text: &str, part: &str| {
            let found = plant(path, &format!("//! File.\n\n{text}\n"));
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(
                found[0].starts_with(&format!("{path}:3: {part}")),
                "{found:?}"
            );
        };
        check(
            "solver/src/build.rs",
            "unsafe { x() }",
            "`unsafe`: unsafe code lives in snapshotter/mount",
        );
        check(
            "solver/src/lib.rs",
            "#![allow(unsafe_code)]",
            "`allow(unsafe_code`",
        );
        check(
            "snapshotter/src/gc.rs",
            "use std::{env, io};",
            "`std::env`: a library takes",
        );
        check(
            "snapshotter/store/src/fsck.rs",
            "fn f(e: rocksdb::Error) {}",
            "`rocksdb`: only store",
        );
        check(
            "solver/engine/src/scheduler.rs",
            "async fn tick() {}",
            "`async`: the scheduler is",
        );
        check(
            "solver/engine/src/scheduler.rs",
            "use std::time::Duration;",
            "`std::time`",
        );
        check(
            "solver/dockerfile/src/lower/copy.rs",
            "std::fs::read(x)",
            "`std::fs`: this crate is text",
        );
        check(
            "snapshotter/mount/src/apply.rs",
            "#[ignore = \"root\"]",
            "`#[ignore`: an ignored test",
        );
        check(
            "solver/src/build.rs",
            "use proto::moby::control;",
            "`proto`: wire types stay",
        );
        check(
            "solver/llb/src/op.rs",
            "fn f(x: proto::pb::Op) {}",
            "`proto`: wire types stay",
        );
        check(
            "solver/src/lib.rs",
            "pub use crate::build::*;",
            "`pub use …::*`",
        );
        check(
            "solver/src/lib.rs",
            "pub(crate) use crate::{a, b::*};",
            "`pub use …::*`",
        );
        check("solver/src/lib.rs", "todo!()", "`todo!(`");
    }

    #[test]
    fn what_is_allowed_or_only_spoken_of_is_not_found() {
        let check =
            |path: &str, text: &str| assert_eq!(plant(path, text), [""; 0], "{path}: {text}");
        check("snapshotter/mount/src/apply.rs", "unsafe { x() }");
        check(
            "solver/src/build.rs",
            "// unsafe\nlet s = \"unsafe\"; let unsafe_count = 1;",
        );
        check("cli/src/main.rs", "use std::env;");
        check(
            "snapshotter/erofs/tests/kernel/main.rs",
            "std::env::var_os(x)",
        );
        check("solver/dockerfile/src/ast.rs", "use std::time::Duration;");
        check("proto/build.rs", "std::env::var(\"OUT_DIR\")");
        check(
            "snapshotter/store/src/key_value/rocks.rs",
            "use rocksdb::DB;",
        );
        check(
            "cli/xtask/src/rocksdb_archive.rs",
            "fn rocksdb_lib_dir() {}",
        );
        check(
            "solver/engine/src/driver.rs",
            "async fn run() { tokio::spawn(x); }",
        );
        check(
            "solver/engine/src/scheduler.rs",
            "#[cfg(test)]\nmod tests { use std::time::Duration; }",
        );
        check("solver/llb/src/wire.rs", "use proto::pb;");
        check("solver/src/session/filesync.rs", "use proto::fsutil;");
        check("cli/src/connect.rs", "proto::moby::control::x()");
        check(
            "solver/src/lib.rs",
            "use super::*; pub use crate::build::{Build, Request};",
        );
        check("solver/src/a.rs", "pub fn f() { let x = 2; use a::*; }");
    }
}
