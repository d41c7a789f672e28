//! The compressions that OCI layers may have: none, gzip, zstd.
//!
//! Encoding is deterministic: the same bytes give the same stream on every machine, whatever its
//! number of cores. It is not the stream that Go's gzip writes; only diff ids agree between tools.

mod gzip;

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::thread;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};
use gzip::GzipWriter;

/// How many bytes at the start of a layer [`Compression::detect`] looks at.
pub const MAGIC_BYTES: usize = 6;

/// Largest window of a zstd stream, as a power of two: 128 MiB, what `zstd -d` takes by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Threads that compress zstd, at most; each has some 10 MB at the usual level.
const ZSTD_THREADS_MAX: usize = 16;

/// From this level on a job takes hundreds of megabytes of memory.
const ZSTD_LEVEL_LARGE: i32 = 20;

/// As many as that are enough there.
const ZSTD_THREADS_LARGE_MAX: usize = 2;

/// A compression of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Compression {
    /// Recognises a compression by the first [`MAGIC_BYTES`] bytes of a layer, as containerd does:
    /// media types of images in the wild lie.
    ///
    /// # Errors
    /// [`Error::UnsupportedCompression`] for bzip2 and xz.
    pub fn detect(start: &[u8]) -> Result<Self> {
        match start {
            [0x1f, 0x8b, 8, ..] => Ok(Compression::Gzip),
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Ok(Compression::Zstd)
            }
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => {
                Err(Error::UnsupportedCompression { name: "bzip2" })
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                Err(Error::UnsupportedCompression { name: "xz" })
            }
            _ => Ok(Compression::None),
        }
    }

    /// The compression that a media type tells: OCI's layer types with and without
    /// "nondistributable", and docker's. `None` for others.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
                Some(Compression::Gzip)
            }
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The OCI media type of a layer with this compression.
    pub const fn media_type(self) -> &'static str {
        match self {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// A compression with a level: how a layer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    compression: Compression,
    level: i32,
}

impl Encoding {
    /// No compression.
    pub const PLAIN: Encoding = Encoding {
        compression: Compression::None,
        level: 0,
    };
    /// gzip at level 5: zlib-rs makes as much of it as Go makes of level 6, with which docker and
    /// BuildKit write (0.316 of a tree of programs and texts, both), in a third of the time.
    pub const GZIP: Encoding = Encoding {
        compression: Compression::Gzip,
        level: 5,
    };
    /// zstd at level 3, as BuildKit writes.
    pub const ZSTD: Encoding = Encoding {
        compression: Compression::Zstd,
        level: 3,
    };

    /// A compression with its usual level, or with the given one: 0 to 9 for gzip, 1 to 22 for
    /// zstd; plain layers have level 0 alone.
    ///
    /// # Errors
    /// [`Error::CompressionLevel`] for a level that it does not have.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self> {
        let (usual, lowest, highest) = match compression {
            Compression::None => (Self::PLAIN, 0, 0),
            Compression::Gzip => (Self::GZIP, 0, 9),
            Compression::Zstd => (Self::ZSTD, 1, 22),
        };
        let level = level.unwrap_or(usual.level);
        if !(lowest..=highest).contains(&level) {
            return Err(Error::CompressionLevel {
                compression,
                level,
                lowest,
                highest,
            });
        }
        Ok(Encoding { compression, level })
    }

    /// How hard it compresses.
    pub const fn level(self) -> i32 {
        self.level
    }

    /// Tells streams of this encoding from those that an older varve wrote of the same tar: raised
    /// when a compressor changes, and with it the digests of what it makes.
    pub const fn stream_version(self) -> u8 {
        match self.compression {
            Compression::None => 1,
            // 2: pieces without repetitions are not searched, and level 5 is the usual one.
            Compression::Gzip => 2,
            // 2: jobs for several threads.
            Compression::Zstd => 2,
        }
    }

    /// The compression.
    pub const fn compression(self) -> Compression {
        self.compression
    }
}

/// Decompresses; behind the end of a gzip member or zstd frame only another one may follow.
pub struct Decoder<B: BufRead>(Decoding<B>);

enum Decoding<B: BufRead> {
    Plain(B),
    Gzip(Box<MultiGzDecoder<B>>),
    Zstd(zstd::Decoder<'static, B>),
}

impl<B: BufRead> fmt::Debug for Decoder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl<B: BufRead> Decoder<B> {
    /// Reads `input`, which has this compression.
    ///
    /// # Errors
    /// When there is no memory for the decoder.
    pub fn new(compression: Compression, input: B) -> io::Result<Self> {
        Ok(Decoder(match compression {
            Compression::None => Decoding::Plain(input),
            Compression::Gzip => Decoding::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Decoding::Zstd(decoder)
            }
        }))
    }

