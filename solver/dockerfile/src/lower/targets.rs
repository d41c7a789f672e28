//! What can be built of a Dockerfile, without building it.

use crate::ast::{Dockerfile, Word};
use crate::error::Span;

/// One stage that can be a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, when it has one.
    pub name: Option<String>,
    /// The comment above it that starts with its name.
    pub description: Option<String>,
    /// What it is built on, as written.
    pub base: Word,
    /// `--platform`, as written.
    pub platform: Option<Word>,
    /// It is built when no target is named.
    pub is_default: bool,
    /// Its `FROM` line.
    pub span: Span,
}

/// All stages in file order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(at, stage): (usize, &crate::ast::Stage)| Target {
        name: stage.name.clone(),
        description: stage
            .name
            .as_deref()
            .and_then(|name| stage.origin.doc_comment(name))
            .map(str::to_owned),
        base: stage.base.image.clone(),
        platform: stage.base.platform.clone(),
        is_default: at == last,
        span: stage.origin.span,
    };
    dockerfile.stages.iter().enumerate().map(target).collect()
}
