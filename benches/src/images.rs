//! Images in a registry of this machine, the same in every run: each is made, and put there, when
//! it is first asked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

use crate::files::Random;
use crate::oci_layout::{Layer, Layout, Packing, chain_id, lowest_layer};
use crate::registry::Registry;
use crate::{base_image, debian_base, report};

/// Files of the large image, besides busybox: 1 GB with these sizes.
pub const FILES: usize = 47_000;

/// Where they are in it.
pub const TREE: &str = "srv";

/// One file in so many is another one in [`Images::repacked`].
const CHANGED: usize = 10;

/// Sizes of files: so many of a thousand have at most so many bytes, and more than the row above
/// says. As in images of interpreters and of services: half of all bytes are in few files.
const SIZES: &[(u64, u64)] = &[(600, 4_000), (900, 32_000), (990, 200_000), (1000, 700_000)];

/// Smallest file.
const SIZE_MIN: u64 = 200;

/// Files of a directory, and directories of a package.
const FILES_PER_DIRECTORY: usize = 40;
const DIRECTORIES_PER_PACKAGE: usize = 5;

/// Up to which file each layer of the large image goes, in thousandths; most is in the lowest, as
/// usual.
const LAYER_ENDS: &[usize] = &[400, 700, 850, 950, 1000];

/// Layers of the image with the same files in other layers.
const REPACKED_LAYERS: usize = 3;

/// Files of each layer of a small image, and how many such layers it has.
const SMALL_FILES: usize = 150;
const SMALL_LAYERS: usize = 2;

/// Packages of the Debian image.
const PACKAGES: &[&str] = &["gcc", "libc6-dev"];

/// Layers above Debian's own.
const DEBIAN_LAYERS: usize = 4;

/// Files of the application above Debian, and up to which thousandth of them each layer goes.
const APPLICATION_FILES: usize = 29_000;
const APPLICATION_ENDS: &[usize] = &[500, 800, 950, 1000];

/// Words of text: their number is a power of two, for six bits and six more to pick one.
const WORDS: usize = 4_096;
const WORD_BYTES: usize = 8;

/// An image in the registry.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is pulled by.
    pub reference: String,
    /// What containerd calls its topmost snapshot.
    pub chain_id: String,
}

/// The registry, and the images that are in it.
#[derive(Debug)]
pub struct Images {
    home: PathBuf,
    registry: Registry,
    made: BTreeMap<&'static str, Image>,
    vocabulary: Vec<u8>,
}

