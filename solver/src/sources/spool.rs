//! An archive from somewhere that cannot be read twice, or is compressed: brought to a file without
//! a name, which is gone with its last reader.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::ops::archive;

/// Bytes that are copied at a time.
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// An archive that can be read at any place.
#[derive(Debug)]
pub(crate) struct Spooled(File);

impl Spooled {
    /// Takes a plain regular file as it is; everything else is copied to `directory`, and what is
    /// compressed with gzip, bzip2, xz or zstd unpacked on the way.
    ///
    /// # Errors
    /// [`Error::Io`] with what it is called.
    pub(crate) fn new(input: File, what: &str, directory: &Path) -> Result<Self> {
        let read_failed = |e| Error::io("read", what, e);
        let is_file = input.metadata().map_err(read_failed)?.is_file();
        let again = input.try_clone().map_err(read_failed)?;
        let mut reader = BufReader::with_capacity(COPY_BUFFER_BYTES, input);
        let start = reader.fill_buf().map_err(read_failed)?;
        if start.is_empty() {
            return Err(Error::bad_image(what, "it is empty"));
        }
        if is_file && !archive::is_compressed(start) {
            return Ok(Spooled(again));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .mode(0o600)
            .open(directory);
        let mut file = file.map_err(|e| Error::io("create a file in", directory, e))?;
        let mut decoder = archive::decoded(reader).map_err(read_failed)?;
        copy(&mut decoder, &mut file, what, directory)?;
        Ok(Spooled(file))
    }

    /// Where it can be opened as long as the value lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy(from: &mut impl Read, to: &mut File, what: &str, directory: &Path) -> Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io("read", what, e)),
        };
        let written = io::Write::write_all(to, &buffer[..count]);
        written.map_err(|e| Error::io("write to a file in", directory, e))?;
    }
}
