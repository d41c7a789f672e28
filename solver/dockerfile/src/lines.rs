//! Physical lines to logical lines: comments, continuations, line endings.

use crate::ast::Warning;
use crate::directives::{DirectiveName, DirectiveParser};
use crate::error::{Error, Problem, Span};

const UTF8_BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where to read about empty continuation lines.
const EMPTY_CONTINUATION_URL: &str =
    "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/";

/// `data` without a byte order mark.
pub(crate) fn without_byte_order_mark(data: &[u8]) -> &[u8] {
    data.strip_prefix(UTF8_BYTE_ORDER_MARK).unwrap_or(data)
}

/// One instruction's text, without here-document bodies.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    /// Continuations joined, comments removed, leading white space removed.
    pub(crate) text: String,
    /// The lines it was made of.
    pub(crate) span: Span,
    /// Comments above it.
    pub(crate) comments: Vec<String>,
    /// An empty line was found inside.
    pub(crate) warning: Option<Warning>,
}

/// Reads a file line by line.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The line read last; 0 before the first.
    number: usize,
    escape: char,
    directives: DirectiveParser,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self {
            rest: without_byte_order_mark(data),
            number: 0,
            escape: '\\',
            directives: DirectiveParser::new("#"),
        }
    }

    /// The escape character; final once an instruction has been read.
    pub(crate) fn escape(&self) -> char {
        self.escape
    }

    /// The number of the line read last.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The next physical line with its line ending.
    fn physical(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self
            .rest
            .split_at(end.map_or(self.rest.len(), |end| end + 1));
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// The next physical line as it stands, for here-document bodies.
    pub(crate) fn verbatim(&mut self) -> Result<Option<&'a str>, Error> {
        match self.physical() {
            Some(line) => Ok(Some(self.text_of(line)?)),
            None => Ok(None),
        }
    }

    fn text_of(&self, line: &'a [u8]) -> Result<&'a str, Error> {
        std::str::from_utf8(line).map_err(|_| self.error(Problem::NotUtf8))
    }

    fn error(&self, problem: Problem) -> Error {
        Error::Syntax {
            problem,
            span: Span::line(self.number),
        }
    }

    /// The next line that is no comment and not empty, joined with its continuations.
    pub(crate) fn logical(&mut self) -> Result<Option<LogicalLine>, Error> {
        let mut comments = Vec::new();
        while let Some(line) = self.physical() {
            let line = trim_line_ending(line);
            if let Some(comment) = comment_of(line) {
                if self.directive(line)? {
                    continue;
                }
                // An empty comment line separates a description from a remark above it.
                if comment.is_empty() {
                    comments.clear();
                } else {
                    comments.push(comment);
                }
                continue;
            }
            self.directives.finish();
            let text = self.text_of(line)?.trim_start();
            let (text, continues) = self.without_continuation(text);
            if text.is_empty() && !continues {
                continue;
            }
            return Ok(Some(self.join(text, continues, comments)?));
        }
        Ok(None)
    }

    /// Adds continuation lines to the first line of an instruction.
    fn join(
        &mut self,
        first: &str,
        mut continues: bool,
        comments: Vec<String>,
    ) -> Result<LogicalLine, Error> {
        let start = self.number;
        let mut text = first.to_owned();
        let mut has_empty_line = false;
        while continues {
            let Some(line) = self.physical() else {
                break;
            };
            let line = trim_line_ending(line);
            if comment_of(line).is_some() {
                continue;
            }
            let line = self.text_of(line)?;
            if line.trim_start().is_empty() {
                has_empty_line = true;
                continue;
            }
            let part;
            (part, continues) = self.without_continuation(line);
            text.push_str(part);
        }
        let warning = has_empty_line.then(|| Warning {
            message: format!("Empty continuation line found in: {text}"),
            url: EMPTY_CONTINUATION_URL,
            span: Span::line(self.number),
        });
        Ok(LogicalLine {
            span: Span::new(start, self.number),
            text,
            comments,
            warning,
        })
    }

    /// The line without an escape character at its end, and whether there was one. Two escape
    /// characters are an escaped one, not a continuation; so are three, as in BuildKit.
    fn without_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Whether the comment `line` is a parser directive.
    fn directive(&mut self, line: &[u8]) -> Result<bool, Error> {
        let line = line.trim_ascii_start();
        let found = self.directives.line(line);
        let Some((name, value)) = found.map_err(|problem| self.error(problem))? else {
            return Ok(false);
        };
        if name == DirectiveName::Escape {
            self.escape = match value.as_str() {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(self.error(Problem::EscapeToken { token: value })),
            };
        }
        Ok(true)
    }
}

/// `line` without its line ending: all carriage returns and line feeds at the end.
pub(crate) fn trim_line_ending(line: &[u8]) -> &[u8] {
    let is_ending = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let length = line.len() - line.iter().rev().take_while(|b| is_ending(b)).count();
    &line[..length]
}

/// The text of a comment line; `None` for other lines. Comments need not be UTF-8.
fn comment_of(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let comment = text.trim_start().strip_prefix('#')?;
    Some(comment.trim().to_owned())
}
