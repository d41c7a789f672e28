//! `cargo xtask bench registry`: images on their way from a registry of this machine, and to it.
//!
//! Pulled is a Debian with an application of 1 GB in five layers: by `varve build` and by `buildctl
//! build` of a Dockerfile with one step, which needs all files; and by `varve pull` against `skopeo
//! copy` with `umoci unpack`. What came is compared file by file: each side's checksum of all
//! contents must be the same. Pushed is that image with a small layer above. The last rows compare
//! a pull of one layer into a root that is there with nothing but its decompression: by programs,
//! and by varve's own libraries in this process.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use benches::arguments::Sides;
use benches::decompressor::Decompressor;
use benches::figure::{Target, Unit};
use benches::images::{Image, Images};
use benches::measure::{Contestant, Sample, take_turns};
use benches::oci_layout::Packing;
use benches::report::{self, Row};
use benches::side::{Buildkit, Varve};
use benches::unpackers::SkopeoUmoci;
use benches::{Options, Side as _, base_image, disk, machine, program};

/// The name of this bench.
const TARGET: &str = "registry";

/// What `--help` says besides the flags.
const NEEDS: &str = "\
VARVE_BIN names the binary to measure; buildctl, buildkitd, runc, docker-registry, skopeo, umoci,
pigz, zstd and mmdebstrap are looked for on PATH. --peer-only and --varve-only hold for all peers.";

/// Prints a checksum of the contents of all files that an image has and a container has not.
const CHECKSUM: &str =
    "find usr srv -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | cksum";

/// What it prints where there is no file.
const NOTHING: &str = "4294967295 0";

/// Whom varve is compared with, in the order of the tables.
const PEERS: [&str; 4] = ["buildkit", "skopeo+umoci", "pigz, zstd", "library"];

/// A row of a table.
struct Workload {
    name: &'static str,
    title: &'static str,
    peer: &'static str,
    kind: Kind,
    target: Target,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A build on an image that is not here.
    Build(Packing),
    /// A pull without a build.
    Unpack(Packing),
    /// A push of an image whose last layer is another one.
    PushChanged,
    /// A push of an image that is there.
    PushSame,
    /// A pull of one layer.
    Ingest(Packing),
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pull",
        title: "1 GB image, gzip: pull and unpack for a step",
        peer: "buildkit",
        kind: Kind::Build(Packing::Gzip),
        target: Target::Ratio(0.7),
    },
    Workload {
        name: "pull-zstd",
        title: "1 GB image, zstd: pull and unpack for a step",
        peer: "buildkit",
        kind: Kind::Build(Packing::Zstd),
        target: Target::Ratio(0.7),
    },
    Workload {
        name: "push-changed",
        title: "push, one small layer changed",
        peer: "buildkit",
        kind: Kind::PushChanged,
        target: Target::Ratio(0.5),
    },
    Workload {
        name: "push-same",
        title: "push, nothing changed",
        peer: "buildkit",
        kind: Kind::PushSame,
        target: Target::Ratio(0.5),
    },
    Workload {
        name: "unpack",
        title: "1 GB image, gzip: pull and unpack",
        peer: "skopeo+umoci",
        kind: Kind::Unpack(Packing::Gzip),
        target: Target::Ratio(0.6),
    },
    // 90 % of the decompressor's speed.
    Workload {
        name: "ingest",
        title: "380 MB layer, gzip: ingest",
        peer: "pigz, zstd",
        kind: Kind::Ingest(Packing::Gzip),
        target: Target::Ratio(1.11),
    },
    Workload {
        name: "ingest-zstd",
        title: "380 MB layer, zstd: ingest",
        peer: "pigz, zstd",
        kind: Kind::Ingest(Packing::Zstd),
        target: Target::Ratio(1.11),
    },
    Workload {
        name: "ingest-library",
        title: "380 MB layer, gzip: ingest",
        peer: "library",
        kind: Kind::Ingest(Packing::Gzip),
        target: Target::Ratio(1.11),
    },
    Workload {
        name: "ingest-library-zstd",
        title: "380 MB layer, zstd: ingest",
        peer: "library",
        kind: Kind::Ingest(Packing::Zstd),
        target: Target::Ratio(1.11),
    },
];

fn main() -> ExitCode {
    let names = WORKLOADS.iter().map(|one| (one.name, one.title));
    program::run(TARGET, NEEDS, names, measure_all)
}

