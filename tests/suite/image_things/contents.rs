//! `varve diff` and `varve cp`: the files of images without a mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::Value;
use support::workspace::Varve;

fn two() -> Varve {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir -p /d/sub /gone/deep && echo one > /d/sub/f && echo same > /d/same \\\n  && touch /gone/deep/x && ln -s f /d/link && echo t > /kind\n",
    );
    varve.build(["-t", "a"]).succeeded();
    varve.dockerfile(
        "FROM a\nRUN echo twotwo > /d/sub/f && rm -r /gone && mkdir /new && echo n > /new/n \\\n  && chmod 600 /d/same && ln -sf other /d/link && rm /kind && mkdir /kind\n",
    );
    varve.build(["-t", "b"]).succeeded();
    varve
}

#[test]
fn diff_names_what_was_added_changed_and_deleted() {
    let varve = two();
    let told = varve.varve(["diff", "a", "b"]).success().stdout;
    let lines: Vec<_> = told.lines().filter(|line| !line.contains("/etc")).collect();
    assert_eq!(
        lines,
        [
            "C /d",
            "C /d/link",
            "C /d/same",
            "C /d/sub",
            "C /d/sub/f",
            "D /gone",
            "C /kind",
            "A /new",
            "A /new/n",
        ]
    );
    assert_eq!(varve.varve(["diff", "a", "a"]).success().stdout, "");
    let back = varve.varve(["diff", "b", "a"]).success().stdout;
    assert!(
        back.contains("D /new\n") && back.contains("A /gone/deep/x\n"),
        "{back}"
    );
    let sizes = varve.varve(["diff", "--size", "a", "b"]).success().stdout;
    assert!(sizes.contains("C /d/sub/f  +3B\n"), "{sizes}");
    assert!(sizes.contains("Total: +3B ("), "{sizes}");
    let json = varve
        .varve(["diff", "--format", "json", "a", "b"])
        .success()
        .stdout;
    let same = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|change| change["Path"] == "/d/same")
        .unwrap();
    assert_eq!(same["Parts"], serde_json::json!(["mode"]));
    assert_eq!(
        (&same["Before"], &same["After"]),
        (&Value::from(5), &Value::from(5))
    );
}

