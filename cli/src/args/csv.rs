//! One line of comma-separated values, as `docker buildx build --output` takes it (RFC 4180: a
//! field that holds a comma stands in double quotes, a quote inside it is doubled).

/// The fields of a line.
///
/// # Errors
/// A sentence about misplaced quotes.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => take_bare(rest)?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field and what stands behind the comma after it, if there is one.
type Taken<'a> = Result<(String, Option<&'a str>), String>;

fn take_bare(text: &str) -> Taken<'_> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err(format!(
            "a double quote inside the field {field:?}: quote the whole field"
        ));
    }
    Ok((field.to_owned(), after))
}

fn take_quoted(text: &str) -> Taken<'_> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err("a double quote is not closed".to_owned());
        };
        field.push_str(part);
        match after.chars().next() {
            Some('"') => {
                field.push('"');
                rest = &after[1..];
            }
            Some(',') => return Ok((field, Some(&after[1..]))),
            None => return Ok((field, None)),
            Some(_) => return Err(format!("text follows the quoted field {field:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn fields_are_parted_by_commas_outside_of_quotes() {
        for (line, expect) in [
            ("a", &["a"][..]),
            ("", &[""]),
            ("a,b", &["a", "b"]),
            ("a,", &["a", ""]),
            ("type=oci,\"dest=a,b\"", &["type=oci", "dest=a,b"]),
            ("\"say \"\"hi\"\"\",x", &["say \"hi\"", "x"]),
            ("\"\"", &[""]),
        ] {
            assert_eq!(fields(line).unwrap(), expect, "{line}");
        }
    }

    #[test]
    fn misplaced_quotes_are_refused() {
        for line in ["a\"b", "\"a", "\"a\"b", "\"", "x,\"\"\""] {
            assert!(fields(line).is_err(), "{line}");
        }
    }
}
