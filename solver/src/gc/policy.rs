//! Rules for what of the build cache may go: BuildKit's, with its names and its meaning.
//!
//! Rules are applied one after another. A rule looks at the entries that its filters let through
//! and that were not used for its duration. If it names amounts, the least recently used of them go
//! until the cache fits; else all of them go.

use std::collections::HashSet;

use regex::Regex;
use snapshotter::Manager;
use store::Timestamp;

use super::survey::{Entry, Survey};
use crate::cache::notes::RecordKind;
use crate::error::{Error, Result};

/// A condition: a field, how it is compared, with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    field: Field,
    comparison: Comparison,
    value: String,
    /// What `~=` looks for.
    pattern: Option<Pattern>,
}

/// What is wrong with a regular expression, without a picture of it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let last = last.strip_prefix("error: ").unwrap_or(last);
    format!("no regular expression: {last}")
}

/// A regular expression; equal if its text is.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Kind,
    Description,
    Parents,
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Is,
    IsNot,
    Contains,
}

const FIELDS: [(&str, Field); 9] = [
    ("id", Field::Id),
    ("type", Field::Kind),
    ("description", Field::Description),
    ("parents", Field::Parents),
    ("inuse", Field::InUse),
    ("mutable", Field::Mutable),
    ("immutable", Field::Immutable),
    ("shared", Field::Shared),
    ("private", Field::Private),
];

/// Kinds that BuildKit has and varve makes nothing of: known, and without entries.
const OTHER_KINDS: [&str; 4] = ["internal", "frontend", "source.git.checkout", "source.git"];

impl Condition {
    /// Reads `type==source.local`, `type=regular`, `description~=apt.*install`, `inuse`,
    /// `shared=false`. After `~=` stands a regular expression, as with buildkitd.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::Filter {
            filter: text.to_owned(),
            reason,
        };
        let split = |operator: &str| text.split_once(operator);
        let (name, comparison, value) = if let Some((name, value)) = split("!=") {
            (name, Comparison::IsNot, value)
        } else if let Some((name, value)) = split("~=") {
            (name, Comparison::Contains, value)
        } else if let Some((name, value)) = split("==").or(split("=")) {
            (name, Comparison::Is, value)
        } else {
            (text, Comparison::Is, "true")
        };
        let (name, value) = (name.trim().to_lowercase(), value.trim());
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        let Some((_, field)) = known else {
            let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
            return Err(bad(format!(
                "unknown key; there are until, {}",
                known.join(", ")
            )));
        };
        let is_truth = matches!(value, "true" | "false" | "1" | "0");
        let kinds = RecordKind::ALL.map(RecordKind::as_str);
        match field {
            Field::Kind
                if comparison != Comparison::Contains
                    && !kinds.contains(&value)
                    && !OTHER_KINDS.contains(&value) =>
            {
                return Err(bad(format!("no such type; there are {}", kinds.join(", "))));
            }
            Field::Id | Field::Kind | Field::Description | Field::Parents => {}
            _ if comparison != Comparison::Contains && !is_truth => {
                return Err(bad("expected true or false".into()));
            }
            _ => {}
        }
        let pattern = (comparison == Comparison::Contains)
            .then(|| Regex::new(value).map(Pattern))
            .transpose();
        Ok(Condition {
            field: *field,
            comparison,
            value: value.to_owned(),
            pattern: pattern.map_err(|error| bad(reason(&error)))?,
        })
    }

    /// Whether an entry is meant.
    pub fn holds(&self, entry: &Entry) -> bool {
        let truth = |truth: bool| if truth { "true" } else { "false" };
        let found = match self.field {
            Field::Id => entry.id.as_str(),
            Field::Kind => entry.kind.as_str(),
            Field::Description => entry.description.as_str(),
            Field::Parents => entry.parent.as_str(),
            Field::InUse => truth(entry.is_in_use),
            Field::Mutable => truth(entry.is_mutable),
            Field::Immutable => truth(!entry.is_mutable),
            Field::Shared => truth(entry.is_shared),
            Field::Private => truth(!entry.is_shared),
        };
        let value = match self.value.as_str() {
            "1" => "true",
            "0" => "false",
            value => value,
        };
        // The beginning of an id is enough, as everywhere.
        let is_same = match self.field {
            Field::Id | Field::Parents => !value.is_empty() && found.starts_with(value),
            _ => found == value,
        };
        match self.comparison {
            Comparison::Is => is_same,
            Comparison::IsNot => !is_same,
            Comparison::Contains => {
                let pattern = self.pattern.as_ref();
                pattern.is_some_and(|pattern| pattern.0.is_match(found))
            }
        }
    }
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// One of these groups must hold, all conditions of it; without groups everything is meant.
    pub filters: Vec<Vec<Condition>>,
    /// What was used since so many seconds ago stays.
    pub keep_seconds: Option<u64>,
    /// The cache is not made smaller than this, in bytes.
    pub reserved: u64,
    /// The cache is made no larger than this, in bytes; 0 for no limit.
    pub max_used: u64,
    /// So much of the disk is to be free, in bytes.
    pub min_free: u64,
}

