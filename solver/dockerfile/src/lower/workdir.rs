//! `WORKDIR`: the directory of the steps to come. It is made when it is not there.

use llb::op::{Mkdir, Owner};
use llb::{FileChain, Platform};

use super::history::Entry;
use super::stage::StageState;
use super::{Lowerer, at, locations, paths};
use crate::ast::{Origin, Word};
use crate::config::WINDOWS;
use crate::error::Error;

impl Lowerer<'_> {
    /// Changes to a directory.
    pub(super) fn workdir(
        &mut self,
        stage: &mut StageState,
        path: &Word,
        origin: &Origin,
    ) -> Result<(), Error> {
        if stage.platform.os == WINDOWS {
            let message = "WORKDIR is not supported yet in a stage for windows";
            return Err(at(origin.span, message));
        }
        let path = self.expand(stage, path, origin.span)?;
        stage.set_directory(&path);
        let directory = stage.directory.clone();
        if directory == "/" {
            stage.commit("WORKDIR /".to_owned(), Entry::Empty);
            return Ok(());
        }
        let name = self.shown(stage, &origin.source);
        let platform: Platform = stage.platform.clone();
        let name = stage.step_name(&name, Some(&platform));
        let chain = FileChain::on(stage.root);
        let user = &stage.image.config.user;
        let owner = (!user.is_empty()).then(|| Owner::parse(user, chain.base()));
        let epoch = self.globals.epoch;
        let chain = chain.mkdir(Mkdir {
            path: paths::clean(&directory),
            mode: 0o755,
            make_parents: true,
            owner,
            timestamp_ns: epoch.map(|epoch| epoch.saturating_mul(1_000_000_000)),
        });
        // Making a directory is never worth repeating: `--no-cache` does not concern it.
        let metadata = llb::Metadata {
            locations: locations(origin.span),
            ..llb::Metadata::named(name)
        };
        stage.root = Some(self.graph.file(chain, metadata));
        stage.commit(format!("WORKDIR {directory}"), Entry::Layer);
        Ok(())
    }

    /// An instruction as people are shown it: its keyword in upper case, its variables expanded.
    pub(super) fn shown(&self, stage: &StageState, source: &str) -> String {
        let expanded = self.globals.lexer.process_word(source, &stage.environment);
        upper_keyword(&expanded.unwrap_or_else(|_| source.to_owned()))
    }
}

/// The first word in upper case.
pub(super) fn upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}
