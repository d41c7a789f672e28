//! RUN --mount: what a step sees beside its root file system, and what becomes of it.

mod agents;
mod caches;
mod directories;
mod limits;
mod secrets;

use support::workspace::Varve;

/// What the last step of a Dockerfile on the base image says.
#[track_caller]
fn said(varve: &Varve, lines: &str, arguments: &[&str]) -> Vec<String> {
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    let arguments = ["-t", "app"].iter().chain(arguments);
    let transcript = varve.build(arguments).success().transcript();
    let last = transcript.instructions().max_by_key(|step| step.number);
    last.expect("a step").output.clone()
}

/// Paths of the last layer of an image of the context, directories too.
fn last_layer(varve: &Varve) -> Vec<String> {
    let layer = varve.image([""; 0]).last_layer();
    let mut paths: Vec<_> = layer.into_iter().map(|entry| entry.path).collect();
    paths.retain(|path| !path.is_empty() && path != ".");
    paths.sort();
    paths
}
