//! Write graphs by hand: for frontends and tests.
//!
//! Vertices are added in any order that has inputs first, as handles ([`Output`]); digests are
//! computed once, in [`GraphBuilder::finish`], and only for what the result needs. That lets a
//! source be announced before it is known ([`GraphBuilder::defer`]): which files of a build context
//! are used is only clear once the last COPY has been read.

use std::collections::HashMap;

use crate::caps;
use crate::error::Error;
use crate::graph::Graph;
use crate::metadata::{Metadata, SourceFile};
use crate::op::{
    Copy, Diff, Exec, File, FileAction, FileInput, FileStep, InputIndex, Merge, Mkdir, Mkfile,
    Mount, MountKind, Op, Rm, Source, Symlink,
};
use crate::platform::Platform;
use crate::vertex::{Edge, Vertex};
use crate::wire;

/// An output of a vertex under construction. Only of use with the builder that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    node: usize,
    index: u32,
}

/// A graph under construction. An input of `None` is an empty file system.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    files: Vec<SourceFile>,
}

#[derive(Debug)]
struct Node {
    /// `None` for a source that was announced and is not known yet.
    op: Option<Op>,
    inputs: Vec<Output>,
    platform: Option<Platform>,
    metadata: Metadata,
}

/// A mount that is not the root file system.
#[derive(Debug, Clone, Default)]
pub struct ExecMount {
    /// What is mounted.
    pub source: Option<Output>,
    /// Where and how. Its `input` and `output` are assigned by the builder.
    pub mount: Mount,
    /// What the process writes to a bind mount is thrown away, not an output.
    pub discards: bool,
}

