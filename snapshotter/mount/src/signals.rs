//! What a process does when it is sent a signal.

/// Gives every signal but SIGPIPE its usual effect again, in this process and what it executes.
///
/// Who starts a program may have it ignore some, as nohup(1) does, and the shell for what it runs
/// in the background. It is inherited by all programs, and a container is to know nothing of it.
/// SIGPIPE is left alone: Rust's own start-up code ignores it, and relies on that.
#[expect(unsafe_code, reason = "signal(2) has no safe form")]
pub fn reset_signals() {
    for number in (1..=libc::SIGRTMAX()).filter(|number| *number != libc::SIGPIPE) {
        // JUSTIFICATION: the standard library sets no signal's action but that of SIGPIPE.
        // SAFETY: no handler is installed, so that no code runs in one. What cannot be changed
        // (SIGKILL, those of the C library) is refused and stays as it is.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}
