//! Which crate may depend on which, and who may use what from outside. The arrows of
//! ARCHITECTURE.md.

use std::path::Path;
use std::process::Command;

use crate::source::{SourceFile, Violation, has_ending};

/// A workspace crate and the workspace crates it may import. Anything else is a violation, also in
/// tests of the crate: an arrow back would be a cycle of thought, if not of cargo.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "varve",
        &[
            "solver",
            "snapshotter",
            "store",
            "registry",
            "executor",
            "mount",
            "proto",
        ],
    ),
    (
        "solver",
        &[
            "engine",
            "llb",
            "dockerfile",
            "executor",
            "registry",
            "layer",
            "snapshotter",
            "store",
            "mount",
            "proto",
        ],
    ),
    (
        "snapshotter",
        &[
            "store", "layer", "lazyfs", "registry", "mount", "erofs", "proto",
        ],
    ),
    ("layer", &["store"]),
    ("lazyfs", &["store", "mount"]),
    ("executor", &["mount"]),
    ("dockerfile", &["llb"]),
    ("llb", &["proto"]),
    ("store", &[]),
    ("registry", &[]),
    ("mount", &[]),
    ("erofs", &[]),
    ("engine", &[]),
    ("proto", &[]),
    ("xtask", &[]),
];

/// Crates that may import everything: they look at the whole from outside.
const OUTSIDE: &[&str] = &["suite", "benches"];

/// A dependency that only some crates may have.
struct Reserved {
    dependency: &'static str,
    only_in: &'static [&'static str],
    instead: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        dependency: "rocksdb",
        only_in: &["store"],
        instead: "use store::KeyValue; a second database is a second owner of the state",
    },
    Reserved {
        dependency: "fuser",
        only_in: &["lazyfs"],
        instead: "FUSE belongs in lazyfs; ask snapshotter for a mount",
    },
    Reserved {
        dependency: "anyhow",
        only_in: &["varve", "suite", "benches"],
        instead: "libraries have an error enum with named fields (error.rs)",
    },
    Reserved {
        dependency: "libcontainer",
        only_in: &["executor"],
        instead: "use executor::Runtime; libcontainer is unsound in a threaded process",
    },
    Reserved {
        dependency: "clap",
        only_in: &["varve", "benches"],
        instead: "command lines are parsed in cli/src/args.rs and nowhere else",
    },
];

/// Crates that are pure or synchronous, and what would end that.
const SYNCHRONOUS: &[&str] = &[
    "store",
    "layer",
    "llb",
    "dockerfile",
    "erofs",
    "lazyfs",
    "mount",
];
const ASYNCHRONOUS: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-stream",
    "tonic",
    "async-trait",
    "futures",
];

/// All that xtask may have: it is built before anything else on a new machine.
const XTASK_DEPENDENCIES: &[&str] = &["serde_json", "sha2", "tar"];

/// A crate of the workspace as its manifest describes it.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    /// Of its Cargo.toml, relative to the checkout.
    pub(crate) path: String,
    /// Real names of all direct dependencies, of every kind.
    pub(crate) dependencies: Vec<String>,
}

/// Asks cargo for the manifests of all members; needs no network.
pub(crate) fn read_manifests(root: &Path) -> Vec<Manifest> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let package = |package: &serde_json::Value| Manifest {
        name: text(&package["name"]),
        path: Path::new(&text(&package["manifest_path"]))
            .strip_prefix(root)
            .expect("members lie in the checkout")
            .to_string_lossy()
            .into_owned(),
        dependencies: package["dependencies"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|dependency| text(&dependency["name"]))
            .collect(),
    };
    metadata["packages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(package)
        .collect()
}

/// Checks every manifest; `files` gives the lines to point at and the rules of the text itself.
pub(crate) fn check(manifests: &[Manifest], files: &[SourceFile]) -> Vec<Violation> {
    let members: Vec<&str> = manifests
        .iter()
        .map(|manifest| manifest.name.as_str())
        .collect();
    let mut violations = Vec::new();
    for manifest in manifests {
        for dependency in &manifest.dependencies {
            if let Some(message) = objection(&manifest.name, dependency, &members) {
                let line = line_of(manifest, dependency, files);
                violations.push(Violation {
                    file: manifest.path.clone(),
                    line,
                    message,
                });
            }
        }
        if !OUTSIDE.contains(&manifest.name.as_str()) && arrows_of(&manifest.name).is_none() {
            let message = "a new crate: give it a row in ARROWS (tests/tidy/arrows.rs) and a line in ARCHITECTURE.md";
            violations.push(Violation {
                file: manifest.path.clone(),
                line: 1,
                message: message.into(),
            });
        }
    }
    for file in files
        .iter()
        .filter(|file| file.name() == "Cargo.toml" && file.path != "Cargo.toml")
        // Fuzz targets are workspaces of their own, built with sanitizers.
        .filter(|file| !file.path.ends_with("/fuzz/Cargo.toml"))
    {
        check_text(file, &mut violations);
    }
    violations
}

fn arrows_of(name: &str) -> Option<&'static [&'static str]> {
    ARROWS
        .iter()
        .find(|(from, _)| *from == name)
        .map(|(_, to)| *to)
}

