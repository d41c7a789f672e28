//! A logical line to a typed instruction.
//!
//! Two steps, as in BuildKit, because errors of the first are reported before any of the second:
//! `node` cuts a line into keyword, flags and arguments in the form that the keyword wants; this
//! file checks them and builds [`crate::ast`].

mod arguments;
mod copy;
mod device;
mod fields;
mod flags;
mod healthcheck;
mod keyword;
pub mod mount;
mod node;
mod run;

pub(crate) use node::Node;

use std::collections::HashMap;

use crate::ast::{
    ArgDefinition, Base, CommandLine, Instruction, InstructionKind, OnbuildCommand, Origin, Stage,
    Word,
};
use crate::error::Problem;
use crate::error::suggest::nearest_in_any_case;
use arguments::Arguments;
use flags::{Flag, Flags};
use keyword::Keyword;

/// What one instruction is to the file: `FROM` opens a stage, the others belong to one.
#[derive(Debug)]
pub(crate) enum Parsed {
    From(Stage),
    Instruction(Instruction),
}

fn unknown(name: String) -> Problem {
    let names: Vec<&str> = Keyword::ALL.iter().map(|k| k.as_str()).collect();
    Problem::UnknownInstruction {
        suggestion: nearest_in_any_case(&name, &names),
        name,
    }
}

/// Checks one node and gives it its type.
pub(crate) fn parse(node: Node) -> Result<Parsed, Problem> {
    let Some(keyword) = node.keyword else {
        return Err(unknown(node.origin.keyword));
    };
    let name = keyword.as_str();
    let origin = node.origin.clone();
    let kind = match keyword {
        Keyword::From => return Ok(Parsed::From(from(node)?)),
        Keyword::Add => InstructionKind::Add(copy::add(node)?),
        Keyword::Arg => InstructionKind::Arg(arg(node)?),
        Keyword::Cmd => InstructionKind::Cmd(command(node)?),
        Keyword::Copy => InstructionKind::Copy(copy::copy(node)?),
        Keyword::Entrypoint => InstructionKind::Entrypoint(command(node)?),
        Keyword::Env => InstructionKind::Env(pairs(node, name)?),
        Keyword::Expose => InstructionKind::Expose(expose(node)?),
        Keyword::Healthcheck => InstructionKind::Healthcheck(healthcheck::healthcheck(node)?),
        Keyword::Label => InstructionKind::Label(pairs(node, name)?),
        Keyword::Maintainer => InstructionKind::Maintainer(text(node, name)?),
        Keyword::Onbuild => InstructionKind::Onbuild(onbuild(node)?),
        Keyword::Run => InstructionKind::Run(Box::new(run::run(node)?)),
        Keyword::Shell => InstructionKind::Shell(shell(node)?),
        // Flags of STOPSIGNAL and ARG are dropped without a word, as in BuildKit.
        Keyword::StopSignal => InstructionKind::StopSignal(one_argument(&node, name)?.into()),
        Keyword::User => InstructionKind::User(text(node, name)?.into()),
        Keyword::Volume => InstructionKind::Volume(volume(node)?),
        Keyword::Workdir => InstructionKind::Workdir(text(node, name)?.into()),
    };
    Ok(Parsed::Instruction(Instruction { origin, kind }))
}

/// The arguments of `CMD` and `ENTRYPOINT`.
fn command(node: Node) -> Result<CommandLine, Problem> {
    no_flags(&node)?;
    Ok(node.arguments.into_command())
}

/// The single argument of an instruction without flags.
fn text(node: Node, keyword: &'static str) -> Result<String, Problem> {
    let text = one_argument(&node, keyword)?;
    no_flags(&node)?;
    Ok(text)
}

fn no_flags(node: &Node) -> Result<(), Problem> {
    Flags::parse(&node.flags, &[]).map(drop)
}

/// The single argument of `USER` and the like: the whole rest of the line.
fn one_argument(node: &Node, keyword: &'static str) -> Result<String, Problem> {
    match &node.arguments {
        Arguments::Text(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Problem::ExactlyOneArgument { keyword }),
    }
}

