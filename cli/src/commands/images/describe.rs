//! What is known of an image: for lists, filters and `varve inspect`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use solver::content::Digest;
use solver::frontend::{familiar, familiar_tagged};
use solver::images::document::{Descriptor, Platform};
use solver::images::find::{Found, platform};
use solver::images::{Image, Images, Named, is_dangling};

use super::split;

/// Digits of an id that a person sees, as docker shows them.
const ID_DIGITS: usize = 12;

/// What an image's config says of running it when it says nothing: programs expect the names.
const RUN_CONFIG: [(&str, &str); 7] = [
    ("User", "\"\""),
    ("Env", "[]"),
    ("Cmd", "[]"),
    ("Entrypoint", "[]"),
    ("WorkingDir", "\"\""),
    ("Labels", "{}"),
    ("OnBuild", "[]"),
];

/// The same of fields that docker's templates know and its JSON leaves out: there a script gets an
/// empty value rather than none.
const RUN_CONFIG_MORE: [(&str, &str); 18] = [
    ("Healthcheck", "null"),
    ("StopTimeout", "null"),
    ("Hostname", "\"\""),
    ("Domainname", "\"\""),
    ("AttachStdin", "false"),
    ("AttachStdout", "false"),
    ("AttachStderr", "false"),
    ("ExposedPorts", "{}"),
    ("Tty", "false"),
    ("OpenStdin", "false"),
    ("StdinOnce", "false"),
    ("ArgsEscaped", "false"),
    ("Image", "\"\""),
    ("Volumes", "{}"),
    ("NetworkDisabled", "false"),
    ("MacAddress", "\"\""),
    ("StopSignal", "\"\""),
    ("Shell", "[]"),
];

/// `sha256:0123456789ab…` as `0123456789ab`.
pub(crate) fn short(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.chars().take(ID_DIGITS).collect()
}

/// A name with its image, as far as that can be opened.
#[derive(Debug)]
pub(super) struct Described {
    /// Normalised.
    pub(super) name: String,
    pub(super) target: Descriptor,
    pub(super) id: Digest,
    pub(super) created: Option<Timestamp>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) size: Option<u64>,
}

impl Described {
    /// An image of another platform, or a damaged one, is described as well as it can be.
    pub(super) fn of(images: &Images, named: &Named) -> Self {
        let opened =
            platform(None).and_then(|own| open_any(images, &named.name, &named.target, &own));
        let image = opened.inspect_err(|error| tracing::debug!(%error, "cannot open an image"));
        let image = image.ok();
        let config = image.as_ref().and_then(|image| config_of(image).ok());
        let labels = config.as_ref().map(|config| &config["config"]["Labels"]);
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Described {
            id: image
                .as_ref()
                .map_or(named.target.digest, |image| image.manifest.config.digest),
            created: image.as_ref().and_then(created_of),
            labels: labels
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            size: image.and_then(|image| images.size(&image).ok()),
            name: named.name.clone(),
            target: named.target.clone(),
        }
    }
}

/// The image for a platform, or the first that there is.
pub(crate) fn open_any(
    images: &Images,
    name: &str,
    target: &Descriptor,
    wanted: &Platform,
) -> solver::Result<Image> {
    let opened = images.open(name, target, wanted);
    let Err(solver::Error::NoPlatform { .. }) = &opened else {
        return opened;
    };
    let bytes = images.content().document(name, target.digest)?;
    let index = serde_json::from_slice::<solver::images::document::Index>(&bytes);
    let listed = index.map(|index| index.manifests).unwrap_or_default();
    let others = listed.into_iter().filter_map(|one| one.platform);
    let mut others = others.map(|platform| images.open(name, target, &platform));
    others.find(Result::is_ok).unwrap_or(opened)
}

/// The image for a platform that a person has named.
///
/// # Errors
/// It is for none but others; its documents are broken or missing.
pub(crate) fn open_for(
    images: &Images,
    name: &str,
    target: &Descriptor,
    wanted: &Platform,
) -> solver::Result<Image> {
    let image = images.open(name, target, wanted)?;
    match image.config.is_for(wanted) {
        true => Ok(image),
        false => Err(solver::Error::NoPlatform {
            what: name.to_owned(),
            platform: wanted.to_string(),
            there: image
                .config
                .platform()
                .map_or_else(String::new, |own| own.to_string()),
        }),
    }
}

