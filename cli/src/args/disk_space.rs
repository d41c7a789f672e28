//! Amounts of disk, as buildkitd.toml writes them.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Units and their bytes. As everywhere with buildkitd `MB` is `MiB`.
const UNITS: [(&str, u64); 5] = [
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
];

/// So much of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskSpace {
    /// Bytes.
    Bytes(u64),
    /// A part of the whole file system, in percent.
    Percent(u64),
}

impl DiskSpace {
    /// In bytes, on a file system of this size.
    pub(crate) fn of(self, total: u64) -> u64 {
        match self {
            DiskSpace::Bytes(bytes) => bytes,
            DiskSpace::Percent(percent) => {
                let bytes = u128::from(total) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

impl FromStr for DiskSpace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("{text:?} is no amount of disk; as 10GB, 512MB or 20%");
        let text = text.trim();
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| *percent <= 100);
            return percent.map(DiskSpace::Percent).ok_or_else(expected);
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_lowercase();
        let unit = unit
            .strip_suffix("ib")
            .or(unit.strip_suffix('b'))
            .unwrap_or(&unit);
        let unit = if unit.is_empty() { "b" } else { unit };
        let factor = UNITS.iter().find(|(name, _)| *name == unit);
        let number: f64 = digits.trim().parse().map_err(|_| expected())?;
        let (_, factor) = factor.ok_or_else(expected)?;
        let bytes = number * *factor as f64;
        match bytes >= 0.0 && bytes < u64::MAX as f64 {
            true => Ok(DiskSpace::Bytes(bytes as u64)),
            false => Err(expected()),
        }
    }
}

impl<'de> Deserialize<'de> for DiskSpace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(DiskSpace::Bytes(bytes)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DiskSpace::{self, Bytes, Percent};

    #[test]
    fn amounts_are_read_as_buildkitd_reads_them() {
        for (text, expected) in [
            ("0", Some(Bytes(0))),
            ("123", Some(Bytes(123))),
            ("512MB", Some(Bytes(512 << 20))),
            ("1.5g", Some(Bytes(3 << 29))),
            ("2 TiB", Some(Bytes(2 << 40))),
            ("10%", Some(Percent(10))),
            ("101%", None),
            ("-1", None),
            ("1XB", None),
            ("", None),
            ("GB", None),
            ("1e300TB", None),
            ("NaN", None),
        ] {
            assert_eq!(text.parse::<DiskSpace>().ok(), expected, "{text:?}");
        }
        assert_eq!(Percent(10).of(1_005), 100);
        assert_eq!(Percent(100).of(u64::MAX), u64::MAX);
    }
}