fn from(node: Node) -> Result<Stage, Problem> {
    let list = node.arguments.as_list();
    let (image, name) = match list {
        [image] => (image, None),
        [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => (image, Some(name)),
        _ => return Err(Problem::FromArguments),
    };
    let name = name.map(|name| stage_name(name)).transpose()?;
    let flags = Flags::parse(&node.flags, &[Flag::text("platform")])?;
    Ok(Stage {
        name,
        base: Base {
            image: image.as_str().into(),
            platform: flags.word("platform"),
        },
        origin: node.origin,
        instructions: Vec::new(),
    })
}

fn stage_name(name: &str) -> Result<String, Problem> {
    let lower = name.to_lowercase();
    let is_part = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    if lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(is_part) {
        return Ok(lower);
    }
    Err(Problem::StageName {
        name: name.to_owned(),
    })
}

fn arg(node: Node) -> Result<Vec<ArgDefinition>, Problem> {
    let keyword = Keyword::Arg.as_str();
    let words = node.arguments.as_list();
    if words.is_empty() {
        return Err(Problem::AtLeastOneArgument { keyword });
    }
    let mut docs = HashMap::new();
    for (name, text) in node
        .origin
        .comments
        .iter()
        .filter_map(|c| c.split_once(' '))
    {
        docs.entry(name).or_insert(text);
    }
    let definition = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(Problem::BlankName { keyword }),
            Some((name, value)) => (name, Some(Word::from(value))),
            None => (word.as_str(), None),
        };
        Ok(ArgDefinition {
            name: name.to_owned(),
            default,
            doc_comment: docs.get(name).map(|text| (*text).to_owned()),
        })
    };
    words.iter().map(definition).collect()
}

fn pairs(node: Node, keyword: &'static str) -> Result<Vec<crate::ast::KeyValue>, Problem> {
    no_flags(&node)?;
    let Arguments::Pairs(pairs) = node.arguments else {
        return Err(Problem::AtLeastOneArgument { keyword });
    };
    if pairs.is_empty() {
        return Err(Problem::AtLeastOneArgument { keyword });
    }
    if pairs.iter().any(|pair| pair.key.as_str().is_empty()) {
        return Err(Problem::BlankName { keyword });
    }
    Ok(pairs)
}

fn expose(node: Node) -> Result<Vec<Word>, Problem> {
    let mut ports = node.arguments.as_list().to_vec();
    if ports.is_empty() {
        return Err(Problem::AtLeastOneArgument { keyword: "EXPOSE" });
    }
    no_flags(&node)?;
    ports.sort();
    Ok(ports.into_iter().map(Word::from).collect())
}

fn volume(node: Node) -> Result<Vec<Word>, Problem> {
    let paths = node.arguments.as_list();
    if paths.is_empty() {
        return Err(Problem::AtLeastOneArgument { keyword: "VOLUME" });
    }
    no_flags(&node)?;
    let path = |path: &String| match path.trim() {
        "" => Err(Problem::EmptyVolume),
        path => Ok(Word::from(path)),
    };
    paths.iter().map(path).collect()
}

fn shell(node: Node) -> Result<Vec<String>, Problem> {
    let keyword = "SHELL";
    no_flags(&node)?;
    match node.arguments.into_command() {
        CommandLine::Exec(words) if !words.is_empty() => Ok(words),
        CommandLine::Shell(text) if !text.is_empty() => Err(Problem::NotJson { keyword }),
        _ => Err(Problem::AtLeastOneArgument { keyword }),
    }
}

fn onbuild(node: Node) -> Result<OnbuildCommand, Problem> {
    let Arguments::Trigger(trigger) = &node.arguments else {
        return Err(Problem::AtLeastOneArgument { keyword: "ONBUILD" });
    };
    no_flags(&node)?;
    let keyword = trigger.origin.keyword.clone();
    match keyword.to_uppercase().as_str() {
        "ONBUILD" => return Err(Problem::OnbuildChain),
        upper @ ("MAINTAINER" | "FROM") => {
            return Err(Problem::OnbuildTrigger {
                keyword: upper.to_owned(),
            });
        }
        _ => {}
    }
    let mut text = node.text_after_keyword().to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(OnbuildCommand {
        trigger: text,
        keyword,
    })
}

impl Origin {
    /// For a trigger from an image config: its lines are those of the `FROM` that inherits it.
    pub(crate) fn at(mut self, span: crate::error::Span) -> Self {
        self.span = span;
        self
    }
}
