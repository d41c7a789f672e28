//! Lists of mounts, as containerd and the executor get them.

use std::os::unix::fs::symlink;

use mount::{Kind, Lower, Mount, OverlayOptions, apply, mounts_below};

use crate::sandbox::{LOW, Sandbox, list, read};

#[test]
fn a_bind_mount_is_writable_or_not_as_it_says() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let source = sandbox.make_directory("source");
    let target = sandbox.make_directory("target");
    let guard = apply(&[Mount::bind(&source, false)], &target).expect("bind");
    std::fs::write(target.join("file"), "content").expect("writable");
    drop(guard);
    assert_eq!(read(source.join("file")), "content");
    let _guard = apply(&[Mount::bind(&source, true)], &target).expect("bind");
    let error = std::fs::write(target.join("file"), "other").expect_err("read-only");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let file = sandbox.write("file", b"");
    let _guard = apply(&[Mount::bind(source.join("file"), true)], &file).expect("bind a file");
    assert_eq!(read(&file), "content");
}

#[test]
fn a_rendered_overlay_is_mounted_as_it_was_described() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let image = sandbox.write("low.erofs", LOW);
    let low = sandbox.make_directory("low");
    let _low = apply(&[Mount::erofs(image)], &low).expect("mount an image");
    sandbox.write("odd,:\\/odd", b"odd");
    let options = OverlayOptions {
        lowers: vec![
            Lower::Directory(sandbox.path("odd,:\\")),
            Lower::Metadata(low),
        ],
        data_only: vec![sandbox.make_directory("empty"), sandbox.objects()],
        upper: sandbox.upper("up,per"),
        volatile: true,
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let mount = options.to_mount().expect("valid");
    let guard = apply(std::slice::from_ref(&mount), &merged).expect("mount");
    assert_eq!(list(&merged), ["odd", "shared"]);
    assert_eq!(read(merged.join("shared/low")), "low!");
    guard.unmount().expect("unmount");

    // The same options joined with commas, as containerd gives them to mount(2).
    std::fs::remove_dir_all(sandbox.path("up,per-work")).expect("remove");
    sandbox.upper("up,per");
    let options = std::ffi::CString::new(mount.options.join(",")).expect("no zero byte");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", &merged, "overlay", flags, options.as_c_str())
        .expect("mount(2)");
    assert_eq!(read(merged.join("shared/low")), "low!");
    assert_eq!(read(merged.join("odd")), "odd");
    mount::unmount(&merged).expect("unmount");
}

#[test]
fn targets_below_are_resolved_inside_the_root_file_system() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let root = sandbox.make_directory("root");
    let inside = sandbox.make_directory("root/inside");
    let outside = sandbox.make_directory("outside");
    symlink(&outside, root.join("absolute")).expect("symlink");
    symlink("/inside", root.join("rooted")).expect("symlink");
    let tmpfs = |target| Mount::tmpfs(Some(65_536), 0o711).at(target);
    let guard = apply(&[tmpfs("rooted")], &root).expect("the link stays inside");
    assert_eq!(guard.targets(), std::slice::from_ref(&inside));
    drop(guard);
    let guard = apply(&[tmpfs("../../inside")], &root).expect("dots stay inside");
    assert_eq!(guard.targets(), [inside]);
    drop(guard);
    let error = apply(&[tmpfs("absolute")], &root).expect_err("its target is not inside");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    assert_eq!(sandbox.mount_count(), 0);
}

#[test]
fn a_failing_list_unmounts_what_it_had_mounted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let source = sandbox.make_directory("source/sub");
    let target = sandbox.make_directory("target");
    let mounts = [
        Mount::bind(source.parent().expect("a parent"), false),
        Mount::tmpfs(None, 0o755).at("sub"),
        Mount::bind(sandbox.path("missing"), false).at("sub"),
    ];
    let error = apply(&mounts, &target)
        .expect_err("a missing source")
        .to_string();
    assert!(error.contains("missing"), "{error}");
    assert_eq!(sandbox.mount_count(), 0);
    let guard = apply(&mounts[..2], &target).expect("mount");
    assert_eq!(guard.targets(), [target.clone(), target.join("sub")]);
    assert_eq!(sandbox.mount_count(), 2);
    guard.unmount().expect("in reverse order");
    assert_eq!(sandbox.mount_count(), 0);
}

#[test]
fn options_of_a_tmpfs_reach_the_kernel_and_unknown_ones_are_named() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let target = sandbox.make_directory("target");
    let guard = apply(&[Mount::tmpfs(Some(65_536), 0o1777)], &target).expect("mount");
    let entry = &mounts_below(&target).expect("the mount table")[0];
    assert!(
        entry.super_options.contains("size=64k"),
        "{}",
        entry.super_options
    );
    assert!(entry.options.contains("nosuid") && entry.options.contains("nodev"));
    drop(guard);
    let options = vec!["bogus=1".to_owned()];
    let mount = Mount {
        kind: Kind::Tmpfs,
        source: "tmpfs".into(),
        target: None,
        options,
    };
    let error = apply(&[mount], &target).expect_err("unknown").to_string();
    assert!(
        error.contains("bogus") && error.contains("kernel:"),
        "{error}"
    );
}
