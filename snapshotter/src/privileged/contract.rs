//! The real manager keeps the contract, whatever its method.

use super::sandbox::{Sandbox, is_left_out, stacking};
use crate::manager::Options;
use crate::{Method, conformance};

fn check(options: Options) {
    if is_left_out() {
        return;
    }
    conformance::check(&|check| {
        let sandbox = Sandbox::new(options).expect("it is not left out");
        check(&sandbox.manager);
    });
}

#[test]
fn kept_with_whole_images() {
    check(Options::new(Method::Kernel));
}

#[test]
fn kept_with_stacks_of_images() {
    check(stacking(Method::Kernel));
}

#[test]
fn kept_with_checkouts() {
    check(Options::new(Method::Directories));
}
