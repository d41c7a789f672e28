//! The fields of one `-o`: taken out one by one.

use std::collections::BTreeMap;

/// Keys of annotations begin so; what follows is the annotation's own.
const ANNOTATION: &str = "annotation";

/// Most edits between what was written and what may have been meant.
const EDITS_MAX: usize = 3;

/// Fields that were not taken yet.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// # Errors
    /// A field that has no value, or is there twice.
    pub(super) fn parse(texts: &[String]) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for field in texts {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("the field {field:?} is not KEY=VALUE"));
            };
            let key = match key.trim() {
                key if key.starts_with(ANNOTATION) => key.to_owned(),
                key => key.to_lowercase(),
            };
            if values.insert(key.clone(), value.to_owned()).is_some() {
                return Err(format!("the key {key:?} is given twice"));
            }
        }
        Ok(Fields(values))
    }

    /// Refuses what a type does not take.
    ///
    /// # Errors
    /// Names the key, the one that was probably meant, and all that there are.
    pub(super) fn check(&self, kind: &str, keys: &[&str], annotated: bool) -> Result<(), String> {
        for key in self.0.keys() {
            if keys.contains(&key.as_str()) || (annotated && key.starts_with(ANNOTATION)) {
                continue;
            }
            let meant = nearest(key, keys);
            return Err(format!(
                "type={kind} takes no key {key:?}{meant}; it takes {}",
                match (keys, annotated) {
                    ([], _) => "none".to_owned(),
                    (keys, false) => keys.join(", "),
                    (keys, true) => format!("{}, annotation.KEY", keys.join(", ")),
                }
            ));
        }
        Ok(())
    }

    /// Takes what says how attestations are written. None are made, so they look alike whatever it
    /// says; as with BuildKit, that is no error.
    ///
    /// # Errors
    /// What is to be true or false is neither.
    pub(super) fn take_attestations(&mut self, of_image: bool) -> Result<(), String> {
        match of_image {
            true => {
                self.boolean("attestation-inline")?;
                self.boolean("oci-artifact")?;
            }
            false => drop(self.take("attestation-prefix")),
        }
        Ok(())
    }

    /// Takes a value.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// Takes what is true or false, in the spellings of Go's `strconv.ParseBool`.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(text) => Err(format!("{key}={text:?} is neither true nor false")),
        }
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("{key}={text:?} is not a whole number")),
            },
        }
    }

    /// Takes everything that begins like an annotation.
    pub(super) fn annotations(&mut self) -> Vec<(String, String)> {
        let is_annotation = |key: &String| key.starts_with(ANNOTATION);
        let keys: Vec<_> = self
            .0
            .keys()
            .filter(|key| is_annotation(key))
            .cloned()
            .collect();
        let pair = |key: String| self.0.remove(&key).map(|value| (key, value));
        keys.into_iter().filter_map(pair).collect()
    }
}

/// ` (did you mean X?)`, if something is near.
pub(super) fn nearest(text: &str, known: &[&str]) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(text, name);
    let found = known.iter().min_by_key(distance);
    let is_near = |name: &&&str| distance(name) <= EDITS_MAX.min(text.len() / 2);
    found
        .filter(is_near)
        .map(|name| format!(" (did you mean {name}?)"))
        .unwrap_or_default()
}
