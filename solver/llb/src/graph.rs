//! A checked graph: every edge leads somewhere, nothing depends on itself, and inputs stand before
//! what uses them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::caps;
use crate::definition::{Definition, OPS_MAX};
use crate::digest::VertexDigest;
use crate::error::Error;
use crate::metadata::{Metadata, SourceFile};
use crate::op::Op;
use crate::vertex::{Edge, Vertex};
use crate::wire;

/// Vertices and the one output that is wanted of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    vertices: Vec<Vertex>,
    positions: HashMap<VertexDigest, usize>,
    result: Option<Edge>,
    result_metadata: Metadata,
    files: Vec<SourceFile>,
}

impl Graph {
    /// Every vertex once, inputs before those that use them.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertex of this digest.
    pub fn vertex(&self, digest: VertexDigest) -> Option<&Vertex> {
        self.positions
            .get(&digest)
            .map(|position| &self.vertices[*position])
    }

    /// The output that is wanted; `None` for an empty file system.
    pub fn result(&self) -> Option<Edge> {
        self.result
    }

    /// The files that locations of vertices point into.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The marshalled form. Operations keep the bytes that they came with.
    pub fn to_definition(&self) -> Definition {
        let Some(result) = self.result else {
            return Definition::default();
        };
        let terminal = wire::marshal_terminal(result);
        // An entry for every vertex, even an empty one: BuildKit's clients refuse a vertex without.
        let mut metadata: BTreeMap<_, _> = self
            .vertices
            .iter()
            .map(|vertex| (vertex.digest, vertex.metadata.clone()))
            .collect();
        metadata.insert(VertexDigest::of(&terminal), self.result_metadata.clone());
        let mut ops: Vec<_> = self
            .vertices
            .iter()
            .map(|vertex| vertex.marshalled.clone())
            .collect();
        ops.push(terminal);
        Definition {
            ops,
            metadata,
            files: self.files.clone(),
        }
    }

    /// Puts vertices together and checks what lies between them.
    pub(crate) fn assemble(
        vertices: Vec<Vertex>,
        result: Option<Edge>,
        result_metadata: Option<Metadata>,
        files: Vec<SourceFile>,
    ) -> Result<Self, Error> {
        let count = vertices.len();
        if count > OPS_MAX {
            return Err(Error::TooLarge {
                what: "graph (vertices)",
                count,
                limit: OPS_MAX,
            });
        }
        let positions: HashMap<_, _> = vertices
            .iter()
            .enumerate()
            .map(|(at, vertex)| (vertex.digest, at))
            .collect();
        for vertex in &vertices {
            for input in &vertex.inputs {
                let read = positions.get(&input.vertex).map(|at| &vertices[*at]);
                check_edge(vertex.digest, *input, read)?;
            }
        }
        if let Some(result) = result {
            let read = positions.get(&result.vertex).map(|at| &vertices[*at]);
            check_edge(result.vertex, result, read)?;
        }
        let order = order(vertices.len(), &|at| {
            vertices[at]
                .inputs
                .iter()
                .map(|input| positions[&input.vertex])
                .collect()
        })
        .map_err(|at| Error::Cycle {
            vertex: vertices[at].digest,
        })?;
        let result_metadata = result_metadata.unwrap_or_else(|| terminal_metadata(&vertices));
        let mut slots: Vec<_> = vertices.into_iter().map(Some).collect();
        let vertices: Vec<_> = order
            .into_iter()
            .filter_map(|at| slots[at].take())
            .collect();
        let positions = vertices
            .iter()
            .enumerate()
            .map(|(at, vertex)| (vertex.digest, at))
            .collect();
        Ok(Self {
            vertices,
            positions,
            result,
            result_metadata,
            files,
        })
    }
}

/// What a client says of its terminal op: the abilities that concern the graph as a whole.
fn terminal_metadata(vertices: &[Vertex]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut needs = |cap: &str, needed: bool| {
        if needed {
            metadata.caps.insert(cap.to_owned(), true);
        }
    };
    let any = |test: fn(&Metadata) -> bool| vertices.iter().any(|vertex| test(&vertex.metadata));
    needs(caps::CONSTRAINTS, true);
    needs(caps::PLATFORM, true);
    needs(caps::META_IGNORE_CACHE, any(|known| known.ignore_cache));
    needs(
        caps::META_DESCRIPTION,
        any(|known| !known.description.is_empty()),
    );
    needs(
        caps::META_EXPORT_CACHE,
        any(|known| known.export_cache.is_some()),
    );
    metadata
}

