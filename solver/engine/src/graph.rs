//! Checks a graph before anything is done with it, and brings the part that the targets need into
//! order: inputs before those that read them.

use std::collections::{BTreeMap, HashMap};

use crate::error::GraphError;
use crate::job::Limits;
use crate::state::NodeId;
use crate::vertex::{Edge, VertexId};

/// A vertex as the scheduler needs it: without operation and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VertexSpec {
    pub(crate) id: VertexId,
    pub(crate) inputs: Vec<Edge>,
    pub(crate) ignore_cache: bool,
}

/// A checked vertex.
#[derive(Clone, Debug)]
pub(crate) struct GraphNode {
    pub(crate) node: NodeId,
    pub(crate) spec: VertexSpec,
    /// One for each edge of `spec.inputs`, in order.
    pub(crate) inputs: Vec<NodeId>,
}

/// A checked graph: acyclic, complete, within limits, only what the targets need.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// Inputs before those that read them; otherwise in the order of targets and inputs.
    pub(crate) nodes: Vec<GraphNode>,
    pub(crate) targets: Vec<(NodeId, u32)>,
}

enum Mark {
    /// On the path from a target to the vertex under the eye: meeting it again is a cycle.
    Open,
    Done(NodeId),
}

impl Graph {
    /// Checks and orders.
    pub(crate) fn check(
        vertices: Vec<VertexSpec>,
        targets: &[Edge],
        limits: &Limits,
    ) -> Result<Self, GraphError> {
        check_size(&vertices, limits)?;
        let mut specs: BTreeMap<VertexId, VertexSpec> = BTreeMap::new();
        for spec in vertices {
            let vertex = spec.id;
            if let Some(first) = specs.insert(vertex, spec)
                && specs.get(&vertex) != Some(&first)
            {
                return Err(GraphError::Conflict { vertex });
            }
        }
        let mut walk = Walk {
            specs: &specs,
            marks: HashMap::new(),
            nodes: Vec::new(),
        };
        let mut ends = Vec::with_capacity(targets.len());
        for target in targets {
            ends.push((walk.visit(target.vertex)?, target.output));
        }
        Ok(Self {
            nodes: walk.nodes,
            targets: ends,
        })
    }
}

fn check_size(vertices: &[VertexSpec], limits: &Limits) -> Result<(), GraphError> {
    let edges = vertices
        .iter()
        .map(|vertex| vertex.inputs.len())
        .sum::<usize>();
    let sizes = [
        ("vertices", vertices.len(), limits.graph_vertices_max),
        ("edges", edges, limits.graph_edges_max),
    ];
    for (what, count, limit) in sizes {
        if count > limit {
            return Err(GraphError::TooLarge { what, count, limit });
        }
    }
    Ok(())
}

struct Walk<'a> {
    specs: &'a BTreeMap<VertexId, VertexSpec>,
    marks: HashMap<VertexId, Mark>,
    nodes: Vec<GraphNode>,
}

