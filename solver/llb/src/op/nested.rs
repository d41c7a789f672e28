//! Operations on whole file systems: merge, diff, and the build of a nested graph.

use std::collections::BTreeMap;

use super::InputIndex;
use crate::definition::Definition;

/// Lay file systems over each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merge {
    /// The first is at the bottom.
    pub inputs: Vec<InputIndex>,
}

/// What changed from `lower` to `upper`. `None` is an empty file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Diff {
    /// The older side.
    pub lower: Option<InputIndex>,
    /// The newer side.
    pub upper: Option<InputIndex>,
}

/// Build a graph that stands in a file of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Who reads the graph.
    pub builder: Builder,
    /// Inputs of the nested build, by name.
    pub inputs: BTreeMap<String, InputIndex>,
    /// A graph that is given directly.
    pub definition: Option<Box<Definition>>,
    /// Options by name, such as `llbbuild.filename`.
    pub attributes: BTreeMap<String, String>,
}

/// Who reads the graph of a nested build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// The solver itself: the graph is a marshalled definition.
    Llb,
    /// A frontend in a container.
    Input(InputIndex),
}