/// What a process leaves behind.
#[derive(Debug, Clone)]
pub struct ExecOutputs {
    /// The written root file system.
    pub root: Output,
    /// The other written mounts, by destination.
    pub mounts: Vec<(String, Output)>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that locations may point into; gives its position.
    pub fn source_file(&mut self, file: SourceFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Adds an operation whose input positions mean `inputs`.
    pub fn vertex(
        &mut self,
        op: Op,
        inputs: Vec<Output>,
        platform: Option<Platform>,
        metadata: Metadata,
    ) -> Output {
        self.push(Node {
            op: Some(op),
            inputs,
            platform,
            metadata,
        })
    }

    fn push(&mut self, node: Node) -> Output {
        self.nodes.push(node);
        Output {
            node: self.nodes.len() - 1,
            index: 0,
        }
    }

    /// Adds something from outside. The platform is written only where it matters.
    pub fn source(
        &mut self,
        source: impl Into<Source>,
        platform: Option<Platform>,
        metadata: Metadata,
    ) -> Output {
        let deferred = self.defer();
        self.fill(deferred, source, platform, metadata);
        deferred
    }

    /// Announces a source that will be given by [`fill`](Self::fill).
    pub fn defer(&mut self) -> Output {
        let metadata = Metadata::default();
        self.push(Node {
            op: None,
            inputs: Vec::new(),
            platform: None,
            metadata,
        })
    }

    /// Gives the source that was announced.
    pub fn fill(
        &mut self,
        deferred: Output,
        source: impl Into<Source>,
        platform: Option<Platform>,
        metadata: Metadata,
    ) {
        let source = source.into();
        let platform = platform.filter(|_| source.is_platform_specific());
        let op = Some(Op::Source(source));
        self.nodes[deferred.node] = Node {
            op,
            inputs: Vec::new(),
            platform,
            metadata,
        };
    }

    /// Adds a process on a root file system. Mounts are sorted by destination, secrets and then
    /// agents come after the others in the order given, as BuildKit writes them. Equal sources
    /// become one input, and every written bind mount an output unless it is to be thrown away.
    pub fn exec(
        &mut self,
        root: Option<Output>,
        mut exec: Exec,
        mounts: Vec<ExecMount>,
        platform: Option<Platform>,
        metadata: Metadata,
    ) -> ExecOutputs {
        let root = Mount {
            dest: "/".to_owned(),
            ..Mount::default()
        }
        .with_source(root);
        let mut mounts: Vec<_> = std::iter::once(root).chain(mounts).collect();
        mounts.sort_by(|a, b| order(&a.mount).cmp(&order(&b.mount)));
        let mut inputs = Inputs::default();
        let mut outputs = Vec::new();
        let node = self.nodes.len();
        exec.mounts.clear();
        for one in mounts {
            let ExecMount {
                source,
                mut mount,
                discards,
            } = one;
            mount.input = source.map(|source| inputs.position(source));
            mount.output = None;
            if mount.kind == MountKind::Bind && !mount.readonly && !discards {
                let index = outputs.len() as u32;
                mount.output = Some(index);
                outputs.push((mount.dest.clone(), Output { node, index }));
            }
            exec.mounts.push(mount);
        }
        let root = self.vertex(Op::Exec(Box::new(exec)), inputs.0, platform, metadata);
        let at = outputs.iter().position(|(dest, _)| dest == "/");
        let root = at.map_or(root, |at| outputs.remove(at).1);
        ExecOutputs {
            root,
            mounts: outputs,
        }
    }

    /// Adds changes of files.
    pub fn file(&mut self, chain: FileChain, metadata: Metadata) -> Output {
        let FileChain {
            inputs, mut steps, ..
        } = chain;
        if let Some(last) = steps.last_mut() {
            last.output = Some(0);
        }
        self.vertex(Op::File(File { steps }), inputs.0, None, metadata)
    }

    /// Lays file systems over each other. Empty ones change nothing and are left out.
    pub fn merge(&mut self, layers: &[Option<Output>], metadata: Metadata) -> Option<Output> {
        let layers: Vec<_> = layers.iter().copied().flatten().collect();
        if layers.len() < 2 {
            return layers.first().copied();
        }
        let inputs = (0..layers.len() as u32).map(InputIndex).collect();
        Some(self.vertex(Op::Merge(Merge { inputs }), layers, None, metadata))
    }

    /// What changed from `lower` to `upper`.
    pub fn diff(
        &mut self,
        lower: Option<Output>,
        upper: Option<Output>,
        metadata: Metadata,
    ) -> Option<Output> {
        // From nothing, everything changed.
        let Some(lower) = lower else { return upper };
        let mut inputs = vec![lower];
        inputs.extend(upper);
        let op = Diff {
            lower: Some(InputIndex(0)),
            upper: upper.map(|_| InputIndex(1)),
        };
        Some(self.vertex(Op::Diff(op), inputs, None, metadata))
    }

    /// Computes digests and checks the graph. What the result does not need is left out; equal
    /// vertices become one. Vertices come in the order in which a walk from the result meets them.
    ///
    /// # Errors
    /// [`Error::Unfilled`] when the result needs a source that was announced and not given;
    /// otherwise what [`Graph`] refuses.
    pub fn finish(self, result: Option<Output>) -> Result<Graph, Error> {
        let mut edges: HashMap<usize, Edge> = HashMap::new();
        let mut vertices: Vec<Vertex> = Vec::new();
        let mut positions = HashMap::new();
        let order = self.order(result);
        let mut nodes: Vec<_> = self.nodes.into_iter().map(Some).collect();
        for at in order {
            let Some(node) = nodes[at].take() else {
                continue;
            };
            let op = node.op.ok_or(Error::Unfilled)?;
            let read = |input: &Output| Edge {
                output: input.index,
                ..edges[&input.node]
            };
            let inputs: Vec<_> = node.inputs.iter().map(read).collect();
            let mut metadata = node.metadata;
            let needed = caps::needed_by(&op).into_iter();
            metadata
                .caps
                .extend(needed.map(|cap| (cap.to_owned(), true)));
            let vertex = wire::vertex(op, inputs, node.platform, Vec::new());
            let digest = vertex.digest;
            edges.insert(
                at,
                Edge {
                    vertex: digest,
                    output: 0,
                },
            );
            if let Some(first) = positions.get(&digest) {
                let first: &mut Vertex = &mut vertices[*first];
                first.metadata.merge(metadata);
                continue;
            }
            positions.insert(digest, vertices.len());
            // Read it back: what a graph holds is what a daemon would see.
            let checked = wire::unmarshal_vertex(digest, vertex.marshalled)?;
            vertices.push(Vertex {
                metadata,
                ..checked
            });
        }
        let result = result.map(|found| Edge {
            output: found.index,
            ..edges[&found.node]
        });
        Graph::assemble(vertices, result, None, self.files)
    }

    /// The nodes that the result needs, inputs first.
    fn order(&self, result: Option<Output>) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        let mut stack: Vec<(usize, usize)> = Vec::new();
        let start = result.map(|result| result.node);
        if let Some(start) = start {
            seen[start] = true;
            stack.push((start, 0));
        }
        // A node reads nodes that were added before it, so there are no cycles.
        while let Some((at, next)) = stack.last_mut() {
            match self.nodes[*at].inputs.get(*next) {
                Some(input) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[input.node], true) {
                        stack.push((input.node, 0));
                    }
                }
                None => {
                    order.push(*at);
                    stack.pop();
                }
            }
        }
        order
    }
}

