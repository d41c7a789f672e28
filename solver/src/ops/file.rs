//! File operations: copy, mkfile, mkdir, rm and symlink as edits of trees.
//!
//! No byte of a file moves: a copy is a graft of what the source tree refers to. The rules of what
//! goes where are those of BuildKit's fsutil copier (docs/dev and the Dockerfile reference).

mod copy;
mod owner;
mod selection;

use std::sync::Arc;

use engine::{BoxFuture, CacheKey, Op, OpContext, OpError, OutputSink};
use llb::op::{File, FileAction, FileInput, FileStep, Mkdir, Mkfile, Rm, Symlink};
use store::{
    Content, Editor, Entry, Found, Ingest, Leaf, Metadata, RelPath, Timestamp, TreeRef, TreeSink,
    Xattrs,
};

use crate::build::blocking;
use crate::cache::now;
use crate::error::Error;
use crate::ops::{Environment, commit_tree, op_error, rebase};
use crate::result::Value;

use self::selection::{CopySource, expand};

/// A file operation of the graph.
#[derive(Debug)]
pub(crate) struct FileOp {
    pub(crate) file: File,
    pub(crate) definition: CacheKey,
    pub(crate) environment: Arc<Environment>,
}

impl Op for FileOp {
    type Value = Value;

    fn cache_map(&self, _: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(async { Ok(self.definition) })
    }

    fn content_key<'a>(
        &'a self,
        inputs: &'a [Value],
        _: OpContext,
    ) -> BoxFuture<'a, Result<Option<CacheKey>, OpError>> {
        Box::pin(async move { self.key_of_inputs(inputs).map(Some).map_err(op_error) })
    }

    fn rebase<'a>(
        &'a self,
        inputs: &'a [Value],
        found: Vec<Value>,
        _: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        let outputs = outputs(&self.file).into_iter();
        let bases: Vec<_> = outputs
            .map(|step| base_of(&self.file, step, inputs))
            .collect();
        let environment = self.environment.clone();
        let moved = blocking(move || rebase(&found, &bases, &environment));
        Box::pin(async move { moved.await.map_err(op_error) })
    }

    fn exec<'a>(
        &'a self,
        inputs: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let inputs = inputs.to_vec();
        let made = blocking(move || run(&file, &inputs, &environment, &context.output));
        Box::pin(async move { made.await.map_err(op_error) })
    }
}

impl FileOp {
    /// What this operation reads of its inputs: of a file system that is copied from, only what is
    /// selected; of one that is changed, all.
    fn key_of_inputs(&self, inputs: &[Value]) -> Result<CacheKey, Error> {
        let store = self.environment.store();
        let mut key = CacheKey::builder("varve solver: file op inputs v2");
        let mut whole = std::collections::BTreeSet::new();
        for step in &self.file.steps {
            whole.extend(input_of(step.input));
            let owner = match &step.action {
                FileAction::Copy(copy) => copy.owner.as_ref(),
                FileAction::Mkfile(mkfile) => mkfile.owner.as_ref(),
                FileAction::Mkdir(mkdir) => mkdir.owner.as_ref(),
                FileAction::Symlink(symlink) => symlink.owner.as_ref(),
                FileAction::Rm(_) => None,
            };
            whole.extend(
                owner
                    .into_iter()
                    .flat_map(owner::inputs)
                    .filter_map(input_of),
            );
            let (FileAction::Copy(copy), Some(source)) = (&step.action, input_of(step.secondary))
            else {
                continue;
            };
            let selected = match inputs[source].tree() {
                None => Vec::new(),
                Some(tree) => CopySource::open(&**store, tree, copy)?.selected()?,
            };
            key = key.number(source as u64).number(selected.len() as u64);
            // A selection without links has the key that it had before links counted.
            let links = crate::ops::links::pairs(&**store, &selected)?;
            for (name, entry) in selected {
                key = key.bytes(name).bytes(entry.content_key().as_bytes());
            }
            for (path, first) in links {
                key = key.bytes("link").bytes(path).bytes(first);
            }
        }
        for input in whole {
            key = key.number(input as u64);
            key = match inputs[input].tree() {
                Some(tree) => key.bytes(tree.key.as_bytes()),
                None => key.bytes([]),
            };
        }
        Ok(key.finish())
    }
}

