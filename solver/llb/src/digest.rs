//! The name of a vertex: sha256 of its marshalled operation, as BuildKit computes it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::error::Error;

/// sha256 of one marshalled operation. It covers the operation, its platform and, through their
/// digests, everything it depends on; it does not cover metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexDigest([u8; 32]);

impl VertexDigest {
    /// The digest of a marshalled operation.
    pub fn of(marshalled: &[u8]) -> Self {
        Self(Sha256::digest(marshalled).into())
    }

    /// The digest with these bytes, which another crate kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for VertexDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for VertexDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for VertexDigest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidDigest {
            text: text.chars().take(128).collect(),
        };
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?.as_bytes();
        if hex.len() != 64 {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let high = nibble(pair[0]).ok_or_else(invalid)?;
            let low = nibble(pair[1]).ok_or_else(invalid)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

/// Lower case only: a digest has one spelling, otherwise two names would mean one vertex.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = VertexDigest::of(b"");
        let text = digest.to_string();
        assert_eq!(
            text,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(text.parse::<VertexDigest>().unwrap(), digest);
    }

    #[test]
    fn other_algorithms_lengths_and_upper_case_are_refused() {
        for text in ["", "sha256:", "sha512:00", "sha256:zz", "é"] {
            assert!(text.parse::<VertexDigest>().is_err(), "{text}");
        }
        let upper = VertexDigest::of(b"").to_string().replace("e3b0", "E3B0");
        assert!(upper.parse::<VertexDigest>().is_err());
        let long = format!("{}00", VertexDigest::of(b""));
        assert!(long.parse::<VertexDigest>().is_err());
    }
}
