//! Random graphs in which equal steps and equal contents are frequent, with their true keys and
//! values.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::cache_key::{self, CacheKey};
use crate::graph::VertexSpec;
use crate::vertex::{Edge, VertexId};

/// An operation: a pure function of its definition and its inputs' values.
#[derive(Clone, Debug)]
pub(super) struct SimOp {
    number: u64,
    outputs: u32,
    /// Values are below this, so that different inputs often give equal values.
    variety: u64,
    has_content_key: bool,
}

/// A vertex, with what is true about it.
#[derive(Clone, Debug)]
pub(super) struct SimVertex {
    pub(super) id: VertexId,
    pub(super) op: SimOp,
    /// Index of the vertex and its output.
    pub(super) inputs: Vec<(usize, u32)>,
    pub(super) classic: CacheKey,
    /// As the engine combines it; `None` without inputs or if the operation has none.
    pub(super) content: Option<CacheKey>,
    pub(super) values: Vec<u64>,
}

/// All vertices; inputs have smaller indexes.
#[derive(Clone, Debug)]
pub(super) struct Universe {
    pub(super) vertices: Vec<SimVertex>,
}

impl SimOp {
    fn random(rng: &mut StdRng, number: u64) -> Self {
        Self {
            number,
            outputs: rng.random_range(1..=3),
            variety: *[2, 3, u64::MAX].choose(rng).unwrap_or(&2),
            has_content_key: rng.random_ratio(4, 5),
        }
    }

    pub(super) fn definition(&self) -> CacheKey {
        let key = CacheKey::builder("simulation: definition").number(self.number);
        key.number(u64::from(self.outputs)).finish()
    }

    /// What [`crate::Op::content_key`] answers.
    pub(super) fn content_key(&self, inputs: &[u64]) -> Option<CacheKey> {
        let key = CacheKey::builder("simulation: content");
        self.has_content_key.then(|| {
            inputs
                .iter()
                .fold(key, |key, input| key.number(*input))
                .finish()
        })
    }

    /// What [`crate::Op::exec`] gives.
    pub(super) fn execute(&self, inputs: &[u64]) -> Vec<u64> {
        let value = |output: u32| {
            let key = CacheKey::builder("simulation: value").number(self.number);
            let key = inputs
                .iter()
                .fold(key.number(output.into()), |key, input| key.number(*input));
            let bytes = key.finish();
            let start = bytes.as_bytes().first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(start) % self.variety
        };
        (0..self.outputs).map(value).collect()
    }
}

impl SimVertex {
    /// What must run once at most for all vertices that have it in common.
    pub(super) fn class(&self) -> CacheKey {
        self.content.unwrap_or(self.classic)
    }

    /// What an exact plan counts as one step: those that ignore the cache are equal by where they
    /// come from alone.
    pub(super) fn class_in(&self, is_fresh: bool) -> CacheKey {
        match is_fresh {
            true => self.classic,
            false => self.class(),
        }
    }
}

impl Universe {
    pub(super) fn random(rng: &mut StdRng, size: usize) -> Self {
        let mut universe = Self {
            vertices: Vec::with_capacity(size),
        };
        for index in 0..size {
            let (op, inputs) = universe.invent(rng, index);
            let vertex = universe.vertex(index, op, inputs);
            universe.vertices.push(vertex);
        }
        universe
    }

    fn invent(&self, rng: &mut StdRng, index: usize) -> (SimOp, Vec<(usize, u32)>) {
        let model = (index > 0).then(|| &self.vertices[rng.random_range(0..index)]);
        match (rng.random_range(0..10), model) {
            // A twin: the same step with another id, perhaps with twins as inputs.
            (0..=1, Some(model)) => {
                let inputs = model.inputs.iter();
                let inputs = inputs.map(|(input, output)| (self.twin(rng, *input), *output));
                (model.op.clone(), inputs.collect())
            }
            // The same operation on other inputs, which may have equal content.
            (2..=4, Some(model)) => {
                let inputs = model.inputs.iter().map(|_| self.edge(rng, index)).collect();
                (model.op.clone(), inputs)
            }
            // A source.
            (5, _) | (_, None) => (SimOp::random(rng, index as u64), Vec::new()),
            _ => {
                let count = rng.random_range(1..=3);
                let inputs = (0..count).map(|_| self.edge(rng, index)).collect();
                (SimOp::random(rng, index as u64), inputs)
            }
        }
    }

