//! Which snapshots a List asks for: containerd's filter language (its `pkg/filters`), applied to a
//! snapshot's row. How the text is read stands in `parser`; here stands what it means.
//!
//! Fields and their meaning are those of containerd's own snapshotters (`core/snapshots/storage`):
//! `kind`, `name` and `parent` are always present, `parent` perhaps as the empty text;
//! `labels.KEY` is present if the label is, whatever its value; any other field is absent, and no
//! error. What is absent counts as the empty text for `!=` and `~=`, but is `==` to nothing.
//!
//! An expression after `~=` that is no regular expression matches nothing, as in containerd. Two
//! dialects meet here: with the crate `regex` `\d`, `\w`, `\s` and `\b` know all of Unicode, Go's
//! only ASCII; `\Q…\E`, octal escapes (`\141`) and a brace that stands for itself (`a{`) are Go's
//! only; `[` within brackets opens a set within the set, in Go it stands for itself.

mod parser;

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::error::{Error, Result};
use crate::snapshots::{Info, Kind};
use parser::{Fault, Operator, Parser, Selector};

/// All filters of one request together, in bytes. The longest label is 4 KiB; a client that names
/// thousands of snapshots in one request still fits.
pub const FILTERS_LENGTH_MAX: usize = 1 << 20;

/// Regular expressions in one request: each may take [`EXPRESSION_SIZE_MAX`] of memory.
pub const EXPRESSION_COUNT_MAX: usize = 16;

/// Longest regular expression in bytes, as long as what it is held against may be. Keeps a few
/// bytes like `(?i)\pL`, repeated, from costing seconds: 4 KiB of it took 0.14 s.
pub const EXPRESSION_LENGTH_MAX: usize = 4096;

/// A compiled regular expression, in bytes: what `a{9}{9}{9}{9}` stands for is not small.
pub const EXPRESSION_SIZE_MAX: usize = 4 << 20;

/// Characters of a filter that a message shows.
const SHOWN_LENGTH_MAX: usize = 200;

/// What a snapshot must be to be listed: one filter of several is enough, and of a filter all
/// conditions must hold.
#[derive(Clone, Debug)]
pub struct Filters(Vec<Vec<Condition>>);

impl Filters {
    /// Reads the filters of a request. None at all ask for everything, and so does an empty one.
    ///
    /// # Errors
    /// `InvalidArgument` for a text that is no filter, and beyond the limits of this module.
    pub fn parse(texts: &[String]) -> Result<Self> {
        // One byte more for each, so that empty ones are not free.
        let length: usize = texts.iter().map(|text| text.len() + 1).sum();
        if length > FILTERS_LENGTH_MAX {
            return Err(Error::InvalidArgument {
                reason: format!("filters of {length} bytes, more than {FILTERS_LENGTH_MAX}"),
            });
        }
        let mut expressions_left = EXPRESSION_COUNT_MAX;
        let filters = texts
            .iter()
            .map(|text| parse_filter(text, &mut expressions_left));
        filters.collect::<Result<_>>().map(Filters)
    }

    /// Whether a snapshot is asked for.
    pub fn matches(&self, info: &Info) -> bool {
        let all_hold = |conditions: &Vec<Condition>| {
            conditions
                .iter()
                .all(|condition| condition.test.holds(condition.field.of(info)))
        };
        self.0.is_empty() || self.0.iter().any(all_hold)
    }
}

#[derive(Clone, Debug)]
struct Condition {
    field: Field,
    test: Test,
}

#[derive(Clone, Debug)]
enum Field {
    Kind,
    Name,
    Parent,
    Label(String),
    Unknown,
}

impl Field {
    /// Further parts of a path count for labels only, which may have dots in their names; after
    /// the others they are ignored, as in containerd.
    fn from_path(path: &[Vec<u8>]) -> Self {
        let Some((first, rest)) = path.split_first() else {
            return Field::Unknown;
        };
        match first.as_slice() {
            b"kind" => Field::Kind,
            b"name" => Field::Name,
            b"parent" => Field::Parent,
            // What is not UTF-8 cannot be the name of a label.
            b"labels" => String::from_utf8(rest.join(&b'.')).map_or(Field::Unknown, Field::Label),
            _ => Field::Unknown,
        }
    }

