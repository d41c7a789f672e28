//! Names, sizes and heads of files; every module is compiled; FORMAT.md knows the layout it
//! describes.

use sha2::{Digest, Sha256};

use crate::source::{SourceFile, Violation, has_ending};

/// About what one person reads in one sitting.
const LINES_MAX: usize = 800;

/// Columns of Rust text; rustfmt keeps code to it, this keeps comments to it.
const COLUMNS_MAX: usize = 100;

/// Files that may be longer, each with its own limit and the reason.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// A file that may hold anything soon does.
const VAGUE_NAMES: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"];

/// Package registries, in two halves so that this file does not name one either. Machines differ in
/// where they get packages from; a clone must not.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("static.crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("npmjs", ".com"),
    ("rubygems", ".org"),
    ("proxy.golang", ".org"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
];

/// The document of the on-disk format, and the only code it describes.
const FORMAT_DOCUMENT: &str = "snapshotter/store/FORMAT.md";
const FORMAT_CODE: &str = "snapshotter/store/src/layout.rs";

/// Checks all text files.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        check_text(file, &mut violations);
        check_hosts(file, &mut violations);
        if has_ending(&file.path, "rs") {
            check_rust(file, &mut violations);
        }
        if has_ending(&file.path, "proto") {
            check_proto(file, &mut violations);
        }
    }
    violations
}

