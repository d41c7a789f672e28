//! Snapshots that containerd owns, where the contract says nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mount::Mount;

use super::sandbox::{Sandbox, stacking};
use crate::Method;
use crate::containers::{Containers, Plugin};
use crate::snapshots::{Labels, Snapshots};

/// Where what is written to a mounted snapshot goes.
fn upper(mounts: &[Mount]) -> PathBuf {
    let option = |option: &String| option.strip_prefix("upperdir=").map(PathBuf::from);
    let found = mounts[0].options.iter().find_map(option);
    found.unwrap_or_else(|| mounts[0].source.clone())
}

/// Makes a committed snapshot with a file, which is not ingested; its directory.
fn commit(plugin: &Plugin, name: &str, parent: &str) -> PathBuf {
    let mounts = plugin.prepare("to commit", parent, Labels::new()).unwrap();
    let upper = upper(&mounts);
    fs::write(upper.join(name), name).unwrap();
    plugin.commit(name, "to commit", Labels::new()).unwrap();
    upper
}

fn keys(plugin: &Plugin) -> Vec<String> {
    let mut keys = Vec::new();
    let visit = &mut |info: crate::snapshots::Info| {
        keys.push(info.key);
        Ok(())
    };
    plugin.walk(visit).unwrap();
    keys
}

#[test]
fn what_did_not_reach_the_disk_is_given_up_with_all_that_lies_on_it() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let manager = Arc::new(sandbox.manager);
    let containers = Containers::open(manager.clone()).unwrap();
    let plugin = containers.plugin("varve").unwrap();
    commit(&plugin, "whole", "");
    let lost = commit(&plugin, "lost", "whole");
    commit(&plugin, "on the lost", "lost");
    plugin
        .prepare("active", "on the lost", Labels::new())
        .unwrap();
    plugin.view("view", "lost", Labels::new()).unwrap();
    plugin.prepare("other", "whole", Labels::new()).unwrap();
    drop((plugin, containers));

    fs::remove_dir_all(lost.parent().unwrap()).unwrap();
    let plugin = Containers::open(manager).unwrap().plugin("varve").unwrap();
    assert_eq!(keys(&plugin), ["other", "whole"]);
    plugin.mounts("other").unwrap();
    commit(&plugin, "lost", "whole");
    plugin.prepare("active", "lost", Labels::new()).unwrap();
}

#[test]
fn mounts_stay_what_they_were_when_a_parent_that_was_unpacked_and_written_to_becomes_a_tree() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let unpacked = sandbox.step("", "to unpack", |root| {
        fs::write(root.join("unpacked"), "by the differ").unwrap();
    });
    let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
    let plugin = containers.plugin("varve").unwrap();
    let mounts = plugin.prepare("active", "", Labels::new()).unwrap();
    let (id, directory, base) = containers.to_unpack(&mounts).unwrap();
    assert_eq!(base, None);
    let usage = store::Usage::default();
    containers
        .set_applied(&id, directory, unpacked, usage)
        .unwrap();
    let mounts = plugin.mounts("active").unwrap();
    fs::write(upper(&mounts).join("written"), "by hand").unwrap();
    plugin.commit("parent", "active", Labels::new()).unwrap();
    plugin.prepare("child", "parent", Labels::new()).unwrap();
    plugin.view("view", "parent", Labels::new()).unwrap();

    let before = ["child", "view"].map(|key| plugin.mounts(key).unwrap());
    containers.ingest_all(&|| false);
    assert_eq!(containers.waiting(), []);
    let after = ["child", "view"].map(|key| plugin.mounts(key).unwrap());
    assert_eq!(after, before);
}
