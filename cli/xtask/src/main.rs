//! `cargo xtask`: the commands of a checkout. Each installs or builds what is missing, then does
//! its work.
//!
//! Reading order: `arguments` (what there is), `packages` and `rocksdb_archive` (what a machine
//! needs once), then a file per task.

use std::process::ExitCode;

mod arguments;
mod bench;
mod checks;
mod console;
mod containerd;
mod demo;
mod error;
mod go_programs;
mod package;
mod packages;
mod rocksdb_archive;
mod varve_binary;
mod workspace;

use arguments::{Task, USAGE};
use packages::Purpose;
use workspace::Workspace;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Task::parse(&words).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::failure(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> error::Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Demo(options) => demo::run(&workspace, options),
        Task::Test { unprivileged } => checks::run(&workspace, unprivileged),
        Task::Bench { name, arguments } => bench::run(&workspace, name.as_deref(), &arguments),
        Task::Install(installation) => package::install(&workspace, &installation),
        Task::Package(order) => package::run(&workspace, &order),
        Task::Setup => {
            packages::ensure(Purpose::Test)?;
            containerd::ensure(&workspace)?;
            go_programs::NERDCTL.ensure(&workspace)?;
            rocksdb_archive::ensure(&workspace).map(drop)
        }
        Task::Rocksdb => {
            let home = rocksdb_archive::ensure(&workspace)?;
            console::script(&rocksdb_archive::exports(&home));
            Ok(())
        }
        Task::Help => {
            console::script(USAGE);
            Ok(())
        }
    }
}
