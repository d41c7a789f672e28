//! One copy action: what is selected, where it goes, what changes on the way.

use dockerfile::chmod::SymbolicMode;
use dockerfile::glob;
use dockerfile::ignore::Ignore;
use llb::op::{Copy, CopyMode};
use store::{
    Editor, Entry, Found, Ingest, Leaf, LinkId, Metadata, Name, RelPath, Timestamp, Tree, TreeRef,
    TreeSource,
};

use super::{TreeEditor, bits, time};
use crate::error::Error;
use crate::ops::archive;

/// The file system that is copied from, and which paths of it.
pub(super) struct CopySource<'a, S: TreeSource + ?Sized> {
    editor: Editor<'a, S>,
    source: &'a S,
    /// As given (the base name counts), and with symbolic links followed.
    paths: Vec<(RelPath, RelPath)>,
    filter: Filter,
}

/// Include and exclude patterns, relative to a directory that is copied.
struct Filter {
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

    fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the path itself is selected. A directory that is not may hold something that is.
    fn selects(&self, path: &RelPath) -> bool {
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
            && let Some(directory) = fixed_part(&copy.src)
        {
            let path = RelPath::lenient(directory.as_bytes())?;
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
        let Some((_, start)) = self.paths.first().filter(|_| !below.is_root()) else {
            return Ok(true);
        };
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
fn fixed_part(pattern: &str) -> Option<&str> {
    let meta = pattern.find(|c: char| c.is_ascii() && glob::has_meta([c as u8]))?;
    Some(
        pattern[..meta]
            .rsplit_once('/')
            .map_or("/", |(fixed, _)| fixed),
    )
}

/// The entry at a path of a tree that is only read.
fn stored<S: TreeSource + ?Sized>(
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
    if !pattern
        .components()
        .iter()
        .any(|name| glob::has_meta(name.as_bytes()))
    {
        // A plain path is meant as it stands, whether it is there or not.
        return Ok(vec![pattern]);
    }
    let mut found = vec![RelPath::root()];
    for component in pattern.components() {
        let text = component.as_bytes();
        let mut next = Vec::new();
        for directory in found {
            if !glob::has_meta(text) {
                let path = directory.join(component);
                let resolved = editor.resolve(&path, false)?;
                if editor.get(&resolved)?.is_some() {
                    next.push(path);
                }
                continue;
            }
            let resolved = editor.resolve(&directory, true)?;
            for name in editor.list(&resolved)?.unwrap_or_default() {
                if matches(text, name.as_bytes())? {
                    next.push(directory.join(&name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, Error> {
    glob::matches(pattern, name).map_err(|problem| {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        Error::Dockerfile(dockerfile::error::Error::Pattern {
            problem,
            pattern,
            line: 0,
        })
    })
}

/// What changes on the way.
struct Changes<'c> {
    owner: Option<(u32, u32)>,
    mode: &'c CopyMode,
    timestamp: Option<Timestamp>,
    replace: bool,
    /// Makes the groups of hard links of this copy other ones than any that are there.
    origin: [u8; 32],
}

impl Changes<'_> {
    fn none(&self) -> bool {
        self.owner.is_none() && *self.mode == CopyMode::Keep && self.timestamp.is_none()
    }

    fn metadata(&self, before: &Metadata, is_directory: bool) -> Result<Metadata, Error> {
        let mut after = before.clone();
        if let Some((uid, gid)) = self.owner {
            (after.uid, after.gid) = (uid, gid);
        }
        match self.mode {
            CopyMode::Keep => {}
            CopyMode::Bits(mode) => after.mode = bits(*mode),
            CopyMode::Symbolic(text) => {
                let mode = SymbolicMode::parse(text).ok_or_else(|| Error::Unsupported {
                    what: format!("--chmod={text}: this mode"),
                })?;
                after.mode = mode.apply(before.mode, is_directory);
            }
        }
        if let Some(timestamp) = self.timestamp {
            after.mtime = timestamp;
        }
        Ok(after)
    }

    /// A file as it is copied. Names that are one file in a directory that is copied as a whole
    /// (`within`) are one file again: regular ones, as in BuildKit.
    fn leaf(&self, leaf: &Leaf, within: bool) -> Result<Leaf, Error> {
        let mut metadata = self.metadata(&leaf.metadata, false)?;
        if matches!(leaf.content, store::Content::Symlink { .. }) {
            metadata.mode = leaf.metadata.mode;
        }
        Ok(Leaf {
            metadata,
            content: leaf.content.clone(),
            link: leaf
                .link
                .filter(|_| within && matches!(leaf.content, store::Content::File { .. }))
                .map(|link| LinkId::derive(&self.origin, link.as_bytes())),
        })
    }
}

/// Carries out a copy into `target`.
pub(super) fn copy(
    target: &mut TreeEditor<'_, '_>,
    mut source: CopySource<'_, Ingest<'_>>,
    copy: &Copy,
    owner: Option<(u32, u32)>,
    ingest: &Ingest<'_>,
) -> Result<(), Error> {
    if source.paths.is_empty() {
        // A pattern that may match nothing: nothing is made for it either.
        return Ok(());
    }
    let mut changes = Changes {
        owner,
        mode: &copy.mode,
        timestamp: copy.timestamp_ns.map(|timestamp| time(Some(timestamp))),
        replace: copy.always_replace_existing,
        origin: [0; 32],
    };
    let [made, made_for_archives] = made_directories(copy, owner);
    let base = target.untouched(&RelPath::root())?;
    let (destination, directory) = destination(target, copy)?;
    let unpacked_to = (&destination, &made_for_archives);
    for (given, resolved) in std::mem::take(&mut source.paths) {
        let entry = stored(source.source, &mut source.editor, &resolved)?;
        if copy.attempt_unpack
            && let Some(Entry::Leaf(leaf)) = &entry
            && archive::unpack_into(target, leaf, unpacked_to, owner, ingest)
                .map_err(|error| error.of_archive(&given))?
        {
            continue;
        }
        target.make_directories(&directory, &made)?;
        let Some(entry) = entry else {
            continue;
        };
        let is_directory = matches!(entry, Entry::Directory(_));
        let present = target.get(&destination)?;
        let into = match &present {
            Some(Found::Directory(_)) if !is_directory => true,
            Some(_) if is_directory => !copy.dir_copy_contents,
            _ => false,
        };
        let to = match (into, given.file_name()) {
            (true, Some(name)) => target.resolve(&destination.join(name), is_directory)?,
            _ => destination.clone(),
        };
        if let Some(parent) = to.parent() {
            target.make_directories(&parent, &made)?;
        }
        changes.origin = origin(base, copy, &given);
        let merge = Merge {
            source: source.source,
            filter: &source.filter,
            changes: &changes,
            ingest,
        };
        match entry {
            Entry::Leaf(leaf) => merge.leaf(target, &leaf, &to, false)?,
            Entry::Directory(tree) if copy.dir_copy_contents && !into => {
                merge.contents(target, tree, &to, &made)?;
            }
            Entry::Directory(tree) => {
                let parents = Parents::present(&to, &made);
                merge.directory(target, tree, (&to, &RelPath::root()), into, &parents)?;
            }
        }
    }
    Ok(())
}

/// What the groups of hard links of one copied path are called by: what it is copied onto, how, and
/// which one it is. Each path that a pattern matches is a copy of its own.
fn origin(base: Option<TreeRef>, copy: &Copy, given: &RelPath) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("varve solver: hard links of a copy v2");
    if let Some(tree) = base {
        hasher.update(tree.id.as_bytes());
    }
    hasher.update(format!("{copy:?}").as_bytes());
    hasher.update(&given.to_bytes());
    *hasher.finalize().as_bytes()
}

/// Directories that are made on the way to what is copied, and to what archives are unpacked into:
/// of those `--chmod` says nothing.
fn made_directories(copy: &Copy, owner: Option<(u32, u32)>) -> [Metadata; 2] {
    let (uid, gid) = owner.unwrap_or_default();
    let made_for_archives = Metadata {
        uid,
        gid,
        mtime: time(copy.timestamp_ns),
        ..Metadata::default_directory()
    };
    let mode = match copy.mode {
        // mkdir(2) ignores the others, and so BuildKit makes directories without them.
        CopyMode::Bits(mode) => bits(mode) & 0o777,
        CopyMode::Keep | CopyMode::Symbolic(_) => made_for_archives.mode,
    };
    let made = Metadata {
        mode,
        ..made_for_archives.clone()
    };
    [made, made_for_archives]
}

/// Where to copy to, and the directory that has to be there for it.
fn destination(target: &mut TreeEditor<'_, '_>, copy: &Copy) -> Result<(RelPath, RelPath), Error> {
    let path = target.resolve(&RelPath::lenient(copy.dest.as_bytes())?, true)?;
    let is_directory = copy.dest.ends_with('/') || copy.dest.ends_with("/.");
    let wanted = match path.parent() {
        Some(parent) if !is_directory => parent,
        _ => path.clone(),
    };
    if !copy.create_dest_path && target.get(&wanted)?.is_none() {
        return Err(Error::NotFound {
            path: wanted.to_string(),
        });
    }
    Ok((path, wanted))
}

struct Merge<'m, 'i> {
    source: &'m Ingest<'i>,
    filter: &'m Filter,
    changes: &'m Changes<'m>,
    ingest: &'m Ingest<'i>,
}

impl Merge<'_, '_> {
    fn leaf(
        &self,
        target: &mut TreeEditor<'_, '_>,
        leaf: &Leaf,
        to: &RelPath,
        within: bool,
    ) -> Result<(), Error> {
        if matches!(target.get(to)?, Some(Found::Directory(_))) && !self.changes.replace {
            return Err(Error::file_op(to, "cannot replace a directory with a file"));
        }
        Ok(target.insert(to, Entry::Leaf(self.changes.leaf(leaf, within)?))?)
    }

    /// Copies what is in a directory to `to`. That is made as its parents are where it is missing,
    /// and of the directory that is copied it has the time alone.
    fn contents(
        &self,
        target: &mut TreeEditor<'_, '_>,
        tree: TreeRef,
        to: &RelPath,
        made: &Metadata,
    ) -> Result<(), Error> {
        let before = match target.get(to)? {
            Some(Found::Directory(metadata)) => metadata,
            Some(Found::Leaf(_)) | None => made.clone(),
        };
        let source = self.source.tree(tree.id)?.metadata.mtime;
        let mtime = self.changes.timestamp.unwrap_or(source);
        let parents = Parents::present(to, made);
        self.directory(target, tree, (to, &RelPath::root()), false, &parents)?;
        Ok(target.set_metadata(to, Metadata { mtime, ..before })?)
    }

    /// Copies a directory with its contents to `to`; `below` is where it lies in what is copied.
    /// `overwrite` tells whether an existing directory takes the attributes of the copied one; one
    /// that is made always does.
    fn directory(
        &self,
        target: &mut TreeEditor<'_, '_>,
        tree: TreeRef,
        (to, below): (&RelPath, &RelPath),
        overwrite: bool,
        parents: &Parents<'_>,
    ) -> Result<(), Error> {
        let present = target.get(to)?;
        // The whole sub-tree as it is: a reference is all that is written.
        if present.is_none() && self.filter.is_empty() && self.changes.none() && tree.links == 0 {
            return Ok(target.insert(to, Entry::Directory(tree))?);
        }
        let directory = self.source.tree(tree.id)?;
        let metadata = self.changes.metadata(&directory.metadata, true)?;
        match present {
            Some(Found::Directory(_)) if overwrite => target.set_metadata(to, metadata.clone())?,
            Some(Found::Directory(_)) => {}
            Some(Found::Leaf(_)) if !self.changes.replace => {
                return Err(Error::file_op(to, "cannot copy to non-directory"));
            }
            _ => {
                parents.make(target, self.changes.replace)?;
                target.insert_directory(to, metadata.clone())?;
            }
        }
        let parents = Parents::present(to, &metadata);
        for (name, entry) in &directory.entries {
            self.entry(target, (name, entry), (to, below), &parents)?;
        }
        Ok(())
    }

    fn entry(
        &self,
        target: &mut TreeEditor<'_, '_>,
        (name, entry): (&Name, &Entry),
        (to, below): (&RelPath, &RelPath),
        parents: &Parents<'_>,
    ) -> Result<(), Error> {
        let (to, below) = (to.join(name), below.join(name));
        match entry {
            Entry::Leaf(leaf) if self.filter.selects(&below) => {
                parents.make(target, self.changes.replace)?;
                debug_assert!(
                    std::ptr::eq(self.source, self.ingest),
                    "one ingest serves both sides"
                );
                self.leaf(target, leaf, &to, true)
            }
            Entry::Leaf(_) => Ok(()),
            Entry::Directory(child) if self.filter.selects(&below) => {
                self.directory(target, *child, (&to, &below), true, parents)
            }
            // Not selected itself, but something in it may be: it is made only then.
            Entry::Directory(child) => {
                let child = self.source.tree(child.id)?;
                let parents = Parents {
                    directory: &to,
                    metadata: &self.changes.metadata(&child.metadata, true)?,
                    above: Some(parents),
                };
                for (name, entry) in &child.entries {
                    self.entry(target, (name, entry), (&to, &below), &parents)?;
                }
                Ok(())
            }
        }
    }
}

/// The directories above something that is copied: each is made with attributes of its own when the
/// first thing below it is there to be copied.
struct Parents<'p> {
    directory: &'p RelPath,
    metadata: &'p Metadata,
    above: Option<&'p Parents<'p>>,
}

impl<'p> Parents<'p> {
    /// A directory above which all is there, or made with the same attributes.
    fn present(directory: &'p RelPath, metadata: &'p Metadata) -> Self {
        let above = None;
        Parents {
            directory,
            metadata,
            above,
        }
    }

    fn make(&self, target: &mut TreeEditor<'_, '_>, replace: bool) -> Result<(), Error> {
        let directory = self.directory;
        match target.get(directory)? {
            Some(Found::Directory(_)) => return Ok(()),
            Some(Found::Leaf(_)) if !replace => {
                return Err(Error::file_op(directory, "cannot copy to non-directory"));
            }
            Some(Found::Leaf(_)) | None => {}
        }
        match (self.above, directory.parent()) {
            (Some(above), _) => above.make(target, replace)?,
            (None, Some(parent)) => target.make_directories(&parent, self.metadata)?,
            (None, None) => {}
        }
        Ok(target.insert_directory(directory, self.metadata.clone())?)
    }
}
