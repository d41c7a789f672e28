//! Random operations, step after step, on snapshots and on a plain directory: after each step both
//! must look the same.
//!
//! `VARVE_TEST_SEED=<number>` runs one seed, `VARVE_TEST_SEEDS=<count>` more of them.

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::io::Errno;

use super::listing::{assert_same, list, without_links};
use super::operations::{Mounted, Operation, Plain, draw, perform};
use super::sandbox::{Sandbox, stacking};
use crate::Method;
use crate::manager::Options;

/// Snapshots in a row.
const STEPS: usize = 6;
/// Operations in each.
const OPERATIONS: i64 = 30;
/// Seeds that are always run.
const SEEDS: u64 = 10;

#[test]
fn stacks_of_images_show_what_a_plain_directory_would() {
    check("stack", stacking(Method::Kernel));
}

#[test]
fn long_stacks_are_merged_without_a_difference() {
    check(
        "merged",
        Options {
            stack_max: 3,
            ..stacking(Method::Kernel)
        },
    );
}

#[test]
fn whole_images_show_what_a_plain_directory_would() {
    check("flat", Options::new(Method::Kernel));
}

#[test]
fn whole_images_below_redirecting_uppers_show_it_too() {
    check(
        "flat volatile",
        Options {
            volatile: true,
            ..Options::new(Method::Kernel)
        },
    );
}

#[test]
fn whole_images_with_metacopy_show_it_too() {
    check(
        "flat metacopy",
        Options {
            flat_needs_metacopy: true,
            ..Options::new(Method::Kernel)
        },
    );
}

#[test]
fn checkouts_show_what_a_plain_directory_would() {
    check("directories", Options::new(Method::Directories));
}

#[test]
fn checkouts_below_redirecting_uppers_show_it_too() {
    check("directories volatile", stacking(Method::Directories));
}

fn check(what: &str, options: Options) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seeds = match number("VARVE_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VARVE_TEST_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        // Most in memory; but overlayfs treats an upper on ext4 a little differently.
        let sandbox = if seed == 0 {
            Sandbox::on_disk(options)
        } else {
            Sandbox::new(options)
        };
        let Some(sandbox) = sandbox else { return };
        Run {
            what,
            seed,
            sandbox,
        }
        .run();
    }
}

struct Run<'r> {
    what: &'r str,
    seed: u64,
    sandbox: Sandbox,
}

impl Run<'_> {
    fn run(&self) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let root = self.sandbox.directory();
        rustix::fs::chmod(&root, 0o755.into()).unwrap();
        let mut plain = Plain::new(root.clone());
        let mut parent = String::new();
        for step in 0..STEPS {
            let name = format!("step{step}");
            let mut done = Vec::new();
            plain.begin_step();
            let here = format!(
                "{}: VARVE_TEST_SEED={} cargo test -p snapshotter, step {step}",
                self.what, self.seed
            );
            let tree = self.sandbox.step(&parent, &name, |mounted| {
                let first = step as i64 * OPERATIONS;
                for number in first..first + OPERATIONS {
                    let operation = draw(&mut random, &root);
                    operate(&operation, number, mounted, &mut plain, &here);
                    done.push(operation);
                }
                let (found, expected) = (list(mounted), list(&root));
                let what = format!("{here}, before the commit, after{}", lines(&done));
                let plain = |listing| without_root(without_links(listing));
                assert_same(&what, &plain(found), &plain(expected));
            });
            let expected = without_root(list(&root));
            let what = format!("{here}, after{}", lines(&done));
            self.sandbox.show(&name, |mounted| {
                assert_same(&what, &without_root(list(mounted)), &expected);
            });
            self.sandbox.show_flat(tree, |mounted| {
                assert_same(
                    &format!("{what} (whole)"),
                    &without_root(list(mounted)),
                    &expected,
                );
            });
            parent = name;
        }
    }
}

/// The two roots were made at different times.
fn without_root(mut listing: super::listing::Listing) -> super::listing::Listing {
    listing.remove(b"".as_slice());
    listing
}

fn operate(operation: &Operation, number: i64, mounted: &Path, plain: &mut Plain, here: &str) {
    let found = perform(operation, number, &mut Mounted(mounted));
    // What overlayfs cannot do without redirects; programs copy then.
    if found == Err(Errno::XDEV) && matches!(operation, Operation::Rename { .. }) {
        return;
    }
    let expected = perform(operation, number, plain);
    assert_eq!(found, expected, "{here}: {operation:?}");
}

fn lines(operations: &[Operation]) -> String {
    operations
        .iter()
        .map(|operation| format!("\n  {operation:?}"))
        .collect()
}