fn config_of(image: &Image) -> serde_json::Result<Value> {
    serde_json::from_slice(&image.config_bytes)
}

fn created_of(image: &Image) -> Option<Timestamp> {
    image.config.created.as_deref()?.parse().ok()
}

/// What `docker image inspect` prints.
///
/// # Errors
/// The documents are broken or missing; there is nothing for the platform.
pub(crate) fn inspected(
    images: &Images,
    found: &Found,
    wanted: &Platform,
    is_said: bool,
) -> anyhow::Result<Value> {
    let name = found.called();
    let image = match is_said {
        true => open_for(images, &name, &found.target, wanted)?,
        false => open_any(images, &name, &found.target, wanted)?,
    };
    let config = config_of(&image)?;
    let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
    let mut run = config["config"].as_object().cloned().unwrap_or_default();
    fill(&mut run, &RUN_CONFIG)?;
    let tags: Vec<_> = found
        .names
        .iter()
        .filter(|named| !named.name.contains('@'))
        .map(|named| familiar_tagged(&named.name))
        .collect();
    let mut digests: Vec<_> = found
        .names
        .iter()
        .filter(|named| !is_dangling(&named.name))
        .map(|named| {
            let repository = familiar(split(&named.name).0);
            format!("{repository}@{}", named.target.digest)
        })
        .collect();
    digests.sort();
    digests.dedup();
    let tagged = found.names.iter().map(|named| named.created).max();
    let tagged = tagged.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let layers = image.config.rootfs.diff_ids.iter();
    let layers: Vec<_> = layers.map(ToString::to_string).collect();
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    put("Id", Value::from(image.manifest.config.digest.to_string()));
    put("RepoTags", Value::from(tags));
    put("RepoDigests", Value::from(digests));
    put("Comment", Value::from(comment(&config)));
    put("Created", Value::from(text("created")));
    put("Author", Value::from(text("author")));
    put("Config", Value::Object(run));
    put("Architecture", Value::from(text("architecture")));
    put("Variant", Value::from(text("variant")));
    put("Os", Value::from(text("os")));
    put("Size", Value::from(images.size(&image)?));
    put("RootFS", json!({"Type": "layers", "Layers": layers}));
    put(
        "Metadata",
        json!({"LastTagTime": tagged.map(|time| time.to_string())}),
    );
    put("Descriptor", serde_json::to_value(&found.target)?);
    put("History", config["history"].clone());
    Ok(Value::Object(shown))
}

/// Gives fields that say nothing their empty values.
fn fill(fields: &mut Map<String, Value>, empty: &[(&str, &str)]) -> serde_json::Result<()> {
    for (name, empty) in empty {
        let slot = fields.entry(*name).or_insert(Value::Null);
        if slot.is_null() {
            *slot = serde_json::from_str(empty)?;
        }
    }
    Ok(())
}

/// What a template sees of an image: more than is printed without one. Scripts for docker ask for
/// fields that are not in its JSON, or not any more.
///
/// # Errors
/// None but those of the tables here.
pub(crate) fn for_templates(mut image: Value) -> serde_json::Result<Value> {
    if let Some(run) = image["Config"].as_object_mut() {
        fill(run, &RUN_CONFIG_MORE)?;
    }
    let size = image["Size"].clone();
    let more = [
        ("Parent", json!("")),
        ("DockerVersion", json!("")),
        ("VirtualSize", size),
        ("GraphDriver", json!({"Data": {}, "Name": "varve"})),
    ];
    if let Some(fields) = image.as_object_mut() {
        for (name, value) in more {
            fields.entry(name).or_insert(value);
        }
    }
    Ok(image)
}

/// The comment of the last step, as docker shows it.
fn comment(config: &Value) -> String {
    let history = config["history"].as_array();
    let last = history.and_then(|history| history.last());
    let comment = last.and_then(|entry| entry["comment"].as_str());
    comment.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_shortened_as_docker_does() {
        assert_eq!(super::short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
