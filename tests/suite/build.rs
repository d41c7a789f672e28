//! `varve build` and its companions as a user meets them: what is read, what is run, what is kept.

mod contexts;
mod images;
mod inputs;
mod process;
mod remote_contexts;
mod stages;
