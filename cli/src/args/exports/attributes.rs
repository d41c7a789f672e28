//! How an image looks: the keys that all outputs of images have in common.

use solver::request::{Compression, ImageAttributes};

use super::annotations;
use super::fields::Fields;

/// The keys, beside those of annotations.
pub(super) const KEYS: [&str; 9] = [
    "attestation-inline",
    "compression",
    "compression-level",
    "force-compression",
    "oci-artifact",
    "oci-mediatypes",
    "prefer-nondist-layers",
    "rewrite-timestamp",
    "source-date-epoch",
];

/// Takes them.
///
/// # Errors
/// A sentence that names what is wrong.
pub(super) fn take(fields: &mut Fields) -> Result<ImageAttributes, String> {
    let compression = match fields.take("compression").as_deref() {
        None => None,
        Some("gzip") => Some(Compression::Gzip),
        Some("uncompressed") => Some(Compression::None),
        Some("zstd") => Some(Compression::Zstd),
        Some(other) => {
            let known = "uncompressed, gzip, zstd";
            return Err(format!(
                "unknown compression {other:?}; it is one of {known}"
            ));
        }
    };
    let docker_media_types = fields.boolean("oci-mediatypes")? == Some(false);
    if docker_media_types && compression == Some(Compression::Zstd) {
        return Err("compression=zstd conflicts with oci-mediatypes=false".to_owned());
    }
    let mut noted = Vec::new();
    for (key, value) in fields.annotations() {
        noted.push(annotations::of_field(&key, value)?);
    }
    Ok(ImageAttributes {
        compression,
        compression_level: level(fields, compression)?,
        force_compression: fields.boolean("force-compression")?.unwrap_or(false),
        docker_media_types,
        keeps_nondistributable: fields.boolean("prefer-nondist-layers")?.unwrap_or(false),
        epoch: epoch(fields)?,
        rewrite_timestamp: fields.boolean("rewrite-timestamp")?,
        annotations: noted,
    })
}

fn level(fields: &mut Fields, compression: Option<Compression>) -> Result<Option<i32>, String> {
    let Some(level) = fields.number("compression-level")? else {
        return Ok(None);
    };
    let (name, range) = match compression {
        None => {
            return Err("compression-level needs compression=gzip or compression=zstd".to_owned());
        }
        Some(Compression::None) => return Err("uncompressed layers have no level".to_owned()),
        Some(Compression::Gzip) => ("gzip", 0..=9),
        Some(Compression::Zstd) => ("zstd", 1..=22),
    };
    match range.contains(&level) {
        true => Ok(Some(level)),
        false => Err(format!(
            "{name} has no compression-level {level}; use {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// In place of SOURCE_DATE_EPOCH; an empty one means that there is none.
pub(super) fn epoch(fields: &mut Fields) -> Result<Option<Option<i64>>, String> {
    let key = "source-date-epoch";
    match fields.take(key) {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(Some(None)),
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Some(Some(seconds))),
            Err(_) => Err(format!(
                "{key}={text:?} is not a number of seconds since 1970"
            )),
        },
    }
}
