//! Real mounts: needs root. `VARVE_TEST_UNPRIVILEGED=1` leaves these tests out, with a notice;
//! nothing else skips them.

mod abilities;
mod apply;
mod guard;
mod images;
mod namespace;
mod overlay;
mod sandbox;
