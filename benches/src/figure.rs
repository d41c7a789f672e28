//! What is measured: samples in a unit, and how good is good enough.

use std::fmt;
use std::time::Duration;

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time.
    Seconds,
    /// Memory, in millions of bytes.
    Megabytes,
    /// So many times something else of the same side.
    Factor,
}

impl Unit {
    /// A value as the table shows it.
    #[must_use]
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3} s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Factor => format!("{value:.3}x"),
        }
    }

    /// The name of the field that holds samples, in JSON.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Megabytes => "megabytes",
            Self::Factor => "factors",
        }
    }
}

/// How good is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Of the peer's figure.
    Ratio(f64),
    /// In all.
    Time(Duration),
    /// In all: a figure of its own, whatever the peer's is.
    Own(Unit, f64),
}

impl Target {
    /// Whether it is met; `None` where that takes a peer and there is none.
    #[must_use]
    pub fn is_met(self, own: f64, peer: Option<f64>) -> Option<bool> {
        match self {
            Self::Time(limit) => Some(own <= limit.as_secs_f64()),
            Self::Own(_, limit) => Some(own <= limit),
            Self::Ratio(ratio) => peer.map(|peer| own <= peer * ratio),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{ratio}x"),
            Self::Own(Unit::Factor, limit) => write!(f, "{limit}x of one"),
            Self::Own(Unit::Megabytes, limit) => write!(f, "{limit} MB"),
            Self::Own(Unit::Seconds, limit) => write!(f, "{limit} s"),
            Self::Time(limit) if *limit < Duration::from_secs(1) => {
                write!(f, "{} ms", limit.as_millis())
            }
            Self::Time(limit) => write!(f, "{} s", limit.as_secs_f64()),
        }
    }
}

/// The samples of one side at one workload.
#[derive(Debug, Default)]
pub struct Samples {
    /// In the order they were taken; without the first, untimed round.
    pub values: Vec<f64>,
    /// Bytes of the largest layer in the last archive, where one was written.
    pub layer_bytes: Option<u64>,
}

impl Samples {
    /// The middle one, or the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        if sorted.len() % 2 == 1 {
            return Some(upper);
        }
        let lower = sorted[sorted.len() / 2 - 1];
        Some(f64::midpoint(lower, upper))
    }

    /// The smallest: what a machine with other things to do has disturbed least.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.values.iter().copied().min_by(f64::total_cmp)
    }
}

/// What became of one side: its samples, or why there are none.
pub type Outcome = std::result::Result<Samples, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |values: &[f64], median: Option<f64>, best: Option<f64>| {
            let samples = Samples {
                values: values.to_vec(),
                layer_bytes: None,
            };
            assert_eq!(samples.median(), median, "{values:?}");
            assert_eq!(samples.best(), best, "{values:?}");
        };
        check(&[], None, None);
        check(&[3.0], Some(3.0), Some(3.0));
        check(&[9.0, 1.0, 3.0], Some(3.0), Some(1.0));
        check(&[9.0, 1.0, 3.0, 5.0], Some(4.0), Some(1.0));
    }

    #[test]
    fn targets_compare_with_the_peer_or_with_the_clock() {
        assert_eq!(Target::Ratio(0.1).is_met(0.05, Some(0.5)), Some(true));
        assert_eq!(Target::Ratio(0.09).is_met(0.05, Some(0.5)), Some(false));
        assert_eq!(Target::Ratio(0.1).is_met(0.05, None), None);
        let (fast, slow) = (Duration::from_millis(50), Duration::from_millis(500));
        assert_eq!(Target::Time(slow).is_met(0.05, None), Some(true));
        assert_eq!(Target::Time(fast).is_met(0.5, Some(0.5)), Some(false));
        assert_eq!(
            Target::Own(Unit::Factor, 1.15).is_met(1.1, None),
            Some(true)
        );
    }

    #[test]
    fn targets_are_shown_with_their_unit() {
        let check = |target: Target, expect: &str| assert_eq!(target.to_string(), expect);
        check(Target::Ratio(0.05), "0.05x");
        check(Target::Time(Duration::from_millis(50)), "50 ms");
        check(Target::Time(Duration::from_millis(2100)), "2.1 s");
        check(Target::Own(Unit::Factor, 1.15), "1.15x of one");
        check(Target::Own(Unit::Megabytes, 60.0), "60 MB");
    }
}
