//! The build cache as lists show it, and the filters of `varve du` and `varve prune`.

use anyhow::bail;
use serde_json::{Value, json};
use solver::gc::policy::Condition;
use solver::gc::survey::Entry;
use store::Timestamp;

use super::images::age;
use super::times;
use crate::args::space::until;
use crate::output::format::{Columns, Format};
use crate::output::size;
use crate::output::template::visible;

/// The columns of `docker buildx du`.
const COLUMNS: Columns<'_> = Columns {
    fields: &[
        ("ID", "ID"),
        ("RECLAIMABLE", "Reclaimable"),
        ("SIZE", "Size"),
        ("LAST ACCESSED", "LastAccessed"),
    ],
    right: &[2],
};

/// What `--filter` says, all of it.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// What must hold.
    pub(super) conditions: Vec<Condition>,
    /// Not used for so many seconds.
    pub(super) keep_seconds: Option<u64>,
}

impl Chosen {
    /// Reads filters.
    ///
    /// # Errors
    /// What is none.
    pub(super) fn read(filters: &[String]) -> anyhow::Result<Self> {
        let mut chosen = Chosen::default();
        for filter in filters {
            let Some(time) = until(filter) else {
                chosen.conditions.push(Condition::parse(filter)?);
                continue;
            };
            let ago = jiff::Timestamp::now().as_second() - times::past(&time)?.as_second();
            match u64::try_from(ago) {
                Ok(ago) => chosen.keep_seconds = chosen.keep_seconds.max(Some(ago)),
                Err(_) => bail!("--filter {filter}: this time is still to come"),
            }
        }
        Ok(chosen)
    }

    /// What was used in that time is not meant, besides.
    ///
    /// # Errors
    /// It is no duration.
    pub(super) fn keep_for(&mut self, duration: &str) -> anyhow::Result<()> {
        let kept = times::duration(duration);
        let kept = kept.map_err(|error| anyhow::anyhow!("--keep-duration: {error}"))?;
        let seconds = u64::try_from(kept.as_secs()).unwrap_or_default();
        self.keep_seconds = self.keep_seconds.max(Some(seconds));
        Ok(())
    }

    /// Whether an entry is meant.
    pub(super) fn means(&self, entry: &Entry, now: i64) -> bool {
        let unused = u64::try_from(now - entry.last_used.seconds).unwrap_or(0);
        self.keep_seconds.is_none_or(|keep| unused >= keep)
            && self.conditions.iter().all(|one| one.holds(entry))
    }
}

fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::new(time.seconds, time.nanoseconds.cast_signed());
    time.map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

fn row(entry: &Entry, now: i64) -> Value {
    let mark = if entry.is_mutable { "*" } else { "" };
    json!({
        "ID": format!("{}{mark}", entry.id),
        "Reclaimable": entry.is_reclaimable(),
        "Size": size(entry.bytes),
        "Bytes": entry.bytes,
        "LastAccessed": age(now - entry.last_used.seconds),
        "LastUsedAt": rfc3339(entry.last_used),
        "CreatedAt": rfc3339(entry.created),
        "Type": entry.kind.as_str(),
        "Description": entry.description,
        "UsageCount": entry.uses,
        "Shared": entry.is_shared,
        "InUse": entry.is_in_use,
        "Mutable": entry.is_mutable,
        "Parents": entry.parent,
    })
}

/// The list in a form.
///
/// # Errors
/// The template does not fit.
pub(super) fn listed(entries: &[&Entry], format: &Format) -> anyhow::Result<String> {
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<_> = entries.iter().map(|entry| row(entry, now)).collect();
    format.list(&rows, &COLUMNS)
}

/// All that is known of each, as `buildctl du --verbose` has it.
pub(super) fn verbose(entries: &[&Entry]) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut text = String::new();
    for entry in entries {
        let mut line = |name: &str, value: &str| {
            let name = format!("{name}:");
            text.push_str(&format!("{name:<15}{}\n", visible(value, true)));
        };
        line("ID", &entry.id);
        if !entry.parent.is_empty() {
            line("Parent", &entry.parent);
        }
        line("Created at", &rfc3339(entry.created));
        line("Mutable", &entry.is_mutable.to_string());
        line("Reclaimable", &entry.is_reclaimable().to_string());
        line("Shared", &entry.is_shared.to_string());
        line("Size", &size(entry.bytes));
        if !entry.description.is_empty() {
            line("Description", &entry.description);
        }
        line("Usage count", &entry.uses.to_string());
        line("Last used", &age(now - entry.last_used.seconds));
        line("Type", entry.kind.as_str());
        text.push('\n');
    }
    text
}
