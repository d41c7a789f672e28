//! Text in HTML. All that comes from logs, Dockerfiles and command lines goes through [`escape`].

use crate::output::harmless;

/// A text as HTML shows it, in elements and in quoted attributes: nothing of it is markup, and
/// control characters are gone.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in harmless(text.as_bytes()).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

/// A share as CSS has it: `12.345%`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.3}%", part as f64 * 100.0 / whole.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_escaped_is_markup() {
        for (text, expect) in [
            ("a < b && c", "a &lt; b &amp;&amp; c"),
            (
                "<script>alert(1)</script>",
                "&lt;script&gt;alert(1)&lt;/script&gt;",
            ),
            ("\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("\u{1b}[31mred\u{0}\u{202e}", "red"),
            ("&lt;", "&amp;lt;"),
        ] {
            assert_eq!(escape(text), expect);
        }
    }
}