fn measure_all(options: &Options, home: &Path) -> Result<ExitCode> {
    let (_disk, home) = &disk::workplace(home, options.keep)?;
    let base = home.join("base");
    base_image::write(&base)?;
    let mut bench = Bench {
        home: home.clone(),
        images: Images::new(home)?,
        checksums: HashMap::new(),
        pushed: HashMap::new(),
    };
    let mut versions = Vec::new();
    let mut rows = Vec::new();
    for peer in PEERS {
        let wanted = |one: &&Workload| one.peer == peer && options.selects(one.name);
        let workloads: Vec<_> = WORKLOADS.iter().filter(wanted).collect();
        if workloads.is_empty() {
            continue;
        }
        let mut sides = sides(peer, &base, options)?;
        for side in &sides {
            let version = (side.name(), side.version()?);
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        let mut table = Vec::new();
        for workload in workloads {
            let turn = |side: &mut Side, round| bench.round(workload, side, round);
            let rounds = 0..=options.rounds;
            let outcomes = take_turns(workload.name, Unit::Seconds, &mut sides, rounds, turn);
            let named = sides.iter().map(Contestant::name).zip(outcomes);
            let row = Row::new(workload.name, workload.title, workload.target, named);
            table.push(row);
        }
        sides.iter_mut().for_each(Side::end);
        report::print(&format!("\n{}", report::table(peer, &table)));
        rows.extend(table);
    }
    report::print(&format!("medians of {} rounds", options.rounds));
    let machine = machine::describe(home, &versions)?;
    if let Some(file) = &options.json {
        report::write_json(file, &machine, "peer", &rows)?;
    }
    Ok(match rows.iter().any(Row::has_failed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The peer where it is installed, and varve.
fn sides(peer: &str, base: &Path, options: &Options) -> Result<Vec<Side>> {
    let found = match peer {
        "buildkit" => Buildkit::find(base).map(Side::Buildkit),
        "skopeo+umoci" => SkopeoUmoci::find().map(Side::Unpackers),
        "library" => Ok(Side::Decompressor(Decompressor::Library)),
        _ => Decompressor::programs().map(Side::Decompressor),
    };
    let found = match options.sides {
        Sides::Varve => None,
        Sides::Peer => Some(found?),
        Sides::Both => found
            .inspect_err(|reason| report::note(&format!("without {peer}: {reason:#}")))
            .ok(),
    };
    let mut sides = Vec::from_iter(found);
    if options.sides != Sides::Peer {
        sides.push(Side::Varve(Varve::find(base)?));
    }
    Ok(sides)
}

/// Somebody who takes part.
enum Side {
    Varve(Varve),
    Buildkit(Buildkit),
    Unpackers(SkopeoUmoci),
    Decompressor(Decompressor),
}

impl Contestant for Side {
    fn name(&self) -> &'static str {
        match self {
            Side::Varve(varve) => varve.name(),
            Side::Buildkit(buildkit) => buildkit.name(),
            Side::Unpackers(unpackers) => unpackers.name(),
            Side::Decompressor(decompressor) => decompressor.name(),
        }
    }
}

impl Side {
    fn version(&self) -> Result<String> {
        match self {
            Side::Varve(varve) => varve.version(),
            Side::Buildkit(buildkit) => buildkit.version(),
            Side::Unpackers(unpackers) => unpackers.version(),
            Side::Decompressor(decompressor) => decompressor.version(),
        }
    }

    fn begin(&mut self, directory: &Path) -> Result<()> {
        match self {
            Side::Varve(varve) => varve.begin(directory),
            Side::Buildkit(buildkit) => buildkit.begin(directory),
            Side::Unpackers(unpackers) => unpackers.begin(directory),
            Side::Decompressor(decompressor) => decompressor.begin(directory),
        }
    }

    /// Builds the Dockerfile of a directory, both with the same words.
    fn build(&self, directory: &Path, arguments: &[&str]) -> Result<Duration> {
        match self {
            Side::Varve(varve) => {
                let directory = directory.to_str().context("a path that is text")?;
                let build = ["build", "--progress=plain"];
                varve.run(&[&build, arguments, &[directory]].concat())
            }
            Side::Buildkit(buildkit) => buildkit.build_directory(directory, arguments),
            Side::Unpackers(_) | Side::Decompressor(_) => anyhow::bail!("it does not build"),
        }
    }

    fn end(&mut self) {
        match self {
            Side::Varve(varve) => varve.end(),
            Side::Buildkit(buildkit) => buildkit.end(),
            Side::Unpackers(_) | Side::Decompressor(_) => {}
        }
    }
}

struct Bench {
    home: PathBuf,
    images: Images,
    /// Of the files of images, as whoever came first found them.
    checksums: HashMap<String, String>,
    /// The layers that a side has pushed last.
    pushed: HashMap<&'static str, Vec<String>>,
}

impl Bench {
    fn round(&mut self, workload: &Workload, side: &mut Side, round: usize) -> Result<Sample> {
        let place = format!("{}-{}-{round}", workload.name, side.name());
        let place = self.home.join(place);
        match workload.kind {
            Kind::Build(packing) | Kind::Unpack(packing) => {
                let image = self.images.application(packing)?;
                side.begin(&place.join("state"))?;
                rustix::fs::sync();
                let took = fetch(workload.kind, side, &image, &place)?;
                self.check(side, &image, &place)?;
                finish(side, &place)?;
                Ok(took.into())
            }
            Kind::Ingest(packing) => {
                let (image, layer) = self.images.one_layer(packing)?;
                side.begin(&place.join("state"))?;
                if let Side::Varve(varve) = side {
                    // Makes the root, which is no part of taking a layer in.
                    varve.run(&["images", "--quiet"])?;
                }
                rustix::fs::sync();
                let took = match side {
                    Side::Decompressor(decompressor) => decompressor.decompress(&layer, packing)?,
                    _ => fetch(Kind::Unpack(packing), side, &image, &place)?,
                };
                finish(side, &place)?;
                Ok(took.into())
            }
            Kind::PushChanged | Kind::PushSame => self.push(workload.kind, side, round),
        }
    }

    /// The files of the image are those that the others have.
    fn check(&mut self, side: &Side, image: &Image, place: &Path) -> Result<()> {
        let found = match side {
            Side::Unpackers(unpackers) => unpackers.output(CHECKSUM)?,
            _ => {
                let text = format!(
                    "FROM {} AS image\nRUN {CHECKSUM} > /checksum\n\
                     FROM scratch\nCOPY --from=image /checksum /\n",
                    image.reference
                );
                let recipe = recipe(&place.join("check"), &text)?;
                let output = place.join("output");
                let output_words = format!("type=local,dest={}", output.display());
                side.build(&recipe, &["--output", &output_words])?;
                fs::read_to_string(output.join("checksum"))?
            }
        };
        let found = found.trim().to_owned();
        ensure!(found != NOTHING, "the image has no files");
        let reference = image.reference.clone();
        let expected = self.checksums.entry(reference).or_insert(found.clone());
        ensure!(
            found == *expected,
            "the files have the checksum {found}, others found {expected}"
        );
        Ok(())
    }

    /// A build whose steps are in the cache, and whose result goes to the registry.
    fn push(&mut self, kind: Kind, side: &mut Side, round: usize) -> Result<Sample> {
        let image = self.images.application(Packing::Gzip)?;
        let place = self.home.join(format!("push-{}", side.name()));
        let text = format!("FROM {}\nCOPY small /small\n", image.reference);
        let name = format!(
            "{}/pushed-{}:latest",
            self.images.registry().address(),
            side.name()
        );
        let output = format!("type=image,name={name},push=true");
        let has_begun = self.pushed.contains_key(side.name());
        if !has_begun {
            side.begin(&place.join("state"))?;
        }
        let directory = recipe(&place.join("context"), &text)?;
        let small = directory.join("small");
        if matches!(kind, Kind::PushChanged) || !has_begun {
            fs::write(&small, format!("{} {round}\n", side.name()))?;
        }
        side.build(&directory, &[])?;
        if matches!(kind, Kind::PushSame) && !has_begun {
            side.build(&directory, &["--output", &output])?;
            let layers = self.images.registry().layers(&name)?;
            self.pushed.insert(side.name(), layers);
        }
        rustix::fs::sync();
        let took = side.build(&directory, &["--output", &output])?;
        let layers = self.images.registry().layers(&name)?;
        let before = self.pushed.insert(side.name(), layers.clone());
        let base = self.images.registry().layers(&image.reference)?;
        ensure!(
            layers.len() == base.len() + 1 && layers.starts_with(&base),
            "it pushed other layers: {layers:?}"
        );
        let is_changed = before.is_some_and(|before| before != layers);
        let should_change = matches!(kind, Kind::PushChanged) && has_begun;
        ensure!(is_changed == should_change, "it pushed {layers:?}");
        Ok(took.into())
    }
}

/// Brings the image here, with all its files.
fn fetch(kind: Kind, side: &Side, image: &Image, place: &Path) -> Result<Duration> {
    let reference = &image.reference;
    match (kind, side) {
        (Kind::Unpack(_), Side::Varve(varve)) => varve.run(&["pull", "--quiet", reference]),
        (_, Side::Unpackers(unpackers)) => unpackers.unpack(reference),
        _ => {
            let text = format!("FROM {reference}\nRUN true\n");
            side.build(&recipe(&place.join("recipe"), &text)?, &[])
        }
    }
}

/// Writes a Dockerfile into a directory that may be there.
fn recipe(directory: &Path, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    fs::write(directory.join("Dockerfile"), text)?;
    Ok(directory.to_owned())
}

/// Removes what a round has made: a disk holds no five of them.
fn finish(side: &mut Side, place: &Path) -> Result<()> {
    side.end();
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", place.display())),
    }
}
