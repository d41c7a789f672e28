//! Arbitrary bytes as a layer: no panic, no unbounded memory, and what was read is digested whole.

#![no_main]

use layer::{Digest, Limits, inspect};
use libfuzzer_sys::fuzz_target;

/// What one input may cost; the default limits would make a single run take minutes.
fn limits() -> Limits {
    Limits {
        entries_max: 20_000,
        hole_bytes_max: 1 << 20,
        tar_bytes_max: 1 << 22,
        ..Limits::default()
    }
}

fuzz_target!(|layer: &[u8]| {
    match inspect(layer, &limits()) {
        Ok(unpacked) => assert_eq!(unpacked.digest, Digest::of(layer)),
        Err(error) => assert!(error.is_bad_layer(), "{error}"),
    }
});
