//! What patterns of `patternmatcher` have of regular expressions: escapes and names of classes.
//!
//! Nobody wants them, but a path that BuildKit leaves out or takes is the same here.

use super::Token;
use crate::error::Problem;

/// Highest character.
const LAST: u32 = char::MAX as u32;

const DIGITS: &[(char, char)] = &[('0', '9')];
const SPACES: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
const WORDS: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// What a character stands for behind a backslash.
///
/// # Errors
/// [`Problem::BadPattern`] for letters without a meaning.
pub(super) fn escaped(c: u32) -> Result<Token, Problem> {
    let Some(letter) = char::from_u32(c).filter(|c| c.is_ascii_alphanumeric() || !c.is_ascii())
    else {
        return Ok(Token::Literal(c));
    };
    let class = |is_negated, ranges: &[(char, char)]| Token::Class {
        is_negated,
        ranges: numbers(ranges),
    };
    Ok(match letter {
        'a' => Token::Literal(7),
        'f' => Token::Literal(12),
        't' => Token::Literal(9),
        'n' => Token::Literal(10),
        'r' => Token::Literal(13),
        'v' => Token::Literal(11),
        'd' | 'D' => class(letter == 'D', DIGITS),
        's' | 'S' => class(letter == 'S', SPACES),
        'w' | 'W' => class(letter == 'W', WORDS),
        // Boundaries, quotes and numbers of characters: nothing that names are written with.
        'A' | 'B' | 'E' | 'P' | 'Q' | 'b' | 'p' | 'x' | 'z' => class(false, &[]),
        _ => return Err(Problem::BadPattern),
    })
}

/// Members of a class, and what follows their name.
type Named<'t> = (Vec<(u32, u32)>, &'t [u8]);

/// The members of `[:alpha:]` and the like at the start of `rest`; `None` for anything else.
///
/// # Errors
/// [`Problem::BadPattern`] for a name that no class has.
pub(super) fn named_class(rest: &[u8]) -> Result<Option<Named<'_>>, Problem> {
    let Some(name) = rest.strip_prefix(b"[:") else {
        return Ok(None);
    };
    let Some(end) = name.windows(2).position(|pair| pair == b":]") else {
        return Ok(None);
    };
    let (name, after) = (&name[..end], &name[end + 2..]);
    let (is_negated, name) = match name.strip_prefix(b"^") {
        Some(name) => (true, name),
        None => (false, name),
    };
    let ranges: &[(char, char)] = match name {
        b"alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        b"alpha" => &[('A', 'Z'), ('a', 'z')],
        b"ascii" => &[('\0', '\u{7f}')],
        b"blank" => &[('\t', '\t'), (' ', ' ')],
        b"cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        b"digit" => DIGITS,
        b"graph" => &[('!', '~')],
        b"lower" => &[('a', 'z')],
        b"print" => &[(' ', '~')],
        b"punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        b"space" => &[('\t', '\r'), (' ', ' ')],
        b"upper" => &[('A', 'Z')],
        b"word" => WORDS,
        b"xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err(Problem::BadPattern),
    };
    let ranges = match is_negated {
        true => others(&numbers(ranges)),
        false => numbers(ranges),
    };
    Ok(Some((ranges, after)))
}

fn numbers(ranges: &[(char, char)]) -> Vec<(u32, u32)> {
    let ranges = ranges.iter();
    ranges
        .map(|(low, high)| (*low as u32, *high as u32))
        .collect()
}

/// All characters that are in none of some ranges, which are in order.
fn others(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut others = Vec::new();
    let mut next = 0;
    for (low, high) in ranges {
        if next < *low {
            others.push((next, low - 1));
        }
        next = high + 1;
    }
    others.push((next, LAST));
    others
}
