//! COPY: what goes where, as whom, with which mode and time.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use support::transcript::Ending;
use support::workspace::Varve;
use tar::EntryType;

use super::{names, text};

/// A context with some files, and the files that a Dockerfile makes of it.
fn copied(lines: &str) -> (Varve, PathBuf) {
    let varve = context();
    varve.dockerfile(&format!("FROM scratch\n{lines}"));
    let files = varve.files([""; 0]);
    (varve, files)
}

fn context() -> Varve {
    let varve = Varve::new();
    for name in [
        "a.txt",
        "b.txt",
        "c.md",
        "with space",
        "d/one.txt",
        "d/two.md",
        "d/e/three.txt",
    ] {
        varve.write(format!("context/{name}"), name);
    }
    varve
}

#[test]
fn sources_go_where_the_reference_says() {
    let everything_of_d = ["e/three.txt", "one.txt", "two.md"];
    let below = |place: &str| {
        everything_of_d
            .map(|name| format!("{place}{name}"))
            .to_vec()
    };
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    for (line, expect) in [
        ("COPY a.txt /", list(&["a.txt"])),
        ("COPY a.txt /new", list(&["new"])),
        ("COPY a.txt /new/", list(&["new/a.txt"])),
        ("COPY a.txt /x/y/z", list(&["x/y/z"])),
        ("COPY *.txt /t/", list(&["t/a.txt", "t/b.txt"])),
        ("COPY ?.* /t/", list(&["t/a.txt", "t/b.txt", "t/c.md"])),
        ("COPY [a-b].txt /t/", list(&["t/a.txt", "t/b.txt"])),
        ("COPY a.txt c.md /t/", list(&["t/a.txt", "t/c.md"])),
        ("COPY [\"with space\", \"/t/\"]", list(&["t/with space"])),
        ("COPY d /", below("")),
        ("COPY d /new", below("new/")),
        ("COPY d/ /new/", below("new/")),
        (
            "COPY d/*.txt d/e /new/",
            list(&["new/one.txt", "new/three.txt"]),
        ),
        ("COPY d*/e/*.txt ./", list(&["three.txt"])),
        ("WORKDIR /w\nCOPY a.txt .", list(&["w/a.txt"])),
        ("WORKDIR /w\nCOPY a.txt sub/", list(&["w/sub/a.txt"])),
        (
            "COPY d /t\nCOPY a.txt /t",
            [list(&["t/a.txt"]), below("t/")].concat(),
        ),
        ("COPY a.txt ../../../up", list(&["up"])),
    ] {
        let (_varve, files) = copied(line);
        assert_eq!(names(&files), expect, "{line}");
    }
}

#[test]
fn what_is_excluded_is_left_out_and_parents_are_kept_on_request() {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    for (line, expect) in [
        (
            "COPY --exclude=*.md . /t/",
            vec![
                "t/Dockerfile",
                "t/a.txt",
                "t/b.txt",
                "t/d/e/three.txt",
                "t/d/one.txt",
                "t/d/two.md",
                "t/with space",
            ],
        ),
        (
            "COPY --exclude=**/*.md --exclude=d/e d /t/",
            vec!["t/e/three.txt", "t/one.txt"],
        ),
        ("COPY --exclude=e d /t/", vec!["t/one.txt", "t/two.md"]),
        (
            "COPY --parents d/e/three.txt a.txt /t/",
            vec!["t/a.txt", "t/d/e/three.txt"],
        ),
        ("COPY --parents d/./e/three.txt /t/", vec!["t/e/three.txt"]),
        (
            "COPY --parents **/*.txt /t/",
            vec!["t/a.txt", "t/b.txt", "t/d/e/three.txt", "t/d/one.txt"],
        ),
    ] {
        let (_varve, files) = copied(&format!("# syntax=docker/dockerfile:1\n{line}"));
        assert_eq!(names(&files), list(&expect), "{line}");
    }
}