impl Rule {
    /// How large the cache may stay; `None` if size does not matter and all that is meant goes.
    pub fn keep_bytes(&self, total: u64, free: u64) -> Option<u64> {
        if (self.reserved, self.max_used, self.min_free) == (0, 0, 0) {
            return None;
        }
        let excess = self.min_free.saturating_sub(free);
        let for_free = (excess > 0).then(|| total.saturating_sub(excess));
        let for_used = (self.max_used > 0).then_some(self.max_used);
        let keep = match (for_used, for_free) {
            (Some(used), Some(free)) => used.min(free),
            // Nothing but a reserve: all above it goes, as buildkitd has it.
            (None, None) if self.min_free == 0 => 0,
            (None, None) => total,
            (one, other) => one.or(other).unwrap_or(0),
        };
        Some(keep.max(self.reserved))
    }

    fn means(&self, entry: &Entry, now: Timestamp) -> bool {
        let age = now.seconds.saturating_sub(entry.last_used.seconds);
        let age = u64::try_from(age).unwrap_or(0);
        entry.is_reclaimable()
            && self.keep_seconds.is_none_or(|keep| age >= keep)
            && (self.filters.is_empty()
                || self
                    .filters
                    .iter()
                    .any(|group| group.iter().all(|condition| condition.holds(entry))))
    }
}

/// What rules let go of, the least recently used first. The entries that go are measured so that
/// their sizes are what comes back.
///
/// # Errors
/// Those of the store.
pub fn choose(
    survey: &Survey,
    rules: &[Rule],
    manager: &Manager,
    (now, free): (Timestamp, u64),
) -> Result<Vec<Entry>> {
    let mut gone: Vec<Entry> = Vec::new();
    let mut left = survey.clone();
    let mut free = free;
    for rule in rules {
        let meant = meant(&left, rule, now);
        if meant.is_empty() {
            continue;
        }
        left.measure(manager, &|entry| meant.contains(&entry.snapshot))?;
        let mut total = left.reclaimable();
        let keep = rule.keep_bytes(total, free);
        let mut taken = HashSet::new();
        // The list ends with the least recently used.
        for entry in left.entries.iter().rev() {
            if keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if meant.contains(&entry.snapshot) {
                total -= entry.bytes;
                free += entry.bytes;
                taken.insert(entry.snapshot.clone());
                gone.push(entry.clone());
            }
        }
        left.entries
            .retain(|entry| !taken.contains(&entry.snapshot));
    }
    Ok(gone)
}

/// The entries that a rule means. What is below something that stays stays too.
fn meant(survey: &Survey, rule: &Rule, now: Timestamp) -> HashSet<String> {
    let mut meant: HashSet<String> = survey
        .entries
        .iter()
        .filter(|entry| rule.means(entry, now))
        .map(|entry| entry.snapshot.clone())
        .collect();
    loop {
        let kept = survey
            .entries
            .iter()
            .filter(|entry| !meant.contains(&entry.snapshot));
        let needed: Vec<String> = kept.filter_map(Survey::below).collect();
        let before = meant.len();
        for snapshot in needed {
            meant.remove(&snapshot);
        }
        if meant.len() == before {
            return meant;
        }
    }
}

/// buildkitd's rules for a cache of this size.
pub fn default_rules(reserved: u64, max_used: u64, min_free: u64) -> Vec<Rule> {
    let kind = |name: &str| Condition::parse(&format!("type=={name}")).map(|one| vec![one]);
    let reproducible = ["source.local", "exec.cachemount", "source.git.checkout"];
    let limits = Rule {
        reserved,
        max_used,
        min_free,
        ..Rule::default()
    };
    vec![
        // What is made again most easily.
        Rule {
            filters: reproducible
                .iter()
                .filter_map(|name| kind(name).ok())
                .collect(),
            keep_seconds: Some(48 * 3_600),
            max_used: 512 << 20,
            ..Rule::default()
        },
        // What nobody has used for long.
        Rule {
            keep_seconds: Some(60 * 24 * 3_600),
            ..limits.clone()
        },
        // What does not fit. (Of a fourth rule of buildkitd there is nothing: internal records.)
        limits,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_limit_counts_and_the_reserve_goes_before_both() {
        let rule = |reserved, max_used, min_free| Rule {
            reserved,
            max_used,
            min_free,
            ..Rule::default()
        };
        for (rule, total, free, keep) in [
            (rule(0, 0, 0), 100, 100, None),
            (rule(0, 50, 0), 100, 100, Some(50)),
            (rule(70, 50, 0), 100, 100, Some(70)),
            (rule(0, 50, 120), 100, 100, Some(50)),
            (rule(0, 90, 120), 100, 100, Some(80)),
            (rule(0, 0, 120), 100, 100, Some(80)),
            (rule(0, 0, 90), 100, 100, Some(100)),
            (rule(30, 0, 900), 100, 100, Some(30)),
            (rule(30, 0, 0), 100, 100, Some(30)),
        ] {
            assert_eq!(rule.keep_bytes(total, free), keep, "{rule:?}");
        }
    }

    #[test]
    fn conditions_are_read_in_the_forms_of_buildctl_and_docker() {
        for text in [
            "type==source.local",
            "type=regular",
            "type!=exec.cachemount",
            "type=frontend",
            "description~=apt-get",
            "description~=^RUN .*(curl|wget)",
            "inuse",
            "shared=false",
            "id=0123",
        ] {
            assert!(Condition::parse(text).is_ok(), "{text}");
        }
        for text in [
            "colour=red",
            "type=odd",
            "inuse=perhaps",
            "description~=(",
            "",
        ] {
            let error = Condition::parse(text).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