    /// Any vertex with the same classic key.
    fn twin(&self, rng: &mut StdRng, index: usize) -> usize {
        let classic = self.vertices[index].classic;
        let twins: Vec<_> = (0..self.vertices.len())
            .filter(|twin| self.vertices[*twin].classic == classic)
            .collect();
        *twins.choose(rng).unwrap_or(&index)
    }

    fn edge(&self, rng: &mut StdRng, before: usize) -> (usize, u32) {
        // Near ones are likelier: graphs should be deep.
        let index = rng.random_range(0..before).max(rng.random_range(0..before));
        (index, rng.random_range(0..self.vertices[index].op.outputs))
    }

    fn vertex(&self, index: usize, op: SimOp, inputs: Vec<(usize, u32)>) -> SimVertex {
        let keys: Vec<_> = inputs
            .iter()
            .map(|(input, output)| (self.vertices[*input].classic, *output))
            .collect();
        let contents: Vec<_> = inputs
            .iter()
            .map(|(input, output)| self.vertices[*input].values[*output as usize])
            .collect();
        let content = op.content_key(&contents).filter(|_| !inputs.is_empty());
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(index as u64).to_le_bytes());
        SimVertex {
            id: VertexId::from_bytes(id),
            classic: cache_key::classic(&op.definition(), &keys),
            content: content.map(|content| cache_key::content(&op.definition(), &content)),
            values: op.execute(&contents),
            op,
            inputs,
        }
    }

    pub(super) fn index(&self, id: VertexId) -> usize {
        let start = id.as_bytes().first_chunk().copied().unwrap_or_default();
        usize::try_from(u64::from_le_bytes(start)).unwrap_or(usize::MAX)
    }

    /// Whether another vertex is the same step.
    pub(super) fn has_twin(&self, index: usize) -> bool {
        let classic = self.vertices[index].classic;
        self.vertices
            .iter()
            .filter(|vertex| vertex.classic == classic)
            .count()
            > 1
    }

    /// The true values of a vertex's inputs.
    pub(super) fn inputs_of(&self, index: usize) -> Vec<u64> {
        let inputs = self.vertices[index].inputs.iter();
        inputs
            .map(|(input, output)| self.vertices[*input].values[*output as usize])
            .collect()
    }

    /// The targets and all their ancestors.
    pub(super) fn closure(&self, targets: &[(usize, u32)]) -> BTreeSet<usize> {
        self.reach(targets, |_| false)
    }

    /// The targets and those ancestors that are reached without passing a vertex at which `stops`.
    pub(super) fn reach(
        &self,
        targets: &[(usize, u32)],
        stops: impl Fn(usize) -> bool,
    ) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<_> = targets.iter().map(|(target, _)| *target).collect();
        while let Some(index) = open.pop() {
            if reached.insert(index) && !stops(index) {
                open.extend(self.vertices[index].inputs.iter().map(|(input, _)| *input));
            }
        }
        reached
    }

    /// The whole universe as a graph for the engine.
    pub(super) fn specs(&self, ignored: &BTreeSet<usize>) -> Vec<VertexSpec> {
        let edge = |(input, output): &(usize, u32)| Edge {
            vertex: self.vertices[*input].id,
            output: *output,
        };
        let spec = |(index, vertex): (usize, &SimVertex)| VertexSpec {
            id: vertex.id,
            inputs: vertex.inputs.iter().map(edge).collect(),
            ignore_cache: ignored.contains(&index),
        };
        self.vertices.iter().enumerate().map(spec).collect()
    }
}
