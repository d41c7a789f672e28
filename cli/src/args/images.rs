//! What is said to list, show, name and remove images.

use std::str::FromStr;

use clap::Args;

use crate::output::format::{self, Format};
use crate::output::template::Template;

/// `--filter KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// What is compared.
    pub(crate) key: String,
    /// With what; for some keys with an operator before it.
    pub(crate) value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Filter {
                key: key.trim().to_lowercase(),
                value: value.trim().to_owned(),
            }),
            _ => Err("expected KEY=VALUE".into()),
        }
    }
}

/// What a list says below its options.
const FORMAT_HELP: &str = "\
Formats: table (the default), json (an object on each line), 'table TEMPLATE', TEMPLATE.
A template is Go's, with docker's functions: {{.ID}}, {{json .}}, {{upper .Tag}}, {{if …}}, …";

/// `varve images`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Filters: reference=PATTERN (like 'team/*:1.*'), label=KEY or label=KEY=VALUE, before=IMAGE,
since=IMAGE, until=24h or until=2026-01-31, dangling=true. Several references: any of them;
several others: all of them.

{FORMAT_HELP}
Fields: .ID .Repository .Tag .Digest .Name .CreatedAt .CreatedSince .Size .Bytes

Examples:
  varve images                                    all of them, the newest first
  varve images 'team/*'                           those of a team
  varve images --filter label=stage=test -q       ids for a script
  varve images --format '{{{{.Name}}}} {{{{.Size}}}}'"))]
pub(crate) struct Images {
    /// Only this repository, name or pattern
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// List all images (varve keeps no intermediate ones, so these are all)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only what fits, see below (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<Filter>,
    /// Form of the list: table, json, or a template
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: Format,
    /// Show the digests of manifests too
    #[arg(long)]
    pub(crate) digests: bool,
    /// Show ids in full
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print image ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Images {
    /// All images, as a table.
    pub(crate) fn everything() -> Self {
        Images {
            name: None,
            all: false,
            filter: Vec::new(),
            format: Format::Table,
            digests: false,
            no_trunc: false,
            quiet: false,
        }
    }
}

/// `varve inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --format: one JSON array, as `docker image inspect` prints it.

Examples:
  varve inspect debian:12
  varve inspect --format '{{.Id}}' app                              the id, for a script
  varve inspect -f '{{range .Config.Env}}{{println .}}{{end}}' app  a line for each variable
  varve inspect -f '{{json .Config.Labels}}' 0123456789ab")]
pub(crate) struct Inspect {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// What to print of each: a template, or `json` for an object on a line
    #[arg(short, long, value_name = "TEMPLATE", value_parser = inspected)]
    pub(crate) format: Option<Template>,
    /// The platform, as linux/arm64, of an image that has several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// What is meant by the names: image; varve has nothing else to inspect
    #[arg(long = "type", value_name = "TYPE", value_parser = image_type)]
    _type: Option<()>,
    /// Show the sizes of containers; those of images are always shown
    #[arg(short, long)]
    _size: bool,
}

fn image_type(text: &str) -> Result<(), String> {
    match text {
        "" | "image" => Ok(()),
        "container" | "network" | "volume" | "plugin" | "node" | "service" | "secret"
        | "config" | "task" => Err(format!("varve has no {text}s to inspect: there are images")),
        _ => Err(format!(
            "{text:?} is not a valid value for --type; there are images"
        )),
    }
}

fn inspected(text: &str) -> Result<Template, String> {
    match text {
        "json" => "{{json .}}".parse(),
        text => format::parsed(text),
    }
}

/// `varve tag`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve tag app registry.example.com/team/app:1.2
  varve tag 0123456789ab app:before")]
pub(crate) struct Tag {
    /// Name or id of an image of the store
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Its further name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `varve rmi`.
#[derive(Debug, Args)]
#[command(after_help = "\
A name takes away that name, an id the image with its name. Space comes back with `varve prune`.

Examples:
  varve rmi app:old
  varve rmi -f 0123456789ab                        with all its names
  varve rmi $(varve images -q --filter label=tmp)")]
pub(crate) struct Remove {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Take away all names of an id, also of an image that is mounted or run; what is not there is
    /// no failure
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Leave untagged parents alone: always so, as only `varve prune` frees what no image needs
    #[arg(long)]
    pub(crate) no_prune: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_key_and_a_value() {
        let filter: Filter = "Label=a=b".parse().unwrap();
        assert_eq!((&*filter.key, &*filter.value), ("label", "a=b"));
        for wrong in ["", "label", "=x"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
