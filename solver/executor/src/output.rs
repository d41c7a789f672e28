//! What a step prints: two pipes read at the same time, cut into lines, tagged with their stream.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Longest piece of a line handed on at once, in bytes. A longer line comes in several pieces, so
/// a step that prints without line breaks costs no more memory than this.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes read from a pipe at once; the default capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// How long an unfinished line waits for its end before it is shown as it is (a question, or a
/// progress bar, which may grow without a pause).
const PARTIAL_LINE_DELAY: Duration = Duration::from_millis(250);

/// How long a pipe may be silent after the container has ended, before it is given up: somebody
/// outside of the container holds its other end.
const ORPHAN_PIPE_DELAY: Duration = Duration::from_millis(500);

/// Which output a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A line, or a piece of one that is too long or not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// Where it was printed.
    pub stream: Stream,
    /// The bytes as printed, without the line feed.
    pub text: Vec<u8>,
    /// Whether a line feed followed; if not, the next piece of this stream continues the line.
    pub ends: bool,
}

/// Where the lines of a run go. Lines of one stream keep their order. When the channel is full
/// the step waits; when the receiver is gone its output is thrown away.
pub type OutputSender = mpsc::Sender<OutputLine>;

/// Reads `pipe` to its end and sends its lines. Once `ended` says that the container is gone, a
/// silent pipe counts as finished.
///
/// # Errors
/// Those of reading; what was read before has been sent.
pub(crate) async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    stream: Stream,
    sender: OutputSender,
    mut ended: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut lines = LineCutter::new(stream);
    // When the unfinished line is shown, if there is one.
    let mut shown_at = None;
    loop {
        let due = shown_at.unwrap_or_else(Instant::now);
        let length = tokio::select! {
            biased;
            () = tokio::time::sleep_until(due), if shown_at.is_some() => {
                send(&sender, lines.take_partial()).await;
                shown_at = None;
                continue;
            }
            length = pipe.read(&mut buffer) => length?,
            () = silence_after(&mut ended) => 0,
        };
        if length == 0 {
            if !lines.partial.is_empty() {
                send(&sender, lines.take_partial()).await;
            }
            return Ok(());
        }
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((line, after)) = lines.next(rest) {
            send(&sender, line).await;
            // What comes now is another line, or the rest of one that was shown.
            shown_at = None;
            rest = after;
        }
        if !lines.partial.is_empty() {
            shown_at.get_or_insert_with(|| Instant::now() + PARTIAL_LINE_DELAY);
        }
    }
}

/// Returns a while after `ended` has become true.
async fn silence_after(ended: &mut watch::Receiver<bool>) {
    // A sender that is gone without a word means an end, too.
    drop(ended.wait_for(|ended| *ended).await);
    tokio::time::sleep(ORPHAN_PIPE_DELAY).await;
}

async fn send(sender: &OutputSender, line: OutputLine) {
    // Nobody listens any more: the output is still read, or the step would wait forever.
    drop(sender.send(line).await);
}

/// Cuts bytes into lines. Pure, so its rules are tested without pipes.
#[derive(Debug)]
struct LineCutter {
    stream: Stream,
    partial: Vec<u8>,
}

