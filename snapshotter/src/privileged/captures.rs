//! What becomes of each kind of thing that a process leaves behind, and what is refused.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use store::fixtures::read_model;
use store::{Content, Found};

use super::listing::{assert_same, list};
use super::sandbox::{Sandbox, stacking};
use crate::capture::read_xattrs;
use crate::manager::Options;
use crate::snapshots::{Labels, Snapshots};
use crate::{Error, Method};

fn shell(directory: &Path, script: &str) {
    let status = Command::new("sh")
        .args(["-euc", script])
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success(), "{script}");
}

/// The same scripts, a step each, on snapshots and on a plain directory.
fn check_scripts(scripts: &[&str]) {
    for method in [Method::Kernel, Method::Directories] {
        let Some(sandbox) = Sandbox::new(stacking(method)) else {
            return;
        };
        let plain = sandbox.directory();
        let mut parent = String::new();
        for (number, script) in scripts.iter().enumerate() {
            let name = format!("step{number}");
            // Times that do not depend on when it runs.
            let script =
                format!("{script}\nfind . -newermt 2001-01-01 -exec touch -h -d 2000-01-01 {{}} +");
            sandbox.step(&parent, &name, |root| shell(root, &script));
            shell(&plain, &script);
            let seen = sandbox.show(&name, list);
            let mut expected = list(&plain);
            // How the roots came about differs.
            let root = b"".as_slice();
            expected.insert(root.into(), seen[root].clone());
            assert_same(&format!("{method:?}: {script}"), &seen, &expected);
            parent = name;
        }
    }
}

#[test]
fn attributes_of_whole_trees_change_over_several_steps() {
    check_scripts(&[
        "mkdir -p a/b/c; echo 1 > a/1; echo 22 > a/b/2; echo 333 > a/b/c/3",
        "chmod -R go-rwx a",
        "chown -R 5:6 a",
        "mv a/b/2 a/two; chmod u+s a/two",
        "chown -R 7:8 a; mv a/two a/b/c/zwei",
        "echo more >> a/b/c/zwei; chmod 400 a/b/c/*",
        "mv a z; chmod -R a+r z",
    ]);
}

#[test]
fn directories_move_again_and_again() {
    check_scripts(&[
        "mkdir -p a/x b/y; echo 1 > a/x/1; echo 2 > b/y/2; ln -s 1 a/x/l",
        "mv a tmp; mv b a; mv tmp b",
        "mv a/y b/x/y; mv b c",
        "mv c/x/y/2 .; mv c/x d; mv d c/x",
        "mkdir a/y; echo new > a/y/2; mv c a/y/c",
        "mv a/y/c/x/1 a/y/2; rm -r a/y/c/x/y; mkdir a/y/c/x/y",
        "mv a/y/c a/z; mkdir a/y/c; echo 9 > a/y/c/9; mv a q; mkdir a",
    ]);
}

#[test]
fn deleted_directories_come_back_empty() {
    check_scripts(&[
        "mkdir -p d/sub e; echo 1 > d/1; echo 2 > d/sub/2; echo 3 > e/3",
        "rm -rf d; mkdir d; echo new > d/new",
        "rm -rf d e; echo d > d; ln -s d e",
        "rm d e; mkdir -p d/sub e; echo again > d/sub/again",
        "rm -rf d; mv e d; echo x > e",
    ]);
}

#[test]
fn things_without_content_keep_what_they_have() {
    check_scripts(&[
        "mknod c c 1 3; mknod b b 259 70000; mkfifo p; ln -s /no/where l; ln l l2; ln p p2",
        "chmod 600 c b; rm l; ln -s /no/where l; ln l l3",
        "rm c; mkfifo c; rm b; mkdir b; ln c b/c",
    ]);
}

#[test]
fn a_socket_stays_where_a_process_left_it() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "one", |root| {
        rustix::fs::mknodat(
            CWD,
            root.join("s"),
            FileType::Socket,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    });
    sandbox.show("one", |root| {
        assert!(
            fs::symlink_metadata(root.join("s"))
                .unwrap()
                .file_type()
                .is_socket()
        );
    });
}

