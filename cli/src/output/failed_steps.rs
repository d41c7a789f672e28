//! The last output of steps that failed, printed below the progress.

use super::steps::{Outcome, Steps};

/// What to do about lines that were too many to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// They were printed before.
    Known,
    /// Nobody has seen them: say how many there were.
    Say,
}

/// Adds, for each failed step, its name and the kept end of its log between two rules:
///
/// ```text
/// ------
///  > [2/2] RUN exit 3:
/// 0.213 last words
/// ------
/// ```
pub(crate) fn print(steps: &Steps, left: Left, out: &mut Vec<u8>) {
    for (_, step) in steps.started() {
        if !matches!(step.outcome(), Some(Outcome::Failed(_))) {
            continue;
        }
        out.extend_from_slice(format!("------\n > {}:\n", step.name).as_bytes());
        if left == Left::Say && step.log.forgotten() > 0 {
            let note = format!("[{} earlier lines left out]\n", step.log.forgotten());
            out.extend_from_slice(note.as_bytes());
        }
        for line in step.log.lines() {
            out.extend_from_slice(format!("{} ", line.stamp()).as_bytes());
            out.extend_from_slice(&line.text);
            out.push(b'\n');
        }
        out.extend_from_slice(b"------\n");
    }
}
