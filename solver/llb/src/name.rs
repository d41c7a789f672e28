//! Names that people see: the one that a vertex was given, else one made from its operation (in
//! BuildKit's words, so that logs of both read alike).

use crate::digest::VertexDigest;
use crate::graph::Graph;
use crate::op::{FileAction, InputIndex, Op};
use crate::vertex::Vertex;

/// Longest name that is made, in bytes. Names of merges and diffs contain those of their inputs;
/// without a limit they double with every level.
const NAME_BYTES_MAX: usize = 1024;

/// Most levels of vertices that a made name looks into.
const DEPTH_MAX: usize = 8;

impl Graph {
    /// The name that people see: the one that was given, else one made from the operation. Empty
    /// for a digest that is not of this graph.
    pub fn name(&self, digest: VertexDigest) -> String {
        if let Some(name) = self
            .vertex(digest)
            .and_then(|vertex| vertex.metadata().custom_name())
        {
            return name.to_owned();
        }
        let mut name = String::new();
        self.append(&mut name, digest, DEPTH_MAX);
        if name.len() > NAME_BYTES_MAX {
            let end = (0..=NAME_BYTES_MAX)
                .rev()
                .find(|end| name.is_char_boundary(*end));
            name.truncate(end.unwrap_or_default());
            name.push('…');
        }
        name
    }

    /// Appends the name of a vertex; stops once the name is too long, so that the work is bounded
    /// by the length of the name and not by the size of the graph.
    fn append(&self, name: &mut String, digest: VertexDigest, depth: usize) {
        let Some(vertex) = self.vertex(digest) else {
            return;
        };
        if let Some(given) = vertex.metadata().custom_name() {
            return name.push_str(given);
        }
        let Some(deeper) = depth.checked_sub(1) else {
            return name.push('…');
        };
        match vertex.op() {
            Op::Source(source) => name.push_str(&source.identifier),
            Op::Exec(exec) => append_list(name, &exec.args, " ", |name, arg| name.push_str(arg)),
            Op::File(file) => append_list(name, &file.steps, ", ", |name, step| {
                name.push_str(&action_name(&step.action));
            }),
            Op::Merge(_) => {
                name.push_str("merge (");
                append_list(name, vertex.inputs(), ", ", |name, input| {
                    self.append(name, input.vertex, deeper);
                });
                name.push(')');
            }
            Op::Diff(diff) => {
                name.push_str("diff ");
                self.append_side(name, vertex, diff.lower, deeper);
                name.push_str(" -> ");
                self.append_side(name, vertex, diff.upper, deeper);
            }
            Op::Build(_) => name.push_str("build"),
        }
    }

    fn append_side(
        &self,
        name: &mut String,
        vertex: &Vertex,
        side: Option<InputIndex>,
        depth: usize,
    ) {
        let Some(index) = side else {
            return name.push_str("scratch");
        };
        name.push('(');
        self.append(name, vertex.input(index).vertex, depth);
        name.push(')');
    }
}

fn append_list<T>(
    name: &mut String,
    items: &[T],
    separator: &str,
    mut append: impl FnMut(&mut String, &T),
) {
    for (at, item) in items.iter().enumerate() {
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        if at > 0 {
            name.push_str(separator);
        }
        append(name, item);
    }
}

fn action_name(action: &FileAction) -> String {
    match action {
        FileAction::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
        FileAction::Mkfile(mkfile) => format!("mkfile {}", mkfile.path),
        FileAction::Mkdir(mkdir) => format!("mkdir {}", mkdir.path),
        FileAction::Rm(rm) => format!("rm {}", rm.path),
        FileAction::Symlink(link) => format!("symlink {} -> {}", link.path, link.target),
    }
}
