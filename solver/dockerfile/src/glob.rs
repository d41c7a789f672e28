//! File name patterns as Go's `filepath.Match` and docker's `patternmatcher` define them.
//!
//! | | |
//! |---|---|
//! | `*` | any run of characters without `/` |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[^a-z]` | one character of a class, or not of it; may be `/` |
//! | `\c` | the character `c` |
//! | `**` | with [`Glob::with_double_star`] only: any run of directories, also none |
//!
//! `patternmatcher` makes regular expressions of its patterns, and what those know shows through:
//! `\\d` is a digit, `\\a` no letter, `[[:alpha:]]` a letter (`expressions`).
//!
//! A pattern is a small automaton that reads a path once: time is bounded by the product of both
//! lengths, whatever the pattern. Paths are bytes; one that is not UTF-8 never matches by
//! accident.

mod expressions;

use crate::error::Problem;

/// The longest pattern. Bytes; Linux's limit for a path.
pub const PATTERN_SIZE_MAX: usize = 4096;

/// Whether `name` as a whole matches `pattern` (Go's `filepath.Match`).
///
/// # Errors
/// The pattern is malformed ("syntax error in pattern") or too long.
pub fn matches(pattern: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<bool, Problem> {
    Ok(Glob::new(pattern)?.is_match(name))
}

/// Whether a name is a pattern: has a `*`, `?` or `[` without a backslash before it. A backslash
/// alone makes none, as with BuildKit, and then it is one character of the name.
pub fn has_wildcards(name: impl AsRef<[u8]>) -> bool {
    let mut bytes = name.as_ref().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// A pattern ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// One state of the automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(u32),
    /// `?`.
    AnyCharacter,
    /// `*`.
    AnyRun,
    /// `[...]`.
    Class {
        is_negated: bool,
        ranges: Vec<(u32, u32)>,
    },
    /// Goes on with the next token or the one after it: `**` may stand for no directory.
    Optional,
    /// `**`: anything up to and including a `/`.
    Directories,
    /// `**` at an end: anything.
    Everything,
}

const SLASH: u32 = b'/' as u32;

impl Glob {
    /// A pattern of `filepath.Match`: two stars are one.
    ///
    /// # Errors
    /// See [`matches()`].
    pub fn new(pattern: impl AsRef<[u8]>) -> Result<Self, Problem> {
        Self::compile(pattern.as_ref(), false)
    }

    /// A pattern of docker's `patternmatcher`, used by ignore files and `--exclude`.
    ///
    /// # Errors
    /// See [`matches()`].
    pub fn with_double_star(pattern: impl AsRef<[u8]>) -> Result<Self, Problem> {
        Self::compile(pattern.as_ref(), true)
    }

    /// Whether the whole of `name` matches.
    pub fn is_match(&self, name: impl AsRef<[u8]>) -> bool {
        self.run(name.as_ref())
    }

    fn compile(pattern: &[u8], has_double_star: bool) -> Result<Self, Problem> {
        if pattern.len() > PATTERN_SIZE_MAX {
            return Err(Problem::PatternTooLong {
                size: pattern.len(),
                size_max: PATTERN_SIZE_MAX,
            });
        }
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some((c, after)) = next_character(rest) {
            rest = after;
            match c {
                STAR if has_double_star && rest.starts_with(b"*") => {
                    rest = double_star(&mut tokens, &rest[1..]);
                }
                STAR => tokens.push(Token::AnyRun),
                QUESTION => tokens.push(Token::AnyCharacter),
                BRACKET => {
                    let class;
                    (class, rest) = character_class(rest, has_double_star)?;
                    tokens.push(class);
                }
                BACKSLASH => {
                    let (escaped, after) = next_character(rest).ok_or(Problem::BadPattern)?;
                    tokens.push(match has_double_star {
                        true => expressions::escaped(escaped)?,
                        false => Token::Literal(escaped),
                    });
                    rest = after;
                }
                c => tokens.push(Token::Literal(c)),
            }
        }
        Ok(Self { tokens })
    }

    /// Reads `path` once.
    fn run(&self, path: &[u8]) -> bool {
        let mut states = States::new(self.tokens.len());
        let mut next = States::new(self.tokens.len());
        states.enter(&self.tokens, 0);
        let mut rest = path;
        while let Some((c, after)) = next_character(rest) {
            next.clear();
            for &state in &states.active {
                self.step(state, c, &mut next);
            }
            if next.active.is_empty() {
                return false;
            }
            std::mem::swap(&mut states, &mut next);
            rest = after;
        }
        states.is_accepting()
    }

    /// Where `state` goes on reading `c`.
    fn step(&self, state: usize, c: u32, next: &mut States) {
        let stays = match self.tokens.get(state) {
            Some(Token::AnyRun) => c != SLASH,
            Some(Token::Everything | Token::Directories) => true,
            _ => false,
        };
        if stays {
            next.enter(&self.tokens, state);
        }
        let advances = match self.tokens.get(state) {
            Some(Token::Literal(literal)) => *literal == c,
            Some(Token::AnyCharacter) => c != SLASH,
            Some(Token::Class { is_negated, ranges }) => {
                ranges.iter().any(|(low, high)| *low <= c && c <= *high) != *is_negated
            }
            Some(Token::Directories) => c == SLASH,
            Some(Token::AnyRun | Token::Everything | Token::Optional) | None => false,
        };
        if advances {
            next.enter(&self.tokens, state + 1);
        }
    }
}

const STAR: u32 = b'*' as u32;
const QUESTION: u32 = b'?' as u32;
const BRACKET: u32 = b'[' as u32;
const BACKSLASH: u32 = b'\\' as u32;

/// The meaning of `**`; `rest` is what follows it. Returns the rest without a slash directly
/// behind it: `**/` stands for no directory too.
fn double_star<'a>(tokens: &mut Vec<Token>, rest: &'a [u8]) -> &'a [u8] {
    let after = rest.strip_prefix(b"/").unwrap_or(rest);
    // docker compares `**suffix` with the end of the path, but only if the suffix is plain.
    let is_plain_suffix = tokens.is_empty()
        && !rest.starts_with(b"/")
        && !rest.iter().any(|byte| b"*?[\\".contains(byte));
    if after.is_empty() || is_plain_suffix {
        tokens.push(Token::Everything);
    } else {
        tokens.push(Token::Optional);
        tokens.push(Token::Directories);
    }
    after
}

