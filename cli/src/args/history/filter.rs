//! `--filter` of builds: a field, a comparison, a value; the fields and comparisons of buildx.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use solver::history::record::{Status, Summary};

/// What a build must fulfil.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    /// `ref=12`, `ref!=12`.
    Number(bool, u64),
    /// `name=app`, `name!=app`.
    Name(bool, String),
    /// `status=error`, `status!=completed`.
    Status(bool, Status),
    /// `duration>30s`, `duration<1m30s`.
    Duration(Order, u64),
    /// `startedAt>2026-11-21T00:00:00Z`, or `startedAt>24h`: in the last 24 hours.
    Started(Order, Moment),
    /// `completedAt<…`.
    Completed(Order, Moment),
}

/// How something is to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `>`.
    Above,
    /// `<`.
    Below,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// By the calendar, in milliseconds since 1970.
    At(i64),
    /// So many milliseconds ago.
    Ago(i64),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let usage = || {
            format!(
                "{text:?} is no filter; write ref, name or status with = or != and a value, or \
                 duration, startedAt or completedAt with < or > and a time such as 30s"
            )
        };
        let at = text.find(['=', '!', '<', '>']).ok_or_else(usage)?;
        let (field, rest) = text.split_at(at);
        let (sign, value) = match rest.strip_prefix("!=") {
            Some(value) => ("!=", value),
            None => rest.split_at(1),
        };
        let equality = || match sign {
            "=" => Ok(true),
            "!=" => Ok(false),
            _ => Err(usage()),
        };
        let order = || match sign {
            ">" => Ok(Order::Above),
            "<" => Ok(Order::Below),
            _ => Err(usage()),
        };
        Ok(match field {
            "ref" => Filter::Number(equality()?, value.parse().map_err(|_| usage())?),
            "name" => Filter::Name(equality()?, value.to_owned()),
            "status" => Filter::Status(equality()?, status(value)?),
            "duration" => Filter::Duration(order()?, micros(value).ok_or_else(usage)?),
            "startedAt" => Filter::Started(order()?, moment(value).ok_or_else(usage)?),
            "completedAt" => Filter::Completed(order()?, moment(value).ok_or_else(usage)?),
            _ => return Err(usage()),
        })
    }
}

fn status(value: &str) -> Result<Status, String> {
    match value.to_lowercase().as_str() {
        "completed" | "success" => Ok(Status::Completed),
        "error" => Ok(Status::Error),
        "canceled" | "cancelled" => Ok(Status::Canceled),
        "running" => Ok(Status::Running),
        "killed" => Ok(Status::Killed),
        _ => Err(format!(
            "{value:?} is no status: completed, error, canceled, running or killed"
        )),
    }
}

fn micros(value: &str) -> Option<u64> {
    let duration: SignedDuration = value.parse().ok()?;
    u64::try_from(duration.as_micros()).ok()
}

fn moment(value: &str) -> Option<Moment> {
    if let Ok(timestamp) = value.parse::<Timestamp>() {
        return Some(Moment::At(timestamp.as_millisecond()));
    }
    let duration: SignedDuration = value.parse().ok()?;
    Some(Moment::Ago(i64::try_from(duration.as_millis()).ok()?))
}

impl Order {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Order::Above => left > right,
            Order::Below => left < right,
        }
    }
}

impl Moment {
    fn is_before_or_after(self, order: Order, ms: u64, now_ms: i64) -> bool {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        match self {
            Moment::At(at) => order.holds(ms, at),
            Moment::Ago(ago) => order.holds(ms, now_ms.saturating_sub(ago)),
        }
    }
}

impl Filter {
    /// Whether a build fulfils it; `now_ms` is milliseconds since 1970.
    pub(crate) fn holds(&self, build: &Summary, now_ms: i64) -> bool {
        let completed = build.started_ms.saturating_add(build.duration_us / 1_000);
        match self {
            Filter::Number(is, number) => (build.number == *number) == *is,
            Filter::Name(is, name) => (build.asked.name() == *name) == *is,
            Filter::Status(is, status) => (build.status == *status) == *is,
            Filter::Duration(order, micros) => order.holds(build.duration_us, *micros),
            Filter::Started(order, moment) => {
                moment.is_before_or_after(*order, build.started_ms, now_ms)
            }
            Filter::Completed(order, moment) => {
                moment.is_before_or_after(*order, completed, now_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_tell_builds_apart() {
        let build = Summary {
            number: 12,
            started_ms: 1_000_000,
            duration_us: 31_500_000,
            status: Status::Error,
            ..Summary::default()
        };
        for (filter, expect) in [
            ("ref=12", true),
            ("ref!=12", false),
            ("status=error", true),
            ("status!=completed", true),
            ("status=success", false),
            ("name=app", false),
            ("name!=app", true),
            ("duration>30s", true),
            ("duration>1m", false),
            ("duration<31600ms", true),
            ("startedAt>1970-01-01T00:16:39Z", true),
            ("startedAt<1970-01-01T00:16:39Z", false),
            // It is 100 s later.
            ("startedAt>2m", true),
            ("startedAt>1m", false),
            ("completedAt<1m", true),
        ] {
            let parsed: Filter = filter.parse().unwrap();
            assert_eq!(parsed.holds(&build, 1_100_000), expect, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_one() {
        for text in [
            "",
            "x",
            "status",
            "status>error",
            "duration=3s",
            "duration>x",
            "a=b",
            "ref=x",
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains("duration, startedAt"), "{text}: {error}");
        }
        let error = "status=done".parse::<Filter>().unwrap_err();
        assert!(
            error.contains("completed, error, canceled, running or killed"),
            "{error}"
        );
    }
}
