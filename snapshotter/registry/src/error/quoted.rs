//! Foreign text as messages quote it.

/// Characters of foreign text that a message may hold.
const QUOTED_LENGTH_MAX: usize = 300;

/// Foreign text, fit for a message: bounded, on one line, without what terminals obey.
pub(crate) fn shortened(text: &str) -> String {
    let mut short = String::new();
    let mut is_blank = true;
    let mut characters = text.chars();
    for character in characters.by_ref().take(QUOTED_LENGTH_MAX) {
        if character.is_whitespace() || character.is_control() {
            if !is_blank {
                short.push(' ');
            }
            is_blank = true;
        } else if !is_invisible(character) {
            short.push(character);
            is_blank = false;
        }
    }
    short.truncate(short.trim_end().len());
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// Marks that turn text around or hide it.
fn is_invisible(character: char) -> bool {
    let ranges = [
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    ranges.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_reach_a_terminal() {
        let check = |text: &str, expect: &str| assert_eq!(shortened(text), expect);
        check("plain", "plain");
        check("\x1b[2J\x1b]0;title\x07red", "[2J ]0;title red");
        check(" a\r\n\tb \0", "a b");
        check("\u{202e}gnp.exe\u{200b}", "gnp.exe");
        check("\u{9b}31m", "31m");
        let long = shortened(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), QUOTED_LENGTH_MAX + 1);
    }
}
