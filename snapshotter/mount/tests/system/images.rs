//! EROFS images, from the file and over a loop device.

use std::os::unix::fs::MetadataExt;

use mount::{ErofsBacking, mount_erofs, mount_erofs_with, mounts_below};

use crate::sandbox::{HIGH, LOW, Sandbox, list};

#[test]
fn an_image_is_mounted_from_its_file_and_over_a_loop_device() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let image = sandbox.write("low.erofs", LOW);
    for backing in [ErofsBacking::File, ErofsBacking::LoopDevice] {
        let target = sandbox.make_directory("target");
        let guard = mount_erofs_with(&image, &target, backing).expect("mount");
        let stat = std::fs::metadata(target.join("shared/low")).expect("stat");
        assert_eq!(
            (stat.size(), stat.mode(), stat.mtime()),
            (4, 0o100_640, 1_700_000_000)
        );
        let entries = mounts_below(&target).expect("the mount table");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].kind, "erofs");
        assert!(entries[0].options.contains("ro"));
        let source = entries[0].source.to_string_lossy().into_owned();
        match backing {
            ErofsBacking::File => assert_eq!(source, image.to_string_lossy()),
            ErofsBacking::LoopDevice => assert!(source.starts_with("/dev/loop"), "{source}"),
        }
        guard.unmount().expect("unmount");
        if let Some(device) = source.strip_prefix("/dev/") {
            let backing_file = format!("/sys/block/{device}/loop/backing_file");
            let name = std::fs::read_to_string(backing_file).unwrap_or_default();
            assert_ne!(
                name.trim(),
                image.to_string_lossy(),
                "the device is cleared"
            );
        }
    }
    assert_eq!(sandbox.mount_count(), 0);
}

#[test]
fn one_image_can_be_mounted_twice_and_replaced_while_mounted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let image = sandbox.write("image.erofs", LOW);
    let (one, two) = (sandbox.make_directory("one"), sandbox.make_directory("two"));
    let _one = mount_erofs(&image, &one).expect("mount");
    std::fs::remove_file(&image).expect("the file is in use, its name is not");
    sandbox.write("image.erofs", HIGH);
    let _two = mount_erofs(&image, &two).expect("mount the new image");
    assert_eq!(list(&one.join("shared")), ["low"]);
    assert_eq!(list(&two.join("shared")), ["high"]);
}

#[test]
fn an_image_with_a_path_longer_than_an_option_is_mounted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let long = format!("{0}/{0}/{0}/low.erofs", "d".repeat(120));
    let image = sandbox.write(&long, LOW);
    let target = sandbox.make_directory("target");
    for backing in [ErofsBacking::File, ErofsBacking::LoopDevice] {
        let guard = mount_erofs_with(&image, &target, backing).expect("mount");
        assert_eq!(list(&target.join("shared")), ["low"]);
        guard.unmount().expect("unmount");
    }
}

#[test]
fn a_missing_or_damaged_image_is_an_error_that_names_it() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let target = sandbox.make_directory("target");
    let error = mount_erofs(&sandbox.path("missing"), &target).expect_err("no such file");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    let damaged = sandbox.write("damaged", &[0; 8192]);
    for backing in [ErofsBacking::File, ErofsBacking::LoopDevice] {
        let error = mount_erofs_with(&damaged, &target, backing).expect_err("zeros");
        assert!(error.to_string().contains("erofs at"), "{error}");
    }
    assert_eq!(sandbox.mount_count(), 0);
}
