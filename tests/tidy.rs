//! House rules as a test: what ARCHITECTURE.md and CONTRIBUTING.md promise about the code is
//! checked here.
//!
//! Each violation is printed with its file and line and with what to do instead. The rules
//! themselves are tables at the top of `tidy/arrows.rs`, `tidy/words.rs` and `tidy/files.rs`; each
//! has tests that plant a violation and want it found.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{SourceFile, Violation};

fn tree() -> Vec<SourceFile> {
    source::read_tree(&support::workspace_root())
}

fn assert_none(mut violations: Vec<Violation>) {
    violations.sort();
    let list: String = violations
        .iter()
        .map(|violation| format!("{violation}\n"))
        .collect();
    assert!(
        violations.is_empty(),
        "{} house rules are broken:\n{list}",
        violations.len()
    );
}

#[test]
fn crates_import_only_along_the_arrows() {
    let manifests = arrows::read_manifests(&support::workspace_root());
    assert!(
        manifests.len() > 10,
        "cargo metadata lists the members: {manifests:?}"
    );
    assert_none(arrows::check(&manifests, &tree()));
}

#[test]
fn words_stay_where_they_belong() {
    assert_none(words::check(&tree()));
}

#[test]
fn files_are_named_sized_and_headed_as_agreed() {
    assert_none(files::check(&tree()));
}

#[test]
fn every_source_file_is_compiled() {
    assert_none(files::check_modules(&tree()));
}

#[test]
fn format_md_describes_the_layout_as_it_is() {
    assert_none(files::check_format(&tree()));
}
