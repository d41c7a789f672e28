//! Tests on real mounts. They need root; `VARVE_TEST_UNPRIVILEGED=1` leaves them out.

mod sandbox;

mod listing;
mod operations;

mod cache_mounts;
mod captures;
mod collection;
mod containers;
mod contract;
mod failures;
mod hijack;
mod life;
mod observed;
mod random;
