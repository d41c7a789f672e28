//! Shell-like words: quotes, escapes and variable expansion.
//!
//! The language is BuildKit's (`frontend/dockerfile/shell`): a subset of POSIX shell with
//! `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r}
//! ${v//p/r}`; `w`, `p` and `r` may hold variables again. There are no commands, no arithmetic and
//! no lists.
//!
//! Where we differ from BuildKit on purpose: text in front of `${v:-w}` is not lost when a word is
//! split ([`Lexer::process_words`]), and the replacement in `${v//p/r}` is literal.

mod pattern;
mod scan;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::quote::quote;

/// How deep `${a:-${b:-...}}` may nest. Every level is a call of our own; nobody writes ten.
pub const EXPANSION_DEPTH_MAX: usize = 100;

/// How long the result of one expansion may become. Bytes. `ENV A=$A$A$A$A` repeated grows
/// without bound otherwise; a process environment of this size is refused by Linux anyway.
pub const EXPANSION_SIZE_MAX: usize = 16 << 20;

/// How much of a word a message quotes. Characters.
const QUOTED_WORD_MAX: usize = 256;

/// Where variables get their values.
pub trait Variables {
    /// The value of `name`, `None` when it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _name: &str) -> Option<&str> {
        None
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        HashMap::get(self, name).map(String::as_str)
    }
}

/// Of several pairs with one name the last one counts.
impl Variables for [(String, String)] {
    fn get(&self, name: &str) -> Option<&str> {
        let pair = self.iter().rev().find(|(key, _)| key == name)?;
        Some(&pair.1)
    }
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", quote_start(.word))]
pub struct WordError {
    /// The whole raw word.
    pub word: String,
    /// What is wrong with it.
    pub problem: WordProblem,
}

/// What can be wrong with a word, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The sentences say what the variants and their fields mean.
pub enum WordProblem {
    #[error("unexpected end of statement while looking for matching {delimiter}")]
    Unterminated { delimiter: &'static str },
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier { modifier: String },
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("variables nested more than {} deep", EXPANSION_DEPTH_MAX)]
    TooDeep,
    #[error("result larger than the maximum of {} bytes", EXPANSION_SIZE_MAX)]
    TooLarge,
}

fn quote_start(word: &str) -> String {
    match word.char_indices().nth(QUOTED_WORD_MAX) {
        Some((end, _)) => format!("{}...", quote(&word[..end])),
        None => quote(word),
    }
}

/// The result of processing a word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The word as one text; white space is kept.
    pub text: String,
    /// The word split at unquoted white space, after expansion. Empty words are dropped.
    pub words: Vec<String>,
    /// Names that were looked up and set.
    pub used: BTreeSet<String>,
    /// Names that were looked up and not set.
    pub unmatched: BTreeSet<String>,
}

/// Processes words under one escape character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    escape: char,
    raw_quotes: bool,
    raw_escapes: bool,
    skip_process_quotes: bool,
    skip_unset: bool,
}

impl Lexer {
    /// A lexer that removes quotes and escapes and replaces unset variables by nothing.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_process_quotes: false,
            skip_unset: false,
        }
    }

    /// Quotes stay in the result.
    #[must_use]
    pub fn raw_quotes(mut self) -> Self {
        self.raw_quotes = true;
        self
    }

    /// Escape characters stay in the result.
    #[must_use]
    pub fn raw_escapes(mut self) -> Self {
        self.raw_escapes = true;
        self
    }

    /// Quotes are characters like all others: for the bodies of here-documents.
    #[must_use]
    pub fn skip_process_quotes(mut self) -> Self {
        self.skip_process_quotes = true;
        self
    }

    /// References to unset variables stay as they are: for texts shown to people.
    #[must_use]
    pub fn skip_unset(mut self) -> Self {
        self.skip_unset = true;
        self
    }

    /// Expands `word` and says which variables it needed.
    ///
    /// # Errors
    /// [`WordError`]: unbalanced quotes or braces, an unknown modifier, `${v:?}` of an unset
    /// variable, a bad pattern, or a limit.
    pub fn process<V: Variables + ?Sized>(
        &self,
        word: &str,
        variables: &V,
    ) -> Result<Expanded, WordError> {
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        scan::run(*self, word, &lookup).map_err(|problem| WordError {
            word: word.to_owned(),
            problem,
        })
    }

    /// Expands `word` to one text.
    ///
    /// # Errors
    /// See [`Lexer::process`].
    pub fn process_word<V: Variables + ?Sized>(
        &self,
        word: &str,
        variables: &V,
    ) -> Result<String, WordError> {
        Ok(self.process(word, variables)?.text)
    }

    /// Expands `word`, then splits it at unquoted white space.
    ///
    /// # Errors
    /// See [`Lexer::process`].
    pub fn process_words<V: Variables + ?Sized>(
        &self,
        word: &str,
        variables: &V,
    ) -> Result<Vec<String>, WordError> {
        Ok(self.process(word, variables)?.words)
    }
}

#[cfg(test)]
mod tests;
