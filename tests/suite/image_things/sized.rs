//! How large images are said to be.

use support::registry::Registry;
use support::workspace::Varve;

/// Bytes of the files that [`image`] adds to the base.
const ADDED: u64 = 300_000;

/// An image with a file of 40 names, one that its last layer takes away again, and one that it
/// replaces: all but the names take space.
fn image(varve: &Varve, name: &str) -> u64 {
    varve.dockerfile(
        "FROM busybox AS base\n\
         FROM base\n\
         RUN mkdir /d && head -c 100000 /dev/urandom > /d/f && head -c 50000 /dev/urandom > /gone \
         && for i in $(seq 40); do ln /d/f /d/$i; done\n\
         RUN rm /gone; head -c 150000 /dev/zero > /new\n",
    );
    varve.build(["-t", name]).succeeded();
    varve.build(["-t", "base", "--target", "base"]).succeeded();
    size(varve, "base")
}

fn size(varve: &Varve, name: &str) -> u64 {
    let shown = varve.varve(["inspect", "-f", "{{.Size}}", name]).success();
    let listed = varve.varve(["images", "--format", "{{.Bytes}}", name]);
    assert_eq!(listed.success().stdout, shown.stdout, "images and inspect");
    let layers = varve.varve(["history", "-H=false", "--format", "{{.Size}}", name]);
    let layers: Vec<u64> = layers
        .success()
        .stdout
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let size = shown.stdout.trim().parse().unwrap();
    assert_eq!(layers.iter().sum::<u64>(), size, "history and inspect");
    size
}

#[test]
fn a_file_of_many_names_counts_once_and_one_that_was_taken_away_too() {
    let varve = Varve::new();
    let base = image(&varve, "app");
    assert_eq!(size(&varve, "app") - base, ADDED);
}

#[test]
fn the_size_of_an_image_is_the_same_wherever_it_comes_from_and_before_its_first_use() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = registry.reference("team/app");
    image(&varve, &name);
    let expected = size(&varve, &name);
    varve.varve(["push", &name]).succeeded();
    let archive = varve.path("app.tar");
    let plain = varve.path("plain.tar");
    let archive = archive.to_str().unwrap();
    varve.varve(["save", "-o", archive, &name]).succeeded();
    let output = format!(
        "type=docker,name={name},compression=uncompressed,dest={}",
        plain.display()
    );
    varve.build(["-o", &output]).succeeded();
    let other = Varve::new();
    for (what, words) in [
        ("loaded", ["load", "-i", archive]),
        ("not compressed", ["load", "-i", plain.to_str().unwrap()]),
        ("imported", ["import", archive, &name]),
        ("pulled", ["pull", "-q", &name]),
    ] {
        other.varve(words).succeeded();
        assert_eq!(size(&other, &name), expected, "{what}, not used yet");
        other.varve(["run", &name, "true"]).succeeded();
        assert_eq!(size(&other, &name), expected, "{what}, used");
        other.varve(["rmi", &name]).succeeded();
        other.varve(["prune", "--all", "--force"]).succeeded();
    }
}
