//! Images as the kernel reads them: mounted, walked and compared attribute by attribute, alone
//! and as lower layers of an overlay. Needs root and Linux 6.12 (EROFS straight from a file).
//!
//! `VARVE_TEST_UNPRIVILEGED=1` leaves these tests out, with a notice; nothing else skips them.

mod format;
mod mounted;
mod overlay;
mod random;
mod tree;
