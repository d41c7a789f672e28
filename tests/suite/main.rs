//! The integration tests: ONE binary, one module per guarantee.
//!
//! `tests/tidy.rs` fails where a file of this directory has no `mod` line here.
