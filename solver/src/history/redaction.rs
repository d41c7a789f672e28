//! Values of build arguments do not go into the history: they are often tokens. Step names show
//! them (as with BuildKit), and so may logs and errors.

use std::collections::BTreeMap;

use super::record::Details;

/// Shorter values stay: they are versions and switches, and words that stand everywhere.
pub(super) const VALUE_BYTES_MIN: usize = 4;

/// What must not be remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Redaction {
    /// Values and what to put in their place, the longest first.
    values: Vec<(String, String)>,
}

impl Redaction {
    /// For these arguments.
    pub(super) fn of(arguments: &BTreeMap<String, String>) -> Self {
        let long = arguments
            .iter()
            .filter(|(_, value)| value.len() >= VALUE_BYTES_MIN);
        let mut values: Vec<_> = long
            .map(|(name, value)| (value.clone(), format!("${{{name}}}")))
            .collect();
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

#[cfg(test)]
mod tests {
    use super::super::record::{LogExcerpt, LogLine, StepRecord};
    use super::*;

    #[test]
    fn values_are_replaced_by_the_names_of_their_arguments() {
        let arguments = [("A", "token"), ("B", "token-and-more"), ("V", "3")];
        let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let redaction = Redaction::of(&arguments.into());
        let line = LogLine {
            text: "token token-and-more".into(),
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
        assert_eq!(details.steps[0].name, "RUN 3 ${A}");
        assert_eq!(details.steps[0].log.lines[0].text, "${A} ${B}");
        assert_eq!(details.error.as_deref(), Some("${A}!"));
    }
}
