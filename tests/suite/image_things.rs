//! Images as things: looked at, named by id, listed by filters and templates, removed.

mod contents;
mod inspected;
mod listed;
mod mounted;
mod unnamed;
