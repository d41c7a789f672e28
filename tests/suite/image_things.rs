//! Images as things: looked at, named by id, listed by filters and templates, removed.

mod inspected;
mod listed;
