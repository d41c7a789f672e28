//! Dockerfile text to syntax tree to LLB; pure.
//!
//! Nothing here touches a file system, a network or a clock.
//!
//! Reading order: [`ast`] (what a Dockerfile is), [`parse`] (text to tree, over [`directives`],
//! `lines`, `heredoc` and [`instruction`]), [`words`] (variable expansion), [`ignore`] and
//! [`glob`] (which files), [`chmod`] (with which mode), [`error`]; then [`lower`] (tree to graph,
//! over `stages` and [`config`]).

pub mod ast;
pub mod chmod;
pub mod config;
pub mod directives;
pub mod error;
pub mod glob;
mod heredoc;
pub mod ignore;
pub mod instruction;
mod lines;
pub mod lower;
mod parse;
pub mod repository;
mod stages;
pub mod words;

pub use parse::{
    DOCKERFILE_SIZE_MAX, INSTRUCTION_COUNT_MAX, STAGE_COUNT_MAX, parse, parse_trigger,
};
