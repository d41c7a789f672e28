//! A logical line cut into keyword, flags and arguments.

use super::arguments::Arguments;
use super::keyword::Keyword;
use crate::ast::{Heredoc, Origin};
use crate::error::{Problem, Span};

/// An instruction of which only the outer form is known.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    /// `None` for a name that is no instruction: reported later, with its line.
    pub(super) keyword: Option<Keyword>,
    /// `--name=value`, quotes and escapes removed.
    pub(super) flags: Vec<String>,
    pub(super) arguments: Arguments,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The logical line as it was joined, not trimmed at its end.
    text: String,
}

impl Node {
    /// Cuts `text`, a logical line.
    pub(crate) fn new(
        text: String,
        escape: char,
        span: Span,
        comments: Vec<String>,
    ) -> Result<Self, Problem> {
        Self::with_depth(text, escape, span, comments, true)
    }

    /// `may_nest`: an `ONBUILD` inside of an `ONBUILD` is refused later anyway, so its own
    /// arguments are not looked at, and the recursion ends.
    pub(super) fn with_depth(
        text: String,
        escape: char,
        span: Span,
        comments: Vec<String>,
        may_nest: bool,
    ) -> Result<Self, Problem> {
        let (keyword, rest) = split_keyword(text.trim());
        let (flags, rest) = super::flags::split_flags(rest, escape);
        let origin = Origin {
            span,
            keyword: keyword.to_owned(),
            source: text.trim().to_owned(),
            comments,
        };
        let keyword = Keyword::parse(keyword);
        let arguments = Arguments::parse(keyword, rest.trim(), escape, span, may_nest)?;
        Ok(Self {
            origin,
            keyword,
            flags,
            arguments,
            heredocs: Vec::new(),
            text,
        })
    }

    /// Whether here-documents may follow: the keyword allows it, also behind `ONBUILD`, and the
    /// arguments are not JSON.
    pub(crate) fn can_contain_heredocs(&self) -> bool {
        if let Arguments::Trigger(trigger) = &self.arguments {
            return trigger.can_contain_heredocs();
        }
        self.keyword.is_some_and(Keyword::takes_heredocs) && !self.arguments.is_json()
    }

    /// The logical line.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line without the keyword and the white space behind it.
    pub(super) fn text_after_keyword(&self) -> &str {
        let text = self.text.trim_start();
        text[self.origin.keyword.len()..].trim_start()
    }
}

/// White space between keyword, flags and arguments. Narrower than Unicode's: a no-break space is
/// part of a word.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// `line` split behind its first word.
pub(super) fn split_keyword(line: &str) -> (&str, &str) {
    match line.find(is_separator) {
        Some(end) => (&line[..end], line[end..].trim_start_matches(is_separator)),
        None => (line, ""),
    }
}
