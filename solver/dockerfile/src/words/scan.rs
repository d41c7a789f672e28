//! One pass over a word.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use super::{EXPANSION_DEPTH_MAX, EXPANSION_SIZE_MAX, Expanded, Lexer, WordProblem, pattern};

/// Processes `word`; `lookup` gives the values of variables.
pub(super) fn run(
    lexer: Lexer,
    word: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, WordProblem> {
    let mut scan = Scan {
        lexer,
        raw_escapes: lexer.raw_escapes,
        chars: word.chars().peekable(),
        lookup,
        depth: 0,
        used: BTreeSet::new(),
        unmatched: BTreeSet::new(),
    };
    let output = scan.until(None)?;
    Ok(Expanded {
        text: output.text,
        words: output.words,
        used: scan.used,
        unmatched: scan.unmatched,
    })
}

/// The same characters twice: joined, and split at white space.
#[derive(Debug, Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.push_to_words(c);
    }

    /// Belongs to a word even if it is white space.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    /// An unquoted variable's value: its white space splits words.
    fn push_value(&mut self, value: &str) {
        self.text.push_str(value);
        value.chars().for_each(|c| self.push_to_words(c));
    }

    fn push_to_words(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Self {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self
    }

    fn check_size(&self) -> Result<(), WordProblem> {
        if self.text.len() > EXPANSION_SIZE_MAX {
            return Err(WordProblem::TooLarge);
        }
        Ok(())
    }
}

