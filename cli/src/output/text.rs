//! Text that goes to a terminal: without anything that moves its cursor, cut by columns.

use unicode_width::UnicodeWidthChar;

/// Columns between two tab stops.
const TAB_COLUMNS: usize = 8;

/// Columns that a character takes; combining marks take none.
fn columns_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// Columns that a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Makes what a program wrote harmless: escape sequences and control characters go, tabs become
/// blanks, and of a line that was written over with carriage returns the last version stays.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let last = text
        .rsplit('\r')
        .find(|version| !version.is_empty())
        .unwrap_or_default();
    let mut out = String::with_capacity(last.len());
    let mut column = 0;
    let mut characters = last.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => skip_escape(&mut characters),
            '\t' => {
                let blanks = TAB_COLUMNS - column % TAB_COLUMNS;
                out.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            '\n' => {
                out.push(' ');
                column += 1;
            }
            character if character.is_control() || is_mover(character) => {}
            character => {
                out.push(character);
                column += columns_of(character);
            }
        }
    }
    out
}

/// The same with digests as short as ids are shown: there is little room in a row.
pub(crate) fn short_digests(text: &str) -> String {
    const MARK: &str = "sha256:";
    const DIGITS: usize = 64;
    const SHOWN: usize = 12;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        rest = if digits == DIGITS {
            out.push_str(&after[..SHOWN]);
            &after[DIGITS..]
        } else {
            out.push_str(MARK);
            after
        };
    }
    out + rest
}

/// Characters that are no control characters by name but change where others are shown: line and
/// paragraph separators, and what turns the direction of text around (Unicode, UAX 9).
pub(crate) fn is_mover(character: char) -> bool {
    matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Skips what follows an escape character (ECMA-48): a control sequence up to its final byte, a
/// string up to its terminator, or one character.
fn skip_escape(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => {
            for character in characters {
                if ('\x40'..='\x7e').contains(&character) {
                    return;
                }
            }
        }
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(character) = characters.next() {
                match character {
                    '\x07' => return,
                    '\x1b' => {
                        // Usually the backslash of a string terminator.
                        characters.next();
                        return;
                    }
                    _ => {}
                }
            }
        }
        // Intermediate bytes, as in the choice of a character set, and the final one.
        Some(' '..='/') => {
            for character in characters {
                if !(' '..='/').contains(&character) {
                    return;
                }
            }
        }
        _ => {}
    }
}

/// The beginning of a text that fits into `width` columns, with `…` in place of what was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut out = prefix(text, width - 1).to_owned();
    out.push('…');
    out
}

/// A text in pieces of at most `width` columns; one empty piece for an empty text.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let mut piece = prefix(rest, width);
        if piece.is_empty() && !rest.is_empty() {
            // A character that is wider than the terminal: let it through rather than never end.
            let length = rest.chars().next().map_or(0, char::len_utf8);
            piece = &rest[..length];
        }
        pieces.push(piece);
        rest = &rest[piece.len()..];
        if rest.is_empty() {
            return pieces;
        }
    }
}

fn prefix(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (index, character) in text.char_indices() {
        used += columns_of(character);
        if used > width {
            return &text[..index];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_writes_cannot_move_the_cursor() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b[2J\x1b[Hgone", "gone"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]0;title\x1b\\after", "after"),
            (b"\x1b(B\x1b[mx", "x"),
            (b"10%\r20%\r30%", "30%"),
            (b"30%\r", "30%"),
            (b"a\tb", "a       b"),
            (b"bell\x07\x08", "bell"),
            (b"bad \xff byte", "bad \u{fffd} byte"),
            ("a\u{202e}b\u{2028}c\u{2067}d".as_bytes(), "abcd"),
            (b"\x1b[", ""),
            (b"\x1b", ""),
            (b"", ""),
        ] {
            assert_eq!(harmless(bytes), text, "{bytes:?}");
            assert!(!harmless(bytes).contains(char::is_control));
        }
    }

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        for (text, width, expect) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöüß", 3, "äö…"),
            ("漢字漢", 5, "漢字…"),
            ("漢字漢", 6, "漢字漢"),
            ("漢字漢", 4, "漢…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, width), expect, "{text} {width}");
            assert!(columns(&cut(text, width)) <= width);
        }
    }

    #[test]
    fn wrapping_loses_nothing_and_always_ends() {
        for (text, width, expect) in [
            ("", 4, vec![""]),
            ("abcd", 4, vec!["abcd"]),
            ("abcdefghi", 4, vec!["abcd", "efgh", "i"]),
            ("漢字漢", 5, vec!["漢字", "漢"]),
            ("漢字", 1, vec!["漢", "字"]),
            ("ab", 0, vec!["a", "b"]),
        ] {
            assert_eq!(wrap(text, width), expect, "{text} {width}");
        }
    }
}
