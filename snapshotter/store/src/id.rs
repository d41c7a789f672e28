//! Ids: fixed-size BLAKE3 digests, one new-type for each kind of thing.
//!
//! A kind has its own derivation context, so equal bytes of different kinds never share an id.
//! [`BlobId`] alone is the plain BLAKE3 of the content, so that `b3sum` can check object files.

use std::fmt;
use std::str::FromStr;

/// Length of every id in bytes.
pub const ID_LENGTH: usize = 32;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LENGTH]);

        impl $name {
            /// An id from its raw bytes, as read from a row or computed by a hasher.
            pub const fn from_bytes(bytes: [u8; ID_LENGTH]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; ID_LENGTH] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id_type! {
    /// The bytes of a regular file: BLAKE3 of the whole content.
    BlobId
}
id_type! {
    /// A directory with everything below it, every attribute included.
    TreeId
}
id_type! {
    /// A directory with everything below it, without mtimes, hard-link groups and the extended
    /// attributes that BuildKit's content hash leaves out: what cache keys are made of.
    ContentKey
}

impl BlobId {
    /// The id of the given content.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

/// Text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 64 lower-case hexadecimal digits")]
pub struct ParseIdError;

fn parse_hex(text: &str) -> Result<[u8; ID_LENGTH], ParseIdError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(ParseIdError),
    };
    let text = text.as_bytes();
    if text.len() != ID_LENGTH * 2 {
        return Err(ParseIdError);
    }
    let mut bytes = [0; ID_LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// Names a group of directory entries that are one inode (hard links of each other).
///
/// 128 bits, derived so that groups of different layers never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId([u8; 16]);

impl LinkId {
    /// A group id from its raw bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Derives a group id from where it comes from (a layer digest, an operation, …) and a name
    /// that is unique there. Both are length-prefixed, so no two pairs collide.
    pub fn derive(origin: &[u8], name: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 hard link group v1");
        hasher.update(&(origin.len() as u64).to_le_bytes());
        hasher.update(origin);
        hasher.update(name);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkId(")?;
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_a_round_trip_through_its_text() {
        let id = BlobId::of(b"varve");
        assert_eq!(id.to_string().parse::<BlobId>(), Ok(id));
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert_eq!(text.parse::<TreeId>(), Err(ParseIdError), "{text}");
        }
    }

    #[test]
    fn a_blob_id_is_the_plain_blake3_of_the_content() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(BlobId::of(b"").to_string(), empty);
    }

    #[test]
    fn link_groups_of_different_origins_differ() {
        assert_ne!(LinkId::derive(b"a", b"bc"), LinkId::derive(b"ab", b"c"));
    }
}
