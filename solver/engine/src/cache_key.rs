//! Keys under which results are remembered, and the one way to combine them.
//!
//! Three keys exist for a vertex, all of this type and all kept apart by their domain:
//! - the *definition key*, made by the operation ([`Op::cache_map`](crate::Op::cache_map)): what
//!   the operation itself is, without its inputs; for a source, the key of what it would give;
//! - the *classic key*, made by the engine: definition key + for each input its classic key and
//!   output index. It is known without running anything;
//! - the *content key*, made by the engine from the definition key and what
//!   [`Op::content_key`](crate::Op::content_key) says about the values of the inputs.
//!
//! Encoding of a combined key: BLAKE3 in key-derivation mode with the domain as its context, over
//! a sequence of fields; a field is one tag byte (`b` bytes, `n` number, `k` key), the length of
//! the payload as 8 bytes little-endian, the payload. So no two different sequences of fields
//! give the same input to the hash.

use std::fmt;

/// A key of 32 bytes; equal keys promise equal results.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Starts a key of the given domain: a constant text, unique for its purpose, such as
    /// `"varve solver: exec op v1"`. Keys of different domains never meet.
    #[must_use]
    pub fn builder(domain: &'static str) -> CacheKeyBuilder {
        CacheKeyBuilder {
            hasher: blake3::Hasher::new_derive_key(domain),
        }
    }

    /// Takes a digest that was made elsewhere (a stored record) as a key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(")?;
        write_hex(f, &self.0[..6])?;
        f.write_str(")")
    }
}

/// Combines fields into a [`CacheKey`]; the order of the fields matters.
#[derive(Clone, Debug)]
pub struct CacheKeyBuilder {
    hasher: blake3::Hasher,
}

impl CacheKeyBuilder {
    /// Adds bytes (or text).
    #[must_use]
    pub fn bytes(self, bytes: impl AsRef<[u8]>) -> Self {
        self.field(b'b', bytes.as_ref())
    }

    /// Adds a number: a count, an index, a flag.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.field(b'n', &number.to_le_bytes())
    }

    /// Adds another key.
    #[must_use]
    pub fn key(self, key: &CacheKey) -> Self {
        self.field(b'k', key.as_bytes())
    }

    /// The finished key.
    #[must_use]
    pub fn finish(self) -> CacheKey {
        CacheKey(*self.hasher.finalize().as_bytes())
    }

    fn field(mut self, tag: u8, payload: &[u8]) -> Self {
        self.hasher.update(&[tag]);
        self.hasher.update(&(payload.len() as u64).to_le_bytes());
        self.hasher.update(payload);
        self
    }
}

/// Classic key: what the step is and where its inputs come from. No value is needed to know it.
pub(crate) fn classic(definition: &CacheKey, inputs: &[(CacheKey, u32)]) -> CacheKey {
    with_inputs(
        CacheKey::builder("varve engine: classic key v1").key(definition),
        inputs,
    )
}

/// Merge key of a vertex that must not use old results, its own or an ancestor's
/// (`ignore_cache`): such steps are equal only to steps that ignore the same things.
pub(crate) fn fresh(definition: &CacheKey, ignored: bool, inputs: &[(CacheKey, u32)]) -> CacheKey {
    let builder = CacheKey::builder("varve engine: fresh key v1");
    with_inputs(builder.key(definition).number(u64::from(ignored)), inputs)
}

/// Content key: what the step is and what its inputs contain, wherever they come from.
pub(crate) fn content(definition: &CacheKey, inputs: &CacheKey) -> CacheKey {
    CacheKey::builder("varve engine: content key v1")
        .key(definition)
        .key(inputs)
        .finish()
}

fn with_inputs(builder: CacheKeyBuilder, inputs: &[(CacheKey, u32)]) -> CacheKey {
    inputs
        .iter()
        .fold(
            builder.number(inputs.len() as u64),
            |builder, (key, output)| builder.key(key).number(u64::from(*output)),
        )
        .finish()
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_never_run_into_each_other(
            left in proptest::collection::vec(".{0,8}", 0..5),
            right in proptest::collection::vec(".{0,8}", 0..5),
        ) {
            let key = |fields: &[String]| {
                fields.iter().fold(CacheKey::builder("test"), CacheKeyBuilder::bytes).finish()
            };
            prop_assert_eq!(left == right, key(&left) == key(&right));
        }
    }

    #[test]
    fn equal_bytes_in_other_roles_give_other_keys() {
        let key = CacheKey::from_bytes([7; 32]);
        let as_key = CacheKey::builder("test").key(&key).finish();
        let as_bytes = CacheKey::builder("test").bytes(key.as_bytes()).finish();
        let elsewhere = CacheKey::builder("other").key(&key).finish();
        assert_ne!(as_key, as_bytes);
        assert_ne!(as_key, elsewhere);
        assert_ne!(content(&key, &key), classic(&key, &[(key, 0)]));
        assert_ne!(classic(&key, &[(key, 0)]), classic(&key, &[(key, 1)]));
    }

    #[test]
    fn the_encoding_does_not_change_by_accident() {
        let inputs = [(CacheKey::from_bytes([2; 32]), 1)];
        let key = classic(&CacheKey::from_bytes([1; 32]), &inputs);
        let expected = "4fa505fe5eeb958f447af8e8b6fcd3754ee6a661f0dee08e5579a953f0020ed4";
        assert_eq!(key.to_string(), expected);
    }
}