/// One pass over one word.
struct Scan<'a> {
    lexer: Lexer,
    /// Differs from the lexer's inside `${v#p}` and `${v/p/r}`, where the pattern needs them.
    raw_escapes: bool,
    chars: Peekable<Chars<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
    used: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    /// Takes the next character if it is `expected`.
    fn take(&mut self, expected: char) -> bool {
        self.chars.next_if_eq(&expected).is_some()
    }

    /// Reads up to `stop`, which is taken and dropped, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<Output, WordProblem> {
        let mut out = Output::default();
        while let Some(c) = self.peek() {
            let quotes = !self.lexer.skip_process_quotes;
            match c {
                _ if stop == Some(c) => {
                    self.chars.next();
                    return Ok(out.finish());
                }
                '$' => out.push_value(&self.dollar()?),
                '<' => out.push_quoted(&self.possible_heredoc()),
                '\'' if quotes => out.push_quoted(&self.single_quoted()?),
                '"' if quotes => out.push_quoted(&self.double_quoted()?),
                _ => self.plain(&mut out),
            }
            out.check_size()?;
        }
        match stop {
            None => Ok(out.finish()),
            Some('/') => Err(WordProblem::Unterminated { delimiter: "/" }),
            Some(_) => Err(WordProblem::Unterminated { delimiter: "}" }),
        }
    }

    /// A character without meaning of its own, or an escaped one.
    fn plain(&mut self, out: &mut Output) {
        let Some(c) = self.chars.next() else {
            return;
        };
        if c != self.lexer.escape {
            out.push(c);
            return;
        }
        let mut buffer = [0; 4];
        if self.raw_escapes {
            out.push_quoted(c.encode_utf8(&mut buffer));
        }
        // An escape character at the very end is dropped.
        if let Some(escaped) = self.chars.next() {
            out.push_quoted(escaped.encode_utf8(&mut buffer));
        }
    }

    /// `'...'`: everything is literal, nothing can be escaped.
    fn single_quoted(&mut self) -> Result<String, WordProblem> {
        let mut text = String::new();
        self.quote_mark(&mut text);
        while let Some(c) = self.peek() {
            if c == '\'' {
                self.quote_mark(&mut text);
                return Ok(text);
            }
            self.chars.next();
            text.push(c);
        }
        Err(WordProblem::Unterminated {
            delimiter: "single-quote",
        })
    }

    /// `"..."`: variables are expanded; only `"`, `$` and the escape character can be escaped.
    fn double_quoted(&mut self) -> Result<String, WordProblem> {
        let escape = self.lexer.escape;
        let mut text = String::new();
        self.quote_mark(&mut text);
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.quote_mark(&mut text);
                    return Ok(text);
                }
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    if text.len() > EXPANSION_SIZE_MAX {
                        return Err(WordProblem::TooLarge);
                    }
                }
                _ => {
                    self.chars.next();
                    if c == escape && self.raw_escapes {
                        text.push(c);
                    }
                    let is_escapable = |next: &char| matches!(next, '"' | '$') || *next == escape;
                    let escaped = if c == escape {
                        self.chars.next_if(is_escapable)
                    } else {
                        None
                    };
                    text.push(escaped.unwrap_or(c));
                }
            }
        }
        Err(WordProblem::Unterminated {
            delimiter: "double-quote",
        })
    }

    fn quote_mark(&mut self, text: &mut String) {
        if let Some(mark) = self.chars.next()
            && self.lexer.raw_quotes
        {
            text.push(mark);
        }
    }

    /// White space between `<<` and a here-document's delimiter belongs to the word.
    fn possible_heredoc(&mut self) -> String {
        let mut text = String::new();
        text.extend(self.chars.next());
        if self.take('<') {
            text.push('<');
            while let Some(c) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                text.push(c);
            }
        }
        text
    }

    /// `$` and what belongs to it.
    fn dollar(&mut self) -> Result<String, WordProblem> {
        self.chars.next();
        if self.take('{') {
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name) {
            Some(value) => Ok(value),
            None if self.lexer.skip_unset => Ok(format!("${name}")),
            None => Ok(String::new()),
        }
    }

    /// `${...}` after the brace.
    fn braced(&mut self) -> Result<String, WordProblem> {
        match self.peek() {
            None => return Err(WordProblem::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordProblem::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        // BuildKit reports U+FFFD as an unsupported modifier here.
        let first = self.chars.next().ok_or(WordProblem::MissingBrace)?;
        match first {
            '}' => match self.value(&name) {
                Some(value) => Ok(value),
                None if self.lexer.skip_unset => Ok(format!("${{{name}}}")),
                None => Ok(String::new()),
            },
            ':' => {
                let operator = self.chars.next().ok_or(WordProblem::MissingBrace)?;
                self.operation(name, operator, true)
            }
            '+' | '-' | '?' | '#' | '%' => self.operation(name, first, false),
            '/' => self.replacement(name),
            _ => Err(unsupported(first.to_string())),
        }
    }

    /// `${name-word}` and its relatives, after the operator.
    fn operation(
        &mut self,
        name: String,
        operator: char,
        null_is_unset: bool,
    ) -> Result<String, WordProblem> {
        let colon = if null_is_unset { ":" } else { "" };
        let modifier = format!("{colon}{operator}");
        let is_pattern = matches!(operator, '#' | '%');
        if null_is_unset && is_pattern {
            return Err(unsupported(modifier));
        }
        let word = self.nested('}', is_pattern, WordProblem::MissingBrace)?;
        let value = self.value(&name);
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let is_unset = value.is_none();
        let value = value.unwrap_or_default();
        let is_missing = is_unset || (null_is_unset && value.is_empty());
        match operator {
            '-' if is_missing => Ok(word),
            '+' if is_missing => Ok(String::new()),
            '+' => Ok(word),
            '?' if is_missing => {
                let message = match (word.is_empty(), is_unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".to_owned(),
                    (true, false) => "is not allowed to be empty".to_owned(),
                };
                Err(WordProblem::Required { name, message })
            }
            '-' | '?' => Ok(value),
            '#' | '%' => trim(operator, &word, value),
            _ => Err(unsupported(modifier)),
        }
    }

    /// `${name/pattern/replacement}`, after the first slash.
    fn replacement(&mut self, name: String) -> Result<String, WordProblem> {
        let all = self.take('/');
        let slash = if all { "//" } else { "/" };
        let pattern = self.nested('/', true, WordProblem::MissingSlash)?;
        let replacement = self.nested('}', true, WordProblem::MissingBrace)?;
        match self.value(&name) {
            None if self.lexer.skip_unset => {
                Ok(format!("${{{name}{slash}{pattern}/{replacement}}}"))
            }
            value => pattern::replace(&pattern, &value.unwrap_or_default(), &replacement, all),
        }
    }

    /// A word inside `${}` up to `stop`; `at_end` is the error when the input ends before it.
    fn nested(
        &mut self,
        stop: char,
        raw_escapes: bool,
        at_end: WordProblem,
    ) -> Result<String, WordProblem> {
        if self.depth == EXPANSION_DEPTH_MAX {
            return Err(WordProblem::TooDeep);
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.raw_escapes = before;
        self.depth -= 1;
        match result {
            Ok(output) => Ok(output.text),
            Err(WordProblem::TooDeep) => Err(WordProblem::TooDeep),
            Err(_) if self.peek().is_none() => Err(at_end),
            Err(problem) => Err(problem),
        }
    }

    /// A variable's name: letters, digits and `_`; only digits if it starts with one; or one of
    /// the shell's special parameters. May be empty.
    fn name(&mut self) -> String {
        let is_digit = |c: &char| c.is_numeric();
        let mut name = String::new();
        match self.peek() {
            Some(c) if is_digit(&c) => {
                while let Some(c) = self.chars.next_if(is_digit) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                let is_part = |c: &char| c.is_alphabetic() || is_digit(c) || *c == '_';
                while let Some(c) = self.chars.next_if(is_part) {
                    name.push(c);
                }
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let seen = if value.is_some() {
            &mut self.used
        } else {
            &mut self.unmatched
        };
        if !seen.contains(name) {
            seen.insert(name.to_owned());
        }
        value
    }
}

fn unsupported(modifier: String) -> WordProblem {
    WordProblem::Modifier { modifier }
}

/// `${v#p}`, `${v%p}`; a doubled operator (the first character of `word`) means the longest match.
fn trim(operator: char, word: &str, value: String) -> Result<String, WordProblem> {
    let (word, longest) = match word.strip_prefix(operator) {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    if operator == '#' {
        pattern::trim_prefix(word, value, longest)
    } else {
        pattern::trim_suffix(word, value, longest)
    }
}
