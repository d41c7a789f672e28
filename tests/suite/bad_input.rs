//! Wrong input of every kind: a clear message that names the file, line or field and the next
//! step, exit code 1 (2 for a wrong command line), no panic, and nothing lost or half-written.

mod contexts;
mod damaged_database;
mod damaged_objects;
mod dockerfiles;
mod full_disk;
mod layouts;
mod outputs;
mod roots;

/// No arguments, of a type that `Varve::build` can take.
const NOTHING: [&str; 0] = [];
