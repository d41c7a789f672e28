//! The self-test, on this host and on a directory that cannot do much.

use mount::{Abilities, Ability, ErofsAbility, ProbeImage, apply};

use crate::sandbox::{HIGH, LOW, NONCE, Sandbox, list};

fn probe(sandbox: &Sandbox, low: &[u8], low_object: &str) -> Abilities {
    let (low_redirect, high_redirect) = (
        format!("{NONCE}/ab/{low_object}"),
        format!("{NONCE}/ab/high"),
    );
    let images = [
        ProbeImage {
            image: low,
            file: "shared/low",
            redirect: &low_redirect,
            content: b"low!",
        },
        ProbeImage {
            image: HIGH,
            file: "shared/high",
            redirect: &high_redirect,
            content: b"high!",
        },
    ];
    let scratch = sandbox.make_directory("scratch");
    let abilities = Abilities::probe(&scratch, &images).expect("a directory to write in");
    let left_behind = list(&scratch)
        .into_iter()
        .find(|name| name.starts_with("probe"));
    assert_eq!(left_behind, None);
    abilities
}

#[test]
fn a_kernel_since_6_16_can_do_everything_that_the_kernel_path_needs() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let abilities = probe(&sandbox, LOW, "low");
    assert!(
        abilities.kernel.is_at_least((6, 16)),
        "these tests are written for Linux 6.16"
    );
    assert_eq!(abilities.erofs, ErofsAbility::FileBacked);
    let needed = [
        &abilities.overlay,
        &abilities.data_only_lowers,
        &abilities.flat_without_metacopy,
        &abilities.metacopy_stack,
        &abilities.volatile_upper,
        &abilities.trusted_xattrs,
        &abilities.user_xattrs,
        &abilities.unnamed_files,
    ];
    for ability in needed {
        assert_eq!(*ability, Ability::Yes, "{:#?}", abilities.list());
    }
    assert_eq!(sandbox.mount_count(), 0);
}

#[test]
fn each_missing_ability_has_its_reason() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let abilities = probe(&sandbox, &[0; 4096], "low");
    assert!(
        matches!(abilities.erofs, ErofsAbility::None { .. }),
        "{:?}",
        abilities.erofs
    );
    let reason = abilities.metacopy_stack.to_string();
    assert!(
        reason.contains("EROFS images cannot be mounted"),
        "{reason}"
    );
    assert_eq!(
        abilities.overlay,
        Ability::Yes,
        "overlays of directories are no images"
    );

    let abilities = probe(&sandbox, LOW, "not-low");
    let reason = abilities.data_only_lowers.to_string();
    assert!(reason.contains("shared/low"), "{reason}");
    assert!(abilities.erofs.is_available());
    assert!(!abilities.metacopy_stack.is_yes());
}

#[test]
fn an_overlay_cannot_hold_upper_directories_and_says_so() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let options = mount::OverlayOptions {
        lowers: vec![sandbox.lower("a")],
        upper: sandbox.upper("outer"),
        ..mount::OverlayOptions::default()
    };
    let scratch = sandbox.make_directory("scratch");
    let _guard = apply(&[options.to_mount().expect("valid")], &scratch).expect("mount");
    let abilities = probe(&sandbox, LOW, "low");
    for ability in [
        &abilities.overlay,
        &abilities.metacopy_stack,
        &abilities.volatile_upper,
    ] {
        let Ability::No { reason } = ability else {
            panic!("{:#?}", abilities.list())
        };
        assert!(reason.contains("upper"), "{reason}");
    }
    assert!(matches!(abilities.reflinks, Ability::No { .. }));
}
