//! Input of the size and kind that real builds have.

mod applications;
mod network;
mod sizes;
