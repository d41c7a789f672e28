//! `-o`: buildx's syntax, checked as far as text goes.
//!
//! Each type takes its fields out of [`Fields`]; what is left in there at the end is what nobody
//! knows, and is refused.

pub(crate) mod annotations;
mod attributes;
mod fields;

use std::path::PathBuf;

use solver::request::{
    Annotation, Compression, Destination, ImageAttributes, ImageFormat, ImageOutput, Output,
    RegistryOutput, StoreOutput,
};

use super::csv;
use fields::Fields;

/// Something to do with a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    /// Write it, or keep it in the store.
    Write(Output),
    /// Keep it in the store, and push it to the registries of its names.
    Push(Box<(StoreOutput, RegistryOutput)>),
    /// Hand it to an engine of this machine.
    Load(Load),
    /// Nothing: it stays in the build cache (`type=cacheonly`).
    CacheOnly,
}

/// An image for an engine with images of its own: `--load`, or `type=docker` without `dest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Docker's context.
    pub(crate) context: Option<String>,
    /// Names in place of those of `-t`.
    pub(crate) names: Vec<String>,
    /// How it looks.
    pub(crate) attributes: ImageAttributes,
}

impl Export {
    /// Whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        match self {
            Export::Write(Output::Image(image)) => image.destination == Destination::Stdout,
            Export::Write(Output::Tar { destination, .. }) => *destination == Destination::Stdout,
            Export::Write(Output::Local { .. } | Output::Store(_) | Output::Registry(_))
            | Export::Push(_)
            | Export::Load(_)
            | Export::CacheOnly => false,
        }
    }

    /// Puts notes on it, if it is an image; tells whether it is.
    pub(crate) fn annotate(&mut self, notes: &[Annotation]) -> bool {
        let add = |attributes: &mut ImageAttributes| {
            attributes.annotations.extend(notes.iter().cloned());
        };
        match self {
            Export::Write(Output::Image(image)) => add(&mut image.attributes),
            Export::Write(Output::Store(store)) => add(&mut store.attributes),
            Export::Write(Output::Registry(registry)) => add(&mut registry.attributes),
            Export::Push(both) => {
                add(&mut both.0.attributes);
                add(&mut both.1.attributes);
            }
            Export::Load(load) => add(&mut load.attributes),
            Export::Write(Output::Local { .. } | Output::Tar { .. }) | Export::CacheOnly => {
                return false;
            }
        }
        true
    }

    /// Names that it gives the image.
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Export::Write(Output::Image(image)) => &image.names,
            Export::Write(Output::Store(store)) => &store.names,
            Export::Write(Output::Registry(registry)) => &registry.names,
            Export::Push(both) => &both.0.names,
            Export::Load(load) => &load.names,
            Export::Write(Output::Local { .. } | Output::Tar { .. }) | Export::CacheOnly => &[],
        }
    }
}

/// Types with the keys that they take, beside those of an image.
const TYPES: [(&str, &[&str]); 7] = [
    ("oci", &["dest", "tar", "name"]),
    ("docker", &["dest", "tar", "name", "context"]),
    (
        "local",
        &[
            "dest",
            "platform-split",
            "source-date-epoch",
            "mode",
            "attestation-prefix",
        ],
    ),
    (
        "tar",
        &[
            "dest",
            "platform-split",
            "source-date-epoch",
            "attestation-prefix",
        ],
    ),
    (
        "image",
        &[
            "name",
            "push",
            "push-by-digest",
            "registry.insecure",
            "store",
            "unpack",
            "dangling-name-prefix",
            "dangling-name-empty-only",
            "danging-name-empty-only",
            "name-canonical",
        ],
    ),
    (
        "registry",
        &["name", "push", "push-by-digest", "registry.insecure"],
    ),
    ("cacheonly", &[]),
];

/// Parses the value of `-o`.
///
/// # Errors
/// A sentence that names what is wrong and what would be right.
pub(crate) fn parse(text: &str) -> Result<Export, String> {
    let fields = csv::fields(text)?;
    if let [only] = fields.as_slice()
        && !only.starts_with("type=")
    {
        return plain(only);
    }
    let mut fields = Fields::parse(&fields)?;
    let Some(kind) = fields.take("type") else {
        return Err(format!("type= is missing; it is one of {}", names()));
    };
    let Some((_, keys)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        return Err(unknown_type(&kind));
    };
    let is_image = matches!(kind.as_str(), "oci" | "docker" | "image" | "registry");
    let more: &[&str] = if is_image { &attributes::KEYS } else { &[] };
    fields.check(&kind, &[keys, more].concat(), is_image)?;
    fields.take_attestations(is_image)?;
    match kind.as_str() {
        "oci" => image(ImageFormat::Oci, fields),
        "docker" => image(ImageFormat::Docker, fields),
        "image" => keep(fields),
        "registry" => registry(fields).map(|output| Export::Write(Output::Registry(output))),
        "local" => local(fields),
        "tar" => tar(fields),
        _ => Ok(Export::CacheOnly),
    }
}

/// `-o DIR` and `-o -`.
fn plain(text: &str) -> Result<Export, String> {
    match text {
        "" => Err("it is empty; give a directory, or fields like type=oci,dest=FILE".to_owned()),
        "-" => Ok(Export::Write(Output::Tar {
            destination: Destination::Stdout,
            epoch: None,
            platform_split: None,
        })),
        directory => Ok(Export::Write(Output::Local {
            directory: PathBuf::from(directory),
            deletes_others: false,
            epoch: None,
            platform_split: None,
        })),
    }
}

fn names() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

fn unknown_type(kind: &str) -> String {
    let known = TYPES.map(|(name, _)| name);
    let meant = fields::nearest(kind, &known);
    format!("unknown type {kind:?}{meant}; it is one of {}", names())
}

