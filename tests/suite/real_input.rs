//! Input of the size and kind that real builds have.

mod network;
mod sizes;