impl Images {
    /// None yet, below the new directory.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn new(home: &Path) -> Result<Self> {
        let registry = Registry::start(&home.join("registry"))?;
        let mut vocabulary = vec![0; WORDS * WORD_BYTES];
        Random::new(0x0B00).fill(&mut vocabulary);
        Ok(Self {
            home: home.to_owned(),
            registry,
            made: BTreeMap::new(),
            vocabulary,
        })
    }

    /// busybox, and 47,000 files of 1 GB in five layers.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn large(&mut self) -> Result<Image> {
        self.get("large", |images, layout| {
            let mut plans = vec![Vec::new(); LAYER_ENDS.len()];
            for number in 0..FILES {
                let layer = LAYER_ENDS.partition_point(|end| number * 1000 >= end * FILES);
                plans[layer].push(Planned::new(number, 0));
            }
            images.with_busybox(layout, &plans)
        })
    }

    /// The same image built again: a tenth of its files are others, and all lie in other layers.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn repacked(&mut self) -> Result<Image> {
        self.get("repacked", |images, layout| {
            let mut plans = vec![Vec::new(); REPACKED_LAYERS];
            for number in 0..FILES {
                let layer = number / FILES_PER_DIRECTORY % REPACKED_LAYERS;
                let edition = u64::from(number % CHANGED == 0);
                plans[layer].push(Planned::new(number, edition));
            }
            images.with_busybox(layout, &plans)
        })
    }

    /// Debian with a C compiler, and some small layers above.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn debian(&mut self) -> Result<Image> {
        self.get("debian", |images, layout| {
            let mut layers = vec![images.debian_layer(layout)?];
            for number in 0..DEBIAN_LAYERS {
                let first = number * SMALL_FILES;
                let plan: Vec<_> = (first..first + SMALL_FILES)
                    .map(|file| Planned::new(file, 0))
                    .collect();
                layers.push(images.layer(layout, &format!("small-{number}"), &plan)?);
            }
            Ok(layers)
        })
    }

    /// Debian with a C compiler, and an application of four layers above: 1 GB in all.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn application(&mut self, packing: Packing) -> Result<Image> {
        let name = match packing {
            Packing::Gzip => "application",
            Packing::Zstd => "application-zstd",
        };
        self.get_packed(name, packing, |images, layout| {
            let mut layers = vec![images.debian_layer(layout)?];
            let mut plans = vec![Vec::new(); APPLICATION_ENDS.len()];
            for number in 0..APPLICATION_FILES {
                let part = number * 1000 / APPLICATION_FILES;
                let layer = APPLICATION_ENDS.partition_point(|end| part >= *end);
                plans[layer].push(Planned::new(number, 0));
            }
            layers.extend(images.layers(layout, &plans)?);
            Ok(layers)
        })
    }

    /// Its Debian alone: one large layer. With the layer's file, as long as this value is there.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn one_layer(&mut self, packing: Packing) -> Result<(Image, PathBuf)> {
        let name = match packing {
            Packing::Gzip => "one-layer",
            Packing::Zstd => "one-layer-zstd",
        };
        let kept = self.home.join(format!("{name}.layer"));
        let copy = kept.clone();
        let image = self.get_packed(name, packing, move |images, layout| {
            let layer = images.debian_layer(layout)?;
            fs::copy(layout.file(&layer), &copy)?;
            Ok(vec![layer])
        })?;
        Ok((image, kept))
    }

    /// Where the images are.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Archives of `count` small images: busybox, and layers of their own.
    ///
    /// # Errors
    /// Where it cannot be made or put into the registry.
    pub fn archives(&self, count: usize) -> Result<Vec<PathBuf>> {
        report::note(&format!("making {count} small images"));
        let mut archives = Vec::new();
        for image in 0..count {
            let layout = Layout::create(&self.home.join(format!("small-{image}")))?;
            let plans: Vec<Vec<Planned>> = (0..SMALL_LAYERS)
                .map(|layer| {
                    let first = (image * SMALL_LAYERS + layer) * SMALL_FILES;
                    let files = first..first + SMALL_FILES;
                    // An edition that no other image has, where numbers start again.
                    files.map(|file| Planned::new(file, 2)).collect()
                })
                .collect();
            let layers = self.with_busybox(&layout, &plans)?;
            layout.image(&format!("bench.example/small-{image}:latest"), &layers)?;
            let archive = self.home.join(format!("small-{image}.tar"));
            layout.archive(&archive)?;
            archives.push(archive);
        }
        Ok(archives)
    }

    fn debian_layer(&self, layout: &Layout) -> Result<Layer> {
        let archive = debian_base::archive(PACKAGES).context("make a Debian image")?;
        layout.layer("debian", |tar| {
            io::copy(&mut BufReader::new(File::open(&archive)?), tar)?;
            Ok(())
        })
    }

    fn get(
        &mut self,
        name: &'static str,
        layers: impl FnOnce(&Self, &Layout) -> Result<Vec<Layer>>,
    ) -> Result<Image> {
        self.get_packed(name, Packing::Gzip, layers)
    }

    fn get_packed(
        &mut self,
        name: &'static str,
        packing: Packing,
        layers: impl FnOnce(&Self, &Layout) -> Result<Vec<Layer>>,
    ) -> Result<Image> {
        if let Some(image) = self.made.get(name) {
            return Ok(image.clone());
        }
        report::note(&format!("making the image {name}"));
        let directory = self.home.join(name);
        let layout = Layout::create(&directory)?.packed_by(packing);
        let layers = layers(self, &layout)?;
        layout.image(name, &layers)?;
        let image = Image {
            reference: self.registry.push(&directory, name)?,
            chain_id: chain_id(&layers),
        };
        // The registry has it.
        fs::remove_dir_all(&directory)
            .with_context(|| format!("remove {}", directory.display()))?;
        self.made.insert(name, image.clone());
        Ok(image)
    }

    /// busybox, and a layer for each plan.
    fn with_busybox(&self, layout: &Layout, plans: &[Vec<Planned>]) -> Result<Vec<Layer>> {
        let base = self.home.join("busybox");
        if !base.is_dir() {
            base_image::write(&base)?;
        }
        let busybox = lowest_layer(&base)?;
        let lowest = layout.layer("busybox", |tar| Ok(tar.write_all(&busybox)?))?;
        let above = self.layers(layout, plans)?;
        Ok(std::iter::once(lowest).chain(above).collect())
    }

    /// A layer for each plan, written side by side.
    fn layers(&self, layout: &Layout, plans: &[Vec<Planned>]) -> Result<Vec<Layer>> {
        let layers: Vec<Result<Layer>> = std::thread::scope(|scope| {
            let writers: Vec<_> = plans
                .iter()
                .enumerate()
                .map(|(number, plan)| {
                    scope.spawn(move || self.layer(layout, &number.to_string(), plan))
                })
                .collect();
            let joined = writers.into_iter().map(|writer| {
                let panicked = |_| Err(anyhow::anyhow!("a thread that writes a layer panicked"));
                writer.join().unwrap_or_else(panicked)
            });
            joined.collect()
        });
        layers.into_iter().collect()
    }

    fn layer(&self, layout: &Layout, name: &str, plan: &[Planned]) -> Result<Layer> {
        layout.layer(name, |tar| self.write(tar, plan))
    }

    fn write(&self, tar: &mut dyn Write, plan: &[Planned]) -> Result<()> {
        let mut tar = tar::Builder::new(tar);
        let mut directories = std::collections::BTreeSet::new();
        let mut text = Vec::new();
        for file in plan {
            let path = file.path();
            for (slash, _) in path.match_indices('/') {
                if directories.insert(path[..=slash].to_owned()) {
                    let mut header = header(EntryType::Directory, 0o755, 0);
                    tar.append_data(&mut header, &path[..=slash], io::empty())?;
                }
            }
            self.content(file, &mut text)?;
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            tar.append_data(&mut header, &path, text.as_slice())?;
        }
        Ok(tar.finish()?)
    }

    /// Words, which gzip packs to about two fifths; the same for the same file.
    fn content(&self, file: &Planned, text: &mut Vec<u8>) -> Result<()> {
        let mut random = Random::new(file.seed());
        let size = usize::try_from(size(&mut random))?;
        text.clear();
        while text.len() < size {
            let mut bits = random.next();
            for _ in 0..5 {
                let word = usize::try_from(bits % WORDS as u64)? * WORD_BYTES;
                text.extend_from_slice(&self.vocabulary[word..word + WORD_BYTES]);
                bits /= WORDS as u64;
            }
        }
        text.truncate(size);
        Ok(())
    }
}

/// A file to be written.
#[derive(Debug, Clone)]
struct Planned {
    number: usize,
    /// Another edition is another content at the same path.
    edition: u64,
}

impl Planned {
    fn new(number: usize, edition: u64) -> Self {
        Self { number, edition }
    }

    fn path(&self) -> String {
        let directory = self.number / FILES_PER_DIRECTORY;
        let package = directory / DIRECTORIES_PER_PACKAGE;
        format!(
            "{TREE}/package-{package:03}/module-{directory:04}/file-{:05}.txt",
            self.number
        )
    }

    fn seed(&self) -> u64 {
        self.number as u64 | self.edition << 32
    }
}

fn size(random: &mut Random) -> u64 {
    let thousandth = random.next() % 1000;
    let row = SIZES.partition_point(|(end, _)| thousandth >= *end);
    let smallest = row.checked_sub(1).map_or(SIZE_MIN, |below| SIZES[below].1);
    smallest + random.next() % (SIZES[row].1 - smallest)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}
