//! The forms in which instructions take their arguments.

use serde_json::Value;

use super::keyword::Keyword;
use super::node::{Node, is_separator, split_keyword};
use crate::ast::{CommandLine, KeyValue};
use crate::error::{Problem, Span};

/// Arguments, cut but not checked.
#[derive(Debug, Clone)]
pub(super) enum Arguments {
    /// None are looked at.
    Ignored,
    /// One text: the rest of the line.
    Text(String),
    /// A list of words.
    List { words: Vec<String>, is_json: bool },
    /// A command.
    Command(CommandLine),
    /// `name=value` pairs.
    Pairs(Vec<KeyValue>),
    /// The first word, and a command behind it.
    Health { kind: String, command: CommandLine },
    /// Another instruction.
    Trigger(Box<Node>),
}

impl Arguments {
    /// Cuts `rest`, which has no flags and no surrounding white space any more.
    pub(super) fn parse(
        keyword: Option<Keyword>,
        rest: &str,
        escape: char,
        span: Span,
        may_nest: bool,
    ) -> Result<Self, Problem> {
        let Some(keyword) = keyword else {
            return Ok(Self::Ignored);
        };
        Ok(match keyword {
            Keyword::Add | Keyword::Copy | Keyword::Volume => list_or_json(rest)?,
            Keyword::Expose | Keyword::From => list(rest),
            Keyword::Arg => Self::List {
                words: words(rest, escape),
                is_json: false,
            },
            Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => {
                Self::Command(command(rest)?)
            }
            Keyword::Env | Keyword::Label => Self::Pairs(pairs(rest, keyword.as_str(), escape)?),
            Keyword::Healthcheck => {
                let (kind, rest) = split_keyword(rest);
                Self::Health {
                    kind: kind.to_owned(),
                    command: command(rest)?,
                }
            }
            Keyword::Maintainer | Keyword::StopSignal | Keyword::User | Keyword::Workdir => {
                Self::Text(rest.to_owned())
            }
            Keyword::Onbuild if rest.is_empty() || !may_nest => Self::Ignored,
            Keyword::Onbuild => {
                let text = rest.to_owned();
                let node = Node::with_depth(text, escape, span, Vec::new(), false)?;
                Self::Trigger(Box::new(node))
            }
        })
    }

    /// The words of a list; empty for other forms.
    pub(super) fn as_list(&self) -> &[String] {
        match self {
            Self::List { words, .. } => words,
            _ => &[],
        }
    }

    /// The command; an empty shell form for other forms.
    pub(super) fn into_command(self) -> CommandLine {
        match self {
            Self::Command(command) => command,
            _ => CommandLine::Shell(String::new()),
        }
    }

    /// Whether they are a JSON array.
    pub(super) fn is_json(&self) -> bool {
        match self {
            Self::List { is_json, .. } => *is_json,
            Self::Command(command) => matches!(command, CommandLine::Exec(_)),
            _ => false,
        }
    }
}

/// A JSON array of strings. `None` for what is not JSON: it is taken for a shell command then.
fn json(rest: &str) -> Result<Option<Vec<String>>, Problem> {
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(rest) else {
        return Ok(None);
    };
    let text = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(Problem::JsonNotStrings),
    };
    let texts: Result<Vec<String>, Problem> = values.into_iter().map(text).collect();
    Ok(Some(texts?))
}

fn command(rest: &str) -> Result<CommandLine, Problem> {
    Ok(match json(rest)? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(rest.to_owned()),
    })
}

fn list_or_json(rest: &str) -> Result<Arguments, Problem> {
    Ok(match json(rest)? {
        Some(words) => Arguments::List {
            words,
            is_json: true,
        },
        None => list(rest),
    })
}

/// Words between white space; quotes mean nothing.
fn list(rest: &str) -> Arguments {
    let words = rest.split(is_separator).filter(|word| !word.is_empty());
    Arguments::List {
        words: words.map(str::to_owned).collect(),
        is_json: false,
    }
}

/// `name=value ...`, or the old form `name value`. Which one is decided by the first word.
fn pairs(rest: &str, keyword: &'static str, escape: char) -> Result<Vec<KeyValue>, Problem> {
    let words = words(rest, escape);
    let Some(first) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        let (key, value) = split_keyword(rest);
        if value.is_empty() {
            return Err(Problem::TwoArguments { keyword });
        }
        return Ok(vec![KeyValue {
            key: key.into(),
            value: value.into(),
            legacy: true,
        }]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) => Ok(KeyValue {
            key: key.into(),
            value: value.into(),
            legacy: false,
        }),
        None => Err(Problem::NoEqualsSign { word }),
    };
    words.into_iter().map(pair).collect()
}

/// Words between white space that is neither quoted nor escaped. Quotes and escapes stay in the
/// words, because variables are expanded later.
fn words(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        // Between single quotes nothing can be escaped.
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            if let Some(escaped) = chars.next() {
                word.push(c);
                word.push(escaped);
            }
            continue;
        }
        match quote {
            Some(mark) if c == mark => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_keep_their_quotes_and_escapes() {
        let cases: [(&str, &[&str]); 9] = [
            ("a  b\tc", &["a", "b", "c"]),
            ("a=\"b c\" d='e f'", &["a=\"b c\"", "d='e f'"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]),
            ("a='b\\' c'", &["a='b\\'", "c'"]),
            ("a=\\\"b c", &["a=\\\"b", "c"]),
            ("a\\", &["a"]),
            ("\"open quote", &["\"open quote"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text, '\\'), expected, "{text:?}");
        }
        assert_eq!(words("a=b` c\\ d", '`'), ["a=b` c\\", "d"]);
    }
}