impl<'a> Walk<'a> {
    /// Depth first with a stack of its own: a chain of 100,000 steps must not end the process.
    fn visit(&mut self, target: VertexId) -> Result<NodeId, GraphError> {
        let mut path: Vec<(&'a VertexSpec, usize)> = Vec::new();
        let mut entered = self.enter(target, None, &mut path)?;
        while let Some((spec, next)) = path.last_mut() {
            if let Some(input) = spec.inputs.get(*next) {
                *next += 1;
                let needed_by = spec.id;
                self.enter(input.vertex, Some(needed_by), &mut path)?;
                continue;
            }
            let spec = *spec;
            path.pop();
            entered = Some(self.leave(spec)?);
        }
        entered.ok_or(GraphError::Cycle { vertex: target })
    }

    fn enter(
        &mut self,
        vertex: VertexId,
        needed_by: Option<VertexId>,
        path: &mut Vec<(&'a VertexSpec, usize)>,
    ) -> Result<Option<NodeId>, GraphError> {
        match self.marks.get(&vertex) {
            Some(Mark::Done(node)) => Ok(Some(*node)),
            Some(Mark::Open) => Err(GraphError::Cycle { vertex }),
            None => {
                let missing = GraphError::MissingVertex { vertex, needed_by };
                path.push((self.specs.get(&vertex).ok_or(missing)?, 0));
                self.marks.insert(vertex, Mark::Open);
                Ok(None)
            }
        }
    }

    fn leave(&mut self, spec: &VertexSpec) -> Result<NodeId, GraphError> {
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        for edge in &spec.inputs {
            match self.marks.get(&edge.vertex) {
                Some(Mark::Done(node)) => inputs.push(*node),
                _ => {
                    return Err(GraphError::Cycle {
                        vertex: edge.vertex,
                    });
                }
            }
        }
        let node = NodeId::of(spec.id, spec.ignore_cache, &inputs);
        self.marks.insert(spec.id, Mark::Done(node));
        self.nodes.push(GraphNode {
            node,
            spec: spec.clone(),
            inputs,
        });
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> VertexId {
        VertexId::from_bytes([number; 32])
    }

    fn vertex(number: u8, inputs: &[u8]) -> VertexSpec {
        let inputs = inputs
            .iter()
            .map(|input| Edge {
                vertex: id(*input),
                output: 0,
            })
            .collect();
        VertexSpec {
            id: id(number),
            inputs,
            ignore_cache: false,
        }
    }

    fn check(vertices: Vec<VertexSpec>, targets: &[u8]) -> Result<Vec<VertexId>, GraphError> {
        let targets: Vec<_> = targets
            .iter()
            .map(|target| Edge {
                vertex: id(*target),
                output: 0,
            })
            .collect();
        let graph = Graph::check(vertices, &targets, &Limits::default())?;
        Ok(graph.nodes.iter().map(|node| node.spec.id).collect())
    }

    #[test]
    fn inputs_come_before_their_readers_and_the_unneeded_is_left_out() {
        let vertices = vec![
            vertex(3, &[1, 2]),
            vertex(2, &[1]),
            vertex(1, &[]),
            vertex(9, &[1]),
        ];
        assert_eq!(check(vertices, &[3]), Ok(vec![id(1), id(2), id(3)]));
    }

    #[test]
    fn a_cycle_is_refused() {
        let cycle = vec![
            vertex(1, &[3]),
            vertex(2, &[1]),
            vertex(3, &[2]),
            vertex(4, &[3]),
        ];
        assert!(matches!(check(cycle, &[4]), Err(GraphError::Cycle { .. })));
        let own = vec![vertex(1, &[1])];
        assert_eq!(check(own, &[1]), Err(GraphError::Cycle { vertex: id(1) }));
    }

    #[test]
    fn a_missing_vertex_is_refused_with_the_one_who_needs_it() {
        let missing = |vertex, needed_by| Err(GraphError::MissingVertex { vertex, needed_by });
        assert_eq!(
            check(vec![vertex(1, &[2])], &[1]),
            missing(id(2), Some(id(1)))
        );
        assert_eq!(check(vec![], &[1]), missing(id(1), None));
    }

    #[test]
    fn a_vertex_may_be_given_twice_only_if_it_is_the_same() {
        let twice = vec![vertex(1, &[]), vertex(2, &[1]), vertex(1, &[])];
        assert_eq!(check(twice, &[2]), Ok(vec![id(1), id(2)]));
        let conflict = vec![vertex(1, &[]), vertex(2, &[]), vertex(2, &[1])];
        assert_eq!(
            check(conflict, &[2]),
            Err(GraphError::Conflict { vertex: id(2) })
        );
    }

    #[test]
    fn a_graph_over_the_limit_is_refused() {
        let limits = Limits {
            graph_vertices_max: 1,
            graph_edges_max: 1,
            ..Limits::default()
        };
        let check = |vertices| Graph::check(vertices, &[], &limits).map(|_| ());
        let too_large = |what| {
            Err(GraphError::TooLarge {
                what,
                count: 2,
                limit: 1,
            })
        };
        assert_eq!(
            check(vec![vertex(1, &[]), vertex(2, &[])]),
            too_large("vertices")
        );
        assert_eq!(check(vec![vertex(1, &[2, 2])]), too_large("edges"));
    }

    #[test]
    fn a_very_long_chain_does_not_overflow_the_stack() {
        let limits = Limits::default();
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            VertexId::from_bytes(bytes)
        };
        let last = limits.graph_vertices_max - 1;
        let vertices = (0..=last)
            .map(|number| {
                let input = number.checked_sub(1).map(|input| Edge {
                    vertex: id(input),
                    output: 0,
                });
                VertexSpec {
                    id: id(number),
                    inputs: input.into_iter().collect(),
                    ignore_cache: false,
                }
            })
            .collect();
        let graph = Graph::check(
            vertices,
            &[Edge {
                vertex: id(last),
                output: 0,
            }],
            &limits,
        );
        assert_eq!(graph.unwrap().nodes.len(), last + 1);
    }

    #[test]
    fn a_node_that_must_be_fresh_is_another_node_and_so_are_its_readers() {
        let node = |ignore_cache| {
            let mut vertices = vec![vertex(1, &[]), vertex(2, &[1])];
            vertices[0].ignore_cache = ignore_cache;
            let target = [Edge {
                vertex: id(2),
                output: 0,
            }];
            Graph::check(vertices, &target, &Limits::default())
                .unwrap()
                .targets[0]
                .0
        };
        assert_ne!(node(true), node(false));
        assert_eq!(node(true), node(true));
    }
}