fn input_of(input: FileInput) -> Option<usize> {
    match input {
        FileInput::Input(index) => Some(index.position()),
        FileInput::Empty | FileInput::Step(_) => None,
    }
}

fn run(
    file: &File,
    inputs: &[Value],
    environment: &Environment,
    output: &OutputSink,
) -> Result<Vec<Value>, Error> {
    let ingest = environment.store().begin();
    let mut trees: Vec<Option<TreeRef>> = Vec::new();
    for step in &file.steps {
        let tree = run_step(step, inputs, &trees, &ingest, environment, output)?;
        trees.push(Some(tree));
    }
    let results = outputs(file).into_iter().filter_map(|step| {
        let base = base_of(file, step, inputs);
        Some((trees[step]?, base.name().to_owned()))
    });
    commit_tree(ingest, results, environment)
}

/// The steps whose results are outputs, in the order of those.
fn outputs(file: &File) -> Vec<usize> {
    let steps = file.steps.iter().enumerate();
    let mut outputs: Vec<_> = steps
        .filter_map(|(index, step)| Some((step.output?, index)))
        .collect();
    outputs.sort_unstable();
    outputs.into_iter().map(|(_, index)| index).collect()
}

/// What the result of a step is a change of.
fn base_of(file: &File, mut step: usize, inputs: &[Value]) -> Value {
    loop {
        match file.steps[step].input {
            FileInput::Empty => return Value::empty(),
            FileInput::Input(index) => return inputs[index.position()].clone(),
            FileInput::Step(before) => step = before as usize,
        }
    }
}

/// The file system that a step names.
fn resolve(input: FileInput, inputs: &[Value], steps: &[Option<TreeRef>]) -> Option<TreeRef> {
    match input {
        FileInput::Empty => None,
        FileInput::Input(index) => inputs[index.position()].tree(),
        FileInput::Step(step) => steps[step as usize],
    }
}

fn run_step(
    step: &FileStep,
    inputs: &[Value],
    steps: &[Option<TreeRef>],
    ingest: &Ingest<'_>,
    environment: &Environment,
    output: &OutputSink,
) -> Result<TreeRef, Error> {
    let tree_of = |input| resolve(input, inputs, steps);
    let mut editor = match tree_of(step.input) {
        Some(tree) => Editor::open(ingest, tree),
        None => Editor::empty(
            ingest,
            Metadata {
                mtime: now(),
                ..Metadata::default_directory()
            },
        ),
    };
    let warn = |message: String| output.warn(message);
    let owner =
        |owner: Option<&llb::op::Owner>| owner::resolve(owner, &tree_of, environment, &warn);
    match &step.action {
        FileAction::Copy(copy) => {
            let source = match tree_of(step.secondary) {
                Some(tree) => tree,
                None => empty_tree(ingest)?,
            };
            let owner = copy.owner.as_ref().map(|o| owner(Some(o))).transpose()?;
            let source = CopySource::open(ingest, source, copy)?;
            copy::copy(&mut editor, source, copy, owner, ingest)?;
        }
        FileAction::Mkdir(mkdir) => {
            make_directory(&mut editor, mkdir, owner(mkdir.owner.as_ref())?)?
        }
        FileAction::Mkfile(mkfile) => {
            make_file(&mut editor, mkfile, owner(mkfile.owner.as_ref())?, ingest)?;
        }
        FileAction::Symlink(symlink) => {
            make_symlink(&mut editor, symlink, owner(symlink.owner.as_ref())?)?;
        }
        FileAction::Rm(rm) => remove(&mut editor, rm)?,
    }
    Ok(editor.finish()?)
}

