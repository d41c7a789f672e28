//! "did you mean": the known name nearest to a mistyped one.

/// Names this many edits away, or more, are not suggested. BuildKit's value.
const DISTANCE_LIMIT: usize = 3;

/// Longer words are not compared: no known name comes near, and the comparison takes time in
/// proportion to the product of both lengths. Characters.
const WORD_LENGTH_MAX: usize = 64;

/// The option nearest to `word`; the first of several in the order of `options`. `None` when none
/// is near, or when one is equal (then the name is not what is wrong).
pub(crate) fn nearest(word: &str, options: &[&str]) -> Option<String> {
    if word.chars().count() > WORD_LENGTH_MAX {
        return None;
    }
    let mut best = None;
    let mut limit = DISTANCE_LIMIT;
    for option in options {
        let distance = distance(word, option);
        if distance == 0 {
            return None;
        }
        if distance < limit {
            limit = distance;
            best = Some((*option).to_owned());
        }
    }
    best
}

/// [`nearest`] without regard to case; the answer is in lower or upper case if `word` is.
pub(crate) fn nearest_in_any_case(word: &str, options: &[&str]) -> Option<String> {
    let lower: Vec<String> = options.iter().map(|o| o.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let found = nearest(&word.to_lowercase(), &lower)?;
    if word != word.to_lowercase() && word == word.to_uppercase() {
        return Some(found.to_uppercase());
    }
    Some(found)
}

/// The tail of a message.
pub(crate) fn did_you_mean(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(name) => format!(" (did you mean {name}?)"),
        None => String::new(),
    }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest, nearest_in_any_case};

    #[test]
    fn the_nearest_name_is_found_and_keeps_the_case_of_the_word() {
        let names = ["ADD", "COPY", "RUN"];
        let of = |word| nearest_in_any_case(word, &names);
        assert_eq!(of("COPPY").as_deref(), Some("COPY"));
        assert_eq!(of("rum").as_deref(), Some("run"));
        assert_eq!(of("Copyy").as_deref(), Some("copy"));
        assert_eq!(of("ENTRY"), None);
        assert_eq!(of("run"), None, "an equal name is not a suggestion");
    }

    #[test]
    fn a_very_long_word_has_no_suggestion() {
        assert_eq!(nearest(&"x".repeat(1 << 20), &["mount"]), None);
    }

    #[test]
    fn distance_counts_insertions_deletions_and_substitutions() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("mout", "mount", 1)] {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
