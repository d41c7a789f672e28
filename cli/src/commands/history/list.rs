//! The list of builds.

use serde_json::{Value, json};
use solver::history::History;
use solver::history::record::{Status, Summary};

use crate::args::history::List;
use crate::commands::images::age;
use crate::error::print;
use crate::output::format::{Columns, Format};
use crate::output::{harmless, seconds};

/// Characters of a name in a table; its end says more than its beginning.
const NAME_CHARACTERS: usize = 36;

/// Lists builds, newest first.
///
/// # Errors
/// Those of the store.
pub(super) fn list(history: &History, options: &List) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let mut builds = history.list()?;
    builds.reverse();
    builds.retain(|build| {
        let mut filters = options.filter.iter();
        filters.all(|filter| filter.holds(build, now.as_millisecond()))
    });
    if options.quiet {
        let numbers = builds.iter().map(|build| format!("{}\n", build.number));
        return print(&numbers.collect::<String>());
    }
    // Programs get what buildx gives them, people and their templates the words of the table.
    let row = |build: &Summary| match options.format {
        Format::Json => described(build),
        _ => shown(build, options.no_trunc, now),
    };
    let rows: Vec<_> = builds.iter().map(row).collect();
    let columns = Columns {
        fields: &[
            ("BUILD", "Ref"),
            ("NAME", "Name"),
            ("STATUS", "Status"),
            ("CREATED AT", "CreatedAt"),
            ("DURATION", "Duration"),
            ("STEPS", "Steps"),
        ],
        right: &[0],
    };
    print(&options.format.list(&rows, &columns)?)
}

/// The fields that buildx has for templates, and one more.
fn shown(build: &Summary, in_full: bool, now: jiff::Timestamp) -> Value {
    let name = harmless(build.asked.name().as_bytes());
    let started = i64::try_from(build.started_ms / 1_000).unwrap_or(i64::MAX);
    json!({
        "Ref": build.number.to_string(),
        "Name": if in_full { name } else { end_of(&name) },
        "Status": status(build.status),
        "CreatedAt": age(now.as_second().saturating_sub(started)),
        "Duration": match build.status {
            // Nobody was there to see its end.
            Status::Killed => String::new(),
            _ => seconds(build.duration_us),
        },
        "Steps": steps(build),
    })
}

/// `12 (8 cached)`.
fn steps(build: &Summary) -> String {
    let total = build.steps.total();
    match build.steps.cached {
        0 => total.to_string(),
        cached => format!("{total} ({cached} cached)"),
    }
}

/// Under the keys of buildx.
fn described(build: &Summary) -> Value {
    json!({
        "ref": build.number.to_string(),
        "name": build.asked.name(),
        "status": status(build.status),
        "created_at": time(build.started_ms),
        "completed_at": completed(build),
        "total_steps": build.steps.total(),
        "completed_steps": build.steps.run + build.steps.cached,
        "cached_steps": build.steps.cached,
    })
}

/// Nothing for one that runs, or that was killed nobody knows when.
fn completed(build: &Summary) -> Option<String> {
    let is_over = !matches!(build.status, Status::Running | Status::Killed);
    is_over.then(|| time(build.started_ms.saturating_add(build.duration_us / 1_000)))
}

/// As a person reads it.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Completed => "Completed",
        Status::Error => "Error",
        Status::Canceled => "Canceled",
        Status::Running => "Running",
        Status::Killed => "Killed",
    }
}

/// RFC 3339.
pub(super) fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

fn end_of(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_CHARACTERS {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - NAME_CHARACTERS + 1).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn of_a_long_name_the_end_is_shown() {
        assert_eq!(end_of("app"), "app");
        let long = "a".repeat(40) + "/Dockerfile.prod";
        assert_eq!(end_of(&long).chars().count(), 36);
        assert!(end_of(&long).starts_with('…') && end_of(&long).ends_with("a/Dockerfile.prod"));
    }
}
