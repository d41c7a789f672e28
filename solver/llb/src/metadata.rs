//! What is known of a vertex but does not change what it computes, so it is no part of its digest.

use std::collections::BTreeMap;

use crate::definition::Definition;

/// Key in [`Metadata::description`] of the name that people see.
pub const CUSTOM_NAME: &str = "llb.customname";

/// What is known of one vertex.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Run it even when a result is known.
    pub ignore_cache: bool,
    /// Free text by name.
    pub description: BTreeMap<String, String>,
    /// Whether the result goes to an exported cache; `None` leaves it to the exporter.
    pub export_cache: Option<bool>,
    /// Abilities that a daemon must have to understand the vertex.
    pub caps: BTreeMap<String, bool>,
    /// Vertices that a progress display shows as one.
    pub progress_group: Option<ProgressGroup>,
    /// cgroup limits.
    pub resources: Option<LinuxResources>,
    /// Where it stands in source files.
    pub locations: Vec<Location>,
}

impl Metadata {
    /// Metadata that says only this name.
    pub fn named(name: impl Into<String>) -> Self {
        let description = BTreeMap::from([(CUSTOM_NAME.to_owned(), name.into())]);
        Self {
            description,
            ..Self::default()
        }
    }

    /// The name that people see, when one was given.
    pub fn custom_name(&self) -> Option<&str> {
        self.description.get(CUSTOM_NAME).map(String::as_str)
    }

    /// Joins what was said of two equal vertices. Where both speak, `other` wins, except that a
    /// cache that one of them ignores stays ignored.
    pub(crate) fn merge(&mut self, other: Metadata) {
        self.ignore_cache |= other.ignore_cache;
        self.description.extend(other.description);
        self.caps.extend(other.caps);
        self.export_cache = other.export_cache.or(self.export_cache);
        self.progress_group = other.progress_group.or(self.progress_group.take());
        self.resources = other.resources.or(self.resources.take());
        for location in other.locations {
            if !self.locations.contains(&location) {
                self.locations.push(location);
            }
        }
    }
}

/// Vertices that a progress display shows as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Which group.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Show the group only when another, not weak, vertex of it is shown.
    pub weak: bool,
}

/// cgroup limits of one process. 0 and empty mean no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinuxResources {
    /// Memory.
    pub memory_bytes: i64,
    /// Memory and swap together.
    pub memory_swap_bytes: i64,
    /// Relative weight.
    pub cpu_shares: u64,
    /// Length of a scheduling period.
    pub cpu_period_us: u64,
    /// Run time in each period.
    pub cpu_quota_us: i64,
    /// Such as `0-3`.
    pub cpuset_cpus: String,
    /// Such as `0,1`.
    pub cpuset_mems: String,
}

/// A file that vertices come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub data: Vec<u8>,
    /// Name of its language, such as `Dockerfile`.
    pub language: String,
    /// The graph that it was read with.
    pub definition: Option<Box<Definition>>,
}

/// Areas of one source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Position among the source files of the graph.
    pub file: usize,
    /// The areas.
    pub ranges: Vec<Range>,
}

/// An area, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first place.
    pub start: Position,
    /// Its last place.
    pub end: Position,
}

impl Range {
    /// Whole lines, counted from 1.
    pub fn lines(first: i32, last: i32) -> Self {
        let at = |line| Position { line, character: 0 };
        Self {
            start: at(first),
            end: at(last),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: i32,
    /// Counted from 0.
    pub character: i32,
}
