//! Times as filters name them: a duration ago (`24h`, `10m`, `7d`), a date, or seconds since 1970.

use jiff::{SignedDuration, Timestamp};

/// A moment in the past.
///
/// # Errors
/// What is none of these.
pub(super) fn past(text: &str) -> anyhow::Result<Timestamp> {
    let now = Timestamp::now();
    if let Ok(duration) = duration(text) {
        return Ok(now.checked_sub(duration)?);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Timestamp::from_second(seconds)?);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date = text
        .parse::<jiff::civil::Date>()
        .map(|date| date.at(0, 0, 0, 0));
    let time = date.or_else(|_| text.parse::<jiff::civil::DateTime>());
    let time = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
    match time {
        Ok(time) => Ok(time.timestamp()),
        Err(_) => anyhow::bail!(
            "{text:?} is no time: expected a duration (24h, 30m, 7d), a date (2026-01-31), \
             a time (2026-01-31T12:00:00Z) or seconds since 1970"
        ),
    }
}

/// Go's durations (`1h30m`, `90s`), days (`7d`) and weeks (`2w`) too.
///
/// # Errors
/// What is none, in words.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is no duration: expected one like 24h, 1h30m or 7d");
    let (mut rest, mut seconds) = (text, 0.0_f64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(digits.ok_or_else(wrong)?);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let length = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * length;
        rest = tail;
    }
    SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does_and_days_too() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("7d", 604_800),
            ("0.5m", 30),
        ] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "h", "1", "1x", "-1h", "1..5h", "9999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_and_seconds_are_times() {
        for text in [
            "0",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00Z",
        ] {
            assert_eq!(past(text).unwrap().as_second(), 0, "{text}");
        }
        let ago = Timestamp::now().as_second() - past("2h").unwrap().as_second();
        assert!((7_199..7_202).contains(&ago), "{ago}");
        assert!(past("yesterday").is_err());
    }
}
