//! `-o`: buildx's syntax, checked as far as text goes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use solver::request::{Compression, Destination, ImageFormat, ImageOutput, Output, RegistryOutput};

use super::csv;

/// Something to do with a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    /// Write it.
    Write(Output),
    /// Keep it in the store under further names.
    Keep {
        /// The names; none if those of `-t` are meant.
        names: Vec<String>,
    },
    /// Keep it in the store under further names, and push it to their registries.
    Push(RegistryOutput),
}

impl Export {
    /// Whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        match self {
            Export::Write(Output::Image(image)) => image.destination == Destination::Stdout,
            Export::Write(Output::Tar { destination, .. }) => *destination == Destination::Stdout,
            Export::Write(Output::Local { .. } | Output::Registry(_))
            | Export::Keep { .. }
            | Export::Push(_) => false,
        }
    }
}

/// Types with the keys that they take, for messages.
const TYPES: [(&str, &[&str]); 6] = [
    ("oci", &["dest", "tar", "name", "compression"]),
    ("docker", &["dest", "tar", "name", "compression"]),
    ("local", &["dest", "platform-split"]),
    ("tar", &["dest", "platform-split"]),
    (
        "image",
        &[
            "name",
            "push",
            "push-by-digest",
            "registry.insecure",
            "compression",
        ],
    ),
    (
        "registry",
        &["name", "push-by-digest", "registry.insecure", "compression"],
    ),
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
    let mut values = BTreeMap::new();
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("the field {field:?} is not KEY=VALUE"));
        };
        let key = key.trim().to_lowercase();
        if values.insert(key.clone(), value.to_owned()).is_some() {
            return Err(format!("the key {key:?} is given twice"));
        }
    }
    let Some(kind) = values.remove("type") else {
        return Err(format!("type= is missing; it is one of {}", names()));
    };
    let Some((_, keys)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        return Err(unknown_type(&kind));
    };
    if let Some(key) = values.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!(
            "type={kind} takes no key {key:?}; it takes {}",
            keys.join(", ")
        ));
    }
    match kind.as_str() {
        "oci" => image(ImageFormat::Oci, values),
        "docker" => image(ImageFormat::Docker, values),
        "image" => keep(values),
        "registry" => registry(values).map(|output| Export::Write(Output::Registry(output))),
        "local" => match destination(&mut values) {
            Some(Destination::Path(directory)) => Ok(Export::Write(Output::Local {
                directory,
                platform_split: optional_boolean("platform-split", &mut values)?,
            })),
            _ => Err("type=local needs dest=DIR".to_owned()),
        },
        _ => {
            let destination = destination(&mut values).unwrap_or(Destination::Stdout);
            Ok(Export::Write(Output::Tar {
                destination,
                platform_split: optional_boolean("platform-split", &mut values)?,
            }))
        }
    }
}

/// `-o DIR` and `-o -`.
fn plain(text: &str) -> Result<Export, String> {
    match text {
        "" => Err("it is empty; give a directory, or fields like type=oci,dest=FILE".to_owned()),
        "-" => Ok(Export::Write(Output::Tar {
            destination: Destination::Stdout,
            platform_split: None,
        })),
        directory => Ok(Export::Write(Output::Local {
            directory: PathBuf::from(directory),
            platform_split: None,
        })),
    }
}

fn names() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

fn unknown_type(kind: &str) -> String {
    format!("unknown type {kind:?}; it is one of {}", names())
}

fn destination(values: &mut BTreeMap<String, String>) -> Option<Destination> {
    match values.remove("dest")?.as_str() {
        "" => None,
        "-" => Some(Destination::Stdout),
        path => Some(Destination::Path(PathBuf::from(path))),
    }
}

fn image(format: ImageFormat, mut values: BTreeMap<String, String>) -> Result<Export, String> {
    let destination = destination(&mut values).unwrap_or(Destination::Stdout);
    let is_archive = values
        .remove("tar")
        .map_or(Ok(true), |text| boolean("tar", &text))?;
    if !is_archive && destination == Destination::Stdout {
        return Err("tar=false writes a directory and needs dest=DIR".to_owned());
    }
    let compression = compression(&mut values)?;
    Ok(Export::Write(Output::Image(ImageOutput {
        format,
        destination,
        is_directory: !is_archive,
        names: names_of(values.remove("name")),
        compression,
    })))
}

/// How layers are compressed.
fn compression(values: &mut BTreeMap<String, String>) -> Result<Compression, String> {
    match values.remove("compression").as_deref() {
        // gzip where nothing is said, as buildx: what everybody can read, and small.
        None | Some("gzip") => Ok(Compression::Gzip),
        Some("uncompressed") => Ok(Compression::None),
        Some("zstd") => Ok(Compression::Zstd),
        Some(other) => {
            let known = "uncompressed, gzip, zstd";
            Err(format!(
                "unknown compression {other:?}; it is one of {known}"
            ))
        }
    }
}

/// `type=image`: as buildx, pushed only if that is said.
fn keep(mut values: BTreeMap<String, String>) -> Result<Export, String> {
    if optional_boolean("push", &mut values)?.unwrap_or(false) {
        return registry(values).map(Export::Push);
    }
    let only_pushed = ["push-by-digest", "registry.insecure", "compression"];
    if let Some(key) = only_pushed.iter().find(|key| values.contains_key(**key)) {
        return Err(format!(
            "{key} is for images that are pushed; add push=true"
        ));
    }
    Ok(Export::Keep {
        names: names_of(values.remove("name")),
    })
}

