//! An operation of which the records learn what it is.

use std::sync::Arc;

use engine::{BoxFuture, CacheKey, Op, OpContext, OpError};

use store::Tally;

use crate::build::TALLY;
use crate::cache::Records;
use crate::cache::notes::{About, RecordKind};
use crate::result::Value;
use crate::sources::remote::without_secrets;

/// Passes everything on; what the operation makes is told to the records.
pub(super) struct Noted {
    pub(super) inner: Arc<dyn Op<Value = Value>>,
    pub(super) about: About,
    pub(super) records: Arc<Records>,
    /// Counts what it brings in: for the build that it was begun for.
    pub(super) tally: Arc<Tally>,
}

/// What an operation of the graph makes, in BuildKit's words.
pub(super) fn about(op: &llb::op::Op, name: &str) -> About {
    use llb::op::Op;
    match op {
        Op::Source(source) => match source.identifier.split_once("://") {
            Some(("local", context)) => About {
                kind: RecordKind::SourceLocal,
                description: format!("local source for {context}"),
            },
            Some(("git", repository)) => About {
                kind: RecordKind::SourceGit,
                description: format!("git snapshot for {repository}"),
            },
            Some(("http" | "https", _)) => About {
                kind: RecordKind::Regular,
                description: format!("http url {}", without_secrets(&source.identifier)),
            },
            Some((_, reference)) => About {
                kind: RecordKind::Regular,
                description: format!("pulled from {reference}"),
            },
            None => About::default(),
        },
        _ => About {
            kind: RecordKind::Regular,
            description: name.to_owned(),
        },
    }
}

impl Op for Noted {
    type Value = Value;

    fn cache_map(&self, context: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(TALLY.scope(self.tally.clone(), self.inner.cache_map(context)))
    }

    fn content_key<'a>(
        &'a self,
        inputs: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Option<CacheKey>, OpError>> {
        let key = self.inner.content_key(inputs, context);
        Box::pin(TALLY.scope(self.tally.clone(), key))
    }

    fn rebase<'a>(
        &'a self,
        inputs: &'a [Value],
        found: Vec<Value>,
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(async move {
            let before = found.clone();
            let rebased = self.inner.rebase(inputs, found, context);
            let values = TALLY.scope(self.tally.clone(), rebased).await?;
            self.note(values.iter().filter(|value| !before.contains(value)));
            Ok(values)
        })
    }

    fn exec<'a>(
        &'a self,
        inputs: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(async move {
            let made = self.inner.exec(inputs, context);
            let values = TALLY.scope(self.tally.clone(), made).await?;
            self.note(values.iter());
            Ok(values)
        })
    }
}

impl Noted {
    fn note<'v>(&self, made: impl Iterator<Item = &'v Value>) {
        for value in made.filter(|value| !value.name().is_empty()) {
            self.records.made(value.name(), &self.about);
        }
    }
}
