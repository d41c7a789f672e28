//! Here-documents: `RUN <<EOF`, `COPY <<file.txt /dest`.
//!
//! Which words of a line start one is decided with the default escape character, whatever
//! `# escape=` says: a delimiter follows the rules of a POSIX shell.

use crate::ast::Heredoc;
use crate::error::{Error, Problem};
use crate::lines::{Reader, trim_line_ending};
use crate::words::{Lexer, NoVariables, WordError};

/// The here-documents that `line` starts, still without content.
///
/// A line with unbalanced quotes starts none: then `<<` may well stand inside of them.
pub(crate) fn in_line(line: &str) -> Result<Vec<Heredoc>, WordError> {
    let lexer = Lexer::new('\\').raw_quotes().raw_escapes().skip_unset();
    let Ok(words) = lexer.process_words(line, &NoVariables) else {
        return Ok(Vec::new());
    };
    let mut heredocs = Vec::new();
    for word in words {
        heredocs.extend(parse_word(&word)?);
    }
    Ok(heredocs)
}

/// Reads the word `[digits]<<[-]delimiter`. `None` if `word` is something else.
///
/// # Errors
/// The delimiter's quotes are not balanced.
pub(crate) fn parse_word(word: &str) -> Result<Option<Heredoc>, WordError> {
    let after_number = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &word[..word.len() - after_number.len()];
    let Some(rest) = after_number.strip_prefix("<<") else {
        return Ok(None);
    };
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }

    let lexer = Lexer::new('\\').skip_unset();
    let words = lexer.process_words(rest, &NoVariables)?;
    let [name] = words.as_slice() else {
        return Ok(None);
    };
    // Fewer quotes after processing than before: some part was quoted.
    let raw = lexer.raw_quotes().process_word(rest, &NoVariables)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();

    Ok(Some(Heredoc {
        expand: quotes(name) == quotes(&raw),
        name: name.clone(),
        file_descriptor: if number.is_empty() {
            0
        } else {
            number.parse().unwrap_or(u32::MAX)
        },
        chomp,
        content: String::new(),
    }))
}

/// Reads the body of `heredoc` up to the line with its delimiter.
///
/// # Errors
/// [`Problem::UnterminatedHeredoc`] at the end of the file; its lines are those of the whole
/// instruction, which starts on line `start`.
pub(crate) fn read_body(
    heredoc: &mut Heredoc,
    reader: &mut Reader<'_>,
    start: usize,
) -> Result<(), Error> {
    while let Some(line) = reader.verbatim()? {
        let mut possible_delimiter = trim_line_ending(line.as_bytes());
        if heredoc.chomp {
            let tabs = possible_delimiter.iter().take_while(|b| **b == b'\t');
            possible_delimiter = &possible_delimiter[tabs.count()..];
        }
        if possible_delimiter == heredoc.name.as_bytes() {
            return Ok(());
        }
        heredoc.content.push_str(line);
    }
    Err(Error::Syntax {
        problem: Problem::UnterminatedHeredoc,
        span: crate::error::Span::new(start, reader.number()),
    })
}

impl Heredoc {
    /// The body as `<<-` wants it: without the leading tabs of each line. The body unchanged for
    /// plain `<<`.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        let lines = self.content.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{in_line, parse_word};

    #[test]
    fn a_delimiter_may_be_quoted_indented_and_numbered() {
        let words = [
            "<<EOF",
            "<<'EOF'",
            "<<\"EOF\"",
            "<<-EOF",
            "<<-'EOF'",
            "<<EO\"F\"",
            "<< EOF",
            "<<- EOF",
        ];
        for word in words {
            let heredoc = parse_word(word).expect(word).expect(word);
            assert_eq!(heredoc.name, "EOF", "{word}");
            assert_eq!(heredoc.chomp, word.contains('-'), "{word}");
            assert_eq!(heredoc.expand, !word.contains(['\'', '"']), "{word}");
        }
        let numbered = parse_word("34<<EOF").expect("valid").expect("heredoc");
        assert_eq!(numbered.file_descriptor, 34);
        let huge = parse_word("99999999999<<EOF").expect("valid");
        assert_eq!(huge.expect("heredoc").file_descriptor, u32::MAX);
    }

    #[test]
    fn other_words_are_no_heredocs() {
        for word in [
            "", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "x<<EOF", "<<''",
        ] {
            assert_eq!(parse_word(word).expect(word), None, "{word}");
        }
    }

    #[test]
    fn unbalanced_quotes_in_a_delimiter_are_an_error() {
        for word in ["<<'EOF", "<<\"EOF", "<<EOF'", "<<EOF\""] {
            assert!(parse_word(word).is_err(), "{word}");
        }
    }

    #[test]
    fn heredocs_are_found_in_a_line() {
        let cases: [(&str, &[&str]); 10] = [
            ("RUN <<-EOF", &["EOF"]),
            ("RUN <<- EOF", &[]),
            ("RUN << -EOF", &["-EOF"]),
            ("RUN 4<<EOF <<EOF2", &["EOF", "EOF2"]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN cat <<a >b && cat <<c", &["a", "c"]),
            ("RUN <<'one two'", &["one two"]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN <<$EOF", &["$EOF"]),
        ];
        for (line, expected) in cases {
            let found = in_line(line).expect(line);
            let names: Vec<&str> = found.iter().map(|h| h.name.as_str()).collect();
            assert_eq!(names, expected, "{line}");
        }
    }
}
