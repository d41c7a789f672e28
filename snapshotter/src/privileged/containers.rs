//! Snapshots that containerd owns, where the contract says nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use mount::Mount;

use super::sandbox::{Sandbox, stacking};
use crate::Method;
use crate::containers::{Containers, Plugin};
use crate::error::Error;
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

/// What containerd says of a user namespace.
fn user_namespace() -> Labels {
    let label = |name: &str, value: &str| (format!("containerd.io/snapshot/{name}"), value.into());
    Labels::from([
        label("uidmapping", "0:100000:65536"),
        label("gidmapping", "0:200000:65536"),
    ])
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

#[test]
fn a_user_namespace_sees_its_own_owners_and_nothing_is_copied() {
    for method in [Method::Kernel, Method::Directories] {
        // Plain directories of a tmpfs cannot be mapped before Linux 6.3.
        let Some(sandbox) = Sandbox::on_disk(stacking(method)) else {
            return;
        };
        let target = sandbox.directory();
        let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
        let plugin = containers.plugin("varve").unwrap();
        let mounts = plugin.prepare("to commit", "", Labels::new()).unwrap();
        let files = upper(&mounts);
        fs::write(files.join("file"), "content").unwrap();
        fs::create_dir(files.join("directory")).unwrap();
        fs::write(files.join("directory/user"), "of a user").unwrap();
        std::os::unix::fs::chown(files.join("directory/user"), Some(7), Some(8)).unwrap();
        plugin.commit("image", "to commit", Labels::new()).unwrap();

        let mounts = plugin.prepare("active", "image", user_namespace()).unwrap();
        let guard = mount::apply(&mounts, &target).unwrap();
        let owner = |path: &str| {
            let found = fs::metadata(target.join(path)).unwrap();
            (found.uid(), found.gid())
        };
        assert_eq!(owner("."), (100_000, 200_000));
        assert_eq!(owner("directory"), (100_000, 200_000));
        assert_eq!(owner("directory/user"), (100_007, 200_008));
        assert_eq!(fs::read(target.join("file")).unwrap(), b"content");
        // Copied up with the owner that was shown.
        fs::write(target.join("directory/user"), "written").unwrap();
        assert_eq!(owner("directory/user"), (100_007, 200_008));
        guard.unmount().unwrap();

        // The same answer again, and another mapping beside it.
        assert_eq!(plugin.mounts("active").unwrap(), mounts);
        let mounts = plugin.view("plain", "image", Labels::new()).unwrap();
        let guard = mount::apply(&mounts, &target).unwrap();
        let found = fs::metadata(target.join("directory/user")).unwrap();
        assert_eq!((found.uid(), found.gid(), found.len()), (7, 8, 9));
        guard.unmount().unwrap();
        plugin.remove("active").unwrap();
        containers.clean_up().unwrap();
        plugin.mounts("plain").unwrap();
    }
}

#[test]
fn a_mapping_that_is_none_or_has_no_root_is_refused_and_leaves_nothing() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
    let plugin = containers.plugin("varve").unwrap();
    for range in ["5:100000:10", "nonsense", "0:1:0"] {
        let mut labels = user_namespace();
        labels.insert("containerd.io/snapshot/uidmapping".into(), range.into());
        let error = plugin.prepare("key", "", labels).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    assert_eq!(keys(&plugin), [""; 0]);
}