#[test]
fn capabilities_set_uid_bits_and_access_lists_survive() {
    let acl: Vec<u8> = [
        &2u32.to_le_bytes()[..],
        // user::rw-, user:77:r--, group::r--, mask::r--, other::---
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 77, 0, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for method in [Method::Kernel, Method::Directories] {
        // Memory has no access lists on every kernel, ext4 has.
        let Some(sandbox) = Sandbox::on_disk(stacking(method)) else {
            return;
        };
        sandbox.step("", "one", |root| {
            let set = |name: &str, xattr: &str, value: &[u8]| {
                let path = root.join(name);
                if !path.exists() {
                    fs::write(&path, "x").unwrap();
                }
                rustix::fs::lsetxattr(&path, xattr, value, XattrFlags::empty()).unwrap();
            };
            set("ping", "security.capability", &capability);
            set("list", "system.posix_acl_access", &acl);
            set("mine", "user.note", &[b'n'; 3000]);
            set("mine", "trusted.note", b"");
            fs::write(root.join("su"), "su").unwrap();
            rustix::fs::chmod(root.join("su"), 0o6755.into()).unwrap();
        });
        sandbox.step("one", "two", |root| {
            shell(root, "chmod o-r su; mv ping pong; mv mine dein")
        });
        sandbox.show("two", |root| {
            let xattrs = |name: &str| read_xattrs(&root.join(name)).unwrap();
            assert_eq!(
                xattrs("pong"),
                [(b"security.capability".to_vec(), capability.to_vec())]
            );
            assert_eq!(
                xattrs("list"),
                [(b"system.posix_acl_access".to_vec(), acl.clone())]
            );
            let mut mine = xattrs("dein");
            mine.sort();
            assert_eq!(mine[0], (b"trusted.note".to_vec(), vec![]));
            assert_eq!(mine[1], (b"user.note".to_vec(), vec![b'n'; 3000]));
            assert_eq!(
                fs::metadata(root.join("su")).unwrap().mode() & 0o7777,
                0o6751
            );
        });
    }
}

#[test]
fn a_metadata_only_copy_moves_no_bytes() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "one", |root| {
        fs::write(root.join("big"), vec![7; 1 << 20]).unwrap()
    });
    sandbox.step("one", "two", |root| {
        fs::write(root.join("other"), "x").unwrap()
    });
    let key = sandbox.write("two", "three", |root| {
        shell(root, "chmod 600 big; chown 1:1 big")
    });
    let blocks: u64 = {
        let directory = fs::read_dir(sandbox.root().join("snapshots")).unwrap();
        let directory = directory.map(|entry| entry.unwrap().path()).next().unwrap();
        fs::metadata(directory.join("upper/big")).unwrap().blocks()
    };
    assert_eq!(blocks, 0, "the stack is mounted with metacopy");
    sandbox
        .manager
        .commit("three", &key, Labels::new())
        .unwrap();
    sandbox.show("three", |root| {
        let found = fs::metadata(root.join("big")).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid()), (0o600, 1));
        assert_eq!(fs::read(root.join("big")).unwrap(), vec![7; 1 << 20]);
    });
}

#[test]
fn marks_in_a_directory_that_no_overlay_wrote_mean_nothing() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let tree = sandbox.step("", "one", |root| {
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("dir/file"), "secret").unwrap();
        fs::write(root.join("forged"), "mine").unwrap();
        let set = |name: &str, xattr: &str, value: &[u8]| {
            rustix::fs::lsetxattr(root.join(name), xattr, value, XattrFlags::empty()).unwrap();
        };
        set("forged", "trusted.overlay.metacopy", b"");
        set("forged", "trusted.overlay.redirect", b"/dir/file");
        set("dir", "trusted.overlay.redirect", b"/elsewhere");
        set("dir", "trusted.overlay.opaque", b"y");
    });
    let model = read_model(tree, sandbox.store()).unwrap();
    assert_eq!(model.len(), 4);
    sandbox.show("one", |root| {
        assert_eq!(fs::read_to_string(root.join("forged")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(root.join("dir/file")).unwrap(), "secret");
    });
}

#[test]
fn the_name_that_redirects_go_through_is_refused() {
    for options in [Options::new(Method::Kernel), stacking(Method::Kernel)] {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        let nonce = sandbox.store().objects().nonce().to_owned();
        sandbox.step("", "one", |root| fs::write(root.join("file"), "x").unwrap());
        for parent in ["", "one"] {
            for script in ["mkdir -p $N/ab", "echo x > $N", "ln -s . $N"] {
                let script = script.replace("$N", &nonce);
                let result = sandbox.try_step(parent, "bad", |root| shell(root, &script));
                let Err(Error::Capture { path, .. }) = result else {
                    panic!("{script}: {result:?}")
                };
                assert_eq!(path, format!("/{nonce}"));
                sandbox.manager.remove("bad-active").unwrap();
            }
        }
        // Deeper it is a name like any other.
        sandbox.step("one", "good", |root| {
            fs::create_dir_all(root.join("d").join(&nonce)).unwrap()
        });
    }
}

#[test]
fn a_capture_that_fails_leaves_the_upper_as_it_was() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let nonce = sandbox.store().objects().nonce().to_owned();
    let key = sandbox.write("", "one", |root| {
        shell(
            root,
            "mkdir d; for i in $(seq 100); do echo $i > d/$i; done; chmod 4711 d/7",
        );
        fs::create_dir_all(root.join("deep/".repeat(600))).unwrap();
    });
    let upper = sandbox.root().join("snapshots/1/upper");
    let before = list(&upper);
    let error = sandbox
        .manager
        .commit("one", &key, Labels::new())
        .unwrap_err();
    assert!(error.to_string().contains("deeper than 512"), "{error}");
    assert_same("after a path too deep", &list(&upper), &before);
    fs::remove_dir_all(upper.join("deep")).unwrap();
    fs::create_dir(upper.join(&nonce)).unwrap();
    sandbox
        .manager
        .commit("one", &key, Labels::new())
        .unwrap_err();
    fs::remove_dir(upper.join(&nonce)).unwrap();
    sandbox.manager.commit("one", &key, Labels::new()).unwrap();
    assert_eq!(sandbox.manager.tree("one").unwrap().inodes, 102);
}

#[test]
fn equal_files_are_stored_once() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "one", |root| {
        shell(root, "echo same > a; echo same > b; ln a c")
    });
    let tree = sandbox.step("one", "two", |root| {
        shell(root, "mkdir d; echo same > d/a; touch a")
    });
    let model = read_model(tree, sandbox.store()).unwrap();
    let blobs: std::collections::BTreeSet<_> = model
        .values()
        .filter_map(|found| match found {
            Found::Leaf(store::Leaf {
                content: Content::File { blob, .. },
                ..
            }) => Some(*blob),
            _ => None,
        })
        .collect();
    assert_eq!(blobs.len(), 1);
    let rows = sandbox.store().rows().scan(store::Table::Blob, b"").count();
    assert_eq!(rows, 1);
}
