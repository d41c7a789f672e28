//! Reads a tar as a stream: [`Reader::next`] gives an entry, [`Reader::piece`] its content.

use store::{Metadata, Timestamp};

use super::header::{GID, Header, MODE, MTIME, SIZE, UID};
use super::pax::{Extension, decimal};
use super::sparse::{Map, Piece, Run, read_gnu_pieces};
use super::{BLOCK, Entry, Kind, Source};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// What holes are read from.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Major numbers of Linux devices have 12 bits, minor numbers 20.
const MAJOR_MAX: i64 = (1 << 12) - 1;
const MINOR_MAX: i64 = (1 << 20) - 1;

/// A tar being read.
pub(crate) struct Reader<'l, S> {
    source: S,
    limits: &'l Limits,
    /// Bytes of the tar that were read.
    offset: u64,
    /// Bytes that [`Reader::piece`] gave away and that are still to be stepped over.
    given: usize,
    /// What is left of the current content.
    runs: Vec<Run>,
    /// Zeros behind the current content.
    padding: u64,
    /// Name of the current entry, for messages.
    path: Vec<u8>,
    /// Bytes of holes so far, in all entries.
    holes: u64,
    ended: bool,
}

/// How the content of an entry lies in the tar.
enum Layout {
    /// As it is.
    Plain(u64),
    /// In pieces that headers told (GNU `S`, PAX 0.0 and 0.1); so many bytes are stored.
    Pieces {
        pieces: Vec<Piece>,
        size: u64,
        stored: u64,
    },
    /// In pieces that the stored bytes begin with (PAX 1.0).
    PiecesInside { size: u64, stored: u64 },
}

