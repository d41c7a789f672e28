//! Shell patterns inside `${}`: `*`, `?` and escapes, no bracket expressions.

use regex::{Regex, RegexBuilder};

use super::{EXPANSION_SIZE_MAX, WordProblem};

/// The longest pattern. Bytes. The regular expression takes some hundred times as much memory.
const PATTERN_SIZE_MAX: usize = 16 << 10;

/// How large the automaton of one pattern may become. Bytes.
const AUTOMATON_SIZE_MAX: usize = 1 << 20;

enum Token {
    Literal(char),
    AnyCharacter,
    AnyRun,
}

/// Removes the shortest or longest prefix that matches.
pub(super) fn trim_prefix(
    pattern: &str,
    value: String,
    longest: bool,
) -> Result<String, WordProblem> {
    let expression = compile(pattern, tokens(pattern)?, longest, true)?;
    match expression.find(&value) {
        Some(found) => Ok(value[found.end()..].to_owned()),
        None => Ok(value),
    }
}

/// Removes the shortest or longest suffix that matches.
///
/// A regular expression finds the leftmost match, so both pattern and value are turned round.
pub(super) fn trim_suffix(
    pattern: &str,
    value: String,
    longest: bool,
) -> Result<String, WordProblem> {
    let mut reversed = tokens(pattern)?;
    reversed.reverse();
    let expression = compile(pattern, reversed, longest, true)?;
    let mirrored: String = value.chars().rev().collect();
    match expression.find(&mirrored) {
        Some(found) => Ok(mirrored[found.end()..].chars().rev().collect()),
        None => Ok(value),
    }
}

/// Replaces the first match, or all of them, by a literal text.
pub(super) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    all: bool,
) -> Result<String, WordProblem> {
    let expression = compile(pattern, tokens(pattern)?, true, false)?;
    let mut out = String::new();
    let mut end = 0;
    let count = if all { usize::MAX } else { 1 };
    for found in expression.find_iter(value).take(count) {
        out.push_str(&value[end..found.start()]);
        out.push_str(replacement);
        end = found.end();
        if out.len() > EXPANSION_SIZE_MAX {
            return Err(WordProblem::TooLarge);
        }
    }
    out.push_str(&value[end..]);
    Ok(out)
}

fn tokens(pattern: &str) -> Result<Vec<Token>, WordProblem> {
    if pattern.len() > PATTERN_SIZE_MAX {
        let start: String = pattern.chars().take(32).collect();
        return Err(invalid(
            &start,
            format!("longer than {PATTERN_SIZE_MAX} bytes"),
        ));
    }
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::AnyRun,
            '?' => Token::AnyCharacter,
            // `}` and `/` must be escaped so that they do not end the pattern.
            '\\' => match chars.next() {
                Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(c),
                other => {
                    let name = other.map(String::from).unwrap_or_default();
                    return Err(invalid(pattern, format!("invalid escape '\\{name}'")));
                }
            },
            c => Token::Literal(c),
        });
    }
    Ok(tokens)
}

fn compile(
    pattern: &str,
    tokens: Vec<Token>,
    longest: bool,
    at_start: bool,
) -> Result<Regex, WordProblem> {
    let mut source = String::new();
    if at_start {
        source.push('^');
    }
    let mut buffer = [0; 4];
    for token in tokens {
        match token {
            Token::Literal(c) => source.push_str(&regex::escape(c.encode_utf8(&mut buffer))),
            Token::AnyCharacter => source.push('.'),
            Token::AnyRun if longest => source.push_str(".*"),
            Token::AnyRun => source.push_str(".*?"),
        }
    }
    RegexBuilder::new(&source)
        .size_limit(AUTOMATON_SIZE_MAX)
        .build()
        .map_err(|_| invalid(pattern, "too long".to_owned()))
}

fn invalid(pattern: &str, reason: String) -> WordProblem {
    WordProblem::Pattern {
        pattern: pattern.to_owned(),
        reason,
    }
}
