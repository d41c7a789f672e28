//! The peers that take nothing in: they read a layer, decompress it and throw away what comes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::{self, DEADLINE, Environment};
use crate::measure::Contestant;
use crate::oci_layout::Packing;
use crate::side::{find_program, version_line};

/// What is read of a decompressed layer at once.
const READ_BYTES: usize = 256 << 10;

/// Decompresses.
#[derive(Debug)]
pub enum Decompressor {
    /// Varve's own libraries in this process, on bytes that are in memory: no program starts.
    Library,
    /// The programs that containerd and a shell would use, pigz and zstd, in the directory.
    Programs(PathBuf),
}

impl Contestant for Decompressor {
    fn name(&self) -> &'static str {
        match self {
            Decompressor::Library => "library",
            Decompressor::Programs(_) => "pigz, zstd",
        }
    }
}

impl Decompressor {
    /// Finds the programs on the search path.
    ///
    /// # Errors
    /// Names the one that is missing, and what installs it.
    pub fn programs() -> Result<Self> {
        for name in ["pigz", "zstd"] {
            find_program(name)
                .with_context(|| format!("there is no {name} on PATH: apt install {name}"))?;
        }
        Ok(Decompressor::Programs(PathBuf::new()))
    }

    /// Which they are.
    ///
    /// # Errors
    /// Where a program does not run.
    pub fn version(&self) -> Result<String> {
        match self {
            Decompressor::Library => Ok("flate2 with zlib-rs, zstd".to_owned()),
            Decompressor::Programs(_) => {
                let pigz = version_line(Path::new("pigz"))?;
                Ok(format!("{pigz}, {}", version_line(Path::new("zstd"))?))
            }
        }
    }

    /// Begins in the new directory.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin(&mut self, directory: &Path) -> Result<()> {
        if let Decompressor::Programs(place) = self {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
            *place = directory.to_owned();
        }
        Ok(())
    }

    /// Reads a layer's file to its end; how long that took.
    ///
    /// # Errors
    /// Where it cannot be decompressed.
    pub fn decompress(&self, layer: &Path, packing: Packing) -> Result<Duration> {
        let place = match self {
            Decompressor::Library => return in_process(layer, packing),
            Decompressor::Programs(place) => place,
        };
        let program = match packing {
            Packing::Gzip => "pigz",
            Packing::Zstd => "zstd",
        };
        let mut shell = Environment::new(place).command("sh");
        shell
            .args(["-c", "exec \"$0\" -dc \"$1\" > /dev/null", program])
            .arg(layer);
        command::run(&mut shell, &place.join("log"), DEADLINE)
    }
}

fn in_process(layer: &Path, packing: Packing) -> Result<Duration> {
    let mut packed = Vec::new();
    File::open(layer)?.read_to_end(&mut packed)?;
    let began = Instant::now();
    let mut reader: Box<dyn Read> = match packing {
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&packed[..])),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(&packed[..])?),
    };
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => bytes += count,
        }
    }
    ensure!(bytes > packed.len(), "the layer is not compressed");
    Ok(began.elapsed())
}
