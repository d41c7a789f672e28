//! What a build took, in a few lines below the progress.

use std::time::Duration;

use solver::history::record::{Status, Summary};

use super::size::size;

/// Two lines: what was done and how long it took, and the bytes that were moved. Amounts of
/// nothing are left out.
///
/// ```text
/// build 12: 5 steps (3 run, 2 cached) in 3.2s, critical path 2.9s
/// 12.34MB downloaded, 3.40MB written to the store, 1.20MB deduplicated
/// ```
pub(crate) fn summary(build: &Summary) -> String {
    let steps = build.steps;
    let plural = if steps.total() == 1 { "" } else { "s" };
    let counts: Vec<_> = [
        (steps.run, "run"),
        (steps.cached, "cached"),
        (steps.failed, "failed"),
        (steps.canceled, "not done"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, name)| format!("{count} {name}"))
    .collect();
    let counts = match counts.as_slice() {
        [] => String::new(),
        counts => format!(" ({})", counts.join(", ")),
    };
    let title = match build.number {
        0 => "build".to_owned(),
        number => format!("build {number}"),
    };
    let how = match build.status {
        Status::Completed => "",
        Status::Error => " failed:",
        Status::Canceled => " canceled:",
        Status::Running => " runs:",
        Status::Killed => " was killed:",
    };
    let colon = if how.is_empty() { ":" } else { "" };
    let mut text = format!(
        "{title}{colon}{how} {} step{plural}{counts} in {}",
        steps.total(),
        seconds(build.duration_us),
    );
    if build.critical_path_us > 0 {
        let path = seconds(build.critical_path_us);
        text.push_str(&format!(", critical path {path}"));
    }
    let traffic = build.traffic;
    let amounts: Vec<_> = [
        (traffic.downloaded, "downloaded"),
        (traffic.written, "written to the store"),
        (traffic.deduplicated, "deduplicated"),
    ]
    .into_iter()
    .filter(|(bytes, _)| *bytes > 0)
    .map(|(bytes, name)| format!("{} {name}", size(bytes)))
    .collect();
    if !amounts.is_empty() {
        text.push('\n');
        text.push_str(&amounts.join(", "));
    }
    text
}

/// `3.2s`, `2m 3.2s`, and below a tenth of a second `41ms`.
pub(crate) fn seconds(micros: u64) -> String {
    let duration = Duration::from_micros(micros);
    let tenths = (duration.as_secs_f64() * 10.0).round() as u64;
    match tenths {
        0 => format!("{}ms", duration.as_millis()),
        tenths if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        tenths => {
            let minutes = tenths / 600;
            format!("{minutes}m {}.{}s", tenths % 600 / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solver::history::record::{Counts, Traffic};

    #[test]
    fn a_summary_tells_only_what_there_is_to_tell() {
        let mut build = Summary {
            number: 12,
            duration_us: 3_210_000,
            critical_path_us: 2_900_000,
            steps: Counts {
                run: 3,
                cached: 2,
                ..Counts::default()
            },
            traffic: Traffic {
                downloaded: 0,
                written: 3_400_000,
                deduplicated: 12,
            },
            ..Summary::default()
        };
        assert_eq!(
            summary(&build),
            "build 12: 5 steps (3 run, 2 cached) in 3.2s, critical path 2.9s\n\
             3.40MB written to the store, 12B deduplicated"
        );
        build.status = Status::Error;
        (build.steps, build.traffic) = (Counts::default(), Traffic::default());
        (build.steps.failed, build.critical_path_us) = (1, 0);
        assert_eq!(
            summary(&build),
            "build 12 failed: 1 step (1 failed) in 3.2s"
        );
    }

    #[test]
    fn times_are_told_in_seconds_and_minutes() {
        for (micros, text) in [
            (0, "0ms"),
            (41_300, "41ms"),
            (50_000, "0.1s"),
            (59_949_999, "59.9s"),
            (59_960_000, "1m 0.0s"),
            (3_723_400_000, "62m 3.4s"),
        ] {
            assert_eq!(seconds(micros), text);
        }
    }
}
