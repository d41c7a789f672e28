//! The workloads: what each does on a node, and how good it should be.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use benches::figure::{Outcome, Target, Unit};
use benches::images::{FILES, Images, TREE};
use benches::measure::{Contestant, Sample, take_turns};
use benches::node::{Node, Snapshotter};
use benches::report;

use crate::snapshots::Service;

/// Containers that are started for one sample.
const STARTS: u32 = 10;

/// Snapshots that come and go for one sample.
const SNAPSHOTS: usize = 1_000;

/// Images that are imported.
const IMPORTS: usize = 100;

/// Files that are compiled for one sample.
const SOURCES: usize = 20;

/// Where it is said that the kernel should forget what it has read.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// What workloads work with.
pub(crate) struct Bench {
    /// The directory of this run.
    pub(crate) home: PathBuf,
    /// The directory of containerd's programs.
    pub(crate) programs: PathBuf,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// Timed rounds.
    pub(crate) rounds: usize,
    /// The sides.
    pub(crate) snapshotters: Vec<Snapshotter>,
    pub(crate) images: Images,
    /// Nodes of most workloads, if there are any yet: what is pulled stays pulled.
    pub(crate) nodes: Vec<Node>,
}

/// What the sides did, by their names.
type Outcomes = Vec<(&'static str, Outcome)>;

/// A workload, as a row of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// One word to select it by.
    pub(crate) name: &'static str,
    /// What the table says.
    pub(crate) title: &'static str,
    /// How good it should be.
    pub(crate) target: Target,
    measure: fn(&mut Bench, &Workload) -> Result<Outcomes>,
}

impl Workload {
    /// Measures it on all sides.
    pub(crate) fn measure(&self, bench: &mut Bench) -> Result<Outcomes> {
        (self.measure)(bench, self)
    }
}

const EQUAL: Target = Target::Ratio(1.0);

/// All of them, in the order they run.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "memory",
        title: "memory of the daemon after importing 100 images",
        target: Target::Own(Unit::Megabytes, 60.0),
        measure: memory,
    },
    Workload {
        name: "unpack",
        title: "unpack of 1 GB in 47,000 files, content here",
        target: Target::Ratio(0.8),
        measure: unpack,
    },
    Workload {
        name: "pull",
        title: "pull of the same, registry on this machine",
        target: Target::Ratio(0.8),
        measure: pull,
    },
    Workload {
        name: "start",
        title: "container start (ctr run --rm), mean of 10",
        target: EQUAL,
        measure: start,
    },
    Workload {
        name: "read-cold",
        title: "reading all 47,000 files, cold",
        target: EQUAL,
        measure: read_cold,
    },
    Workload {
        name: "read-warm",
        title: "reading all 47,000 files, warm",
        target: EQUAL,
        measure: read_warm,
    },
    Workload {
        name: "process",
        title: "1,600 processes (true, sh, perl) on Debian",
        target: EQUAL,
        measure: processes,
    },
    Workload {
        name: "compile",
        title: "20 C files compiled by gcc on Debian",
        target: EQUAL,
        measure: compile,
    },
    Workload {
        name: "snapshots",
        title: "1,000 snapshots prepared and removed (gRPC)",
        target: EQUAL,
        measure: snapshots,
    },
    Workload {
        name: "disk",
        title: "disk of two images that share 90 % of files",
        target: Target::Own(Unit::Factor, 1.15),
        measure: disk,
    },
];

impl Bench {
    /// Starts nodes with empty state.
    fn new_nodes(&self, name: &str) -> Result<Vec<Node>> {
        let sides = self.snapshotters.iter();
        sides
            .map(|snapshotter| self.new_node(name, snapshotter))
            .collect()
    }

    fn new_node(&self, name: &str, snapshotter: &Snapshotter) -> Result<Node> {
        let directory = self.home.join(format!("{name}-{}", snapshotter.name()));
        Node::start(snapshotter, &self.programs, &directory, &self.namespace)
    }

