//! Base images whose files try to lead the builder itself out: it reads /etc/passwd of an image,
//! mounts on /proc, /sys, /dev, and makes /etc/hosts and /etc/resolv.conf.

use std::fs;

use support::forged_image::{ForgedImage, TarEntry, tar_archive};
use support::workspace::Varve;

use super::{Outside, SECRET};

const BUSYBOX: &str = "/bin/busybox";

/// The image `evil`: busybox with these links.
fn evil_base(varve: &Varve, links: &[(&str, &str)]) {
    let busybox = fs::read(BUSYBOX).unwrap();
    let mut shell = tar_archive(&[TarEntry::file("bin/sh", &busybox)]);
    // The mode of the one entry is in the header's second field; its checksum follows suit.
    let header = tar::Header::from_byte_slice(&shell[..512]);
    let mut header = header.clone();
    header.set_mode(0o755);
    header.set_cksum();
    shell[..512].copy_from_slice(header.as_bytes());
    shell.truncate(shell.len() - 1024);
    let links: Vec<_> = links
        .iter()
        .map(|(name, to)| TarEntry::symlink(name, to))
        .collect();
    shell.extend(tar_archive(&links));
    let layout = varve.path("evil");
    if layout.exists() {
        fs::remove_dir_all(&layout).unwrap();
    }
    ForgedImage::of(shell).write(&layout);
    varve.varve(["import", "evil", "evil"]).succeeded();
}

#[test]
fn a_user_is_looked_up_in_the_image_and_not_on_the_host() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    varve.write("outside-passwd", "intruder:x:0:0::/:/bin/sh\n");
    let absolute = varve.path("outside-passwd").to_str().unwrap().to_owned();
    let dots = format!("{}{}", "../".repeat(20), absolute.trim_start_matches('/'));
    for target in [absolute, dots] {
        evil_base(&varve, &[("etc/passwd", &target), ("etc/group", &target)]);
        let words = "unable to find user intruder";
        varve.dockerfile("FROM evil\nUSER intruder\nRUN [\"/bin/sh\", \"-c\", \"true\"]\n");
        varve.build(["-o", "out"]).refused_with(1, &[words]);
        // Who is not known is root here, with a warning.
        varve.dockerfile("FROM evil\nCOPY --chown=intruder Dockerfile /\n");
        let built = varve.build(["-o", "out", "--no-cache"]).success();
        assert!(built.stderr.contains(words), "{built}");
    }
    outside.is_untouched();
}

#[test]
fn mount_points_that_are_links_lead_nowhere_outside() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let (name, dots) = (outside.name(), outside.by_dots());
    for point in ["proc", "sys", "dev", "etc", "etc/hosts", "etc/resolv.conf"] {
        for target in [
            name.clone(),
            dots.clone(),
            format!("{name}/new"),
            format!("{dots}/new"),
        ] {
            evil_base(&varve, &[(point, &target)]);
            varve.dockerfile(&format!(
                "FROM evil\nRUN [\"/bin/sh\", \"-c\", \"echo x > {name}/evil; \
                 /bin/sh -c 'exec busybox cat {name}/secret' ; true\"]\n"
            ));
            let outcome = varve.build(["-t", "app"]);
            assert!(
                [0, 1].contains(&outcome.code),
                "{point} -> {target}: {outcome}"
            );
            assert!(
                !outcome.stderr.contains(SECRET),
                "{point} -> {target}: {outcome}"
            );
            outside.is_untouched();
        }
    }
}

/// The command line for `varve run` goes the same way.
#[test]
fn a_process_that_runs_in_an_evil_image_sees_only_the_image() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    evil_base(&varve, &[("way", &outside.name())]);
    let script = "while read line; do echo $line; done < /way/secret; echo x > /way/evil";
    let ran = varve.varve(["run", "--entrypoint", "/bin/sh", "evil", "-c", script]);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(!ran.stdout.contains(SECRET), "{ran}");
    outside.is_untouched();
}
