//! What a vertex does: one of six kinds of operation.
//!
//! Operations speak of their inputs by position ([`InputIndex`]); which vertices stand at those
//! positions is said by [`Vertex::inputs`](crate::Vertex::inputs).

mod exec;
mod file;
mod nested;
mod source;

pub use self::exec::{
    CacheMount, CacheSharing, ContentCache, Device, Exec, HostIp, Mount, MountKind, Network,
    ProxyEnv, SecretEnv, SecretMount, Security, SshMount, Ulimit,
};
pub use self::file::{
    Copy, CopyMode, File, FileAction, FileInput, FileStep, Mkdir, Mkfile, Owner, Rm, Symlink,
    UserRef,
};
pub use self::nested::{Build, Builder, Diff, Merge};
pub use self::source::{
    GitSource, HttpSource, ImageSource, LocalSource, OciLayoutSource, ResolveMode, Source,
    attribute,
};

/// Position in the inputs of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputIndex(pub u32);

impl InputIndex {
    /// The position as a slice index.
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

/// What a vertex does.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Bring something in from outside.
    Source(Source),
    /// Run a process.
    Exec(Box<Exec>),
    /// Change files without a process.
    File(File),
    /// Lay file systems over each other.
    Merge(Merge),
    /// What changed between two file systems.
    Diff(Diff),
    /// Build a graph that another vertex produced.
    Build(Build),
}

impl Op {
    /// The kind in one word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Source(_) => "source",
            Op::Exec(_) => "exec",
            Op::File(_) => "file",
            Op::Merge(_) => "merge",
            Op::Diff(_) => "diff",
            Op::Build(_) => "build",
        }
    }

    /// How many outputs the operation has. Outputs count from 0.
    pub fn output_count(&self) -> u32 {
        let written = |outputs: &mut dyn Iterator<Item = u32>| {
            outputs.max().map_or(0, |output| output.saturating_add(1))
        };
        match self {
            Op::Source(_) | Op::Merge(_) | Op::Diff(_) | Op::Build(_) => 1,
            Op::Exec(exec) => written(&mut exec.mounts.iter().filter_map(|mount| mount.output)),
            Op::File(file) => written(&mut file.steps.iter().filter_map(|step| step.output)),
        }
    }
}
