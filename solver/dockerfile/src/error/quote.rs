//! Quoting of user text in messages, as Go's `%q` does it.

use std::fmt::Write;

/// `text` in double quotes, with quotes, backslashes and control characters escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => push_code(&mut out, "x", c, 2),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => push_code(&mut out, "u", c, 4),
            c => push_code(&mut out, "U", c, 8),
        }
    }
    out.push('"');
    out
}

fn push_code(out: &mut String, letter: &str, c: char, width: usize) {
    // Writing to a String cannot fail.
    if write!(out, "\\{letter}{:0width$x}", c as u32).is_err() {
        out.push('?');
    }
}

/// Printable in the sense of Go's `strconv.IsPrint`: no controls, no white space but the space
/// itself, nothing unassigned. Combining marks count as printable, unlike in Rust's `{:?}`.
fn is_printable(c: char) -> bool {
    if c == ' ' {
        return true;
    }
    if c.is_control() || c.is_whitespace() {
        return false;
    }
    // In front of a letter a combining mark is not the first character, so `{:?}` keeps it.
    let escaped = format!("{:?}", format!("a{c}"));
    !escaped.contains("\\u")
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn text_is_quoted_as_go_does_it() {
        let cases = [
            ("plain", "\"plain\""),
            ("a \"b\" \\", "\"a \\\"b\\\" \\\\\""),
            ("tab\there", "\"tab\\there\""),
            ("\u{1}\u{7f}", "\"\\x01\\x7f\""),
            ("안녕 é", "\"안녕 é\""),
            ("\u{a0}\u{200b}", "\"\\u00a0\\u200b\""),
            ("\u{fffd}", "\"\u{fffd}\""),
        ];
        for (text, expected) in cases {
            assert_eq!(quote(text), expected, "{text:?}");
        }
    }
}
