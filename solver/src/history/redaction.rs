//! What does not go into the history: secrets, and values of build arguments that are some by their
//! names. Steps may print either, and step names show arguments (as with BuildKit).

use std::collections::BTreeMap;

use super::record::Details;
use crate::secrets::Secrets;

/// Shorter values stay: they are versions and switches, and words that stand everywhere.
pub(super) const VALUE_BYTES_MIN: usize = 4;

/// What must not be remembered.
#[derive(Clone, Default)]
pub struct Redaction {
    /// Values and what to put in their place, the longest first.
    values: Vec<(String, String)>,
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").finish_non_exhaustive()
    }
}

impl Redaction {
    /// The values of these secrets, and of arguments that are secrets by their names. `${NAME}`
    /// will stand in the place of an argument, `[secret id]` of a secret; of one with several
    /// lines, of each.
    pub fn of(arguments: &BTreeMap<String, String>, secrets: &Secrets) -> Self {
        let mut values: Vec<(String, String)> = Vec::new();
        for (name, value) in arguments
            .iter()
            .filter(|(name, value)| is_secret(name, value))
        {
            values.push((value.clone(), format!("${{{name}}}")));
        }
        for (id, text) in secrets.texts() {
            let lines = text.lines().map(str::trim);
            values.extend(lines.map(|line| (line.to_owned(), format!("[secret {id}]"))));
        }
        values.retain(|(value, _)| value.len() >= VALUE_BYTES_MIN);
        // One value may be a part of another.
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Redaction { values }
    }

    /// Takes them out of everything that a build said.
    pub(super) fn apply(&self, details: &mut Details) {
        if self.values.is_empty() {
            return;
        }
        for step in &mut details.steps {
            self.clean(&mut step.name);
            step.error.iter_mut().for_each(|error| self.clean(error));
            step.warnings
                .iter_mut()
                .for_each(|warning| self.clean(warning));
            step.parts
                .iter_mut()
                .for_each(|part| self.clean(&mut part.id));
            step.log
                .lines
                .iter_mut()
                .for_each(|line| self.clean(&mut line.text));
        }
        details.error.iter_mut().for_each(|error| self.clean(error));
        details
            .warnings
            .iter_mut()
            .for_each(|warning| self.clean(warning));
        for layer in &mut details.layers {
            self.clean(&mut layer.created_by);
        }
    }

    fn clean(&self, text: &mut String) {
        for (value, name) in &self.values {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), name);
            }
        }
    }
}

/// Whether an argument's value is nothing to be remembered: by the words in its name by which
/// BuildKit warns of secrets in arguments, or as an address with a password.
fn is_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 9] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "secret",
        "token",
    ];
    let name = name.to_lowercase();
    let mut words = name.split(['_', '-']);
    let is_meant = words.any(|word| WORDS.contains(&word) || word.starts_with("pass"));
    let has_password = value
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@'));
    is_meant || has_password
}

#[cfg(test)]
mod tests {
    use super::super::record::{LogExcerpt, LogLine, StepRecord};
    use super::*;
    use crate::secrets::{SecretSource, SecretValue};

    #[test]
    fn values_are_replaced_by_the_names_of_arguments_and_secrets() {
        let arguments = [
            ("A_TOKEN", "token"),
            ("B_KEY", "token-and-more"),
            ("KEY", "3"),
            ("MODE", "RUN"),
            ("HTTP_PROXY", "http://me:pw@p:1"),
        ];
        let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut secrets = Secrets::default();
        let key = SecretValue::new(b"-----BEGIN\n  line-of-a-key\n");
        secrets.insert("key", SecretSource::Value(key));
        let missing = SecretSource::File("/nowhere".into());
        secrets.insert("gone", missing);
        secrets.insert("pipe", SecretSource::File("/dev/stdin".into()));
        let redaction = Redaction::of(&arguments.into(), &secrets);
        let line = LogLine {
            text: "token token-and-more line-of-a-key http://me:pw@p:1".into(),
            ..LogLine::default()
        };
        let step = StepRecord {
            name: "RUN 3 token".into(),
            log: LogExcerpt {
                lines: vec![line],
                ..LogExcerpt::default()
            },
            ..StepRecord::default()
        };
        let mut details = Details {
            steps: vec![step],
            error: Some("token!".into()),
            ..Details::default()
        };
        redaction.apply(&mut details);
        assert_eq!(details.steps[0].name, "RUN 3 ${A_TOKEN}");
        assert_eq!(
            details.steps[0].log.lines[0].text,
            "${A_TOKEN} ${B_KEY} [secret key] ${HTTP_PROXY}"
        );
        assert_eq!(details.error.as_deref(), Some("${A_TOKEN}!"));
    }
}
