//! Text to tree: the whole file.

use crate::ast::{Dockerfile, Instruction, InstructionKind, MetaArg, Stage, Warning};
use crate::directives::{Directives, detect_check, detect_syntax};
use crate::error::{Error, Problem, Span};
use crate::heredoc;
use crate::instruction::{self, Node, Parsed};
use crate::lines::Reader;

/// The largest Dockerfile. Bytes. The whole text travels in the build graph's source map, and
/// BuildKit's messages end at 16 MiB; the tree takes some hundred times as much memory as the
/// most hostile text.
pub const DOCKERFILE_SIZE_MAX: usize = 4 << 20;

/// The most instructions of one Dockerfile. Each becomes at least one vertex or history entry.
pub const INSTRUCTION_COUNT_MAX: usize = 50_000;

/// The most build stages of one Dockerfile. Lowering keeps a state for each; generated files have
/// a few hundred.
pub const STAGE_COUNT_MAX: usize = 10_000;

/// Parses a Dockerfile.
///
/// # Errors
/// [`Error::Syntax`] when the text cannot be cut into instructions, then [`Error::Instruction`]
/// for the first instruction that is wrong.
pub fn parse(data: &[u8]) -> Result<Dockerfile, Error> {
    check_size(data)?;
    if data.is_empty() {
        return Err(Error::Syntax {
            problem: Problem::NoBytes,
            span: Span::line(0),
        });
    }
    let syntax = detect_syntax(data);
    let check = detect_check(data)?;
    let Nodes {
        nodes,
        warnings,
        escape,
    } = cut(data)?;
    let mut dockerfile = Dockerfile {
        directives: Directives {
            syntax,
            escape,
            check,
        },
        meta_args: Vec::new(),
        stages: Vec::new(),
        warnings,
    };
    for node in nodes {
        add(&mut dockerfile, node)?;
    }
    Ok(dockerfile)
}

/// Parses one `ONBUILD` trigger of an image config. `span` becomes its place: the lines of the
/// `FROM` that inherits it.
///
/// # Errors
/// Like [`parse`], and when the trigger is not exactly one instruction or is a `FROM`.
pub fn parse_trigger(trigger: &str, span: Span) -> Result<Instruction, Error> {
    let fail = |problem| Error::Syntax { problem, span };
    check_size(trigger.as_bytes())?;
    let mut nodes = cut(trigger.as_bytes())
        .map_err(|error| match error {
            Error::Syntax { problem, .. } => fail(problem),
            other => other,
        })?
        .nodes;
    let (Some(mut node), true) = (nodes.pop(), nodes.is_empty()) else {
        return Err(fail(Problem::OnbuildNotSingle));
    };
    node.origin = node.origin.at(span);
    match instruction::parse(node).map_err(fail)? {
        Parsed::Instruction(instruction) => Ok(instruction),
        Parsed::From(_) => Err(fail(Problem::OnbuildTrigger {
            keyword: "FROM".to_owned(),
        })),
    }
}

fn check_size(data: &[u8]) -> Result<(), Error> {
    if data.len() <= DOCKERFILE_SIZE_MAX {
        return Ok(());
    }
    Err(Error::Syntax {
        problem: Problem::TooLarge {
            size: data.len(),
            size_max: DOCKERFILE_SIZE_MAX,
        },
        span: Span::line(1),
    })
}

struct Nodes {
    nodes: Vec<Node>,
    warnings: Vec<Warning>,
    escape: char,
}

/// Cuts the text into instructions with their here-documents.
fn cut(data: &[u8]) -> Result<Nodes, Error> {
    let mut reader = Reader::new(data);
    let mut nodes = Vec::new();
    let mut warnings = Vec::new();
    while let Some(line) = reader.logical()? {
        warnings.extend(line.warning);
        if nodes.len() == INSTRUCTION_COUNT_MAX {
            return Err(Error::Syntax {
                problem: Problem::TooManyInstructions {
                    count_max: INSTRUCTION_COUNT_MAX,
                },
                span: line.span,
            });
        }
        let span = line.span;
        let fail = |problem| Error::Syntax { problem, span };
        let has_mark = line.text.contains("<<");
        let heredocs = |node: &Node| {
            if has_mark && node.can_contain_heredocs() {
                heredoc::in_line(node.text())
            } else {
                Ok(Vec::new())
            }
        };
        let escape = reader.escape();
        let mut node = Node::new(line.text, escape, span, line.comments).map_err(fail)?;
        for mut heredoc in heredocs(&node).map_err(|error| fail(error.into()))? {
            heredoc::read_body(&mut heredoc, &mut reader, span.start)?;
            node.heredocs.push(heredoc);
        }
        node.origin.span = Span::new(span.start, reader.number());
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(Error::Syntax {
            problem: Problem::NoInstructions,
            span: Span::line(reader.number()),
        });
    }
    Ok(Nodes {
        nodes,
        warnings,
        escape: reader.escape(),
    })
}

/// Checks one instruction and puts it where it belongs.
fn add(dockerfile: &mut Dockerfile, node: Node) -> Result<(), Error> {
    let span = node.origin.span;
    let parsed =
        instruction::parse(node).map_err(|problem| Error::Instruction { problem, span })?;
    let fail = |problem| Err(Error::Syntax { problem, span });
    match (parsed, dockerfile.stages.last_mut()) {
        (Parsed::From(stage), _) => return add_stage(dockerfile, stage),
        (Parsed::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
        (Parsed::Instruction(instruction), None) => match instruction.kind {
            InstructionKind::Arg(args) => dockerfile.meta_args.push(MetaArg {
                args,
                origin: instruction.origin,
            }),
            _ => return fail(Problem::NoStage),
        },
    }
    Ok(())
}

fn add_stage(dockerfile: &mut Dockerfile, stage: Stage) -> Result<(), Error> {
    if dockerfile.stages.len() == STAGE_COUNT_MAX {
        return Err(Error::Syntax {
            problem: Problem::TooManyStages {
                count_max: STAGE_COUNT_MAX,
            },
            span: stage.origin.span,
        });
    }
    dockerfile.stages.push(stage);
    Ok(())
}

#[cfg(test)]
mod tests;
