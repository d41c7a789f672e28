//! A real containerd, the system's 1.6 and a second one of version 2, pulls, runs and collects
//! with varve as its snapshotter.
//!
//! With `VARVE_TEST_SNAPSHOTTER=overlayfs` the same tests run on containerd's own snapshotter.

/// Each guarantee as a test of its own for each version of containerd.
macro_rules! on_each_containerd {
    ($($guarantee:ident),+ $(,)?) => {
        mod on_1 {
            $(#[test]
            fn $guarantee() {
                super::$guarantee(&mut support::node::Node::start(
                    support::containerd::Version::System,
                ));
            })+
        }
        mod on_2 {
            $(#[test]
            fn $guarantee() {
                super::$guarantee(&mut support::node::Node::start(
                    support::containerd::Version::Second,
                ));
            })+
        }
    };
}

mod contract;
mod files;
mod garbage;
mod images;
mod nerdctl;
mod restarts;
mod snapshots;
