//! `HEALTHCHECK`.

use std::time::Duration;

use super::arguments::Arguments;
use super::flags::{Flag, Flags};
use super::node::Node;
use crate::ast::{CommandLine, HealthCommand, Healthcheck};
use crate::error::Problem;

const FLAGS: [Flag; 5] = [
    Flag::text("interval"),
    Flag::text("timeout"),
    Flag::text("start-period"),
    Flag::text("start-interval"),
    Flag::text("retries"),
];

/// Shorter intervals are refused, as in BuildKit; zero means "inherit".
const INTERVAL_MIN: Duration = Duration::from_millis(1);

pub(super) fn healthcheck(node: Node) -> Result<Healthcheck, Problem> {
    let (kind, command) = match node.arguments {
        Arguments::Health { kind, command } if !kind.is_empty() => (kind, command),
        _ => {
            let keyword = "HEALTHCHECK";
            return Err(Problem::AtLeastOneArgument { keyword });
        }
    };
    let is_empty = match &command {
        CommandLine::Shell(text) => text.is_empty(),
        CommandLine::Exec(words) => words.is_empty(),
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        // Flags of NONE are dropped without a word, as in BuildKit.
        return if is_empty {
            Ok(Healthcheck::None)
        } else {
            Err(Problem::HealthcheckNoneArguments)
        };
    }
    let flags = Flags::parse(&node.flags, &FLAGS)?;
    match kind.as_str() {
        "CMD" if is_empty => return Err(Problem::HealthcheckNoCommand),
        "CMD" => {}
        _ => return Err(Problem::HealthcheckType { kind }),
    }
    Ok(Healthcheck::Check(Box::new(HealthCommand {
        command,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(flags.text("retries").unwrap_or_default())?,
    })))
}

fn interval(flags: &Flags, flag: &'static str) -> Result<Duration, Problem> {
    let text = flags.text(flag).unwrap_or_default();
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let nanoseconds = parse_duration(text)?;
    let duration = Duration::from_nanos(nanoseconds.max(0).unsigned_abs());
    if nanoseconds != 0 && duration < INTERVAL_MIN {
        return Err(Problem::IntervalTooShort { flag });
    }
    Ok(duration)
}

fn retries(text: &str) -> Result<u32, Problem> {
    if text.is_empty() {
        return Ok(0);
    }
    let value: i64 = match text.parse::<i32>() {
        Ok(value) => value.into(),
        Err(_) => {
            return Err(Problem::Retries {
                value: text.to_owned(),
            });
        }
    };
    u32::try_from(value).map_err(|_| Problem::NegativeRetries { value })
}

/// Nanoseconds in a duration as Go writes it: `1h30m`, `1.5s`, `-300ms`, `0`.
fn parse_duration(text: &str) -> Result<i64, Problem> {
    let value = || text.to_owned();
    let invalid = || Problem::Duration { value: value() };
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (whole, after) = rest.split_at(end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => {
                let end = after
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(after.len());
                after.split_at(end)
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let is_unit_end = |c: char| c == '.' || c.is_ascii_digit();
        let (unit, after) = after.split_at(after.find(is_unit_end).unwrap_or(after.len()));
        let unit_nanoseconds = match unit {
            "" => return Err(Problem::DurationWithoutUnit { value: value() }),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000_i128,
            "h" => 3_600 * 1_000_000_000_i128,
            _ => {
                return Err(Problem::DurationUnit {
                    unit: unit.to_owned(),
                    value: value(),
                });
            }
        };
        let part = parse_part(whole, fraction, unit_nanoseconds).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if is_negative { -total } else { total })
}

/// `whole.fraction` units in nanoseconds, rounded down.
fn parse_part(whole: &str, fraction: &str, unit_nanoseconds: i128) -> Option<i128> {
    // 18 digits after the point are finer than a nanosecond in an hour.
    const FRACTION_DIGITS_MAX: usize = 18;
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction: i64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let fraction = i128::from(fraction) * unit_nanoseconds / 10_i128.pow(digits);
    Some(i128::from(whole) * unit_nanoseconds + fraction)
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Ok(0)),
            ("+5s", Ok(5_000_000_000)),
            ("-1.5h", Ok(-5_400_000_000_000)),
            ("1h2m3s4ms5us6ns", Ok(3_723_004_005_006)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("1.0000000001s", Ok(1_000_000_000)),
            ("2\u{b5}s2\u{3bc}s", Ok(4_000)),
            ("", Err("time: invalid duration \"\"")),
            ("-", Err("time: invalid duration \"-\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("s", Err("time: invalid duration \"s\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5d", Err("time: unknown unit \"d\" in duration \"5d\"")),
            ("9999999999h", Err("time: invalid duration \"9999999999h\"")),
            (
                "99999999999999999999s",
                Err("time: invalid duration \"99999999999999999999s\""),
            ),
        ];
        for (text, expected) in cases {
            let found = parse_duration(text).map_err(|problem| problem.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text:?}");
        }
    }
}