impl<'l, S: Source> Reader<'l, S> {
    /// Starts to read.
    pub(crate) fn new(source: S, limits: &'l Limits) -> Self {
        Reader {
            source,
            limits,
            offset: 0,
            given: 0,
            runs: Vec::new(),
            padding: 0,
            path: Vec::new(),
            holes: 0,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. What is left of the content of the
    /// entry before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        while self.piece()?.is_some() {}
        let (mut extension, mut long_name, mut long_link) = (Extension::default(), None, None);
        let mut place = None;
        loop {
            let Some((offset, header)) = self.header(place)? else {
                return Ok(None);
            };
            let invalid = |reason| Error::Header { offset, reason };
            match header.kind() {
                b'x' => {
                    // A second extended header stands in place of the first.
                    extension = Extension::default();
                    extension
                        .read(&self.extension_body(&header, offset)?)
                        .map_err(invalid)?;
                }
                b'L' => long_name = Some(name_of(self.extension_body(&header, offset)?)),
                b'K' => long_link = Some(name_of(self.extension_body(&header, offset)?)),
                _ => {
                    let path = long_name
                        .or_else(|| extension.sparse.name.take())
                        .or_else(|| extension.path.take())
                        .unwrap_or_else(|| header.path());
                    self.path.clone_from(&path);
                    let link = long_link
                        .or_else(|| extension.link_name.take())
                        .unwrap_or_else(|| header.link_name().to_vec());
                    return self.entry(&header, offset, extension, path, link).map(Some);
                }
            }
            place = Some("an extended header");
        }
    }

    /// The next bytes of the content of the current entry, or `None` at its end.
    pub(crate) fn piece(&mut self) -> Result<Option<&[u8]>> {
        self.step_over_given();
        while let Some(Run::Hole(0) | Run::Stored(0)) = self.runs.last() {
            self.runs.pop();
        }
        match self.runs.last_mut() {
            None => {
                self.skip_padding()?;
                Ok(None)
            }
            Some(Run::Hole(left)) => {
                let count = ZEROS
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(Some(&ZEROS[..count]))
            }
            Some(Run::Stored(left)) => {
                let count = self
                    .source
                    .fill()?
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                if count == 0 {
                    return Err(self.truncated(None));
                }
                *left -= count as u64;
                self.given = count;
                Ok(Some(&self.source.available()[..count]))
            }
        }
    }

    /// Reads on behind the end of the archive; tells whether anything but zeros is there.
    pub(crate) fn trailing(&mut self) -> Result<bool> {
        let mut garbage = false;
        loop {
            let count = self.source.fill()?;
            if count == 0 {
                return Ok(garbage);
            }
            garbage = garbage
                || self.source.available()[..count]
                    .iter()
                    .any(|byte| *byte != 0);
            self.consume(count);
        }
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.offset += count as u64;
    }

    fn step_over_given(&mut self) {
        let given = std::mem::take(&mut self.given);
        self.consume(given);
    }

    fn skip_padding(&mut self) -> Result<()> {
        while self.padding > 0 {
            let padding = usize::try_from(self.padding).unwrap_or(usize::MAX);
            let count = self.source.fill()?.min(padding);
            if count == 0 {
                return Err(self.truncated(None));
            }
            self.consume(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// An [`Error::Truncated`] in `place`, or in the content of the current entry.
    fn truncated(&self, place: Option<&str>) -> Error {
        let entry = || format!("the entry {:?}", String::from_utf8_lossy(&self.path));
        Error::Truncated {
            place: place.map_or_else(entry, str::to_owned),
            offset: self.offset,
        }
    }

    /// The next block; `None` if the stream ends just before it.
    fn block(&mut self, place: Option<&str>) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let count = self.source.fill()?.min(BLOCK - filled);
            if count == 0 {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(self.truncated(place))
                };
            }
            block[filled..filled + count].copy_from_slice(&self.source.available()[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    /// The next header and where it stands; `None` at the end of the archive: two blocks of
    /// zeros, or the end of the stream where a header would begin, as Go has it. With `behind`
    /// the archive may not end here.
    fn header(&mut self, behind: Option<&str>) -> Result<Option<(u64, Header)>> {
        if self.ended {
            return Ok(None);
        }
        let offset = self.offset;
        let zeros = [0; BLOCK];
        let block = self
            .block(Some("a header"))?
            .filter(|block| *block != zeros);
        if let Some(block) = block {
            let header = Header::parse(block).map_err(|reason| Error::Header { offset, reason })?;
            return Ok(Some((offset, header)));
        }
        if self
            .block(Some("the end mark"))?
            .is_some_and(|block| block != zeros)
        {
            let reason = "it is empty, but the archive goes on behind it";
            return Err(Error::Header { offset, reason });
        }
        self.ended = true;
        match behind {
            None => Ok(None),
            Some(place) => Err(self.truncated(Some(place))),
        }
    }

    /// The whole body of an extension header.
    fn extension_body(&mut self, header: &Header, offset: u64) -> Result<Vec<u8>> {
        let invalid = |reason| Error::Header { offset, reason };
        let size = size_of(header).map_err(invalid)?;
        if size > self.limits.extension_bytes_max {
            let limit = self.limits.extension_bytes_max;
            return Err(Error::Limit {
                what: "an extended header of too many bytes",
                limit,
            });
        }
        self.path = b"(extended header)".to_vec();
        self.set_body(vec![Run::Stored(size)], size);
        // Not reserved at once: the stream may not have what the header promises.
        let mut body = Vec::new();
        while let Some(piece) = self.piece()? {
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    /// Expects `stored` bytes of content, in runs that are given from the last to the first.
    fn set_body(&mut self, runs: Vec<Run>, stored: u64) {
        self.runs = runs;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn entry(
        &mut self,
        header: &Header,
        offset: u64,
        mut extension: Extension,
        path: Vec<u8>,
        link: Vec<u8>,
    ) -> Result<Entry> {
        let invalid = |reason| Error::Header { offset, reason };
        let metadata = metadata_of(header, &mut extension).map_err(invalid)?;
        let stored = match extension.size {
            Some(size) => size,
            None => size_of(header).map_err(invalid)?,
        };
        let layout = match header.kind() {
            // V7 had no type for directories.
            0 if path.ends_with(b"/") => None,
            0 | b'0' | b'7' => Some(pax_layout(extension.sparse, stored).map_err(invalid)?),
            b'S' => Some(self.gnu_layout(header, stored, offset)?),
            // Nobody knows their content, but it must be stepped over.
            b'g' | b'V' => Some(Layout::Plain(stored)),
            // Go ignores the size of all others, and so do those who write them.
            _ => None,
        };
        let size = match layout {
            Some(layout) => self.open_body(layout, offset)?,
            None => {
                self.set_body(Vec::new(), 0);
                0
            }
        };
        let kind = match header.kind() {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File { size },
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => device(header)
                .map(|(major, minor)| Kind::CharDevice(major, minor))
                .map_err(invalid)?,
            b'4' => device(header)
                .map(|(major, minor)| Kind::BlockDevice(major, minor))
                .map_err(invalid)?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            // POSIX would apply it to all entries behind it. Go hands it to its caller, and docker
            // and containerd drop it, so an image looks the same here as there.
            b'g' => Kind::Nothing("a global extended header"),
            b'V' => Kind::Nothing("a volume label"),
            kind => {
                let kind = char::from(kind).escape_default();
                return Err(Error::entry(
                    &path,
                    format!("tar entries of type '{kind}' are unknown"),
                ));
            }
        };
        Ok(Entry {
            path,
            kind,
            metadata,
        })
    }

    /// Prepares for the content; tells its length.
    fn open_body(&mut self, layout: Layout, offset: u64) -> Result<u64> {
        let invalid = |reason| Error::Header { offset, reason };
        let (pieces, size, stored, padded) = match layout {
            Layout::Plain(size) => {
                self.set_body(vec![Run::Stored(size)], size);
                return Ok(size);
            }
            Layout::Pieces {
                pieces,
                size,
                stored,
            } => (pieces, size, stored, stored),
            Layout::PiecesInside { size, stored } => {
                let (pieces, length) = self.pieces_inside(offset)?;
                let left = stored.checked_sub(length);
                let left = left.ok_or(invalid("its sparse map is longer than its content"))?;
                (pieces, size, left, left)
            }
        };
        self.check_piece_count(pieces.len())?;
        let map = Map::new(pieces, size, stored).map_err(invalid)?;
        self.holes = self.holes.saturating_add(map.holes());
        if self.holes > self.limits.hole_bytes_max {
            let limit = self.limits.hole_bytes_max;
            return Err(Error::Limit {
                what: "sparse files with holes of too many bytes",
                limit,
            });
        }
        let mut runs: Vec<_> = map.runs().collect();
        runs.reverse();
        self.set_body(runs, padded);
        Ok(size)
    }

    fn check_piece_count(&self, count: usize) -> Result<()> {
        let limit = self.limits.sparse_pieces_max;
        if count <= limit {
            return Ok(());
        }
        Err(Error::Limit {
            what: "a sparse file of too many pieces",
            limit: limit as u64,
        })
    }

    /// The layout of GNU type `S`: the header has four pieces, blocks behind it have more.
    fn gnu_layout(&mut self, header: &Header, stored: u64, offset: u64) -> Result<Layout> {
        let invalid = |reason| Error::Header { offset, reason };
        let (size, first, mut more) = header.gnu_sparse().map_err(invalid)?;
        let size = u64::try_from(size).map_err(|_| invalid("its sparse size is negative"))?;
        let mut pieces = Vec::new();
        read_gnu_pieces(first, &mut pieces).map_err(invalid)?;
        while more {
            let block = self.block(Some("a sparse map"))?;
            let block = block.ok_or_else(|| self.truncated(Some("a sparse map")))?;
            // 21 pieces, then whether yet another block follows.
            read_gnu_pieces(&block[..504], &mut pieces).map_err(invalid)?;
            self.check_piece_count(pieces.len())?;
            more = block[504] != 0;
        }
        Ok(Layout::Pieces {
            pieces,
            size,
            stored,
        })
    }

    /// The map of PAX 1.0, which stands before the content: decimal numbers, a line each: how
    /// many pieces, then offset and length of each; padded to whole blocks. Also tells how many
    /// bytes it takes.
    fn pieces_inside(&mut self, offset: u64) -> Result<(Vec<Piece>, u64)> {
        let invalid = |reason| Error::Header { offset, reason };
        let (mut length, mut digits, mut numbers) = (0, Vec::new(), Vec::new());
        let mut expected = None;
        while expected != Some(numbers.len()) {
            let block = self.block(Some("a sparse map"))?;
            let block = block.ok_or_else(|| self.truncated(Some("a sparse map")))?;
            length += BLOCK as u64;
            for byte in block {
                if expected == Some(numbers.len()) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = decimal(&digits).map_err(invalid)?;
                digits.clear();
                match expected {
                    Some(_) => numbers.push(number),
                    None => {
                        let count = usize::try_from(number).unwrap_or(usize::MAX);
                        self.check_piece_count(count)?;
                        expected = Some(count * 2);
                    }
                }
            }
            if digits.len() >= BLOCK {
                return Err(invalid("its sparse map is not made of numbers"));
            }
        }
        let piece = |pair: &[u64]| Piece {
            offset: pair[0],
            length: pair[1],
        };
        Ok((numbers.chunks_exact(2).map(piece).collect(), length))
    }
}

fn pax_layout(sparse: super::pax::Sparse, stored: u64) -> Result<Layout, &'static str> {
    match (sparse.major, sparse.minor, sparse.pieces) {
        (Some(1), Some(0), _) => {
            let size = sparse.size.ok_or("it is a sparse file without its size")?;
            Ok(Layout::PiecesInside { size, stored })
        }
        (None | Some(0), None | Some(0 | 1), Some(pieces)) => {
            let size = sparse.size.ok_or("it is a sparse file without its size")?;
            Ok(Layout::Pieces {
                pieces,
                size,
                stored,
            })
        }
        (None, None, None) => Ok(Layout::Plain(stored)),
        _ => Err("it is a sparse file of an unknown version"),
    }
}

fn metadata_of(header: &Header, extension: &mut Extension) -> Result<Metadata, &'static str> {
    let mode = header.number(MODE, "its mode is not a number")?;
    let uid = match extension.uid {
        Some(uid) => uid,
        None => header.number(UID, "its owner is not a number")?,
    };
    let gid = match extension.gid {
        Some(gid) => gid,
        None => header.number(GID, "its group is not a number")?,
    };
    let mtime = match extension.mtime {
        Some(mtime) => mtime,
        None => Timestamp::from_seconds(header.number(MTIME, "its mtime is not a number")?),
    };
    Ok(Metadata {
        // Some writers put the type bits of st_mode in front.
        mode: (mode & 0o7777) as u16,
        uid: owner(uid)?,
        gid: owner(gid)?,
        mtime,
        xattrs: extension.take_xattrs(),
    })
}

/// A user or group id. Old tars have those from 2^31 on as negative numbers; -1 is no id but
/// chown's way to say "leave it".
fn owner(id: i64) -> Result<u32, &'static str> {
    let wrapped = i32::try_from(id).map(i32::cast_unsigned);
    match u32::try_from(id).or(wrapped) {
        Err(_) | Ok(u32::MAX) => Err("its owner or group is no 32-bit id"),
        Ok(id) => Ok(id),
    }
}

fn device(header: &Header) -> Result<(u32, u32), &'static str> {
    let (major, minor) = header.device()?;
    if !(0..=MAJOR_MAX).contains(&major) || !(0..=MINOR_MAX).contains(&minor) {
        return Err("no Linux device has its numbers");
    }
    Ok((major as u32, minor as u32))
}

fn size_of(header: &Header) -> Result<u64, &'static str> {
    let size = header.number(SIZE, "its size is not a number")?;
    u64::try_from(size).map_err(|_| "its size is negative")
}

/// A GNU long name ends at its first NUL.
fn name_of(mut body: Vec<u8>) -> Vec<u8> {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(body.len());
    body.truncate(end);
    body
}
