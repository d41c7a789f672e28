//! History entries in BuildKit's wording, which is Go's way to print lists, durations and times.

use std::fmt::Write;

use super::stage::StageState;
use crate::config::{HISTORY_COMMENT, HealthConfig, History};
use crate::error::quote::quote;

/// What kind of entry an instruction leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It changed the configuration only.
    Empty,
    /// It made a layer.
    Layer,
    /// It ran or copied something: a layer, and the marker that the entry is no shell command.
    Built,
}

impl StageState {
    /// Appends an entry.
    pub(super) fn commit(&mut self, mut created_by: String, entry: Entry) {
        if entry == Entry::Built {
            created_by.push_str(" # buildkit");
        }
        self.image.history.push(History {
            created: self.created.clone(),
            created_by,
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: entry == Entry::Empty,
            ..History::default()
        });
    }
}

/// `[a b]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// `["a" "b"]`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| quote(item)).collect();
    list(&quoted)
}

/// `{Test:[CMD true] Interval:5s …}`.
pub(super) fn health(check: &HealthConfig) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        list(&check.test),
        duration(check.interval_ns),
        duration(check.timeout_ns),
        duration(check.start_period_ns),
        duration(check.start_interval_ns),
        check.retries
    )
}

/// `1h2m3.5s`, `1.5ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let fraction = |value: u64, unit: u64| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        format!("{}{point}{digits}", value / unit)
    };
    let sign = if nanoseconds < 0 { "-" } else { "" };
    match nanoseconds.unsigned_abs() {
        0 => "0s".to_owned(),
        value @ ..1_000 => format!("{sign}{value}ns"),
        value @ ..1_000_000 => format!("{sign}{}µs", fraction(value, 1_000)),
        value @ ..1_000_000_000 => format!("{sign}{}ms", fraction(value, 1_000_000)),
        value => {
            let (minutes, rest) = (value / 60_000_000_000, value % 60_000_000_000);
            let seconds = if rest == 0 {
                "0".to_owned()
            } else {
                fraction(rest, 1_000_000_000)
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Seconds since the epoch as RFC 3339 in UTC; `None` for years that have not four digits.
pub(super) fn rfc3339(seconds: i64) -> Option<String> {
    const DAY: i64 = 86_400;
    /// 0000-01-01 and 9999-12-31 in days since the epoch.
    const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;
    let (days, time) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    if !DAYS.contains(&days) {
        return None;
    }
    // Years counted from March, so that the leap day is the last of a year (Howard Hinnant,
    // "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    write!(text, "T{hour:02}:{minute:02}:{second:02}Z").ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does_it() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (30_000_000_000, "30s"),
            (1_500_000_000, "1.5s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_001_000_000, "1h1m1.001s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn times_are_printed_in_utc_and_leap_days_are_known() {
        for (seconds, expected) in [
            (0, Some("1970-01-01T00:00:00Z")),
            (951_827_696, Some("2000-02-29T12:34:56Z")),
            (1_700_000_000, Some("2023-11-14T22:13:20Z")),
            (-1, Some("1969-12-31T23:59:59Z")),
            (253_402_300_799, Some("9999-12-31T23:59:59Z")),
            (253_402_300_800, None),
            (-62_167_219_200, Some("0000-01-01T00:00:00Z")),
            (-62_167_219_201, None),
            (i64::MIN, None),
        ] {
            assert_eq!(rfc3339(seconds).as_deref(), expected, "{seconds}");
        }
    }
}