    fn of<'info>(&self, info: &'info Info) -> Option<&'info str> {
        match self {
            Field::Kind => Some(match info.kind {
                Kind::View => "view",
                Kind::Active => "active",
                Kind::Committed => "committed",
            }),
            Field::Name => Some(&info.key),
            Field::Parent => Some(&info.parent),
            Field::Label(name) => info.labels.get(name).map(String::as_str),
            Field::Unknown => None,
        }
    }
}

/// Values are bytes: an escape like `"\xff"` may write what is no UTF-8, and equals no field then.
#[derive(Clone, Debug)]
enum Test {
    Present,
    Equal(Vec<u8>),
    NotEqual(Vec<u8>),
    Matches(Regex),
    /// `~=` with something that is no regular expression.
    Never,
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.is_some_and(|value| value.as_bytes() == wanted),
            Test::NotEqual(unwanted) => value.unwrap_or_default().as_bytes() != unwanted,
            Test::Matches(expression) => expression.is_match(value.unwrap_or_default()),
            Test::Never => false,
        }
    }
}

fn parse_filter(text: &str, expressions_left: &mut usize) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut parser = Parser::new(text);
    while let Some(selector) = parser
        .next_selector()
        .map_err(|fault| describe(text, &fault))?
    {
        conditions.push(condition(selector, expressions_left)?);
    }
    Ok(conditions)
}

fn condition(selector: Selector, expressions_left: &mut usize) -> Result<Condition> {
    let test = match selector.comparison {
        None => Test::Present,
        Some((Operator::Equal, value)) => Test::Equal(value),
        Some((Operator::NotEqual, value)) => Test::NotEqual(value),
        Some((Operator::Matches, value)) => {
            *expressions_left =
                expressions_left
                    .checked_sub(1)
                    .ok_or_else(|| Error::InvalidArgument {
                        reason: format!(
                            "filters with more than {EXPRESSION_COUNT_MAX} regular expressions"
                        ),
                    })?;
            compile(&value)?
        }
    };
    Ok(Condition {
        field: Field::from_path(&selector.path),
        test,
    })
}

fn compile(expression: &[u8]) -> Result<Test> {
    let shown = String::from_utf8_lossy(expression);
    let shown = shorten(&shown);
    if expression.len() > EXPRESSION_LENGTH_MAX {
        return Err(Error::InvalidArgument {
            reason: format!(
                "the regular expression {shown:?} has {} bytes, more than {EXPRESSION_LENGTH_MAX}",
                expression.len()
            ),
        });
    }
    let compiled = std::str::from_utf8(expression).map(|expression| {
        RegexBuilder::new(expression)
            .size_limit(EXPRESSION_SIZE_MAX)
            .build()
    });
    match compiled {
        Ok(Ok(regex)) => Ok(Test::Matches(regex)),
        Ok(Err(regex::Error::CompiledTooBig(_))) => Err(Error::InvalidArgument {
            reason: format!(
                "the regular expression {shown:?} takes more than {EXPRESSION_SIZE_MAX} bytes"
            ),
        }),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(
                expression = %shown,
                "a filter holds no valid regular expression after ~=: it matches nothing"
            );
            Ok(Test::Never)
        }
    }
}

fn describe(text: &str, fault: &Fault) -> Error {
    let rest = text.get(fault.position..).unwrap_or_default();
    let place = match rest {
        "" => "at its end".to_string(),
        rest => format!("at byte {}, before {:?}", fault.position, shorten(rest)),
    };
    Error::InvalidArgument {
        reason: format!("filter {:?}, {place}: {}", shorten(text), fault.reason),
    }
}

fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_LENGTH_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

#[cfg(test)]
mod tests;