fn destination(fields: &mut Fields) -> Option<Destination> {
    match fields.take("dest")?.as_str() {
        "" => None,
        "-" => Some(Destination::Stdout),
        path => Some(Destination::Path(PathBuf::from(path))),
    }
}

fn local(mut fields: Fields) -> Result<Export, String> {
    let Some(Destination::Path(directory)) = destination(&mut fields) else {
        return Err("type=local needs dest=DIR".to_owned());
    };
    let deletes_others = match fields.take("mode").as_deref() {
        None | Some("copy") => false,
        Some("delete") => true,
        Some(mode) => {
            return Err(format!(
                "unknown mode {mode:?}; it is copy (files of other origin stay) or delete (they go)"
            ));
        }
    };
    Ok(Export::Write(Output::Local {
        directory,
        deletes_others,
        epoch: attributes::epoch(&mut fields)?,
        platform_split: fields.boolean("platform-split")?,
    }))
}

fn tar(mut fields: Fields) -> Result<Export, String> {
    Ok(Export::Write(Output::Tar {
        destination: destination(&mut fields).unwrap_or(Destination::Stdout),
        epoch: attributes::epoch(&mut fields)?,
        platform_split: fields.boolean("platform-split")?,
    }))
}

fn image(format: ImageFormat, mut fields: Fields) -> Result<Export, String> {
    let destination = destination(&mut fields);
    let is_archive = fields.boolean("tar")?.unwrap_or(true);
    let names = names_of(fields.take("name"));
    let context = fields.take("context");
    let attributes = attributes::take(&mut fields)?;
    if !is_archive && !matches!(destination, Some(Destination::Path(_))) {
        return Err("tar=false writes a directory and needs dest=DIR".to_owned());
    }
    match (format, destination) {
        // As buildx: an image for docker goes to docker unless a file is named.
        (ImageFormat::Docker, None) => Ok(Export::Load(Load {
            context,
            names,
            attributes,
        })),
        (_, Some(_)) if context.is_some() => {
            Err("context= says to which docker the image goes, dest= writes a file".to_owned())
        }
        (_, destination) => Ok(Export::Write(Output::Image(ImageOutput {
            format,
            destination: destination.unwrap_or(Destination::Stdout),
            is_directory: !is_archive,
            names,
            attributes,
        }))),
    }
}

fn keep(mut fields: Fields) -> Result<Export, String> {
    let is_pushed = fields.boolean("push")?.unwrap_or(false);
    let (by_digest, is_insecure) = how_pushed(&mut fields)?;
    if !is_pushed && (by_digest || is_insecure) {
        let key = if by_digest {
            "push-by-digest"
        } else {
            "registry.insecure"
        };
        return Err(format!(
            "{key} is for images that are pushed; add push=true"
        ));
    }
    // The files of an image are in the store as they are run: there is nothing to unpack, now or
    // later.
    fields.boolean("unpack")?;
    let empty_only = [
        fields.boolean("dangling-name-empty-only")?,
        // As BuildKit spells it.
        fields.boolean("danging-name-empty-only")?,
    ];
    let mut store = StoreOutput {
        names: names_of(fields.take("name")),
        dangling_prefix: fields.take("dangling-name-prefix"),
        dangling_empty_only: empty_only.contains(&Some(true)),
        is_canonical: fields.boolean("name-canonical")?.unwrap_or(false),
        is_unnamed: fields.boolean("store")? == Some(false),
        keeps_unnamed: false,
        attributes: attributes::take(&mut fields)?,
    };
    if !is_pushed {
        return Ok(Export::Write(Output::Store(store)));
    }
    store.is_unnamed |= by_digest;
    Ok(pushed(store, by_digest, is_insecure))
}

/// Keeps an image and pushes it.
fn pushed(mut store: StoreOutput, by_digest: bool, is_insecure: bool) -> Export {
    let registry = RegistryOutput {
        names: store.names.clone(),
        by_digest,
        is_insecure,
        attributes: store.attributes.clone(),
    };
    // What is kept is what is pushed, and that is compressed.
    store
        .attributes
        .compression
        .get_or_insert(Compression::Gzip);
    Export::Push(Box::new((store, registry)))
}

/// Whether by digest alone, and to whomever.
fn how_pushed(fields: &mut Fields) -> Result<(bool, bool), String> {
    Ok((
        fields.boolean("push-by-digest")?.unwrap_or(false),
        fields.boolean("registry.insecure")?.unwrap_or(false),
    ))
}

fn registry(mut fields: Fields) -> Result<RegistryOutput, String> {
    if fields.boolean("push")? == Some(false) {
        return Err("type=registry pushes; for push=false use type=image".to_owned());
    }
    let (by_digest, is_insecure) = how_pushed(&mut fields)?;
    Ok(RegistryOutput {
        names: names_of(fields.take("name")),
        by_digest,
        is_insecure,
        attributes: attributes::take(&mut fields)?,
    })
}

/// What `--push` does, as with buildx: images that are kept are pushed as they are. Where there is
/// none, one more output pushes.
pub(crate) fn push(exports: &mut Vec<Export>) {
    let mut is_pushed = false;
    for export in exports.iter_mut() {
        if let Export::Write(Output::Store(store)) = export {
            *export = pushed(std::mem::take(store), false, false);
        }
        is_pushed |= matches!(export, Export::Push(_) | Export::Write(Output::Registry(_)));
    }
    if !is_pushed {
        exports.push(Export::Write(Output::Registry(RegistryOutput::default())));
    }
}

/// Several names stand in one quoted field.
fn names_of(value: Option<String>) -> Vec<String> {
    let value = value.unwrap_or_default();
    let names = value
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