fn empty_tree(ingest: &Ingest<'_>) -> Result<TreeRef, Error> {
    Ok(ingest.put_tree(store::Tree::empty(Metadata::default_directory()))?)
}

/// Permission bits from an LLB number.
fn bits(mode: u32) -> u16 {
    // LLB carries Go's permission bits; the special bits come in the Unix place too.
    (mode & 0o7777) as u16
}

fn time(timestamp_ns: Option<i64>) -> Timestamp {
    match timestamp_ns {
        None => now(),
        Some(nanoseconds) => Timestamp {
            seconds: nanoseconds.div_euclid(1_000_000_000),
            // The remainder lies between 0 and 10^9.
            nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
        },
    }
}

type TreeEditor<'a, 's> = Editor<'a, Ingest<'s>>;

fn make_directory(
    editor: &mut TreeEditor<'_, '_>,
    mkdir: &Mkdir,
    (uid, gid): (u32, u32),
) -> Result<(), Error> {
    let path = editor.resolve(&RelPath::lenient(mkdir.path.as_bytes())?, true)?;
    let mtime = time(mkdir.timestamp_ns);
    let metadata = Metadata {
        mode: bits(mkdir.mode),
        uid,
        gid,
        mtime,
        xattrs: Xattrs::new(),
    };
    if mkdir.make_parents {
        return Ok(editor.make_directories(&path, &metadata)?);
    }
    match editor.get(&path)? {
        Some(Found::Directory(_)) => Ok(()),
        Some(Found::Leaf(_)) => Err(Error::file_op(&path, "it exists and is not a directory")),
        None => Ok(editor.insert_directory(&path, metadata)?),
    }
}

fn make_file(
    editor: &mut TreeEditor<'_, '_>,
    mkfile: &Mkfile,
    (uid, gid): (u32, u32),
    ingest: &Ingest<'_>,
) -> Result<(), Error> {
    let path = editor.resolve(&RelPath::lenient(mkfile.path.as_bytes())?, true)?;
    if matches!(editor.get(&path)?, Some(Found::Directory(_))) {
        return Err(Error::file_op(&path, "it is a directory"));
    }
    let blob = ingest.put_blob(&mkfile.data)?;
    let mtime = time(mkfile.timestamp_ns);
    let metadata = Metadata {
        mode: bits(mkfile.mode),
        uid,
        gid,
        mtime,
        xattrs: Xattrs::new(),
    };
    let content = Content::File {
        blob,
        size: mkfile.data.len() as u64,
    };
    Ok(editor.insert(
        &path,
        Entry::Leaf(Leaf {
            metadata,
            content,
            link: None,
        }),
    )?)
}

fn make_symlink(
    editor: &mut TreeEditor<'_, '_>,
    symlink: &Symlink,
    (uid, gid): (u32, u32),
) -> Result<(), Error> {
    let path = editor.resolve(&RelPath::lenient(symlink.path.as_bytes())?, false)?;
    if editor.get(&path)?.is_some() {
        return Err(Error::file_op(&path, "it exists already"));
    }
    let mtime = time(symlink.timestamp_ns);
    let metadata = Metadata {
        mode: 0o777,
        uid,
        gid,
        mtime,
        xattrs: Xattrs::new(),
    };
    let content = Content::Symlink {
        target: symlink.target.as_bytes().into(),
    };
    Ok(editor.insert(
        &path,
        Entry::Leaf(Leaf {
            metadata,
            content,
            link: None,
        }),
    )?)
}

fn remove(editor: &mut TreeEditor<'_, '_>, rm: &Rm) -> Result<(), Error> {
    let paths = if rm.allow_wildcard {
        expand(editor, rm.path.as_bytes())?
    } else {
        vec![RelPath::lenient(rm.path.as_bytes())?]
    };
    for path in paths {
        let path = editor.resolve(&path, false)?;
        if !editor.remove(&path)? && !rm.allow_not_found {
            return Err(Error::file_op(&path, "it does not exist"));
        }
    }
    Ok(())
}
