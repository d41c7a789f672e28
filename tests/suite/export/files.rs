//! Plain files, and the same files as another tool unpacks them of the exported image.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use support::tree;
use support::workspace::Varve;

/// An image with everything that a tree can have, over three layers.
fn everything() -> Varve {
    let varve = Varve::new();
    // A context brings no attributes; an archive does.
    let file = varve.write("d/attributes", "with attributes");
    fs::set_permissions(&file, Permissions::from_mode(0o4751)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.note", b"a note\0\xff", flags).unwrap();
    let tar = [
        "--xattrs",
        "--xattrs-include=*",
        "--owner=0",
        "--group=0",
        "-cf",
    ];
    let files = ["context/attributes.tar", "-C", "d", "attributes"];
    fs::create_dir_all(varve.context()).unwrap();
    varve.tool("tar", tar.iter().chain(&files)).succeeded();
    varve.dockerfile(
        "FROM busybox\n\
         RUN mkdir -p /d/sub && cd /d && echo one > file && ln file hard && ln -s file soft && \
           echo x > link-1 && ln link-1 link-2 && \
           ln -s /absent dangling && mkfifo pipe && mknod null c 1 3 && mknod disk b 7 200 && \
           chmod 1777 sub && chmod 2755 . && touch -d @1234567890 file && \
           echo gone > gone && mkdir opaque && echo old > opaque/old && \
           touch \"$(printf 'n\\303\\266n-ascii \\377')\" && \
           dd if=/dev/zero of=holes bs=1 count=1 seek=200000 2>/dev/null\n\
         ADD attributes.tar /d/\n\
         RUN cd /d && rm gone && rm -r opaque && mkdir opaque && echo new > opaque/new && \
           echo two >> hard && long=$(printf '%0200d' 7) && mkdir $long && echo x > $long/$long\n",
    );
    varve
}

#[test]
fn files_are_those_that_umoci_unpacks_of_the_exported_image() {
    let varve = everything();
    varve
        .build(["-otype=oci,dest=image,tar=false,name=a:b", "-o", "files"])
        .succeeded();
    varve
        .tool("umoci", ["raw", "unpack", "--image", "image:b", "unpacked"])
        .succeeded();
    let (ours, theirs) = (
        tree::list(&varve.path("files")),
        tree::list(&varve.path("unpacked")),
    );
    tree::assert_same(&ours, &theirs);

    let of = |name: &str| ours.get(name).map(String::as_str).unwrap_or_default();
    assert!(
        of("d/attributes").contains("user.note=a note\\x00\\xff"),
        "{}",
        of("d/attributes")
    );
    assert!(
        of("d/attributes").contains(" 4751 0:0 "),
        "{}",
        of("d/attributes")
    );
    // Writing to one name of a lower file copies that name up: overlayfs parts it from the others.
    assert!(
        of("d/hard").contains("8 bytes") && of("d/hard").contains("1 links"),
        "{}",
        of("d/hard")
    );
    for name in ["d/link-1", "d/link-2"] {
        let seen = of(name);
        assert!(seen.contains("2 links, first d/link-1"), "{seen}");
    }
    assert!(of("d/pipe").starts_with("fifo") && of("d/null").starts_with("special"));
    assert!(!ours.contains_key("d/gone") && !ours.contains_key("d/opaque/old"));
    assert!(ours.contains_key("d/opaque/new") && ours.contains_key("d/n\\xc3\\xb6n-ascii \\xff"));
}

#[test]
fn a_tar_archive_holds_the_same_files_with_their_owners() {
    let varve = everything();
    varve
        .build([
            "-otype=tar,dest=files.tar",
            "-otype=oci,dest=image,tar=false,name=a:b",
        ])
        .succeeded();
    fs::create_dir(varve.path("from-tar")).unwrap();
    let options = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
    ];
    let options = options
        .iter()
        .chain(&["-xpf", "files.tar", "-C", "from-tar"]);
    varve.tool("tar", options).succeeded();
    varve
        .tool("umoci", ["raw", "unpack", "--image", "image:b", "unpacked"])
        .succeeded();
    let [tar, image] = ["from-tar", "unpacked"].map(|name| tree::list(&varve.path(name)));
    tree::assert_same(&tar, &image);
}

