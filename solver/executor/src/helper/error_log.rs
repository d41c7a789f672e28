//! libcontainer's own error events, caught in every process of a container that is being made.
//!
//! The error that libcontainer returns from the container's first process is only the outermost
//! ("failed to prepare rootfs"). What went wrong is in the events that it logs on the way, the
//! first one being the innermost. They go through a pipe of their own, which never blocks.

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::pipe::PipeFlags;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Bytes of one event that are kept; some events describe a whole mount.
const EVENT_BYTES_MAX: usize = 2048;

/// The helper's end of the pipe.
#[derive(Debug)]
pub(super) struct ErrorReader {
    pipe: File,
}

impl ErrorReader {
    /// The first error that any of the processes has logged so far.
    pub(super) fn first(&self) -> Option<String> {
        let mut text = vec![0; EVENT_BYTES_MAX];
        let length = (&self.pipe).read(&mut text).ok()?;
        text.truncate(length);
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().next().map(ToOwned::to_owned)
    }
}

/// Catches the errors of this process and of those that it will fork.
///
/// # Errors
/// When there can be no pipe.
pub(super) fn install() -> std::io::Result<ErrorReader> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (reader, writer) = rustix::pipe::pipe_with(flags)?;
    let log = ErrorLog {
        pipe: File::from(writer),
    };
    // The only way to fail is that there is one already, and then there is nothing to read.
    drop(tracing::subscriber::set_global_default(log));
    Ok(ErrorReader {
        pipe: File::from(reader),
    })
}

/// Sends error events as lines of plain text.
#[derive(Debug)]
struct ErrorLog {
    pipe: File,
}

impl Subscriber for ErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText::default();
        event.record(&mut text);
        let line = (text.message + &text.fields).replace('\n', " ");
        let mut line = line.into_bytes();
        line.truncate(EVENT_BYTES_MAX - 1);
        line.push(b'\n');
        // Nobody is left to be told of a failure here.
        drop((&self.pipe).write_all(&line));
    }

    // Spans are never enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event as text: its message, then its fields.
#[derive(Debug, Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        if field.name() == "message" {
            write!(self.message, "{value:?}").ok();
        } else {
            write!(self.fields, ", {} {value:?}", field.name()).ok();
        }
    }
}
