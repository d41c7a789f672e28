//! What a layer may cost, so that a hostile one ends in an error instead of a full machine.

/// Bounds of one [`crate::unpack()`]; the defaults fit every image that we know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Directories, files and marks that the delta may hold, implied parents included. The whole
    /// delta is in memory, at some 300 bytes for each.
    pub entries_max: u64,
    /// Sum of the lengths of all names, link targets and extended attributes, in bytes.
    pub metadata_bytes_max: u64,
    /// Length of one PAX or GNU extension header, in bytes.
    pub extension_bytes_max: u64,
    /// Length of an entry's name, in bytes.
    pub path_bytes_max: usize,
    /// Components of an entry's name.
    pub path_depth_max: usize,
    /// Length of the target of a symbolic or hard link, in bytes.
    pub link_target_bytes_max: usize,
    /// Pieces of one sparse file.
    pub sparse_pieces_max: usize,
    /// Sum of the holes of sparse files, in bytes: written as zeros, in no way bounded by the
    /// length of the tar.
    pub hole_bytes_max: u64,
    /// Length of the uncompressed tar, in bytes.
    pub tar_bytes_max: u64,
    /// How many times longer than its compressed form a tar may be, once it is longer than
    /// [`Limits::ratio_free_bytes`].
    pub ratio_max: u64,
    /// Length of the uncompressed tar up to which its compression ratio does not matter, in bytes.
    pub ratio_free_bytes: u64,
}

/// The largest real layers have about a million files (monorepo node_modules).
const ENTRIES_MAX: u64 = 2_000_000;
/// 256 bytes for each of [`ENTRIES_MAX`]; real layers have about 60.
const METADATA_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// As Go's archive/tar, through which every layer of docker and containerd goes.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
/// PATH_MAX of Linux without its final NUL: longer names cannot be opened.
const PATH_BYTES_MAX: usize = 4_095;
/// Directories are visited recursively by readers of a delta, whose threads have stacks of 2 MiB.
const PATH_DEPTH_MAX: usize = 512;
/// A sparse file with a piece every 4 KiB would reach 4 GiB; 16 MiB of memory.
const SPARSE_PIECES_MAX: usize = 1_000_000;
/// A /var/log/lastlog indexed by a huge uid has hundreds of GiB; disk images have less.
const HOLE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Ten times the largest layers of machine-learning images.
const TAR_BYTES_MAX: u64 = 512 * 1024 * 1024 * 1024;
/// File systems compress 2 to 4 times, logs 20 times; gzip ends at 1,032, zstd goes on.
const RATIO_MAX: u64 = 250;
/// A preallocated file of zeros is legitimate, and 2 GiB on disk harm nobody.
const RATIO_FREE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries_max: ENTRIES_MAX,
            metadata_bytes_max: METADATA_BYTES_MAX,
            extension_bytes_max: EXTENSION_BYTES_MAX,
            path_bytes_max: PATH_BYTES_MAX,
            path_depth_max: PATH_DEPTH_MAX,
            link_target_bytes_max: PATH_BYTES_MAX,
            sparse_pieces_max: SPARSE_PIECES_MAX,
            hole_bytes_max: HOLE_BYTES_MAX,
            tar_bytes_max: TAR_BYTES_MAX,
            ratio_max: RATIO_MAX,
            ratio_free_bytes: RATIO_FREE_BYTES,
        }
    }
}
