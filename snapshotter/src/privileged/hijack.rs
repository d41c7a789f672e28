//! The redirect of a file in a higher layer is looked up in the lower layers first: a file that
//! stands there would replace its content (shared/spec/filesystem-stacks.md, "Hijack").

use std::fs;

use store::fixtures::{self, file, model, store_model};
use store::{Batch, BlobId, Durability, Found, TreeRef};

use super::sandbox::{Sandbox, stacking};
use crate::catalog::{self, Row, State};
use crate::snapshots::{Info, Kind, Labels, Snapshots};
use crate::{Error, Method};

const REAL: &str = "what the step wrote";
const PLANTED: &[u8] = b"what the base planted";

/// A tree with a file at `path`.
fn planted(sandbox: &Sandbox, path: &str) -> TreeRef {
    let ingest = sandbox.store().begin();
    ingest.put_blob(PLANTED).unwrap();
    let tree = store_model(&model([(path, Found::Leaf(file(PLANTED)))]), &ingest).unwrap();
    ingest.commit(Batch::new()).unwrap();
    tree
}

/// A step on `base` that writes a file, and what a stack shows of it.
fn written_on(sandbox: &Sandbox, base: &str) -> String {
    sandbox.step(base, "step", |root| {
        fs::write(root.join("file"), REAL).unwrap()
    });
    sandbox.step("step", "next", |root| {
        fs::write(root.join("other"), "x").unwrap()
    });
    sandbox.show("next", |root| {
        String::from_utf8_lossy(&fs::read(root.join("file")).unwrap()).into_owned()
    })
}

#[test]
fn a_base_that_guesses_where_redirects_lead_replaces_nothing() {
    let blob = BlobId::of(REAL.as_bytes()).to_string();
    let (first, rest) = blob.split_at(2);
    for prefix in ["", "objects/", "2f1c7bb0e6d94f0c8a5511d3907ecb42/"] {
        let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
            return;
        };
        let tree = planted(&sandbox, &format!("{prefix}{first}/{rest}"));
        sandbox
            .manager
            .adopt(sandbox.store().begin(), "base", "", tree, Batch::new())
            .unwrap();
        assert_eq!(written_on(&sandbox, "base"), REAL, "{prefix}");
    }
}

#[test]
fn a_tree_that_knows_where_redirects_lead_is_not_adopted() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let redirect = sandbox
        .store()
        .objects()
        .redirect(BlobId::of(REAL.as_bytes()));
    let nonce = sandbox.store().objects().nonce();
    for path in [&redirect[1..], nonce] {
        let tree = planted(&sandbox, path);
        let adopted =
            sandbox
                .manager
                .adopt(sandbox.store().begin(), "base", "", tree, Batch::new());
        assert!(matches!(adopted, Err(Error::Capture { .. })), "{adopted:?}");
        assert!(matches!(
            sandbox.manager.stat("base"),
            Err(Error::NotFound { .. })
        ));
    }
    let below = planted(&sandbox, &format!("usr{redirect}"));
    sandbox
        .manager
        .adopt(sandbox.store().begin(), "base", "", below, Batch::new())
        .unwrap();
    assert_eq!(written_on(&sandbox, "base"), REAL);
}

/// Shows that the tests above test something. Should this fail, the kernel has become careful.
#[test]
fn without_the_refusal_the_kernel_would_read_the_planted_file() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let redirect = sandbox
        .store()
        .objects()
        .redirect(BlobId::of(REAL.as_bytes()));
    let tree = planted(&sandbox, &redirect[1..]);
    let info = Info {
        key: "base".into(),
        parent: String::new(),
        kind: Kind::Committed,
        created: store::Timestamp::EPOCH,
        updated: store::Timestamp::EPOCH,
        labels: Labels::new(),
    };
    let usage = store::Usage::default();
    let mut batch = Batch::new();
    catalog::put(
        &mut batch,
        &Row {
            info,
            state: State::Committed { tree, usage },
        },
    );
    sandbox.store().write(batch, Durability::Process).unwrap();
    let shown = written_on(&sandbox, "base");
    assert!(PLANTED.starts_with(shown.as_bytes()), "{shown}");
    assert_ne!(shown, REAL);
    assert_eq!(
        fixtures::read_model(tree, sandbox.store()).unwrap().len(),
        4
    );
}
