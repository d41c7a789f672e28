//! Results outside: layouts and archives that other tools take, and plain files.

mod archives;
mod attributes;
mod files;
mod layers;
mod loaded;
mod many;
mod platforms;
mod reproducible;
mod saved;
