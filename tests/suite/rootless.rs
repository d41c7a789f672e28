//! An ordinary user builds and runs as root does, and gets the same images.

mod daily;
mod failures;
mod ids;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::user::{Hurdle, User};
use support::workspace::Varve;

/// A process runs by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

/// Everything that has owners, modes, links, attributes and deletions in it.
const MANY_OWNERS: &str = "\
FROM busybox
COPY --chown=7:8 file /copied
RUN id -u && touch x && chown 1:1 x && chown 65534:65534 /etc/group
RUN mkdir -m 2775 d && chown 70:80 d && touch d/f && ln d/f hard && ln -s d/f soft && \
    chmod 4755 d/f && mkfifo -m 640 d/p && chown -h 5:6 soft
RUN echo 'bob:x:1234:1234::/tmp:/bin/sh' >> /etc/passwd && echo 'bob:x:1234:' >> /etc/group
RUN rm -rf d && mkdir d && touch d/g && mv /tmp /other && mkdir -m 1777 /tmp
RUN mkdir -p a/b && touch a/b/c && mv a moved && chown -R 3:4 /other /bin
RUN mv moved again && rm again/b/c
USER bob
WORKDIR /home/bob/work
RUN id -un && echo hello > file && test $(stat -c %u file) = 1234
";

fn write_context(varve: &Varve, dockerfile: &str) {
    varve.dockerfile(dockerfile);
    varve.write("context/file", "content\n");
}

const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1700000000");

#[test]
fn a_users_image_is_bit_for_bit_that_of_root() {
    let varve = Varve::new();
    write_context(&varve, MANY_OWNERS);
    let user = User::new(&varve, 1);
    let built = |command: &mut std::process::Command| {
        let built = support::workspace::run(command.env(EPOCH.0, EPOCH.1)).success();
        assert!(built.stderr.contains(" bob\n"), "{built}");
    };
    built(&mut user.build_command(["-otype=oci,dest=image.tar"]));
    built(&mut varve.build_command(["-otype=oci,dest=image.tar"]));
    let (theirs, ours) = (user.home().join("image.tar"), varve.path("image.tar"));
    assert!(fs::read(theirs).unwrap() == fs::read(ours).unwrap());
    assert_eq!(mounts_below(&user.home()), [""; 0]);
}

#[test]
fn devices_of_a_base_stay_what_they_are() {
    let varve = Varve::new();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, numbers) in [
        ("null", tar::EntryType::Char, (1, 3)),
        ("disk", tar::EntryType::Block, (8, 0)),
        ("kept", tar::EntryType::Char, (1, 5)),
        ("gone", tar::EntryType::Char, (1, 5)),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o660);
        header.set_size(0);
        header.set_device_major(numbers.0).unwrap();
        header.set_device_minor(numbers.1).unwrap();
        archive
            .append_data(&mut header, format!("devices/{name}"), &[][..])
            .unwrap();
    }
    varve.write("context/devices.tar", archive.into_inner().unwrap());
    varve.dockerfile(
        "FROM busybox\nADD devices.tar /\n\
         RUN cd /devices && chown 5:6 null && chmod 600 disk && rm gone && ls\n",
    );
    let user = User::new(&varve, 1);
    let mut images = Vec::new();
    for (command, place) in [
        (
            &mut user.build_command(["-otype=oci,dest=image.tar"]),
            user.home(),
        ),
        (
            &mut varve.build_command(["-otype=oci,dest=image.tar"]),
            varve.path("."),
        ),
    ] {
        support::workspace::run(command.env(EPOCH.0, EPOCH.1)).success();
        images.push(fs::read(place.join("image.tar")).unwrap());
    }
    assert!(images[0] == images[1]);
}

#[test]
fn doctor_tells_a_user_what_is_missing_and_how_to_get_it() {
    let varve = Varve::new();
    let told = |user: User<'_>| user.varve(["doctor"]).success().stdout;
    let text = told(User::new(&varve, 1));
    for part in [
        "65537 ids",
        "way of mounting: dirs",
        "- slower: ",
        "- missing: ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = told(User::with(&varve, 2, Hurdle::NoRanges));
    assert!(
        text.contains(": sudo usermod --add-subuids ")
            && text.contains(" --add-subgids ")
            && text.contains(" varve61002"),
        "{text}"
    );
    let text = told(User::with(&varve, 3, Hurdle::NoPrograms));
    assert!(text.contains("install the package uidmap"), "{text}");
    let text = told(User::with(&varve, 4, Hurdle::NoNamespaces));
    assert!(text.contains("missing: RUN, varve run"), "{text}");
    let text = varve.varve(["doctor"]).success().stdout;
    assert!(!text.contains("missing: "), "{text}");
    let own = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => other,
    };
    assert!(text.contains(own), "{text}");
    let without = varve.command(["doctor"]).env("PATH", "").output().unwrap();
    let text = String::from_utf8_lossy(&without.stdout);
    assert!(text.contains("no: cannot start it: "), "{text}");
}

fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = directory.to_str().unwrap();
    let lines = mounts.lines().filter(|line| line.contains(here));
    lines.map(ToOwned::to_owned).collect()
}
