//! Comma-separated fields with CSV quoting: the values of `--mount` and `--device`.

use crate::error::Problem;

/// Splits `text` at commas. A field in double quotes may hold commas; a doubled quote in it is a
/// quote. `what` names the thing in errors.
pub(super) fn split_fields(text: &str, what: &'static str) -> Result<Vec<String>, Problem> {
    let fail = |reason: String| Problem::Csv { what, reason };
    if text.is_empty() {
        return Err(fail("EOF".to_owned()));
    }
    let at = |rest: &str, message: &str| {
        let column = text.len() - rest.len() + 1;
        fail(format!("parse error on line 1, column {column}: {message}"))
    };

    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)
                .map_err(|rest| at(rest, "extraneous or missing \" in quoted-field"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if let Some(quote) = rest[..end].find('"') {
                    return Err(at(&rest[quote..], "bare \" in non-quoted-field"));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The field's text and what follows its closing quote: nothing, or a comma. The error is the
/// place where the quote is missing or too many.
fn quoted_field(mut rest: &str) -> Result<(String, &str), &str> {
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or(rest)?;
        field.push_str(&rest[..end]);
        let after = &rest[end + 1..];
        match after.chars().next() {
            Some('"') => {
                field.push('"');
                rest = &after[1..];
            }
            None | Some(',') => return Ok((field, after)),
            Some(_) => return Err(&rest[end..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_fields;

    #[test]
    fn fields_are_split_at_commas_outside_of_quotes() {
        let cases: [(&str, &[&str]); 6] = [
            ("a=b,c", &["a=b", "c"]),
            ("a,,b,", &["a", "", "b", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("\"\"", &[""]),
            ("é,\"ü,\"", &["é", "ü,"]),
        ];
        for (text, expected) in cases {
            assert_eq!(
                split_fields(text, "mounts").expect(text),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_quotes_are_refused_with_their_column() {
        let cases = [
            ("", "EOF"),
            (
                "a,b\"c",
                "parse error on line 1, column 4: bare \" in non-quoted-field",
            ),
            (
                "\"a",
                "parse error on line 1, column 2: extraneous or missing \" in quoted-field",
            ),
            (
                "\"a\"b",
                "parse error on line 1, column 3: extraneous or missing \" in quoted-field",
            ),
        ];
        for (text, reason) in cases {
            let error = split_fields(text, "mounts").expect_err(text).to_string();
            assert_eq!(error, format!("failed to parse csv mounts: {reason}"));
        }
    }
}