    /// Has the sides take turns, each with a new node in each round.
    fn anew(
        &self,
        workload: &Workload,
        mut one_round: impl FnMut(&mut Node) -> Result<Sample>,
    ) -> Result<Outcomes> {
        let mut sides = self.snapshotters.clone();
        let rounds = 0..=self.rounds;
        let turn = |side: &mut Snapshotter, round: usize| {
            let name = format!("{}-{round}", workload.name);
            one_round(&mut self.new_node(&name, side)?)
        };
        let outcomes = take_turns(workload.name, Unit::Seconds, &mut sides, rounds, turn);
        Ok(named(&sides, outcomes))
    }

    /// Has the common nodes take turns.
    fn turns(
        &mut self,
        workload: &Workload,
        one_round: impl FnMut(&mut Node, usize) -> Result<Sample>,
    ) -> Result<Outcomes> {
        if self.nodes.is_empty() {
            self.nodes = self.new_nodes("node")?;
        }
        let rounds = 0..=self.rounds;
        let nodes = &mut self.nodes;
        let outcomes = take_turns(workload.name, Unit::Seconds, nodes, rounds, one_round);
        Ok(named(nodes, outcomes))
    }
}

fn named<S: Contestant>(nodes: &[S], outcomes: Vec<Outcome>) -> Outcomes {
    nodes.iter().map(Contestant::name).zip(outcomes).collect()
}

/// Before a sample: what others have left to write would be written in our time.
fn quiet(node: &Node) -> Result<()> {
    node.settle()?;
    rustix::fs::sync();
    Ok(())
}

fn unpack(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.large()?.reference;
    bench.anew(workload, |node| {
        node.fetch(&image)?;
        quiet(node)?;
        let took = node.pull(&image)?;
        check_files(node, &image)?;
        Ok(took.into())
    })
}

fn pull(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.large()?.reference;
    bench.anew(workload, |node| {
        quiet(node)?;
        let took = node.pull(&image)?;
        check_files(node, &image)?;
        Ok(took.into())
    })
}

/// That all files of the large image are there; also waits for what goes on in the background.
fn check_files(node: &mut Node, image: &str) -> Result<()> {
    node.settle()?;
    let check = format!("test $(find /{TREE} -type f | wc -l) = {FILES}");
    let checked = node.run_script(image, "", &check);
    checked.context("the large image is not right").map(drop)
}

fn start(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.debian()?.reference;
    bench.turns(workload, |node, _| {
        node.have(&image)?;
        quiet(node)?;
        let mut all = Duration::ZERO;
        for _ in 0..STARTS {
            all += node.run(&image, &["/bin/true"])?;
        }
        Ok((all / STARTS).into())
    })
}

fn read_all() -> String {
    format!("find /{TREE} -type f -exec cat {{}} + > /dev/null")
}

fn read_cold(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.large()?.reference;
    bench.turns(workload, |node, _| {
        node.have(&image)?;
        quiet(node)?;
        fs::write(DROP_CACHES, "3").with_context(|| format!("write {DROP_CACHES}"))?;
        Ok(node.run_script(&image, "", &read_all())?.into())
    })
}

fn read_warm(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.large()?.reference;
    let read = read_all();
    let work = format!("{read}\n{read}\n{read}");
    bench.turns(workload, |node, _| {
        node.have(&image)?;
        quiet(node)?;
        Ok(node.run_script(&image, &read, &work)?.into())
    })
}

fn processes(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.debian()?.reference;
    let repeat = |count: usize, command: &str| {
        format!("i=0; while [ $i -lt {count} ]; do {command}; i=$((i + 1)); done\n")
    };
    let all = |scale: usize| {
        repeat(scale, "/bin/true")
            + &repeat(scale * 3 / 10, "/bin/bash -c :")
            + &repeat(scale * 3 / 10, "perl -e 1")
    };
    let (before, work) = (all(10), all(1_000));
    bench.turns(workload, |node, _| {
        node.have(&image)?;
        quiet(node)?;
        Ok(node.run_script(&image, &before, &work)?.into())
    })
}

