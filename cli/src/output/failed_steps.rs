//! The last output of steps that failed, printed below the progress.

use super::steps::{Outcome, Steps};
use super::text::harmless;

/// What to do about lines that were too many to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// They were printed before.
    Known,
    /// Nobody has seen them: say how many there were.
    Say,
}

/// Who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A terminal, which control sequences of a step must not reach.
    Terminal,
    /// Anything else: bytes as the step wrote them.
    Pipe,
}

/// Adds, for each failed step, its name and the kept end of its log between two rules:
///
/// ```text
/// ------
///  > [2/2] RUN exit 3:
/// 0.213 last words
/// ------
/// ```
pub(crate) fn print(steps: &Steps, left: Left, reader: Reader, out: &mut Vec<u8>) {
    for (_, step) in steps.started() {
        if !matches!(step.outcome(), Some(Outcome::Failed(_))) {
            continue;
        }
        let name = harmless(step.name.as_bytes());
        out.extend_from_slice(format!("------\n > {name}:\n").as_bytes());
        if left == Left::Say && step.log.forgotten() > 0 {
            let note = format!("[{} earlier lines left out]\n", step.log.forgotten());
            out.extend_from_slice(note.as_bytes());
        }
        for line in step.log.lines() {
            out.extend_from_slice(format!("{} ", line.stamp()).as_bytes());
            match reader {
                Reader::Terminal => out.extend_from_slice(harmless(&line.text).as_bytes()),
                Reader::Pipe => out.extend_from_slice(&line.text),
            }
            out.push(b'\n');
        }
        out.extend_from_slice(b"------\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::script::{Script, failed, log};

    #[test]
    fn a_terminal_gets_no_control_sequences_of_a_failed_step() {
        let (mut script, mut steps) = (Script::new(), Steps::default());
        steps.apply(script.event(0, "a", log("\u{1b}[2J\u{1b}[31mboom\u{1b}[0m\n")));
        steps.apply(script.event(0, "a", failed("exit code: 1")));
        let printed = |reader| {
            let mut out = Vec::new();
            print(&steps, Left::Say, reader, &mut out);
            String::from_utf8(out).unwrap()
        };
        let expect = "------\n > a:\n0.000 boom\n------\n";
        assert_eq!(printed(Reader::Terminal), expect);
        assert!(printed(Reader::Pipe).contains("\u{1b}[31mboom"));
    }
}