#[test]
fn hostile_file_names_do_not_reach_the_terminal() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN touch \"$(printf '/x\\033[2J\\nA \\303\\050')\"\n");
    varve.build(["-t", "evil"]).succeeded();
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", "good"]).succeeded();
    let told = varve.varve(["diff", "good", "evil"]).success().stdout;
    assert!(told.contains("A /x\\x1b[2J\\nA "), "{told:?}");
    assert!(!told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn cp_puts_files_and_directories_where_docker_does() {
    let varve = two();
    let out = varve.path("out");
    fs::create_dir(&out).unwrap();
    let copy = |source: &str, target: &str| varve.varve(["cp", source, target]);
    copy("a:/d/sub/f", "out").succeeded();
    assert_eq!(varve.read("out/f"), "one\n");
    copy("a:/d/sub/f", "out/named").succeeded();
    assert_eq!(varve.read("out/named"), "one\n");
    copy("b:/d/sub/f", "out/f").succeeded();
    assert_eq!(varve.read("out/f"), "twotwo\n");
    copy("a:/d", "out").succeeded();
    assert_eq!(varve.read("out/d/sub/f"), "one\n");
    copy("a:/d", "out/other").succeeded();
    assert_eq!(varve.read("out/other/sub/f"), "one\n");
    copy("a:/d/.", "out/flat").succeeded();
    assert_eq!(varve.read("out/flat/same"), "same\n");
    fs::create_dir(out.join("into")).unwrap();
    copy("a:/d/.", "out/into").succeeded();
    assert_eq!(varve.read("out/into/sub/f"), "one\n");
    assert!(!out.join("into/d").exists());
    copy("a:d/same", "out/relative").succeeded();
    assert_eq!(varve.read("out/relative"), "same\n");
    assert_eq!(
        fs::read_link(out.join("d/link")).unwrap().to_str(),
        Some("f")
    );
    varve
        .varve(["cp", "-L", "a:/etc/../d/sub/../same", "out/up"])
        .succeeded();
    assert_eq!(varve.read("out/up"), "same\n");
    for (source, target, told) in [
        ("a:/nothing", "out", "/nothing"),
        ("a:/d/same/x", "out", "not"),
        ("a:/d/same/", "out/y", "not a directory"),
        ("a:/d", "out/f", "it is a file"),
        ("a:/d/same", "out/none/", "no such directory"),
        ("a:/d/same", "nowhere/x", "No such file"),
        ("none:/x", "out", "no such image"),
    ] {
        let refused = copy(source, target).code(1);
        assert!(refused.stderr.contains(told), "{source}: {refused}");
    }
    assert_eq!(copy("a", "out").code, 2);
}

#[test]
fn cp_keeps_owners_when_asked_and_streams_a_tar() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /d && echo x > /d/f && chown 123:456 /d /d/f && chmod 4711 /d/f\n",
    );
    varve.build(["-t", "x"]).succeeded();
    varve.varve(["cp", "x:/d", "plain"]).succeeded();
    varve.varve(["cp", "-a", "x:/d", "kept"]).succeeded();
    let of = |path: &str| {
        let found = fs::metadata(varve.path(path)).unwrap();
        (
            found.uid(),
            found.gid(),
            found.permissions().mode() & 0o7777,
        )
    };
    assert_eq!(of("plain/f"), (0, 0, 0o4711));
    assert_eq!(of("kept/f"), (123, 456, 0o4711));
    assert_eq!((of("kept").0, of("kept").1), (123, 456));
    let tar = varve.path("x.tar");
    let file = fs::File::create(&tar).unwrap();
    let mut command = varve.command(["cp", "x:/d", "-"]);
    assert!(command.stdout(file).status().unwrap().success());
    let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path, entry.header().uid().unwrap())
    });
    let entries: Vec<_> = entries.collect();
    assert_eq!(entries, [("d/".to_owned(), 123), ("d/f".to_owned(), 123)]);
}

#[test]
fn no_link_of_the_image_or_of_the_target_leads_a_copy_astray() {
    let varve = Varve::new();
    varve.write("secret", "of the host");
    let secret = varve.path("secret");
    varve.dockerfile(&format!(
        "FROM busybox\nRUN ln -s {} /file && ln -s {} /dir && ln -s ../../../../../../etc /up \\\n  && mkdir /d && echo of the image > /d/passwd\n",
        secret.display(),
        varve.path("").display(),
    ));
    varve.build(["-t", "x"]).succeeded();
    // Links lead to paths of the image, never of the host.
    varve
        .varve(["cp", "-L", "x:/file", "got"])
        .code(1)
        .stderr
        .contains("file");
    varve.varve(["cp", "x:/dir/secret", "got"]).code(1);
    varve.varve(["cp", "x:/up/passwd", "got"]).succeeded();
    assert!(!varve.read("got").contains("of the host"));
    // A link that waits in the target is replaced, not followed.
    fs::create_dir(varve.path("target")).unwrap();
    fs::create_dir(varve.path("elsewhere")).unwrap();
    symlink(&secret, varve.path("target/passwd")).unwrap();
    varve.varve(["cp", "x:/d/passwd", "target"]).succeeded();
    assert_eq!(varve.read("secret"), "of the host");
    assert_eq!(varve.read("target/passwd"), "of the image\n");
    symlink(varve.path("elsewhere"), varve.path("target/d")).unwrap();
    varve.varve(["cp", "x:/d", "target"]).succeeded();
    assert!(!varve.path("elsewhere/passwd").exists());
    assert_eq!(varve.read("target/d/passwd"), "of the image\n");
}
