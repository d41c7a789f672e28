//! Images as things: looked at, named by id, listed by filters and templates, removed.

mod contents;
mod groups;
mod inspected;
mod listed;
mod mounted;
mod sized;
mod unnamed;