impl LineCutter {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
        }
    }

    /// The next piece and what follows it; `None` when all of `bytes` waits for a line's end.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(OutputLine, &'a [u8])> {
        let room = LINE_BYTES_MAX - self.partial.len();
        let window = bytes.get(..bytes.len().min(room + 1))?;
        if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
            let (text, rest) = bytes.split_at(end);
            self.partial.extend_from_slice(text);
            return Some((self.piece(true), rest.get(1..).unwrap_or_default()));
        }
        if bytes.len() > room {
            let (text, rest) = bytes.split_at(room);
            self.partial.extend_from_slice(text);
            return Some((self.piece(false), rest));
        }
        self.partial.extend_from_slice(bytes);
        None
    }

    fn take_partial(&mut self) -> OutputLine {
        self.piece(false)
    }

    fn piece(&mut self, ends: bool) -> OutputLine {
        OutputLine {
            stream: self.stream,
            text: std::mem::take(&mut self.partial),
            ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (sender, mut receiver) = mpsc::channel(1);
        let (reader, mut writer) = tokio::io::duplex(READ_BYTES);
        let (_running, ended) = watch::channel(false);
        let pump = tokio::spawn(pump(reader, Stream::Stdout, sender, ended));
        let chunks: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        let write = tokio::spawn(async move {
            for chunk in chunks {
                tokio::io::AsyncWriteExt::write_all(&mut writer, &chunk)
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push((line.text, line.ends));
        }
        write.await.unwrap();
        pump.await.unwrap().unwrap();
        lines
    }

    #[tokio::test]
    async fn lines_come_whole_whatever_the_chunks_are() {
        let lines = collect(&[b"a\nb", b"c\n", b"\n\nend"]).await;
        let expect: Vec<(Vec<u8>, bool)> = [("a", true), ("bc", true), ("", true), ("", true)]
            .into_iter()
            .chain([("end", false)])
            .map(|(text, ends)| (text.as_bytes().to_vec(), ends))
            .collect();
        assert_eq!(lines, expect);
    }

    #[tokio::test]
    async fn a_line_without_end_comes_in_bounded_pieces() {
        let long = vec![b'x'; LINE_BYTES_MAX * 2 + 5];
        let lines = collect(&[&long, b"\n"]).await;
        let lengths: Vec<_> = lines
            .iter()
            .map(|(text, ends)| (text.len(), *ends))
            .collect();
        assert_eq!(
            lengths,
            [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX, false), (5, true)]
        );
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_is_one_piece() {
        let mut text = vec![b'x'; LINE_BYTES_MAX];
        text.push(b'\n');
        let lines = collect(&[&text]).await;
        assert_eq!(lines.len(), 1);
        assert!(
            lines
                .first()
                .is_some_and(|(text, ends)| text.len() == LINE_BYTES_MAX && *ends)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_line_is_shown_after_a_while() {
        let (sender, mut receiver) = mpsc::channel(1);
        let (reader, mut writer) = tokio::io::duplex(64);
        let (_running, ended) = watch::channel(false);
        let pump = tokio::spawn(pump(reader, Stream::Stderr, sender, ended));
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"name? ")
            .await
            .unwrap();
        let line = receiver.recv().await.unwrap();
        assert_eq!(
            (line.text.as_slice(), line.ends),
            (b"name? ".as_slice(), false)
        );
        drop(writer);
        assert_eq!(receiver.recv().await, None);
        pump.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_grows_without_a_pause_is_shown_too() {
        let (sender, mut receiver) = mpsc::channel(8);
        let (reader, mut writer) = tokio::io::duplex(64);
        let (_running, ended) = watch::channel(false);
        let pump = tokio::spawn(pump(reader, Stream::Stdout, sender, ended));
        let write = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::io::AsyncWriteExt::write_all(&mut writer, b"50%\r")
                    .await
                    .unwrap();
                tokio::time::sleep(PARTIAL_LINE_DELAY / 3).await;
            }
        });
        let first = receiver.recv().await.unwrap();
        assert!(!first.ends);
        assert!(first.text.len() < 10 * 4, "before its end: {first:?}");
        let mut text = first.text;
        while let Some(line) = receiver.recv().await {
            text.extend(line.text);
        }
        assert_eq!(text, b"50%\r".repeat(10));
        write.await.unwrap();
        pump.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_a_listener_the_pipe_is_still_read_to_its_end() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let flood = vec![b'\n'; 1 << 20];
        let (_running, ended) = watch::channel(false);
        pump(flood.as_slice(), Stream::Stdout, sender, ended)
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_stays_open_after_the_end_is_given_up() {
        let (sender, mut receiver) = mpsc::channel(8);
        let (reader, mut writer) = tokio::io::duplex(64);
        let (running, ended) = watch::channel(false);
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"last words\n")
            .await
            .unwrap();
        let pump = tokio::spawn(pump(reader, Stream::Stdout, sender, ended));
        running.send(true).unwrap();
        pump.await.unwrap().unwrap();
        assert_eq!(receiver.recv().await.unwrap().text, b"last words");
        drop(writer);
    }
}
