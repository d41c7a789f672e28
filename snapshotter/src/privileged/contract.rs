//! The real manager keeps the contract, whatever its method.

use std::sync::Arc;

use super::sandbox::{Sandbox, is_left_out, stacking};
use crate::containers::Containers;
use crate::manager::Options;
use crate::{Method, conformance};

/// The same for the snapshots that containerd owns, with and without ingests in between.
fn check_containers(options: Options, ingests: bool) {
    if is_left_out() {
        return;
    }
    conformance::check(&|check| {
        let sandbox = Sandbox::new(options).expect("it is not left out");
        let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
        let plugin = containers.plugin("varve").unwrap();
        check(&plugin);
        if ingests {
            containers.ingest_all(&|| false);
        }
    });
}

#[test]
fn kept_for_containers_with_images() {
    check_containers(Options::new(Method::Kernel), false);
}

#[test]
fn kept_for_containers_with_checkouts() {
    check_containers(Options::new(Method::Directories), true);
}

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