/// `[...]` after the bracket; `has_names` for `[:alpha:]` among the members.
fn character_class(mut rest: &[u8], has_names: bool) -> Result<(Token, &[u8]), Problem> {
    let is_negated = rest.starts_with(b"^");
    if is_negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"]")
            && !ranges.is_empty()
        {
            return Ok((Token::Class { is_negated, ranges }, after));
        }
        if has_names && let Some((named, after)) = expressions::named_class(rest)? {
            ranges.extend(named);
            rest = after;
            continue;
        }
        let low;
        (low, rest) = class_member(rest)?;
        let mut high = low;
        if let Some(after) = rest.strip_prefix(b"-") {
            (high, rest) = class_member(after)?;
        }
        ranges.push((low, high));
    }
}

fn class_member(rest: &[u8]) -> Result<(u32, &[u8]), Problem> {
    if rest.starts_with(b"-") || rest.starts_with(b"]") {
        return Err(Problem::BadPattern);
    }
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    next_character(rest).ok_or(Problem::BadPattern)
}

/// The first character and the rest. A byte that is not UTF-8 becomes a number that no character
/// has, so that it equals only itself.
fn next_character(bytes: &[u8]) -> Option<(u32, &[u8])> {
    const NO_CHARACTER: u32 = char::MAX as u32 + 1;
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((first.into(), &bytes[1..]));
    }
    for length in 2..=bytes.len().min(4) {
        let (head, rest) = bytes.split_at(length);
        if let Some(c) = std::str::from_utf8(head)
            .ok()
            .and_then(|s| s.chars().next())
        {
            return Some((c.into(), rest));
        }
    }
    Some((NO_CHARACTER + u32::from(first), &bytes[1..]))
}

/// The set of states the automaton is in.
struct States {
    active: Vec<usize>,
    is_active: Vec<bool>,
}

impl States {
    fn new(token_count: usize) -> Self {
        Self {
            active: Vec::new(),
            is_active: vec![false; token_count + 1],
        }
    }

    fn clear(&mut self) {
        for state in self.active.drain(..) {
            self.is_active[state] = false;
        }
    }

    /// Adds `state` and all that are reached from it without reading.
    fn enter(&mut self, tokens: &[Token], mut state: usize) {
        loop {
            if std::mem::replace(&mut self.is_active[state], true) {
                return;
            }
            self.active.push(state);
            match tokens.get(state) {
                Some(Token::AnyRun | Token::Everything) => {}
                Some(Token::Optional) => self.enter(tokens, state + 2),
                _ => return,
            }
            state += 1;
        }
    }

    fn is_accepting(&self) -> bool {
        self.is_active.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
