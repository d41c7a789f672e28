//! Pulls that are killed, cancelled, or cut off.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::forged_image::{TarEntry, tar_archive};
use support::layered_image;
use support::registry::Registry;
use support::relay::Relay;
use support::small_disk::SmallDisk;
use support::workspace::{Running, Varve};

/// What passes of an image of several megabytes before a test stops the rest.
pub(super) const BEGINNING: u64 = 1 << 20;

/// Files of noise in the larger image, each in a layer of its own.
const NOISES: u8 = 3;

/// A file of noise, so that it stays as large as it is.
pub(super) fn noise(number: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32 + u32::from(number);
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    bytes.take(2 << 20).collect()
}

/// Puts a larger image into a registry: `large`.
pub(super) fn put_large(varve: &Varve, registry: &Registry) {
    let mut layers = layered_image::layers(&varve.base());
    for number in 0..NOISES {
        let (name, noise) = (format!("noise-{number}"), noise(number));
        layers.push(tar_archive(&[TarEntry::file(&name, &noise)]));
    }
    let container = serde_json::json!({ "Env": ["PATH=/bin"] });
    layered_image::write(&varve.path("layout"), &layers, &container);
    registry.push(&varve.path("layout"), "large");
}

/// What `cat /noise-* | sha256sum` prints in it.
pub(super) fn large_digest() -> String {
    let all: Vec<u8> = (0..NOISES).flat_map(noise).collect();
    let digest = support::forged_image::descriptor("", &all)["digest"].clone();
    let digest = digest.as_str().expect("a digest").replace("sha256:", "");
    format!("{digest}  -\n")
}

/// A registry with a larger image behind a relay; its reference there.
pub(super) fn behind_relay(varve: &Varve) -> (Registry, Relay, String) {
    let registry = Registry::start(&varve.path("registry"));
    put_large(varve, &registry);
    let relay = Relay::start(registry.address());
    let reference = format!("{}/large:latest", relay.address());
    (registry, relay, reference)
}

#[track_caller]
fn is_whole(varve: &Varve) {
    let checked = varve.varve(["fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
    varve.build(["-t", "child"]).succeeded();
    let sizes = varve.shell("child", "cat /noise-* | wc -c");
    assert_eq!(sizes.trim(), (3_u64 * (2 << 20)).to_string());
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn a_build_killed_while_it_pulls_has_stored_nothing_and_succeeds_the_next_time() {
    let varve = Varve::new();
    let (_registry, relay, reference) = behind_relay(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN true\n"));
    for part in 0..4 {
        relay.hold_after(BEGINNING * (1 + part));
        let running = Running::start(&mut varve.build_command(["-t", "child"]));
        relay.wait_until_held();
        send(&running, Signal::KILL);
        assert_eq!(running.wait().code, 128 + 9);
        relay.release();
        let listed = varve.varve(["images", "--format", "json"]).success();
        assert!(!listed.stdout.contains("large"), "{listed}");
        varve.varve(["fsck"]).succeeded();
    }
    varve.varve(["prune"]).succeeded();
    is_whole(&varve);
}

#[test]
fn ctrl_c_ends_a_pull_at_once() {
    let varve = Varve::new();
    let (_registry, relay, reference) = behind_relay(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN true\n"));
    // While a manifest is awaited, and while layers are.
    for bytes in [0, 2 * BEGINNING] {
        relay.hold_after(bytes);
        for arguments in [&["pull", &reference][..], &["build", "context"]] {
            let running = Running::start(&mut varve.command(arguments));
            relay.wait_until_held();
            std::thread::sleep(Duration::from_millis(300));
            let began = Instant::now();
            send(&running, Signal::INT);
            let ended = running.wait();
            assert_eq!(ended.code, 128 + 2, "{ended}");
            assert!(began.elapsed() < Duration::from_secs(5), "{ended}");
        }
        relay.release();
    }
    is_whole(&varve);
}

#[test]
fn a_layer_that_is_cut_off_or_changed_on_its_way_is_asked_for_again_and_it_is_told() {
    let varve = Varve::new();
    let (_registry, relay, reference) = behind_relay(&varve);
    varve.dockerfile(&format!("FROM {reference}\nRUN true\n"));
    relay.cut_after(2 * BEGINNING);
    let built = varve.build(["-t", "child"]).success();
    assert!(built.stderr.contains("trying again in"), "{built}");
    is_whole(&varve);
    varve.varve(["rmi", &reference, "child"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    relay.corrupt_after(2 * BEGINNING);
    let built = varve.build(["-t", "child"]).success();
    assert!(built.stderr.contains("once more"), "{built}");
    is_whole(&varve);
}

#[test]
fn an_image_that_does_not_fit_on_the_disk_is_refused_and_leaves_nothing() {
    let varve = Varve::new();
    let (_registry, _relay, reference) = behind_relay(&varve);
    let disk = SmallDisk::mount(&varve.path("disk"), "size=40m");
    varve.dockerfile(&format!("FROM {reference}\nRUN true\n"));
    varve.build(["--root", "disk/root"]).succeeded();
    varve
        .varve(["--root", "disk/root", "rmi", &reference])
        .succeeded();
    varve
        .varve(["--root", "disk/root", "prune", "--all", "--force"])
        .succeeded();
    let filler = disk.fill(5 << 20);
    let free = disk.free_bytes();
    for arguments in [&["build", "context"][..], &["pull", &reference]] {
        let refused = varve.varve([&["--root", "disk/root"], arguments].concat());
        let words = [&*reference, "No space left on device", "varve prune"];
        refused.refused_with(1, &words);
        let listed = varve
            .varve(["--root", "disk/root", "images", "-q"])
            .success();
        assert_eq!(listed.stdout, "", "{listed}");
        // The database may have written some lines more.
        let left = disk.free_bytes();
        assert!(
            left + (1 << 20) > free,
            "{left} of {free} bytes are free again"
        );
    }
    fs::remove_file(filler).unwrap();
    varve.varve(["--root", "disk/root", "fsck"]).succeeded();
    varve.build(["--root", "disk/root"]).succeeded();
}

#[track_caller]
fn send(running: &Running, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(id, signal).expect("a child can be signalled");
}
