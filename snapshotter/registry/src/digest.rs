//! Digests as OCI descriptors write them: sha256 and sha512.
//!
//! Not for varve's own ids: those are BLAKE3, and live in the store.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, shortened};

/// What names a blob or a manifest: an algorithm and the hash of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// `sha256:` and 64 hexadecimal digits.
    Sha256([u8; 32]),
    /// `sha512:` and 128 hexadecimal digits.
    Sha512([u8; 64]),
}

impl Digest {
    /// The sha256 of these bytes.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Digest::Sha256(Sha256::digest(bytes).into())
    }

    /// The sha512 of these bytes.
    #[must_use]
    pub fn sha512(bytes: &[u8]) -> Self {
        Digest::Sha512(Sha512::digest(bytes).into())
    }

    /// The digest of other bytes by the same algorithm.
    #[must_use]
    pub fn same_kind_of(&self, bytes: &[u8]) -> Self {
        match self {
            Digest::Sha256(_) => Digest::sha256(bytes),
            Digest::Sha512(_) => Digest::sha512(bytes),
        }
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm())?;
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Name {
            text: shortened(text),
            expected: "a digest: sha256: and 64, or sha512: and 128 lower-case hexadecimal digits",
        };
        let (algorithm, digits) = text.split_once(':').ok_or_else(refused)?;
        match algorithm {
            "sha256" => from_hex(digits).map(Digest::Sha256),
            "sha512" => from_hex(digits).map(Digest::Sha512),
            _ => None,
        }
        .ok_or_else(refused)
    }
}

/// Exactly `N` bytes in lower-case hexadecimal digits.
fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

/// Digests bytes as they pass.
#[derive(Clone, Debug)]
pub(crate) enum Digester {
    /// Towards a sha256.
    Sha256(Box<Sha256>),
    /// Towards a sha512.
    Sha512(Box<Sha512>),
}

impl Digester {
    /// Nothing seen yet; ends in a digest of the same algorithm as `like`.
    pub(crate) fn like(like: &Digest) -> Self {
        match like {
            Digest::Sha256(_) => Digester::Sha256(Box::default()),
            Digest::Sha512(_) => Digester::Sha512(Box::default()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Digester::Sha256(hasher) => hasher.update(bytes),
            Digester::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Digester::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Digester::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_a_round_trip_through_its_text() {
        for digest in [Digest::sha256(b"varve"), Digest::sha512(b"varve")] {
            let text = digest.to_string();
            assert_eq!(text.parse::<Digest>().unwrap(), digest);
            assert_eq!(digest.same_kind_of(b"varve"), digest);
            let mut digester = Digester::like(&digest);
            digester.update(b"var");
            digester.update(b"ve");
            assert_eq!(digester.finish(), digest);
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn text_that_is_no_digest_is_refused() {
        let digits = "a".repeat(64);
        for text in [
            "",
            ":",
            "sha256:",
            &digits,
            &format!("sha256:{}", digits.to_uppercase()),
            &format!("sha256:{digits}a"),
            &format!("sha256:{digits}aa"),
            &format!("sha512:{digits}"),
            &format!("md5:{digits}"),
            &format!("sha256:{}é", "a".repeat(62)),
            &format!("sha256:{digits}\n"),
            &format!("sha256:{}", "/../".repeat(16)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}