#[test]
fn files_go_over_those_that_are_there_and_never_through_a_link() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS made\nRUN mkdir -p /r/d && echo new > /r/f && echo new > /r/d/g\n\
         FROM scratch\nCOPY --from=made /r /\n",
    );
    varve.write("out/f", "old");
    varve.write("out/kept", "kept");
    varve.write("elsewhere/g", "untouched");
    std::os::unix::fs::symlink("../elsewhere", varve.path("out/d")).unwrap();
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(varve.read("out/f"), "new\n");
    assert_eq!(varve.read("out/d/g"), "new\n");
    assert_eq!(varve.read("out/kept"), "kept");
    assert_eq!(varve.read("elsewhere/g"), "untouched");
}

#[test]
fn two_outputs_of_one_build_are_both_written_and_hold_the_same() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo x > /f\n");
    varve
        .build([
            "-o",
            "one",
            "-otype=local,dest=two",
            "-otype=oci,dest=image,tar=false",
            "-t",
            "x",
        ])
        .succeeded();
    let [one, two] = ["one", "two"].map(|name| tree::list(&varve.path(name)));
    tree::assert_same(&one, &two);
    assert!(one.contains_key("f"));
    assert_eq!(varve.shell("x", "cat /f"), "x\n");
    assert!(varve.path("image/index.json").is_file());
}

#[test]
fn what_is_not_in_the_result_is_deleted_if_that_is_asked_for() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY file /d/file\nCOPY file /top\n");
    varve.write("context/file", "new");
    let prepare = || {
        varve.write("out/d/file", "old");
        varve.write("out/d/stale", "s");
        varve.write("out/gone/deep/er", "s");
        varve.write("outside/kept", "k");
        let link = varve.path("out/link");
        if !link.exists() {
            std::os::unix::fs::symlink(varve.path("outside"), link).unwrap();
        }
    };
    let names = |directory: &str| {
        let mut names: Vec<_> = fs::read_dir(varve.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    prepare();
    varve.build(["-o", "type=local,dest=out"]).succeeded();
    assert_eq!(names("out"), ["d", "gone", "link", "top"]);
    varve
        .build(["-o", "type=local,dest=out,mode=delete"])
        .succeeded();
    assert_eq!(
        (names("out"), names("out/d")),
        (vec!["d".into(), "top".into()], vec!["file".into()])
    );
    assert_eq!(varve.read("out/d/file"), "new");
    assert_eq!(names("outside"), ["kept"]);
    prepare();
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let output = ["-o", "type=local,dest=out,mode=delete"];
    varve.build([platforms, output].concat()).succeeded();
    assert_eq!(names("out"), ["linux_amd64", "linux_arm64"]);
    // Elsewhere it must be allowed.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("theirs"), "t").unwrap();
    let output = format!("type=local,dest={},mode=delete", elsewhere.path().display());
    varve
        .build(["-o", &output])
        .refused_with(1, &["--allow buildx.local.delete"]);
    assert!(elsewhere.path().join("theirs").exists());
    varve
        .build(["-o", &output, "--allow", "buildx.local.delete"])
        .succeeded();
    assert!(!elsewhere.path().join("theirs").exists());
    varve
        .build(["-o", "type=local,dest=.,mode=delete"])
        .refused_with(1, &["--allow"]);
}

#[test]
fn a_quiet_build_into_a_directory_has_no_id_to_print() {
    let varve = Varve::new();
    varve.write("context/file", "content\n");
    varve.dockerfile("FROM scratch\nCOPY file /\n");
    let built = varve
        .build(["-q=true", "--load=false", "-o", "out"])
        .success();
    assert_eq!((&*built.stdout, &*built.stderr), ("", ""), "{built}");
    assert_eq!(varve.read("out/file"), "content\n");
    let refused = varve.build(["--iidfile", "id", "-o", "out"]).code(1);
    assert!(
        refused.stderr.contains("no image id for --iidfile"),
        "{refused}"
    );
}
