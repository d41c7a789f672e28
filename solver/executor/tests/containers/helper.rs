//! For the tests of this crate only: the part of varve's `main` that the runtimes need.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if executor::is_helper(&arguments) {
        return executor::helper_main(&arguments);
    }
    ExitCode::FAILURE
}
