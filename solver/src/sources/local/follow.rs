//! The paths of a context that a build names: the rest of it is not even looked at.
//!
//! As BuildKit's fsutil: each path may be a pattern; where a component is a symbolic link, what it
//! leads to is needed too, as long as that lies in the context.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use dockerfile::glob;

use crate::error::Result;

/// Symbolic links that are followed in all, so that a context full of them ends.
const LINKS_MAX: usize = 10_000;

/// Which paths are needed. Nothing given: all.
pub(super) struct Followed {
    /// Patterns, split into components.
    patterns: Option<Vec<Vec<String>>>,
}

impl Followed {
    /// Follows the symbolic links of the given paths below `root`.
    pub(super) fn resolve(root: &Path, paths: &[String]) -> Result<Self> {
        let mut queue: VecDeque<Vec<String>> = paths.iter().map(|path| components(path)).collect();
        let any_depth = |path: &Vec<String>| path.iter().any(|component| component == "**");
        if queue.is_empty() || queue.iter().any(|path| path.is_empty() || any_depth(path)) {
            return Ok(Followed { patterns: None });
        }
        let mut seen = BTreeSet::new();
        // Links are needed themselves, or what is copied by their name would not be found.
        let mut on_the_way = BTreeSet::new();
        let mut links = 0;
        while let Some(path) = queue.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            for (link, target) in links_on(root, &path) {
                on_the_way.insert(link);
                links += 1;
                if target.is_empty() || links > LINKS_MAX {
                    return Ok(Followed { patterns: None });
                }
                queue.push_back(target);
            }
        }
        Ok(Followed {
            patterns: Some(seen.into_iter().chain(on_the_way).collect()),
        })
    }

    /// Whether a path is needed: it, or a directory above it, is named.
    pub(super) fn selects(&self, path: &str) -> bool {
        self.matches(path, |pattern, path| pattern <= path)
    }

    /// Whether a directory is needed, or something below it may be.
    pub(super) fn enters(&self, path: &str) -> bool {
        self.matches(path, |_, _| true)
    }

    fn matches(&self, path: &str, lengths: impl Fn(usize, usize) -> bool) -> bool {
        let Some(patterns) = &self.patterns else {
            return true;
        };
        let path = components(path);
        patterns.iter().any(|pattern| {
            lengths(pattern.len(), path.len())
                && pattern
                    .iter()
                    .zip(&path)
                    .all(|(pattern, name)| glob::matches(pattern, name).unwrap_or(false))
        })
    }
}

fn components(path: &str) -> Vec<String> {
    let mut components: Vec<String> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name.to_owned()),
        }
    }
    components
}

/// Symbolic links on the way of a path (or pattern), and where they lead, with the rest of the path
/// behind.
fn links_on(root: &Path, path: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut here: Vec<Vec<String>> = vec![Vec::new()];
    for (index, component) in path.iter().enumerate() {
        let mut next = Vec::new();
        for directory in here {
            let absolute = directory
                .iter()
                .fold(root.to_owned(), |path, name| path.join(name));
            let names = match glob::has_wildcards(component) {
                false => vec![component.clone()],
                true => std::fs::read_dir(&absolute)
                    .map(|entries| {
                        entries
                            .flatten()
                            .map(|entry| entry.file_name().to_string_lossy().into_owned())
                            .filter(|name| glob::matches(component, name).unwrap_or(false))
                            .collect()
                    })
                    .unwrap_or_default(),
            };
            for name in names {
                let mut reached = directory.clone();
                reached.push(name.clone());
                match std::fs::read_link(absolute.join(&name)) {
                    Ok(target) => {
                        let target = target.to_string_lossy().into_owned();
                        let base = match target.starts_with('/') {
                            true => String::new(),
                            false => directory.join("/"),
                        };
                        let rest = path[index + 1..].join("/");
                        let target = components(&format!("{base}/{target}/{rest}"));
                        found.push((reached, target));
                    }
                    Err(_) => next.push(reached),
                }
            }
        }
        here = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(paths: &[&str]) -> Followed {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("real/deep")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("alias")).unwrap();
        std::os::unix::fs::symlink("/real/deep", root.path().join("absolute")).unwrap();
        std::os::unix::fs::symlink("round", root.path().join("round")).unwrap();
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Followed::resolve(root.path(), &paths).unwrap()
    }

    #[test]
    fn only_what_is_named_is_selected_and_the_way_to_it_entered() {
        let followed = followed(&["src/main.c", "include"]);
        for (path, selects, enters) in [
            ("src", false, true),
            ("src/main.c", true, true),
            ("src/other.c", false, false),
            ("include/a/b.h", true, true),
            ("docs", false, false),
        ] {
            assert_eq!(followed.selects(path), selects, "{path}");
            assert_eq!(followed.enters(path), enters, "{path}");
        }
    }

    #[test]
    fn patterns_select_by_component() {
        let followed = followed(&["*.c", "lib*/x"]);
        assert!(followed.selects("a.c") && followed.selects("lib1/x"));
        assert!(!followed.selects("dir/a.c") && !followed.selects("lib1/y"));
    }

    #[test]
    fn where_a_symbolic_link_leads_is_needed_too() {
        let followed = followed(&["alias/file", "absolute/x"]);
        assert!(followed.selects("alias"), "the link itself");
        assert!(followed.selects("real/file") && followed.selects("real/deep/x"));
        assert!(!followed.selects("real/other"));
    }

    #[test]
    fn nothing_named_the_root_named_and_any_depth_mean_everything() {
        for paths in [&[][..], &["."], &["/"], &["**/*.c"], &["a", "/"]] {
            assert!(followed(paths).selects("any/thing"), "{paths:?}");
        }
    }

    #[test]
    fn a_link_to_itself_ends() {
        assert!(followed(&["round/x"]).enters("round"));
    }
}
