//! Docker at its socket: `POST /images/load` of its HTTP API.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use solver::request::{Handover, Receiver};

/// How long docker may take to answer a ping.
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A docker engine.
#[derive(Debug)]
pub(super) struct DockerSocket {
    path: PathBuf,
}

impl DockerSocket {
    /// The one that listens there.
    pub(super) fn new(path: PathBuf) -> Self {
        DockerSocket { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn ping(&self) -> Result<(), String> {
        let asked = || {
            let mut stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(PING_PATIENCE))?;
            stream
                .write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
            Answer::read(stream)
        };
        match asked() {
            Ok(answer) if answer.code == 200 => Ok(()),
            Ok(answer) => Err(format!("it answers with {}", answer.code)),
            Err(error) => Err(crate::error::sentence(&error)),
        }
    }
}

impl Receiver for DockerSocket {
    fn name(&self) -> &str {
        "docker"
    }

    fn begin(&self) -> io::Result<Box<dyn Handover>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.write_all(
            b"POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
              Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        Ok(Box::new(Upload {
            stream: Some(stream),
        }))
    }
}

/// An archive on its way, in chunks of HTTP/1.1. Dropped before its end, it has no last chunk, and
/// docker takes nothing of it.
struct Upload {
    stream: Option<UnixStream>,
}

impl Upload {
    fn answer(&mut self) -> io::Result<String> {
        let stream = self.stream.take();
        Answer::read(stream.ok_or(io::ErrorKind::BrokenPipe)?)?.judge()
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the last one.
        if bytes.is_empty() {
            return Ok(0);
        }
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        write!(stream, "{:x}\r\n", bytes.len())?;
        stream.write_all(bytes)?;
        stream.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Handover for Upload {
    fn finish(mut self: Box<Self>) -> io::Result<String> {
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stream.write_all(b"0\r\n\r\n")?;
        self.answer()
    }

    fn failure(&mut self) -> Option<io::Error> {
        if let Some(stream) = &self.stream {
            // It has stopped reading; what it had to say is there, or does not come.
            stream.set_read_timeout(Some(PING_PATIENCE)).ok()?;
        }
        self.answer()
            .err()
            .filter(|error| error.kind() == io::ErrorKind::Other)
    }
}

/// What docker says to a request.
struct Answer {
    code: u16,
    body: Vec<u8>,
}

/// A line of the answer to a load, or the body of an error.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    stream: String,
    /// In the middle of an answer that began well.
    error: Option<String>,
    /// In an answer that is an error as a whole.
    message: Option<String>,
}

impl Answer {
    fn read(stream: UnixStream) -> io::Result<Self> {
        let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
        let mut line = String::new();
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP");
        reader.read_line(&mut line)?;
        let code = line
            .split_whitespace()
            .nth(1)
            .and_then(|code| code.parse().ok());
        let code = code.ok_or_else(bad)?;
        let mut is_chunked = false;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(bad());
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            is_chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        let mut body = Vec::new();
        match is_chunked {
            false => drop(reader.read_to_end(&mut body)?),
            true => loop {
                line.clear();
                reader.read_line(&mut line)?;
                let size = line.trim().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16).map_err(|_| bad())?;
                if size == 0 {
                    break;
                }
                reader.by_ref().take(size).read_to_end(&mut body)?;
                line.clear();
                reader.read_line(&mut line)?;
            },
        }
        Ok(Answer { code, body })
    }

    /// What was loaded, or why nothing was.
    fn judge(self) -> io::Result<String> {
        let mut told = String::new();
        for line in serde_json::Deserializer::from_slice(&self.body).into_iter::<Line>() {
            let Ok(line) = line else { break };
            if let Some(error) = line.error.or(line.message) {
                return Err(io::Error::other(error));
            }
            told.push_str(&line.stream);
        }
        match self.code {
            200..=299 => Ok(told.trim().to_owned()),
            code => Err(io::Error::other(format!("it answers with {code}"))),
        }
    }
}
