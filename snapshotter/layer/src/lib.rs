//! OCI layer tar to delta and back, as pure stream code.
//!
//! Reading order: [`digest`] and [`compress`] (the bytes around a tar), [`limits`] (what a hostile
//! one may cost), `archive` (the tar format itself), [`whiteout`] (how a layer says "deleted"),
//! `assembly` and [`unpack`] (tar to [`store::Delta`]), [`pack`] (delta to tar).
//!
//! What a layer means is what containerd's overlayfs makes of it; where containerd's appliers
//! differ from each other, the OCI image specification decides. Every such decision stands in a
//! comment at its place.

mod archive;
mod assembly;
mod bodies;
pub mod compress;
pub mod digest;
pub mod error;
pub mod limits;
pub mod pack;
mod pipeline;
pub mod unpack;
pub mod whiteout;

pub use compress::{Compression, Decoder, Encoding, MAGIC_BYTES};
pub use digest::Digest;
pub use error::{Error, Result};
pub use limits::Limits;
pub use pack::{Below, BlobSource, PackOptions, Packed, pack, pack_layer, recompress};
pub use unpack::{Unpacked, inspect, unpack, unpack_archive, unpack_verified};

#[cfg(test)]
mod tests;