fn check_text(file: &SourceFile, violations: &mut Vec<Violation>) {
    for (index, line) in file.text.lines().enumerate() {
        if line.contains('\t') {
            violations
                .push(file.violation(index + 1, "a tab: write blanks, or \\t inside a string"));
        }
        // A drawing in a doc comment may end in blanks.
        if line.ends_with([' ', '\r']) && !line.trim_start().starts_with("//") {
            violations
                .push(file.violation(index + 1, "white space at the end of the line: remove it"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        let last = file.text.lines().count();
        violations.push(file.violation(last, "no line end at the end of the file: add one"));
    }
}

fn check_hosts(file: &SourceFile, violations: &mut Vec<Violation>) {
    for (index, line) in file.text.lines().enumerate() {
        for (first, second) in REGISTRY_HOSTS {
            if line.contains(&format!("{first}{second}")) {
                violations.push(file.violation(
                    index + 1,
                    "the host name of a package registry: leave it to the machine's own configuration",
                ));
                break;
            }
        }
    }
}

fn check_rust(file: &SourceFile, violations: &mut Vec<Violation>) {
    if !file.text.starts_with("//!") {
        violations.push(file.violation(
            1,
            "no `//!` head: begin with what the file is for, and what it is not",
        ));
    }
    let lines = file.text.lines().count();
    let limit = LONG_FILES
        .iter()
        .find(|(path, ..)| *path == file.path)
        .map_or(LINES_MAX, |(_, limit, _)| *limit);
    if lines > limit {
        violations.push(file.violation(
            limit,
            format!("{lines} lines, at most {limit}: part it along a seam"),
        ));
    }
    if VAGUE_NAMES.contains(&file.name()) {
        violations.push(file.violation(
            1,
            "a name that says nothing: call the file after the one thing in it",
        ));
    }
    if file.name() == "mod.rs" {
        violations.push(file.violation(1, "mod.rs: use NAME.rs beside the directory NAME/"));
    }
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        // A long literal or address cannot always be broken.
        if columns > COLUMNS_MAX && !line.contains('"') && !line.contains("://") {
            let message = format!("{columns} columns, at most {COLUMNS_MAX}: break the line");
            violations.push(file.violation(index + 1, message));
        }
    }
}

fn check_proto(file: &SourceFile, violations: &mut Vec<Violation>) {
    if !file.is_below("proto/protos") {
        violations.push(file.violation(
            1,
            "a .proto outside proto/protos: everything that crosses a socket lies there",
        ));
    }
    if !file.text.starts_with("//") {
        violations.push(file.violation(
            1,
            "no head comment: say whose protocol this is and which part of it",
        ));
    }
    if !file.text.contains("syntax = \"proto3\";") {
        violations.push(file.violation(1, "no `syntax = \"proto3\";`"));
    }
}

/// Every Rust file must be compiled: a forgotten `mod` line silently drops its tests.
pub(crate) fn check_modules(files: &[SourceFile]) -> Vec<Violation> {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| has_ending(&file.path, "rs")) {
        if is_target(file, files) {
            continue;
        }
        let (directory, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let own_path = format!("path = \"{}\"", relative_to_parent(directory, name));
        let parents = [
            format!("{directory}/lib.rs"),
            format!("{directory}/main.rs"),
            format!("{directory}.rs"),
        ];
        let parents: Vec<&SourceFile> = parents.iter().filter_map(|path| find(path)).collect();
        let is_named = parents.iter().any(|parent| {
            let line = format!("mod {stem};");
            parent.code.contains(&line) || parent.text.contains(&own_path)
        });
        if !is_named {
            let place = parents
                .first()
                .map_or("its parent module", |parent| parent.path.as_str());
            violations
                .push(file.violation(1, format!("never compiled: add `mod {stem};` to {place}")));
        }
    }
    violations
}

/// `tidy/files.rs` for `#[path = "tidy/files.rs"]` in a target root beside the directory.
fn relative_to_parent(directory: &str, name: &str) -> String {
    let last = directory.rsplit('/').next().unwrap_or(directory);
    format!("{last}/{name}")
}

/// Whether cargo compiles the file by itself: by its place, or because a manifest names it.
fn is_target(file: &SourceFile, files: &[SourceFile]) -> bool {
    let by_place = ["src/lib.rs", "src/main.rs", "build.rs"];
    let manifests = files.iter().filter(|file| file.name() == "Cargo.toml");
    for manifest in manifests {
        let package = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
        let Some(inside) = file.path.strip_prefix(package) else {
            continue;
        };
        let is_binary = inside
            .strip_prefix("src/bin/")
            .is_some_and(|rest| !rest.contains('/'));
        // cargo finds these by itself unless the manifest forbids it.
        let is_test = ["tests", "benches", "examples"].iter().any(|kind| {
            let found = inside
                .strip_prefix(*kind)
                .and_then(|rest| rest.strip_prefix('/'));
            found.is_some_and(|rest| !rest.trim_end_matches("/main.rs").contains('/'))
                && !manifest.text.contains(&format!("auto{kind} = false"))
        });
        if by_place.contains(&inside) || is_binary || (is_test && !package.is_empty()) {
            return true;
        }
        if manifest.text.contains(&format!("path = \"{inside}\"")) {
            return true;
        }
    }
    false
}

/// FORMAT.md holds the hash of the code it describes, so the one cannot change without the other.
pub(crate) fn check_format(files: &[SourceFile]) -> Vec<Violation> {
    let missing = |path: &str| Violation {
        file: path.to_owned(),
        line: 1,
        message: "missing: the on-disk format has one document and one file of code".into(),
    };
    let Some(document) = files.iter().find(|file| file.path == FORMAT_DOCUMENT) else {
        return vec![missing(FORMAT_DOCUMENT)];
    };
    let layouts: Vec<&SourceFile> = files
        .iter()
        .filter(|file| file.path == FORMAT_CODE || file.is_below("snapshotter/store/src/layout"))
        .collect();
    if layouts.is_empty() {
        return vec![missing(FORMAT_CODE)];
    }
    let mut violations = Vec::new();
    for layout in layouts {
        let hash: String = Sha256::digest(&layout.text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = layout
            .path
            .strip_prefix("snapshotter/store/src/")
            .unwrap_or(&layout.path);
        let wanted = format!("{name} sha256: {hash}");
        if document.text.contains(&wanted) {
            continue;
        }
        let prefix = format!("{name} sha256:");
        let line = document
            .text
            .lines()
            .position(|line| line.contains(&prefix))
            .map_or(1, |index| index + 1);
        violations.push(document.violation(
            line,
            format!("{name} has changed: bring this document up to date (and the format version, if old stores read differently), then write `{wanted}`"),
        ));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(violations: Vec<Violation>) -> Vec<String> {
        violations
            .into_iter()
            .map(|violation| violation.to_string())
            .collect()
    }

    #[test]
    fn a_planted_file_is_found() {
        let check = |path: &str, text: &str, place: usize, part: &str| {
            let found = shown(check(&[SourceFile::new(path, text)]));
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(
                found[0].starts_with(&format!("{path}:{place}: ")),
                "{found:?}"
            );
            assert!(found[0].contains(part), "{found:?}");
        };
        let long = "//! Long.\n".repeat(LINES_MAX + 1);
        check("a/src/a.rs", "use b;\n", 1, "no `//!` head");
        check("a/src/a.rs", &long, LINES_MAX, "801 lines");
        check("a/src/utils.rs", "//! Things.\n", 1, "says nothing");
        check("a/src/b/mod.rs", "//! B.\n", 1, "beside the directory");
        check("a/src/a.rs", "//! A.\n\tuse b;\n", 2, "a tab");
        check("a/src/a.rs", "//! A.\nuse b; \n", 2, "white space");
        check("a/src/a.rs", "//! A.\nuse b;", 2, "no line end");
        check(
            "a/src/a.rs",
            &format!("//! A.\n// {}\n", "x".repeat(98)),
            2,
            "101 columns",
        );
        check(
            "README.md",
            &format!("see https://{}{}/x\n", "crates", ".io"),
            1,
            "package registry",
        );
        check(
            "api/x.proto",
            "// X.\nsyntax = \"proto3\";\n",
            1,
            "outside proto/protos",
        );
        check(
            "proto/protos/x.proto",
            "syntax = \"proto3\";\n",
            1,
            "no head comment",
        );
        check("proto/protos/x.proto", "// X.\n", 1, "syntax");
    }

    #[test]
    fn a_good_file_is_not_found() {
        let files = [
            SourceFile::new("a/src/a.rs", "//! A.\n\nuse b;\n"),
            SourceFile::new("proto/protos/x.proto", "// X.\nsyntax = \"proto3\";\n"),
            SourceFile::new("README.md", "# varve\n"),
        ];
        assert_eq!(shown(check(&files)), [""; 0]);
    }

    #[test]
    fn a_forgotten_module_is_found_wherever_it_is() {
        let files = [
            SourceFile::new(
                "a/Cargo.toml",
                "[package]\nautobenches = false\n[[test]]\npath = \"suite/main.rs\"\n",
            ),
            SourceFile::new("a/build.rs", ""),
            SourceFile::new("a/src/lib.rs", "pub mod known;\n// mod spoken_of;\n"),
            SourceFile::new("a/src/known.rs", "mod inner;\n"),
            SourceFile::new("a/src/known/inner.rs", ""),
            SourceFile::new("a/src/known/orphan.rs", ""),
            SourceFile::new("a/src/spoken_of.rs", ""),
            SourceFile::new("a/src/bin/tool.rs", ""),
            SourceFile::new("a/tests/found_by_cargo.rs", ""),
            SourceFile::new("a/tests/in_a_directory/main.rs", "mod part;"),
            SourceFile::new("a/tests/in_a_directory/part.rs", ""),
            SourceFile::new("a/benches/unnamed.rs", ""),
            SourceFile::new(
                "a/suite/main.rs",
                "mod build;\n#[path = \"suite/odd.rs\"]\nmod renamed;\n",
            ),
            SourceFile::new("a/suite/build.rs", ""),
            SourceFile::new("a/suite/odd.rs", ""),
            SourceFile::new("a/suite/forgotten.rs", ""),
        ];
        let found = shown(check_modules(&files));
        let expect = [
            "a/src/known/orphan.rs:1: never compiled: add `mod orphan;` to a/src/known.rs",
            "a/src/spoken_of.rs:1: never compiled: add `mod spoken_of;` to a/src/lib.rs",
            "a/benches/unnamed.rs:1: never compiled: add `mod unnamed;` to its parent module",
            "a/suite/forgotten.rs:1: never compiled: add `mod forgotten;` to a/suite/main.rs",
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn a_changed_layout_is_found_until_the_document_follows() {
        let code = SourceFile::new(FORMAT_CODE, "//! Keys.\n");
        // printf '//! Keys.\n' | sha256sum
        let hash = "6d3b";
        let stale = SourceFile::new(
            FORMAT_DOCUMENT,
            format!("# Format\nlayout.rs sha256: {hash}\n"),
        );
        let found = shown(check_format(&[stale, code.clone()]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("snapshotter/store/FORMAT.md:2: layout.rs has changed"),
            "{found:?}"
        );

        let wanted = found[0].rsplit('`').nth(1).unwrap().to_owned();
        let followed = SourceFile::new(FORMAT_DOCUMENT, format!("# Format\n{wanted}\n"));
        assert_eq!(shown(check_format(&[followed, code.clone()])), [""; 0]);

        assert_eq!(
            check_format(&[code]).len(),
            1,
            "a missing document is a violation too"
        );
    }
}
