//! What an operation has written so far, for those who begin to watch it in the middle.

use std::collections::VecDeque;

use super::OpOutput;

/// Bytes of logs that are kept; the oldest go first. A reader of a longer log has its end.
const LOG_BYTES_MAX: usize = 1 << 20;

/// Pieces of logs, states and warnings that are kept: many one-byte pieces would take more memory
/// than what is in them.
const OUTPUTS_MAX: usize = 8192;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    outputs: VecDeque<OpOutput>,
    log_bytes: usize,
}

impl Backlog {
    /// Takes in what was written. Of a part's states only the newest is kept.
    pub(super) fn add(&mut self, output: &OpOutput) {
        if let OpOutput::Status { id, .. } = output {
            let of_part =
                |old: &OpOutput| matches!(old, OpOutput::Status { id: of, .. } if of == id);
            if let Some(old) = self.outputs.iter_mut().rev().find(|old| of_part(old)) {
                old.clone_from(output);
                return;
            }
        }
        self.log_bytes += log_bytes(output);
        self.outputs.push_back(output.clone());
        while self.log_bytes > LOG_BYTES_MAX || self.outputs.len() > OUTPUTS_MAX {
            let Some(oldest) = self.outputs.pop_front() else {
                return;
            };
            self.log_bytes -= log_bytes(&oldest);
        }
    }

    /// Tells all of it, in order.
    pub(super) fn tell(&self, hear: impl Fn(&OpOutput)) {
        self.outputs.iter().for_each(hear);
    }
}

fn log_bytes(output: &OpOutput) -> usize {
    match output {
        OpOutput::Log { bytes, .. } => bytes.len(),
        OpOutput::Status { .. } | OpOutput::Warning { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::OutputStream;
    use super::*;

    fn log(bytes: &[u8]) -> OpOutput {
        OpOutput::Log {
            stream: OutputStream::Stdout,
            bytes: bytes.to_vec(),
        }
    }

    fn status(id: &str, current: u64) -> OpOutput {
        OpOutput::Status {
            id: id.to_owned(),
            current,
            total: None,
            completed: false,
        }
    }

    fn told(backlog: &Backlog) -> Vec<OpOutput> {
        let told = RefCell::new(Vec::new());
        backlog.tell(|output| told.borrow_mut().push(output.clone()));
        told.into_inner()
    }

    #[test]
    fn who_comes_later_is_told_all_lines_and_the_newest_state_of_each_part() {
        let mut backlog = Backlog::default();
        for output in [
            log(b"one\n"),
            status("a", 1),
            status("b", 1),
            log(b"two\n"),
            status("a", 2),
        ] {
            backlog.add(&output);
        }
        let expected = [log(b"one\n"), status("a", 2), status("b", 1), log(b"two\n")];
        assert_eq!(told(&backlog), expected);
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let mut backlog = Backlog::default();
        for piece in 0..=255_u8 {
            backlog.add(&log(&[piece; 64 << 10]));
        }
        let kept = told(&backlog);
        assert_eq!(kept.len(), LOG_BYTES_MAX / (64 << 10));
        assert_eq!(kept.last(), Some(&log(&[255; 64 << 10])));
        for _ in 0..3 * OUTPUTS_MAX {
            backlog.add(&log(b"x"));
        }
        assert_eq!(told(&backlog).len(), OUTPUTS_MAX);
    }
}
