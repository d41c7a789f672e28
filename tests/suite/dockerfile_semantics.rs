//! What each instruction of a Dockerfile does to files and config: as BuildKit's Dockerfile
//! reference says.

mod add;
mod add_remote;
mod config;
mod copy;
mod ignore;
mod run_step;
mod syntax;

use std::path::Path;

/// Text of a file of a result.
fn text(files: &Path, name: &str) -> String {
    let path = files.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Paths of everything below a directory but directories, sorted.
fn names(files: &Path) -> Vec<String> {
    let tree = support::tree::list(files).into_iter();
    let files = tree.filter(|(_, seen)| !seen.starts_with("directory"));
    files.map(|(name, _)| name).collect()
}
