//! Overlays in all shapes that storage uses.

use std::os::unix::fs::PermissionsExt;

use mount::{Lower, MountGuard, OverlayOptions, mount_erofs, mount_overlay, renew_work_directory};

use crate::sandbox::{HIGH, LOW, Sandbox, list, read};

fn image(sandbox: &Sandbox, name: &str, image: &[u8]) -> (Lower, MountGuard) {
    let file = sandbox.write(&format!("{name}.erofs"), image);
    let target = sandbox.make_directory(name);
    let guard = mount_erofs(&file, &target).expect("mount an image");
    (Lower::Metadata(target), guard)
}

#[test]
fn plain_directories_merge_and_writes_go_to_the_upper() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let options = OverlayOptions {
        lowers: vec![sandbox.lower("b"), sandbox.lower("a")],
        upper: sandbox.upper("plain"),
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let guard = mount_overlay(&options, &merged).expect("mount");
    assert_eq!(list(&merged), ["a", "b"]);
    std::fs::write(merged.join("a"), "changed").expect("write");
    std::fs::remove_file(merged.join("b")).expect("remove");
    guard.unmount().expect("unmount");
    assert_eq!(read(sandbox.path("a/a")), "a");
    assert_eq!(read(sandbox.path("plain-upper/a")), "changed");
    assert!(
        std::fs::symlink_metadata(sandbox.path("plain-upper/b")).is_ok(),
        "a whiteout"
    );
}

#[test]
fn a_flat_image_under_plain_directories_needs_no_metacopy_and_keeps_uppers_plain() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let (low, _low) = image(&sandbox, "low", LOW);
    let options = OverlayOptions {
        lowers: vec![sandbox.lower("plain"), low],
        data_only: vec![sandbox.objects()],
        upper: sandbox.upper("flat"),
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let guard = mount_overlay(&options, &merged).expect("mount");
    assert_eq!(read(merged.join("shared/low")), "low!");
    assert_eq!(read(merged.join("plain")), "plain");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(merged.join("shared/low"), mode).expect("chmod");
    guard.unmount().expect("unmount");
    assert_eq!(
        read(sandbox.path("flat-upper/shared/low")),
        "low!",
        "contents were copied up"
    );
}

#[test]
fn a_stack_of_images_reads_every_layer_and_copies_up_metadata_only() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let (low, _low) = image(&sandbox, "low", LOW);
    let (high, _high) = image(&sandbox, "high", HIGH);
    let lazy = sandbox.make_directory("lazy");
    let options = OverlayOptions {
        lowers: vec![high, low],
        data_only: vec![sandbox.objects(), lazy],
        upper: sandbox.upper("stack"),
        metacopy: true,
        volatile: true,
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let guard = mount_overlay(&options, &merged).expect("mount");
    assert_eq!(read(merged.join("shared/low")), "low!");
    assert_eq!(read(merged.join("shared/high")), "high!");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(merged.join("shared/low"), mode).expect("chmod");
    assert_eq!(read(merged.join("shared/low")), "low!");
    guard.unmount().expect("unmount");
    let copied = std::fs::read(sandbox.path("stack-upper/shared/low")).expect("read");
    assert_eq!(copied, [0; 4], "the upper file has no contents");
}

#[test]
fn a_body_missing_in_the_first_data_only_directory_is_found_in_the_second() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let (low, _low) = image(&sandbox, "low", LOW);
    let options = OverlayOptions {
        lowers: vec![low],
        data_only: vec![sandbox.make_directory("empty"), sandbox.objects()],
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let _guard = mount_overlay(&options, &merged).expect("mount");
    assert_eq!(read(merged.join("shared/low")), "low!");
    std::fs::write(merged.join("new"), "").expect_err("there is no upper directory");
}

#[test]
fn a_volatile_upper_mounts_again_only_with_a_renewed_work_directory() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let upper = sandbox.upper("volatile");
    let work = sandbox.path("volatile-work");
    let options = OverlayOptions {
        lowers: vec![sandbox.lower("a")],
        upper,
        volatile: true,
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let guard = mount_overlay(&options, &merged).expect("mount");
    std::fs::write(merged.join("new"), "new").expect("write");
    guard.unmount().expect("unmount");
    let error = mount_overlay(&options, &merged).expect_err("the work directory is marked");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    renew_work_directory(&work).expect("renew");
    let _guard = mount_overlay(&options, &merged).expect("mount again");
    assert_eq!(read(merged.join("new")), "new");
}

#[test]
fn paths_of_any_length_with_any_characters_can_be_layers() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let names = [
        "comma,comma",
        "colon:colon",
        "back\\slash",
        "space and \"quote\"",
    ];
    let long = "x".repeat(200);
    for name in names.into_iter().chain([format!("{long}/{long}").as_str()]) {
        sandbox.write(&format!("{name}/lower/file"), b"lower");
        sandbox.write(&format!("{name}/data/x"), b"");
        let options = OverlayOptions {
            lowers: vec![Lower::Directory(sandbox.path(name).join("lower"))],
            data_only: vec![sandbox.path(name).join("data")],
            upper: sandbox.upper(&format!("{name}/")),
            ..OverlayOptions::default()
        };
        let merged = sandbox.make_directory("merged");
        let guard = mount_overlay(&options, &merged).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read(merged.join("file")), "lower", "{name}");
        std::fs::write(merged.join("new"), name).expect("write");
        guard.unmount().expect("unmount");
        assert_eq!(read(sandbox.path(name).join("-upper/new")), name);
    }
}

#[test]
fn two_hundred_lowers_can_be_mounted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let lowers = (0..200)
        .map(|number| sandbox.lower(&format!("layer-{number:03}")))
        .collect();
    let options = OverlayOptions {
        lowers,
        ..OverlayOptions::default()
    };
    let merged = sandbox.make_directory("merged");
    let _guard = mount_overlay(&options, &merged).expect("mount");
    assert_eq!(list(&merged).len(), 200);
}

#[test]
fn a_missing_layer_is_named() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let merged = sandbox.make_directory("merged");
    let missing = Lower::Directory(sandbox.path("missing"));
    let lowers = vec![sandbox.lower("a"), missing];
    let options = OverlayOptions {
        lowers,
        ..OverlayOptions::default()
    };
    let error = mount_overlay(&options, &merged)
        .expect_err("a missing layer")
        .to_string();
    assert!(
        error.contains("/missing") && error.contains("No such file"),
        "{error}"
    );
}
