//! What every refusal of varve has in common, whatever was wrong.

use crate::workspace::Outcome;

/// An error message is for a person: some lines, not a dump.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

impl Outcome {
    /// Itself, if varve refused: it ended with `code`, standard error has all of `words`, and
    /// neither a panic nor a flood.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    #[must_use = "or call `refused_with`"]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        let refused = self.code(code);
        for word in words {
            assert!(refused.stderr.contains(word), "no {word:?} in\n{refused}");
        }
        for sign in ["panicked at", "RUST_BACKTRACE", "internal error"] {
            assert!(!refused.stderr.contains(sign), "{sign:?} in\n{refused}");
        }
        let bytes = refused.stderr.len();
        assert!(
            bytes <= MESSAGE_BYTES_MAX,
            "a message of {bytes} bytes: {refused}"
        );
        refused
    }

    /// That varve refused in this way.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn refused_with(self, code: i32, words: &[&str]) {
        assert_eq!(self.refused(code, words).code, code);
    }
}