/// Why `name` must not depend on `dependency`, or `None` where it may.
fn objection(name: &str, dependency: &str, members: &[&str]) -> Option<String> {
    if OUTSIDE.contains(&name) {
        return None;
    }
    if members.contains(&dependency) {
        let allowed = arrows_of(name)?;
        return (!allowed.contains(&dependency)).then(|| {
            let allowed = if allowed.is_empty() { "no crate of ours".into() } else { allowed.join(", ") };
            format!("{name} must not import {dependency}; it may import {allowed} (ARCHITECTURE.md, arrows)")
        });
    }
    if name == "xtask" && !XTASK_DEPENDENCIES.contains(&dependency) {
        return Some(format!(
            "xtask is built before everything else; do without {dependency}"
        ));
    }
    if SYNCHRONOUS.contains(&name) && ASYNCHRONOUS.contains(&dependency) {
        return Some(format!(
            "{name} is synchronous; leave {dependency} to solver, which calls it"
        ));
    }
    let reserved = RESERVED
        .iter()
        .find(|reserved| reserved.dependency == dependency)?;
    (!reserved.only_in.contains(&name)).then(|| {
        format!(
            "{dependency} is only for {}: {}",
            reserved.only_in.join(", "),
            reserved.instead
        )
    })
}

fn line_of(manifest: &Manifest, dependency: &str, files: &[SourceFile]) -> usize {
    let text = files
        .iter()
        .find(|file| file.path == manifest.path)
        .map_or("", |file| &file.text);
    let names = |line: &str| {
        line.strip_prefix(dependency)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            || line.contains(&format!("dependencies.{dependency}]"))
    };
    text.lines().position(names).map_or(1, |index| index + 1)
}

/// Versions stand once, in the root manifest; lints are everybody's.
fn check_text(file: &SourceFile, violations: &mut Vec<Violation>) {
    debug_assert!(has_ending(&file.path, "toml"));
    let mut section = "";
    for (index, line) in file.text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains('=')
            && !line.contains("workspace")
        {
            violations.push(file.violation(
                index + 1,
                "its version belongs in [workspace.dependencies] of the root; write `NAME.workspace = true`",
            ));
        }
    }
    if !file.text.contains("[lints]\nworkspace = true") {
        violations.push(file.violation(
            1,
            "no `[lints]` with `workspace = true`: the lints hold for every crate",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, dependencies: &[&str]) -> Manifest {
        Manifest {
            name: name.into(),
            path: format!("{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// What `check` says about one planted manifest among the real names.
    fn plant(name: &str, dependencies: &[&str]) -> Vec<String> {
        let mut manifests: Vec<Manifest> =
            ARROWS.iter().map(|(name, _)| manifest(name, &[])).collect();
        manifests.retain(|manifest| manifest.name != name);
        manifests.push(manifest(name, dependencies));
        check(&manifests, &[])
            .into_iter()
            .map(|violation| violation.to_string())
            .collect()
    }

    #[test]
    fn a_planted_arrow_is_found() {
        let check = |name: &str, dependency: &str, part: &str| {
            let found = plant(name, &["serde_json", dependency]);
            assert!(
                found.len() == 1 && found[0].contains(part),
                "{name} -> {dependency}: {found:?}"
            );
        };
        check(
            "snapshotter",
            "solver",
            "snapshotter must not import solver",
        );
        check("store", "layer", "may import no crate of ours");
        check("erofs", "store", "erofs must not import store");
        check("executor", "llb", "it may import mount");
        check("store", "tokio", "store is synchronous");
        check("dockerfile", "tonic", "dockerfile is synchronous");
        check("solver", "rocksdb", "rocksdb is only for store");
        check(
            "engine",
            "anyhow",
            "anyhow is only for varve, suite, benches",
        );
        check("xtask", "clap", "xtask is built before everything else");
        check("novelty", "thiserror2", "a new crate");
    }

    #[test]
    fn allowed_arrows_are_not_found() {
        let check = |name: &str, dependencies: &[&str]| {
            assert_eq!(
                plant(name, dependencies),
                [""; 0],
                "{name} -> {dependencies:?}"
            );
        };
        check("store", &["rocksdb", "blake3"]);
        check("snapshotter", &["store", "erofs", "mount"]);
        check("engine", &["tokio"]);
        check("suite", &["store", "tokio", "anyhow", "clap"]);
    }

    #[test]
    fn a_manifest_with_its_own_version_or_lints_is_found_with_its_line() {
        let text = "[package]\nname = \"x\"\n[dependencies]\nserde.workspace = true\n\
            libc = { workspace = true, features = [] }\ntar = \"0.4\"\n[features]\na = []\n";
        let found = check(&[], &[SourceFile::new("solver/x/Cargo.toml", text)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0]
                .to_string()
                .starts_with("solver/x/Cargo.toml:6: its version belongs"),
            "{found:?}"
        );
        assert!(found[1].message.contains("[lints]"), "{found:?}");
    }

    #[test]
    fn the_line_of_the_dependency_is_named() {
        let planted = SourceFile::new(
            "store/Cargo.toml",
            "[lints]\nworkspace = true\n[dependencies]\ntokio.workspace = true\n",
        );
        let found = check(&[manifest("store", &["tokio"])], &[planted]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].file.as_str(), found[0].line),
            ("store/Cargo.toml", 4)
        );
    }
}