fn check_edge(vertex: VertexDigest, edge: Edge, read: Option<&Vertex>) -> Result<(), Error> {
    let Some(read) = read else {
        return Err(Error::MissingInput {
            vertex,
            input: edge.vertex,
        });
    };
    let count = match &read.op {
        // How many outputs a nested build has is known once it has run.
        Op::Build(_) => return Ok(()),
        op => op.output_count(),
    };
    if edge.output < count {
        return Ok(());
    }
    Err(Error::MissingOutput {
        vertex,
        input: edge.vertex,
        output: edge.output,
        count,
    })
}

/// An order in which everything stands after its inputs; the given one when it is such an order.
///
/// Digests make a cycle as hard to construct as a sha256 collision, but a loop that relies on that
/// would hang instead of failing, so it is looked for. `Err` names a place on a cycle.
fn order(count: usize, inputs: &dyn Fn(usize) -> Vec<usize>) -> Result<Vec<usize>, usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Unseen,
        Open,
        Done,
    }
    let mut marks = vec![Mark::Unseen; count];
    let mut order = Vec::with_capacity(count);
    for start in 0..count {
        if marks[start] != Mark::Unseen {
            continue;
        }
        // A stack of our own: a chain of 65,536 vertices must not end the thread's.
        marks[start] = Mark::Open;
        let mut stack = vec![(start, inputs(start).into_iter())];
        while let Some((at, rest)) = stack.last_mut() {
            let at = *at;
            match rest.next() {
                None => {
                    marks[at] = Mark::Done;
                    order.push(at);
                    stack.pop();
                }
                Some(input) => match marks[input] {
                    Mark::Done => {}
                    Mark::Open => return Err(input),
                    Mark::Unseen => {
                        marks[input] = Mark::Open;
                        stack.push((input, inputs(input).into_iter()));
                    }
                },
            }
        }
    }
    Ok(order)
}

impl TryFrom<&Definition> for Graph {
    type Error = Error;

    /// Checks a definition.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`OPS_MAX`]; [`Error::Malformed`] and [`Error::InvalidOp`] for
    /// an operation that contradicts itself; [`Error::MissingInput`], [`Error::MissingOutput`] and
    /// [`Error::Cycle`] for edges that lead nowhere; [`Error::InvalidTerminal`] when the last
    /// operation does not name the result.
    fn try_from(definition: &Definition) -> Result<Self, Error> {
        let count = definition.ops.len();
        if count > OPS_MAX {
            return Err(Error::TooLarge {
                what: "definition (ops)",
                count,
                limit: OPS_MAX,
            });
        }
        let Some((terminal, ops)) = definition.ops.split_last() else {
            return Ok(Self {
                files: definition.files.clone(),
                ..Self::default()
            });
        };
        let result = wire::unmarshal_terminal(terminal)?;
        let mut seen = HashSet::new();
        let mut vertices = Vec::with_capacity(ops.len());
        for marshalled in ops {
            let digest = VertexDigest::of(marshalled);
            if !seen.insert(digest) {
                continue;
            }
            let mut vertex = wire::unmarshal_vertex(digest, marshalled.clone())?;
            vertex.metadata = definition
                .metadata
                .get(&digest)
                .cloned()
                .unwrap_or_default();
            vertices.push(vertex);
        }
        let result_metadata = definition
            .metadata
            .get(&VertexDigest::of(terminal))
            .cloned();
        let result_metadata = Some(result_metadata.unwrap_or_default());
        Self::assemble(
            vertices,
            Some(result),
            result_metadata,
            definition.files.clone(),
        )
    }
}

impl From<&Graph> for Definition {
    fn from(graph: &Graph) -> Self {
        graph.to_definition()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(inputs: &[&[usize]]) -> Result<Vec<usize>, usize> {
        order(inputs.len(), &|at| inputs[at].to_vec())
    }

    #[test]
    fn an_order_that_is_right_already_is_kept() {
        assert_eq!(ordered(&[&[], &[], &[1, 0], &[2]]), Ok(vec![0, 1, 2, 3]));
    }

    #[test]
    fn inputs_are_moved_before_what_uses_them() {
        assert_eq!(ordered(&[&[2], &[], &[1]]), Ok(vec![1, 2, 0]));
    }

    #[test]
    fn a_cycle_is_found_and_does_not_hang() {
        assert_eq!(ordered(&[&[0]]), Err(0));
        assert!(ordered(&[&[], &[3], &[1], &[2, 0]]).is_err());
    }

    #[test]
    fn a_very_long_chain_does_not_end_the_stack() {
        let found = order(OPS_MAX, &|at| {
            if at + 1 < OPS_MAX {
                vec![at + 1]
            } else {
                vec![]
            }
        });
        assert_eq!(found.unwrap().first(), Some(&(OPS_MAX - 1)));
    }
}