/// Sources with many headers and some code; the first is compiled before the time is taken.
fn compile(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.debian()?.reference;
    let before = format!(
        "mkdir /build; cd /build; i=0\n\
         while [ $i -le {SOURCES} ]; do\n\
         for header in stdio stdlib string unistd errno fcntl signal time math pthread \
         sys/stat sys/socket sys/mman netinet/in; do echo \"#include <$header.h>\"; done > $i.c\n\
         j=0; while [ $j -lt 100 ]; do\n\
         echo \"int f$j(int a, char *b) {{ int s = a; while (*b) s = s * 31 + *b++; \
         printf(\\\"%d %s\\\", s, b); return s + $j; }}\"\n\
         j=$((j + 1)); done >> $i.c\n\
         i=$((i + 1)); done\n\
         gcc -O1 -c {SOURCES}.c"
    );
    let work = format!("i=0; while [ $i -lt {SOURCES} ]; do gcc -O1 -c $i.c; i=$((i + 1)); done");
    bench.turns(workload, |node, _| {
        node.have(&image)?;
        quiet(node)?;
        Ok(node.run_script(&image, &before, &work)?.into())
    })
}

fn snapshots(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let image = bench.images.debian()?;
    bench.turns(workload, |node, _| {
        node.have(&image.reference)?;
        quiet(node)?;
        let service = Service {
            socket: &node.socket(),
            namespace: node.namespace(),
            snapshotter: node.name(),
        };
        let took = service.churn(&image.chain_id, SNAPSHOTS)?;
        node.settle()?;
        Ok(took.into())
    })
}

/// Once: nothing about it depends on how busy the machine is.
fn disk(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let (one, other) = (bench.images.large()?, bench.images.repacked()?);
    let mut nodes = bench.new_nodes("disk")?;
    let outcomes = take_turns(workload.name, Unit::Factor, &mut nodes, 1..=1, |node, _| {
        node.have(&one.reference)?;
        let first = node.disk_bytes()?;
        node.have(&other.reference)?;
        let both = node.disk_bytes()?;
        ensure!(first > 0, "nothing was unpacked");
        report::note(&format!(
            "{}: {} MB, with the other {} MB",
            node.name(),
            first / 1_000_000,
            both / 1_000_000
        ));
        Ok(in_units(both, first))
    });
    Ok(named(&nodes, outcomes))
}

/// Once, and of varve alone: containerd's own snapshotter has no process.
fn memory(bench: &mut Bench, workload: &Workload) -> Result<Outcomes> {
    let is_varve = |side: &&Snapshotter| matches!(side, Snapshotter::Varve(_));
    let Some(varve) = bench.snapshotters.iter().find(is_varve) else {
        return Ok(Vec::new());
    };
    let mut nodes = vec![bench.new_node("memory", varve)?];
    let archives = bench.images.archives(IMPORTS)?;
    let unit = Unit::Megabytes;
    let outcomes = take_turns(workload.name, unit, &mut nodes, 1..=1, |node, _| {
        let (before, _) = node.daemon_memory()?;
        for archive in &archives {
            node.import(archive)?;
        }
        node.settle()?;
        let (now, most) = node.daemon_memory()?;
        report::note(&format!(
            "varve daemon: {} MB before, {} MB now, {} MB at most",
            before / 1_000_000,
            now / 1_000_000,
            most / 1_000_000
        ));
        Ok(in_units(now, 1_000_000))
    });
    Ok(named(&nodes, outcomes))
}

#[expect(clippy::cast_precision_loss, reason = "the table shows three places")]
fn in_units(bytes: u64, unit: u64) -> Sample {
    Sample {
        value: bytes as f64 / unit as f64,
        layer_bytes: None,
    }
}
