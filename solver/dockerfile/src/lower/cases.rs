//! Tests: Dockerfiles and what they become.
//!
//! A directory of `testdata/lower/` is one case: `Dockerfile`, what the build was asked for in
//! `options.json`, the expected graph in `llb.txt` and the expected image in `config.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    ImageRequest, Lowered, Lowering, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages,
    lower,
};
use crate::ast::NetworkMode;

/// Set it for one run to write all expectations anew; read the difference before committing it.
const UPDATE: bool = false;

/// What a case is built with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Case {
    target: Option<String>,
    build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    platform: Option<String>,
    build_platform: Option<String>,
    multi_platform: bool,
    network: String,
    link_as_merge: bool,
    no_cache: bool,
    no_cache_stages: Vec<String>,
    contexts: BTreeMap<String, Context>,
    excludes: Vec<String>,
    /// Image configurations by reference.
    images: BTreeMap<String, serde_json::Value>,
    /// Manifest digests by reference.
    digests: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Context {
    image: Option<String>,
    oci_layout: Option<String>,
    digest: String,
    local: Option<String>,
    excludes: Vec<String>,
}

fn directories() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lower");
    let entries = fs::read_dir(root).expect("testdata/lower can be listed");
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn read(directory: &Path) -> (Case, Vec<u8>) {
    let case = match fs::read_to_string(directory.join("options.json")) {
        Ok(text) => serde_json::from_str(&text).expect("options.json is read"),
        Err(_) => Case::default(),
    };
    (
        case,
        fs::read(directory.join("Dockerfile")).expect("a case has a Dockerfile"),
    )
}

fn options(case: &Case, data: &[u8]) -> Options {
    let amd64 = llb::Platform::new("linux", "amd64");
    let platform = |text: &String| llb::Platform::parse(text, &amd64).unwrap();
    let context = |context: &Context| match (&context.image, &context.oci_layout) {
        (Some(reference), _) => NamedContext::Image {
            reference: reference.clone(),
        },
        (None, Some(store)) => NamedContext::OciLayout {
            store: store.clone(),
            digest: context.digest.clone(),
        },
        (None, None) => NamedContext::Local {
            name: context.local.clone().unwrap(),
            excludes: context.excludes.clone(),
        },
    };
    Options {
        target: case.target.clone(),
        build_args: case.build_args.clone(),
        labels: case.labels.clone(),
        build_platform: case.build_platform.as_ref().map_or(amd64.clone(), platform),
        target_platform: case.platform.as_ref().map(platform),
        multi_platform: case.multi_platform,
        no_cache: match (case.no_cache, case.no_cache_stages.as_slice()) {
            (true, _) => NoCache::All,
            (false, []) => NoCache::None,
            (false, names) => NoCache::Stages(names.to_vec()),
        },
        contexts: case
            .contexts
            .iter()
            .map(|(name, found)| (name.clone(), context(found)))
            .collect(),
        context_excludes: case.excludes.clone(),
        network: match case.network.as_str() {
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            _ => NetworkMode::Default,
        },
        link_as_merge: case.link_as_merge,
        file_data: data.to_vec(),
        ..Options::default()
    }
}

/// Lowers a case as a frontend does: resolves what is asked for and tries again.
fn build(directory: &Path) -> Lowered {
    let (case, data) = read(directory);
    let dockerfile = crate::parse(&data).expect("the Dockerfile is parsed");
    let options = options(&case, &data);
    let resolve = |request: &ImageRequest| {
        let config = &case.images.get(&request.reference);
        let config = config.unwrap_or_else(|| panic!("{directory:?}: no {}", request.reference));
        ResolvedImage {
            config: serde_json::to_vec(config).unwrap(),
            digest: case.digests.get(&request.reference).cloned(),
        }
    };
    let mut images = ResolvedImages::new();
    for _round in 0..8 {
        match lower(&dockerfile, &options, &images) {
            Ok(Lowering::Done(lowered)) => return *lowered,
            Ok(Lowering::NeedImages(requests)) => {
                for request in requests {
                    assert!(
                        images.get(&request).is_none(),
                        "asked twice for {request:?}"
                    );
                    images.insert(&request, resolve(&request));
                }
            }
            Err(error) => panic!("{directory:?}: {error}"),
        }
    }
    panic!("{directory:?}: images are asked for without end");
}

/// What a case became, as the files of its directory hold it.
fn rendered(directory: &Path) -> [(PathBuf, String); 2] {
    let lowered = build(directory);
    let mut config = serde_json::to_string_pretty(&lowered.image).unwrap();
    config.push('\n');
    [
        (directory.join("llb.txt"), lowered.graph.to_string()),
        (directory.join("config.json"), config),
    ]
}

#[test]
fn a_base_that_the_machine_runs_by_itself_is_not_doubted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lower");
    let doubts = |case: &str| build(&root.join(case)).warnings.len();
    assert_eq!(doubts("native_platform_of_base"), 0);
    assert_eq!(doubts("implicit_platform_of_base"), 1);
}

#[test]
fn dockerfiles_become_the_expected_graphs_and_images() {
    let directories = directories();
    assert!(directories.len() >= 25, "only {} cases", directories.len());
    let mut wrong = Vec::new();
    for directory in directories {
        for (path, found) in rendered(&directory) {
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if found != expected {
                if UPDATE {
                    fs::write(&path, &found).unwrap();
                }
                wrong.push(format!(
                    "{}\n{}",
                    path.display(),
                    difference(&expected, &found)
                ));
            }
        }
    }
    assert!(!UPDATE && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first lines that differ.
fn difference(expected: &str, found: &str) -> String {
    let mut pairs = expected.lines().zip(found.lines()).enumerate();
    match pairs.find(|(_, (expected, found))| expected != found) {
        Some((at, (expected, found))) => {
            format!(
                "line {}:\n  expected {expected}\n  found    {found}",
                at + 1
            )
        }
        None => format!(
            "{} lines, found {}",
            expected.lines().count(),
            found.lines().count()
        ),
    }
}

#[test]
fn lowered_graphs_survive_the_wire_and_know_their_lines() {
    for directory in directories() {
        let lowered = build(&directory);
        let definition = lowered.graph.to_definition();
        let read = llb::Definition::from_bytes(&definition.to_bytes()).unwrap();
        let again = llb::Graph::try_from(&read).unwrap();
        assert_eq!(again.result(), lowered.graph.result(), "{directory:?}");
        assert_eq!(
            again.to_string(),
            lowered.graph.to_string(),
            "{directory:?}"
        );
        for vertex in lowered.graph.vertices() {
            let of_the_file = lowered.graph.name(vertex.digest()).starts_with("[stage-");
            let lines = lowered.lines(vertex.digest());
            assert!(
                !of_the_file || !lines.is_empty(),
                "{directory:?}: {vertex:?}"
            );
        }
    }
}