#[test]
fn owner_and_mode_are_as_asked_for() {
    let varve = context();
    varve.dockerfile(
        "FROM busybox\n\
         COPY a.txt /plain\n\
         COPY --chown=nobody:nobody a.txt /named\n\
         COPY --chown=12:34 d /numbers\n\
         COPY --chown=56 a.txt /user-only\n\
         COPY --chmod=4750 a.txt /mode\n\
         ARG OWNER=nobody\nCOPY --chown=$OWNER:root --chmod=0600 c.md /made/there/c\n\
         RUN stat -c '%n %a %u:%g' /plain /named /numbers /numbers/one.txt /user-only /mode \
           /made /made/there /made/there/c > /report\n",
    );
    fs::set_permissions(varve.path("context/a.txt"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(varve.path("context/d"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(
        varve.path("context/d/one.txt"),
        Permissions::from_mode(0o604),
    )
    .unwrap();
    chown(varve.path("context/a.txt"), Some(1234), Some(1234)).unwrap();
    let files = varve.files([""; 0]);
    // A directory that is made for what is copied has not the mode of where that was.
    let expect = "/plain 640 0:0\n/named 640 65534:65534\n/numbers 755 12:34\n\
        /numbers/one.txt 604 12:34\n/user-only 640 56:56\n/mode 4750 0:0\n\
        /made 600 65534:0\n/made/there 600 65534:0\n/made/there/c 600 65534:0\n";
    assert_eq!(text(&files, "report"), expect);
}

/// Docker's users build such files.
#[test]
fn an_owner_that_the_image_does_not_know_is_root_with_a_warning() {
    let varve = context();
    varve.dockerfile(
        "FROM busybox\n\
         COPY --chown=nemo a.txt /1\nCOPY --chown=nobody:shoal a.txt /2\n\
         COPY --chown=nemo:nobody a.txt /3\nCOPY --chown=-1:5 a.txt /4\n\
         RUN stat -c '%n %u:%g' /? > /report\n",
    );
    let built = varve.build(["-o", "out"]).success();
    let expect = "/1 0:0\n/2 65534:65534\n/3 0:65534\n/4 0:5\n";
    assert_eq!(text(&varve.path("out"), "report"), expect);
    for warning in [
        "WARN: unable to find user nemo: no matching entries in passwd file; the files belong to \
         user 0",
        "WARN: unable to find group shoal: no matching entries in group file; the files belong to \
         group 65534",
    ] {
        assert!(built.stderr.contains(warning), "{built}");
    }
    varve.dockerfile("FROM scratch\nCOPY --chown=nemo a.txt /\n");
    let failed = varve.build(["-t", "x"]).code(1);
    assert!(
        failed.stderr.contains("unable to find user nemo"),
        "{failed}"
    );
}

#[test]
fn special_bits_of_a_mode_are_for_what_is_copied() {
    let varve = context();
    varve.dockerfile(
        "FROM busybox\nCOPY --chmod=7777 d /d\nCOPY --chmod=1755 a.txt /n/w/\n\
         COPY --chmod=u=rX,o+t,g+s d /s\n\
         RUN stat -c '%n %a' /d /d/e /d/one.txt /n /n/w/a.txt /s /s/e /s/one.txt > /report\n",
    );
    let files = varve.files([""; 0]);
    let expect = "/d 777\n/d/e 7777\n/d/one.txt 7777\n/n 755\n/n/w/a.txt 1755\n\
        /s 755\n/s/e 2555\n/s/one.txt 2444\n";
    assert_eq!(text(&files, "report"), expect);
}

#[test]
fn what_a_file_may_do_on_this_machine_does_not_come_into_the_image() {
    let varve = context();
    for file in ["a.txt", "d/one.txt"] {
        let path = varve.path(format!("context/{file}")).display().to_string();
        varve
            .tool("setfattr", ["-n", "user.mark", "-v", "x", &path])
            .succeeded();
    }
    varve.dockerfile("FROM scratch\nCOPY a.txt d /\n");
    let files = varve.files([""; 0]);
    for file in ["a.txt", "one.txt"] {
        let path = files.join(file).display().to_string();
        let listed = varve.tool("getfattr", ["-d", "-m", "-", &path]).success();
        assert_eq!(listed.stdout, "");
    }
}

#[test]
fn a_backslash_is_part_of_a_name_unless_the_name_is_a_pattern() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS a\nRUN mkdir /s /s/x1; echo 1 > '/s/a\\b'; echo 2 > /s/ab; \
         echo 3 > '/s/end\\'; echo 4 > '/s/x1/a\\b'; echo 5 > /s/x1/ab\n\
         FROM scratch\nCOPY --from=a s/a\\\\b /name/\nCOPY --from=a [\"s/end\\\\\\\\\", \"/end/\"]\n\
         COPY --from=a s/x?/a\\\\b /pattern/\n",
    );
    let files = varve.files([""; 0]);
    assert_eq!(text(&files, "name/a\\b"), "1\n");
    assert_eq!(text(&files, "end/end\\"), "3\n");
    assert_eq!(names(&files.join("pattern")), ["ab"]);
}

#[test]
fn a_missing_file_that_an_ignore_file_leaves_out_is_told_with_it() {
    let varve = context();
    varve.write("context/.dockerignore", "d\n");
    varve.dockerfile("FROM scratch\nCOPY a.txt d/one.txt /\n");
    let words = [
        "\"/d/one.txt\": not found",
        "d/one.txt is there: ",
        ".dockerignore leaves it out",
    ];
    varve.build(["-o", "out"]).refused_with(1, &words);
    for line in ["COPY absent /", "COPY --from=busybox /d /"] {
        varve.dockerfile(&format!("FROM scratch\n{line}\n"));
        let failed = varve.build(["-o", "out"]).code(1);
        assert!(!failed.stderr.contains("leaves it out"), "{failed}");
    }
}

#[test]
fn a_pattern_without_sense_is_refused_wherever_it_is_used() {
    let varve = context();
    for from in ["", "--from=busybox "] {
        for pattern in ["x[1", "[", "[a-]b"] {
            varve.dockerfile(&format!(
                "FROM busybox\nCOPY {from}[\"{pattern}\", \"/t/\"]\n"
            ));
            varve
                .build([""; 0])
                .refused_with(1, &["syntax error in pattern", pattern]);
        }
    }
}

#[test]
fn for_a_pattern_that_matches_nothing_nothing_is_made() {
    let (_varve, files) = copied("COPY *.none /t/\nCOPY a.txt /u/");
    assert_eq!(names(&files), ["u/a.txt"]);
    assert!(!files.join("t").exists());
}

#[test]
fn directories_are_made_as_buildkit_makes_them() {
    let varve = context();
    for (path, mode) in [("d", 0o700), ("d/e", 0o711)] {
        let path = varve.path(format!("context/{path}"));
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    varve.dockerfile(
        "FROM busybox AS other\nRUN mkdir -p -m 700 /o && mkdir -m 750 /o/in && touch /o/in/f && \
           touch -d '2001-01-01 00:00:00' /o && chown -R 1000:1001 /o\n\
         FROM busybox\nCOPY d /new\nCOPY d /slash/\nCOPY --from=other /o /other\n\
         COPY --chmod=700 a.txt /n/w/t/\n\
         COPY --parents --chown=12:34 d/e/three.txt /p/\nCOPY --parents d/e/three.txt /q/\n\
         COPY --parents --from=other /o/in/f /r/\n\
         COPY --chown=12:34 --exclude=d --exclude=!d/e/three.txt . /x/\n\
         RUN stat -c '%n %a %u:%g' /new /new/e /slash /other /other/in /n /n/w /n/w/t /p/d /p/d/e \
           /q /q/d /q/d/e /r/o /r/o/in /x/d /x/d/e > /report; stat -c %y /other >> /report\n",
    );
    let files = varve.files([""; 0]);
    let expect = "/new 755 0:0\n/new/e 711 0:0\n/slash 755 0:0\n/other 755 0:0\n\
        /other/in 750 1000:1001\n/n 700 0:0\n/n/w 700 0:0\n/n/w/t 700 0:0\n\
        /p/d 700 12:34\n/p/d/e 711 12:34\n/q 755 0:0\n/q/d 700 0:0\n/q/d/e 711 0:0\n\
        /r/o 700 1000:1001\n/r/o/in 750 1000:1001\n/x/d 700 12:34\n/x/d/e 711 12:34\n\
        2001-01-01 00:00:00.000000000 +0000\n";
    assert_eq!(text(&files, "report"), expect);
}

#[test]
fn a_file_keeps_its_time_and_the_layer_says_so() {
    let varve = context();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["context/a.txt", "context/d"] {
        fs::File::open(varve.path(name))
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    varve.dockerfile("FROM busybox\nCOPY a.txt /x\nCOPY d /d\n");
    let image = varve.image([""; 0]);
    let (x, d) = (image.layer(1), image.layer(2));
    let x: Vec<_> = x
        .iter()
        .filter(|entry| entry.kind == EntryType::Regular)
        .collect();
    assert_eq!(
        (x.len(), &*x[0].path, x[0].mtime, &*x[0].body),
        (1, "x", 1_000_000_000, &b"a.txt"[..])
    );
    let d = d.iter().find(|entry| entry.path == "d").unwrap();
    assert_eq!((d.kind, d.mtime), (EntryType::Directory, 1_000_000_000));
}

#[test]
fn links_stay_links_in_directories_and_are_followed_as_sources_and_on_the_way() {
    let varve = context();
    symlink("one.txt", varve.path("context/d/inner")).unwrap();
    symlink("../../outside", varve.path("context/d/dangling")).unwrap();
    symlink("d/one.txt", varve.path("context/source")).unwrap();
    symlink("d/e", varve.path("context/way")).unwrap();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /real && ln -s real /link\n\
         COPY d /d/\nCOPY source /source\nCOPY way/three.txt /three\nCOPY a.txt /link/\n",
    );
    let files = varve.files([""; 0]);
    assert_eq!(
        fs::read_link(files.join("d/inner")).unwrap().to_str(),
        Some("one.txt")
    );
    assert_eq!(
        fs::read_link(files.join("d/dangling")).unwrap().to_str(),
        Some("../../outside")
    );
    assert_eq!(text(&files, "source"), "d/one.txt");
    assert!(!files.join("source").is_symlink());
    assert_eq!(text(&files, "three"), "d/e/three.txt");
    assert_eq!(text(&files, "real/a.txt"), "a.txt");
    assert_eq!(
        fs::read_link(files.join("link")).unwrap().to_str(),
        Some("real")
    );
}

#[test]
fn a_link_of_the_context_does_not_lead_out_of_it() {
    let varve = context();
    varve.write("outside/secret", "secret");
    symlink("../outside/secret", varve.path("context/relative")).unwrap();
    symlink(varve.path("outside/secret"), varve.path("context/absolute")).unwrap();
    for name in ["relative", "absolute"] {
        varve.dockerfile(&format!("FROM scratch\nCOPY {name} /x\n"));
        let failed = varve.build(["-o", "out"]).code(1);
        assert!(failed.stderr.contains("not found"), "{failed}");
        assert!(!varve.path("out/x").exists());
    }
}

#[test]
fn a_copy_from_a_stage_keeps_owner_mode_links_and_time() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS made\n\
         RUN mkdir /m && cd /m && echo x > f && chown 7:8 f && chmod 2711 f && ln f g && \
           ln -s f s && mkfifo p && touch -d @1000000000 f && chown -h 9:9 s\n\
         FROM busybox\nCOPY --from=made /m /m\nCOPY --from=made --chown=1:2 /m/f /f\n\
         RUN stat -c '%n %a %u:%g %Y %h %F' /m/f /m/g > /report && \
           stat -c '%n %u:%g' /m/s >> /report && stat -c '%a %u:%g %F' /f /m/p >> /report\n",
    );
    let files = varve.files([""; 0]);
    let expect = "/m/f 2711 7:8 1000000000 2 regular file\n/m/g 2711 7:8 1000000000 2 regular file\n\
        /m/s 9:9\n2711 1:2 regular file\n644 0:0 fifo\n";
    assert_eq!(text(&files, "report"), expect);
}

#[test]
fn a_linked_copy_is_laid_over_what_is_there() {
    let varve = context();
    let steps = "COPY --link a.txt /link/\nCOPY --link d /dest\nCOPY --link a.txt /open/\n\
        COPY --link a.txt /directory\nCOPY --link --parents d/e/three.txt /p/\n\
        COPY --link --chown=5:6 a.txt /o/wned\n";
    let dockerfile = |change: &str| {
        varve.dockerfile(&format!(
            "FROM busybox AS base\n\
             RUN mkdir -p /real /dest/e /directory /open && chmod 1777 /open && \
               ln -s real /link && echo old > /dest/old && echo {change} > /change\n\
             FROM base\n{steps}\
             RUN stat -c '%n %F %a %u:%g' /link /link/a.txt /dest/old /dest/one.txt /dest/e/* \
               /open /directory /p/d/e/three.txt /o /o/wned > /report; ls /real >> /report\n"
        ));
    };
    dockerfile("1");
    let expect = "/link directory 755 0:0\n/link/a.txt regular file 644 0:0\n\
        /dest/old regular file 644 0:0\n/dest/one.txt regular file 644 0:0\n\
        /dest/e/three.txt regular file 644 0:0\n/open directory 755 0:0\n\
        /directory regular file 644 0:0\n/p/d/e/three.txt regular file 644 0:0\n\
        /o directory 755 5:6\n/o/wned regular file 644 5:6\n";
    assert_eq!(text(&varve.files([""; 0]), "report"), expect);
    let first = varve.image([""; 0]).layer_digests();
    // On another base nothing is copied again, and the layers are the same.
    dockerfile("2");
    let built = varve.build(["-t", "second"]).success().transcript();
    for step in built
        .instructions()
        .filter(|step| step.name.contains("--link"))
    {
        assert_eq!(step.ending, Ending::Cached, "{step:#?}");
    }
    assert!(
        !built.instructions().any(|step| step.name.contains("LINK")),
        "{built:#?}"
    );
    let second = varve.image([""; 0]).layer_digests();
    let links = |layers: &[String]| layers[layers.len() - 7..layers.len() - 1].to_vec();
    assert_eq!(links(&first), links(&second));
    assert_ne!(first, second);
    // Also when the image is a base that was collected meanwhile.
    varve.varve(["prune", "-a", "-f"]).succeeded();
    varve.dockerfile("FROM second\nRUN cat /link/a.txt /dest/old /change > /report\n");
    let files = varve.files([""; 0]);
    assert_eq!(text(&files, "report"), "a.txtold\n2\n");
    let third = varve.image([""; 0]).layer_digests();
    assert_eq!(third[..second.len()], second);
}

#[test]
fn hard_links_stay_links_within_what_one_path_copies() {
    let varve = context();
    for name in ["d/link", "d/e/link", "link", "a.link"] {
        fs::hard_link(
            varve.path("context/d/one.txt"),
            varve.path(format!("context/{name}")),
        )
        .unwrap();
    }
    varve.dockerfile(
        "FROM scratch AS made\nCOPY d /d\nCOPY --chown=5:5 --exclude=one.txt d /d\n\
         COPY d/one.txt d/link /two/\nCOPY *link /pattern/\nCOPY . /all\n\
         FROM busybox\nCOPY --from=made / /copy\nCOPY --from=made /d/l* /two/ /some/\n\
         RUN cd /copy && stat -c '%n %h %u' d/one.txt d/link d/e/link two/* pattern/* \
           all/d/one.txt /some/* > /report\n",
    );
    let files = varve.files([""; 0]);
    let expect = "d/one.txt 1 0\nd/link 2 5\nd/e/link 2 5\ntwo/link 1 0\ntwo/one.txt 1 0\n\
        pattern/a.link 1 0\npattern/link 1 0\nall/d/one.txt 5 0\n\
        /some/link 1 0\n/some/one.txt 1 0\n";
    let report = text(&files, "report");
    assert_eq!(report, expect);
}

#[test]
fn a_copy_lays_over_what_is_there_and_a_missing_source_is_named() {
    let varve = context();
    varve.dockerfile("FROM scratch\nCOPY a.txt /t/one.txt\nCOPY c.md /t/kept\nCOPY d /t\n");
    let files = varve.files([""; 0]);
    assert_eq!(text(&files, "t/one.txt"), "d/one.txt");
    assert_eq!(text(&files, "t/kept"), "c.md");
    symlink("d", varve.path("context/link")).unwrap();
    for (line, name) in [
        ("COPY absent /", "absent"),
        ("COPY absent/* /", "absent"),
        ("COPY d/absent/*.txt /", "d/absent"),
        ("COPY --parents d/absent /", "d/absent"),
        ("COPY --parents a.txt d/./absent /", "d/absent"),
        ("COPY --parents --exclude=d d/one.txt /", "d/one.txt"),
        ("COPY --parents link/one.txt /", "link/one.txt"),
        ("COPY --from=busybox /gone /", "gone"),
        // Of a directory itself --parents copies nothing.
        ("COPY --parents ./ /", ""),
        ("COPY --parents d/./ /", "d"),
        ("COPY --parents --from=busybox / /", ""),
        // A backslash alone makes no pattern.
        ("COPY no\\\\pe /", "no\\\\pe"),
        ("COPY --from=busybox no\\\\pe /", "no\\\\pe"),
    ] {
        varve.dockerfile(&format!("FROM busybox\n{line}\n"));
        let failed = varve.build(["-t", "x"]).code(1);
        assert!(
            failed.stderr.contains(&format!("\"/{name}\": not found")),
            "{failed}"
        );
        assert!(failed.stderr.contains(&format!(">>> {line}")), "{failed}");
    }
}