fn registry(mut values: BTreeMap<String, String>) -> Result<RegistryOutput, String> {
    Ok(RegistryOutput {
        by_digest: optional_boolean("push-by-digest", &mut values)?.unwrap_or(false),
        is_insecure: optional_boolean("registry.insecure", &mut values)?.unwrap_or(false),
        compression: compression(&mut values)?,
        names: names_of(values.remove("name")),
    })
}

/// What `--push` stands for.
pub(crate) fn push() -> Export {
    Export::Write(Output::Registry(RegistryOutput {
        names: Vec::new(),
        by_digest: false,
        is_insecure: false,
        compression: Compression::Gzip,
    }))
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

fn optional_boolean(
    key: &str,
    values: &mut BTreeMap<String, String>,
) -> Result<Option<bool>, String> {
    let text = values.remove(key);
    text.map(|text| boolean(key, &text)).transpose()
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn boolean(key: &str, text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{key}={text:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_output(format: ImageFormat, destination: &str) -> ImageOutput {
        ImageOutput {
            format,
            destination: match destination {
                "-" => Destination::Stdout,
                path => Destination::Path(path.into()),
            },
            is_directory: false,
            names: Vec::new(),
            compression: Compression::Gzip,
        }
    }

    #[test]
    fn the_forms_of_buildx_are_understood() {
        let oci = |dest| image_output(ImageFormat::Oci, dest);
        let image = |image| Export::Write(Output::Image(image));
        let tar = |destination| {
            Export::Write(Output::Tar {
                destination,
                platform_split: None,
            })
        };
        for (text, expect) in [
            (
                "out",
                Export::Write(Output::Local {
                    directory: "out".into(),
                    platform_split: None,
                }),
            ),
            (
                "a=b",
                Export::Write(Output::Local {
                    directory: "a=b".into(),
                    platform_split: None,
                }),
            ),
            (
                "type=local,dest=out",
                Export::Write(Output::Local {
                    directory: "out".into(),
                    platform_split: None,
                }),
            ),
            ("-", tar(Destination::Stdout)),
            ("type=tar", tar(Destination::Stdout)),
            ("type=tar,dest=-", tar(Destination::Stdout)),
            (
                "type=tar,dest=x.tar",
                tar(Destination::Path("x.tar".into())),
            ),
            ("type=oci,dest=x.tar", image(oci("x.tar"))),
            ("type=oci", image(oci("-"))),
            ("dest=x.tar,type=oci", image(oci("x.tar"))),
            ("type=oci,\"dest=a,b.tar\"", image(oci("a,b.tar"))),
            (
                "type=oci,dest=d,tar=false,name=a:1",
                image(ImageOutput {
                    is_directory: true,
                    names: vec!["a:1".into()],
                    ..oci("d")
                }),
            ),
            (
                "type=oci,dest=d,compression=zstd,\"name=a,b\"",
                image(ImageOutput {
                    compression: Compression::Zstd,
                    names: vec!["a".into(), "b".into()],
                    ..oci("d")
                }),
            ),
            (
                "type=docker,DEST=x",
                image(image_output(ImageFormat::Docker, "x")),
            ),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expect), "{text}");
        }
    }

    #[test]
    fn an_image_output_keeps_it_in_the_store() {
        for (text, names) in [
            ("type=image", &[][..]),
            ("type=image,name=a,push=false", &["a"]),
        ] {
            let names = names.iter().map(ToString::to_string).collect();
            assert_eq!(parse(text), Ok(Export::Keep { names }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, part) in [
            ("", "empty"),
            (
                "dest=x,tar=false",
                "type= is missing; it is one of oci, docker, local, tar, image",
            ),
            ("type=zip", "unknown type \"zip\"; it is one of oci, docker"),
            (
                "type=registry,dest=x",
                "takes no key \"dest\"; it takes name",
            ),
            ("type=image,push-by-digest=true", "add push=true"),
            ("type=image,push=perhaps", "neither true nor false"),
            (
                "type=oci,dest=x,level=3",
                "takes no key \"level\"; it takes dest, tar, name",
            ),
            ("type=local", "needs dest=DIR"),
            ("type=local,dest=-", "needs dest=DIR"),
            ("type=oci,tar=false", "needs dest=DIR"),
            ("type=oci,dest=x,tar=maybe", "neither true nor false"),
            (
                "type=oci,dest=x,compression=lz4",
                "uncompressed, gzip, zstd",
            ),
            ("type=oci,dest", "not KEY=VALUE"),
            ("type=oci,dest=a,dest=b", "given twice"),
            ("type=oci,\"dest=a", "not closed"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_image_is_pushed_by_its_type_or_by_a_key() {
        let output = RegistryOutput {
            names: vec!["h/a:1".into(), "h/b".into()],
            by_digest: false,
            is_insecure: true,
            compression: Compression::Zstd,
        };
        let keys = "\"name=h/a:1,h/b\",registry.insecure=true,compression=zstd";
        let pushed = Export::Write(Output::Registry(output.clone()));
        assert_eq!(parse(&format!("type=registry,{keys}")).unwrap(), pushed);
        let kept = parse(&format!("type=image,push=true,{keys}")).unwrap();
        assert_eq!(kept, Export::Push(output));
    }

    #[test]
    fn standard_output_is_recognised() {
        for (text, expect) in [
            ("-", true),
            ("type=oci", true),
            ("type=oci,dest=x", false),
            ("out", false),
        ] {
            assert_eq!(parse(text).unwrap().is_stdout(), expect, "{text}");
        }
    }
}