impl Mount {
    /// This mount, made of `source`.
    pub fn with_source(self, source: Option<Output>) -> ExecMount {
        ExecMount {
            source,
            mount: self,
            discards: false,
        }
    }
}

/// Where a mount stands among those of its process.
fn order(mount: &Mount) -> (u8, &str) {
    match mount.kind {
        MountKind::Bind | MountKind::Cache(_) | MountKind::Tmpfs { .. } => (0, &mount.dest),
        MountKind::Secret(_) => (1, ""),
        MountKind::Ssh(_) => (2, ""),
    }
}

/// Inputs of one vertex under construction: each output once.
#[derive(Debug, Clone, Default)]
struct Inputs(Vec<Output>);

impl Inputs {
    fn position(&mut self, output: Output) -> InputIndex {
        let found = self.0.iter().position(|known| *known == output);
        let at = found.unwrap_or_else(|| {
            self.0.push(output);
            self.0.len() - 1
        });
        InputIndex(at as u32)
    }
}

/// Steps that change one file system after the other.
#[derive(Debug, Clone)]
pub struct FileChain {
    inputs: Inputs,
    base: FileInput,
    steps: Vec<FileStep>,
}

impl FileChain {
    /// Steps on top of a file system.
    pub fn on(base: Option<Output>) -> Self {
        let mut inputs = Inputs::default();
        let base = base.map_or(FileInput::Empty, |base| {
            FileInput::Input(inputs.position(base))
        });
        Self {
            inputs,
            base,
            steps: Vec::new(),
        }
    }

    /// The file system that the chain starts from: where names of owners are looked up.
    pub fn base(&self) -> FileInput {
        self.base
    }

    /// Adds a copy from another file system.
    #[must_use]
    pub fn copy(mut self, from: Option<Output>, copy: Copy) -> Self {
        let secondary = from.map_or(FileInput::Empty, |from| {
            FileInput::Input(self.inputs.position(from))
        });
        self.step(secondary, FileAction::Copy(copy))
    }

    /// Adds a new file.
    #[must_use]
    pub fn mkfile(self, mkfile: Mkfile) -> Self {
        self.step(FileInput::Empty, FileAction::Mkfile(mkfile))
    }

    /// Adds a new directory.
    #[must_use]
    pub fn mkdir(self, mkdir: Mkdir) -> Self {
        self.step(FileInput::Empty, FileAction::Mkdir(mkdir))
    }

    /// Adds a removal.
    #[must_use]
    pub fn rm(self, rm: Rm) -> Self {
        self.step(FileInput::Empty, FileAction::Rm(rm))
    }

    /// Adds a new symbolic link.
    #[must_use]
    pub fn symlink(self, symlink: Symlink) -> Self {
        self.step(FileInput::Empty, FileAction::Symlink(symlink))
    }

    fn step(mut self, secondary: FileInput, action: FileAction) -> Self {
        let input = match self.steps.len().checked_sub(1) {
            None => self.base,
            Some(last) => FileInput::Step(last as u32),
        };
        self.steps.push(FileStep {
            input,
            secondary,
            output: None,
            action,
        });
        self
    }
}
