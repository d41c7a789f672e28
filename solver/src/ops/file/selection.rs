//! What a copy selects: paths by patterns, filters below them, and what of it a cache key sees.

use dockerfile::glob::{self, Glob};
use dockerfile::ignore::Ignore;
use llb::op::Copy;
use store::{Editor, Entry, RelPath, Tree, TreeRef, TreeSource};

use crate::error::Error;

/// The file system that is copied from, and which paths of it.
pub(super) struct CopySource<'a, S: TreeSource + ?Sized> {
    pub(super) editor: Editor<'a, S>,
    pub(super) source: &'a S,
    /// As given (the base name counts), and with symbolic links followed.
    pub(super) paths: Vec<(RelPath, RelPath)>,
    pub(super) filter: Filter,
}

/// Include and exclude patterns, relative to a directory that is copied.
pub(super) struct Filter {
    include: Option<Ignore>,
    exclude: Option<Ignore>,
}

impl Filter {
    fn new(copy: &Copy) -> Result<Self, Error> {
        let parse = |patterns: &[String]| match patterns {
            [] => Ok(None),
            patterns => Ignore::from_patterns(patterns).map(Some),
        };
        let (include, exclude) = (parse(&copy.include_patterns), parse(&copy.exclude_patterns));
        Ok(Filter {
            include: include?,
            exclude: exclude?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the path itself is selected. A directory that is not may hold something that is.
    pub(super) fn selects(&self, path: &RelPath) -> bool {
        let path = path.to_bytes();
        self.include
            .as_ref()
            .is_none_or(|include| include.excludes(&path))
            && !self
                .exclude
                .as_ref()
                .is_some_and(|exclude| exclude.excludes(&path))
    }
}

impl<'a, S: TreeSource + ?Sized> CopySource<'a, S> {
    /// Finds what the action selects.
    pub(super) fn open(source: &'a S, tree: TreeRef, copy: &Copy) -> Result<Self, Error> {
        let mut editor = Editor::open(source, tree);
        let given = match copy.allow_wildcard {
            true => expand(&mut editor, copy.src.as_bytes())?,
            false => vec![RelPath::lenient(copy.src.as_bytes())?],
        };
        if copy.allow_wildcard
            && let Some(path) = fixed_part(&RelPath::lenient(copy.src.as_bytes())?)
        {
            let resolved = editor.resolve(&path, true)?;
            if editor.get(&resolved)?.is_none() {
                return Err(Error::NotFound {
                    path: path.to_string(),
                });
            }
        }
        let mut paths = Vec::new();
        for path in given {
            let resolved = editor.resolve(&path, copy.follow_symlink)?;
            if editor.get(&resolved)?.is_none() {
                let wanted = copy.required_paths.first().cloned();
                return Err(Error::NotFound {
                    path: wanted.unwrap_or_else(|| path.to_string()),
                });
            }
            paths.push((path, resolved));
        }
        if paths.is_empty() && !copy.allow_empty_wildcard {
            return Err(Error::NotFound {
                path: copy.src.clone(),
            });
        }
        let mut source = CopySource {
            editor,
            source,
            paths,
            filter: Filter::new(copy)?,
        };
        for path in &copy.required_paths {
            if !source.has_required(&RelPath::lenient(path.as_bytes())?, copy)? {
                return Err(Error::NotFound { path: path.clone() });
            }
        }
        Ok(source)
    }

    /// Whether something is selected at a path below what is copied. Links on the way are not
    /// followed: nothing behind them is copied either.
    fn has_required(&mut self, path: &RelPath, copy: &Copy) -> Result<bool, Error> {
        let above = RelPath::lenient(copy.src.as_bytes())?.components().len();
        let below: RelPath = path.components().iter().skip(above).cloned().collect();
        let Some((_, start)) = self.paths.first() else {
            return Ok(true);
        };
        if below.is_root() {
            // With --parents what is copied is below, and nothing there was named.
            return Ok(false);
        }
        let names = start.components().iter().chain(below.components());
        let path: RelPath = names.cloned().collect();
        if self.filter.selects(&below) {
            return Ok(self.editor.get(&path)?.is_some());
        }
        let mut selected = Vec::new();
        if let Some(tree) = self.editor.untouched(&path)? {
            self.filtered(tree, &below, &mut selected)?;
        }
        Ok(!selected.is_empty())
    }

    /// Names and entries that a cache key is made of.
    pub(super) fn selected(mut self) -> Result<Vec<(Vec<u8>, Entry)>, Error> {
        let mut selected = Vec::new();
        for (given, resolved) in std::mem::take(&mut self.paths) {
            let Some(entry) = stored(self.source, &mut self.editor, &resolved)? else {
                continue;
            };
            let name = given
                .file_name()
                .map(|name| name.as_bytes().to_vec())
                .unwrap_or_default();
            match entry {
                Entry::Directory(tree) if !self.filter.is_empty() => {
                    self.filtered(tree, &RelPath::root(), &mut selected)?;
                }
                entry => selected.push((name, entry)),
            }
        }
        Ok(selected)
    }

    /// What is selected of a directory: things below it with their paths, and each directory that
    /// is made with its attributes alone.
    fn filtered(
        &self,
        tree: TreeRef,
        path: &RelPath,
        selected: &mut Vec<(Vec<u8>, Entry)>,
    ) -> Result<(), Error> {
        let directory = self.source.tree(tree.id)?;
        let alone = Tree::empty(directory.metadata.clone()).reference().0;
        selected.push((below(path), Entry::Directory(alone)));
        let before = selected.len();
        for (name, entry) in &directory.entries {
            let path = path.join(name);
            match entry {
                Entry::Directory(child) => self.filtered(*child, &path, selected)?,
                Entry::Leaf(_) if self.filter.selects(&path) => {
                    selected.push((below(&path), entry.clone()));
                }
                Entry::Leaf(_) => {}
            }
        }
        // Of the first one it matters whether it is there.
        let is_made = path.is_root() || self.filter.selects(path);
        if selected.len() == before && !is_made {
            selected.pop();
        }
        Ok(())
    }
}

/// A path below what is copied, which no name of that itself can be taken for.
fn below(path: &RelPath) -> Vec<u8> {
    [b"/", &*path.to_bytes()].concat()
}

/// The directory that a pattern starts from, which has to be there although the pattern may match
/// nothing in it. `None` for a path that is no pattern.
fn fixed_part(pattern: &RelPath) -> Option<RelPath> {
    let names = pattern.components();
    let first = names
        .iter()
        .position(|name| glob::has_wildcards(name.as_bytes()))?;
    Some(names[..first].iter().cloned().collect())
}

/// The entry at a path of a tree that is only read.
pub(super) fn stored<S: TreeSource + ?Sized>(
    source: &S,
    editor: &mut Editor<'_, S>,
    path: &RelPath,
) -> Result<Option<Entry>, Error> {
    let Some((parent, name)) = path.split_last() else {
        return Ok(editor.untouched(&RelPath::root())?.map(Entry::Directory));
    };
    let Some(parent) = editor.untouched(&parent)? else {
        return Ok(None);
    };
    Ok(source.tree(parent.id)?.entries.get(name).cloned())
}

/// Paths that match a pattern in the syntax of Go's filepath.Match, component by component.
pub(super) fn expand<S: TreeSource + ?Sized>(
    editor: &mut Editor<'_, S>,
    pattern: &[u8],
) -> Result<Vec<RelPath>, Error> {
    let pattern = RelPath::lenient(pattern)?;
    let Some(start) = fixed_part(&pattern) else {
        // A plain path is meant as it stands, whether it is there or not.
        return Ok(vec![pattern]);
    };
    let rest = pattern.components()[start.components().len()..].to_vec();
    let mut found = vec![start];
    for component in rest {
        let glob = compiled(component.as_bytes())?;
        let mut next = Vec::new();
        for directory in found {
            let resolved = editor.resolve(&directory, true)?;
            for name in editor.list(&resolved)?.unwrap_or_default() {
                if glob.is_match(name.as_bytes()) {
                    next.push(directory.join(&name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

fn compiled(pattern: &[u8]) -> Result<Glob, Error> {
    Glob::new(pattern).map_err(|problem| {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        Error::Dockerfile(dockerfile::error::Error::Pattern {
            problem,
            pattern,
            line: 0,
        })
    })
}
