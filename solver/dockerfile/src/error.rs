//! Errors of this crate, with the Dockerfile lines they are about.
//!
//! The wording is BuildKit's: people search for it, and tools match on it.

mod excerpt;
mod problem;
pub mod quote;
pub(crate) mod suggest;

pub use excerpt::Excerpt;
pub use problem::Problem;

/// A range of lines, both ends included; the first line of a file is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First line.
    pub start: usize,
    /// Last line.
    pub end: usize,
}

impl Span {
    /// The lines from `start` to `end`; `start` alone if `end` lies before it.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// One line.
    pub fn line(line: usize) -> Self {
        Self::new(line, line)
    }

    /// Whether `line` lies inside.
    pub fn contains(&self, line: usize) -> bool {
        self.start <= line && line <= self.end
    }
}

/// What can be wrong with a Dockerfile or an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An instruction does not say what it must.
    #[error("dockerfile parse error on line {}: {problem}", .span.start)]
    Instruction {
        /// What is wrong.
        problem: Problem,
        /// The instruction's lines.
        span: Span,
    },
    /// The text cannot be cut into instructions (directives, here-documents, quoting), or an
    /// instruction stands where it must not.
    #[error("{problem}")]
    Syntax {
        /// What is wrong.
        problem: Problem,
        /// The lines.
        span: Span,
    },
    /// The instruction is well formed, but cannot be lowered with these arguments.
    #[error("{message}")]
    Lower {
        /// One sentence.
        message: String,
        /// The instruction's lines.
        span: Span,
    },
    /// A line of an ignore file, or an exclude pattern, is not a valid pattern.
    #[error("{problem}")]
    Pattern {
        /// What is wrong.
        problem: Problem,
        /// The pattern as written.
        pattern: String,
        /// Line of the ignore file (1-based); 0 when the pattern does not come from a file.
        line: usize,
    },
}

impl Error {
    /// The Dockerfile lines to show, for [`Excerpt`]. Empty for errors that are not about a
    /// Dockerfile.
    pub fn spans(&self) -> Vec<Span> {
        match self {
            Self::Instruction { span, .. }
            | Self::Syntax { span, .. }
            | Self::Lower { span, .. } => vec![*span],
            Self::Pattern { .. } => Vec::new(),
        }
    }
}