    /// Where the compressed bytes come from.
    pub(crate) fn input(&self) -> &B {
        match &self.0 {
            Decoding::Plain(input) => input,
            Decoding::Gzip(decoder) => decoder.get_ref(),
            Decoding::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

impl<B: BufRead> Read for Decoder<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoding::Plain(input) => input.read(buffer),
            Decoding::Gzip(decoder) => decoder.read(buffer),
            Decoding::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

fn zstd_threads(level: i32) -> u32 {
    let most = match level {
        ..ZSTD_LEVEL_LARGE => ZSTD_THREADS_MAX,
        _ => ZSTD_THREADS_LARGE_MAX,
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // At most sixteen.
    cores.min(most) as u32
}

/// Compresses what is written to it.
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    Gzip(GzipWriter<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(encoding: Encoding, output: W) -> io::Result<Self> {
        Ok(match encoding.compression {
            Compression::None => Encoder::Plain(output),
            Compression::Gzip => Encoder::Gzip(GzipWriter::new(output, encoding.level)?),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(output, encoding.level)?;
                encoder.include_checksum(true)?;
                // The stream is the same for any number from one on, and another one for none. What
                // becomes of a job does not depend on who does it.
                encoder.multithread(zstd_threads(encoding.level))?;
                Encoder::Zstd(encoder)
            }
        })
    }

    /// Ends the stream; without it the stream is a truncated one.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Encoder::Plain(output) => Ok(output),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Plain(output) => output.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Plain(output) => output.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(encoding: Encoding, pieces: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::new(encoding, Vec::new()).unwrap();
        for piece in pieces {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    fn decoded(compressed: &[u8]) -> io::Result<Vec<u8>> {
        let compression = Compression::detect(compressed).unwrap();
        let mut bytes = Vec::new();
        Decoder::new(compression, compressed)?
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    }

    #[test]
    fn a_compression_is_recognised_by_its_first_bytes() {
        for (start, expected) in [
            (&b""[..], Some(Compression::None)),
            (b"etc/", Some(Compression::None)),
            (b"\x1f\x8b\x08\0\0\0", Some(Compression::Gzip)),
            (b"\x28\xb5\x2f\xfd\0\0", Some(Compression::Zstd)),
            (b"\x50\x2a\x4d\x18\0\0", Some(Compression::Zstd)),
            (b"BZh91A", None),
            (b"\xfd7zXZ\0", None),
        ] {
            assert_eq!(Compression::detect(start).ok(), expected, "{start:?}");
        }
    }

    #[test]
    fn media_types_and_compressions_belong_together() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let media_type = compression.media_type();
            assert_eq!(Compression::from_media_type(media_type), Some(compression));
        }
        assert_eq!(Compression::from_media_type("application/json"), None);
    }

    #[test]
    fn levels_that_a_format_does_not_have_are_refused() {
        for (compression, level, ok) in [
            (Compression::None, 1, false),
            (Compression::Gzip, 0, true),
            (Compression::Gzip, 9, true),
            (Compression::Gzip, 10, false),
            (Compression::Gzip, -1, false),
            (Compression::Zstd, 0, false),
            (Compression::Zstd, 22, true),
        ] {
            let encoding = Encoding::new(compression, Some(level));
            assert_eq!(encoding.is_ok(), ok, "{compression} {level}");
        }
        assert_eq!(
            Encoding::new(Compression::Gzip, None).unwrap(),
            Encoding::GZIP
        );
    }

    #[test]
    fn members_and_frames_one_behind_the_other_are_one_stream() {
        for encoding in [Encoding::GZIP, Encoding::ZSTD] {
            let both = [encoded(encoding, &[b"one"]), encoded(encoding, &[b"two"])].concat();
            assert_eq!(decoded(&both).unwrap(), b"onetwo");
        }
    }

    #[test]
    fn garbage_behind_a_compressed_stream_is_an_error() {
        for encoding in [Encoding::GZIP, Encoding::ZSTD] {
            let stream = [&encoded(encoding, &[b"one"])[..], b"garbage!"].concat();
            assert!(decoded(&stream).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_an_error() {
        for encoding in [Encoding::GZIP, Encoding::ZSTD] {
            let stream = encoded(encoding, &[b"some bytes that are not very long"]);
            for length in MAGIC_BYTES..stream.len() {
                assert!(decoded(&stream[..length]).is_err(), "{encoding:?} {length}");
            }
        }
    }

    #[test]
    fn a_gzip_stream_names_no_file_and_no_time() {
        let stream = encoded(Encoding::GZIP, &[b"x"]);
        assert_eq!(stream[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    }

    /// Caught once: a compressor that was reset found other matches than a new one, so the stream
    /// depended on which thread had compressed what before.
    #[test]
    fn a_gzip_stream_does_not_depend_on_which_thread_does_what() {
        #[rustfmt::skip]
        let found_by_chance: &[u8] = &[
            27, 80, 52, 140, 63, 240, 31, 173, 104, 209, 236, 97, 41, 208, 3,
            14, 247, 66, 143, 165, 142, 71, 166, 115, 55, 111, 251, 38, 75, 153,
            19, 68, 126, 123, 135, 4, 249, 226, 210, 171, 77, 234, 109, 99, 181,
            119, 136, 33, 22, 254, 221, 22, 36, 183, 7, 35, 203, 22, 103, 155,
            74, 241, 190, 182, 143, 174, 103, 64, 41, 241, 23, 206, 98, 42, 196,
            165, 44, 121, 10, 172, 23, 169, 110, 76, 255, 251, 153, 154, 78, 107,
            209, 243, 21, 178, 63, 81, 115, 1, 245, 142, 148, 178, 218, 174, 16,
            79, 87, 22, 207, 243, 160, 153, 23, 54, 117, 216, 11, 185, 26, 109,
            193, 121, 32, 66, 114, 131, 105, 12, 229, 151, 234, 214, 139, 122, 17,
            81, 33, 196, 50, 176, 229, 147, 74, 66, 157, 86, 38, 226, 114, 232,
            222, 243, 85, 201, 95, 81, 164, 7, 214, 163, 109, 160, 223, 27, 70,
            58, 9, 204, 173, 187,
        ];
        let bytes = found_by_chance.repeat(5_999);
        for level in [1, 4, 6, 9] {
            let encoding = Encoding::new(Compression::Gzip, Some(level)).unwrap();
            let first = encoded(encoding, &[&bytes]);
            for _ in 0..12 {
                assert!(encoded(encoding, &[&bytes]) == first, "level {level}");
            }
        }
        // The same on every machine. If a new flate2 changes it, so do the digests of all layers
        // that are packed from then on: say so in the changelog, and raise the stream's version.
        let digest = crate::Digest::of(&encoded(Encoding::GZIP, &[&bytes]));
        assert_eq!(digest.hex()[..16], *"55ad85ee023318ab");
    }

    /// A machine with more cores must not make another digest.
    #[test]
    fn a_zstd_stream_does_not_depend_on_the_number_of_threads() {
        let pieces = (0..40_000_u32).map(|at| {
            at.wrapping_mul(at)
                .to_le_bytes()
                .repeat(1 + at as usize % 300)
        });
        let bytes: Vec<u8> = pieces.flatten().collect();
        let with = |threads: u32, piece: usize| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.multithread(threads).unwrap();
            for piece in bytes.chunks(piece) {
                encoder.write_all(piece).unwrap();
            }
            encoder.finish().unwrap()
        };
        let first = encoded(Encoding::ZSTD, &[&bytes]);
        for (threads, piece) in [
            (1, 1 << 30),
            (1, 70_001),
            (2, 512 << 10),
            (5, 7),
            (16, 1 << 20),
        ] {
            assert!(
                with(threads, piece) == first,
                "{threads} threads, {piece} bytes at a time"
            );
        }
        assert!(decoded(&first).unwrap() == bytes);
        // As that of gzip: a new zstd may change it, and then the stream's version is to be raised.
        let digest = crate::Digest::of(&first);
        assert_eq!(digest.hex()[..16], *"a24c1c6b41b8931d");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 48,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_compressed_is_decompressed(
            seed in prop::collection::vec(any::<u8>(), 0..200),
            repeat in 0usize..6_000,
            cut in any::<prop::sample::Index>(),
            level in 0i32..=9,
        ) {
            let bytes = seed.repeat(repeat);
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            for encoding in [
                Encoding::new(Compression::Gzip, Some(level)).unwrap(),
                Encoding::new(Compression::Zstd, Some(level.max(1))).unwrap(),
            ] {
                let stream = encoded(encoding, &[head, tail]);
                prop_assert_eq!(&stream, &encoded(encoding, &[&bytes]), "not deterministic");
                prop_assert!(decoded(&stream).unwrap() == bytes);
            }
        }
    }
}
