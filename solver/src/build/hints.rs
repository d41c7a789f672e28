//! What may be behind a failure, in a sentence for a person.

use std::path::Path;

use dockerfile::error::Span;

use crate::error::Error;
use crate::frontend::Text;
use crate::request::{BuildRequest, ContextSource};

/// An image that nobody has, with nearly the name of a stage.
pub(super) fn of_image(error: &Error, text: &Text) -> Option<String> {
    let Error::AtLines { source, .. } = error else {
        return None;
    };
    let Error::NotPulled { reference, .. } = &**source else {
        return None;
    };
    let stage = dockerfile::parse(&text.bytes)
        .ok()?
        .similar_stage(reference)?;
    Some(format!(
        "there is no stage {reference}; did you mean {stage}?"
    ))
}

/// A file of the context that was copied from and not found there, though it is in the directory:
/// an ignore file has left it out.
pub(super) fn of(
    error: &Error,
    spans: &[Span],
    text: &Text,
    request: &BuildRequest,
) -> Option<String> {
    let Error::Step { source, .. } = error else {
        return None;
    };
    let Some(Error::NotFound { path }) = source.downcast_ref() else {
        return None;
    };
    let Some(ContextSource::Directory(directory)) = &request.context else {
        return None;
    };
    let is_of_context = !instruction(text, spans).contains("--from");
    let file = directory.join(path.trim_start_matches('/'));
    (is_of_context && file.symlink_metadata().is_ok()).then(|| {
        format!(
            "{} is there: {} leaves it out of the context",
            file.display(),
            ignore_file(directory)
        )
    })
}

/// What stands in the lines that are to blame.
fn instruction(text: &Text, spans: &[Span]) -> String {
    let bytes = String::from_utf8_lossy(&text.bytes);
    let lines = bytes
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    let blamed = lines.filter(|(number, _)| {
        let is_within = |span: &Span| (span.start..=span.end).contains(number);
        spans.iter().any(is_within)
    });
    blamed.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

fn ignore_file(directory: &Path) -> String {
    let common = directory.join(".dockerignore");
    match common.is_file() {
        true => common.display().to_string(),
        false => "the .dockerignore of the Dockerfile".to_owned(),
    }
}
