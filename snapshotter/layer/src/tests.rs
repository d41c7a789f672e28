//! Whole layers: written by hand, by GNU tar, by chance.

mod delta_text;
mod gnu_tar;
mod hand_made;
mod hostile;
mod literal;
mod packing;
mod random;
mod storing;
