//! COPY through links that lead out.

use std::fs;
use std::os::unix::fs::symlink;

use support::workspace::Varve;

use super::{Outside, no_secret_comes_out};

#[test]
fn copy_follows_no_link_and_no_path_out_of_the_context() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let link = |name: &str, target: &str| symlink(target, varve.path("context").join(name));
    varve.write("context/inner/file", "inside");
    link("absolute", &format!("{}/secret", outside.name())).unwrap();
    link("dots", &format!("{}/secret", outside.by_dots())).unwrap();
    link("directory", &outside.name()).unwrap();
    link("beside", "../outside").unwrap();
    link("chain", "beside").unwrap();
    link("inner/up", "../../outside").unwrap();
    for source in [
        "absolute",
        "dots",
        "directory",
        "directory/",
        "directory/secret",
        "directory/*",
        "beside/secret",
        "chain/directory/secret",
        "inner/up/secret",
        "inner/*/secret",
        "../outside/secret",
        "inner/../../outside/secret",
        "./absolute",
        ".",
    ] {
        for instruction in ["COPY", "ADD"] {
            varve.dockerfile(&format!("FROM scratch\n{instruction} {source} /copied/\n"));
            no_secret_comes_out(&varve, &format!("{instruction} {source}"));
        }
    }
    outside.is_untouched();
}

#[test]
fn a_link_of_the_context_means_the_place_in_the_context() {
    let varve = Varve::new();
    varve.write("context/etc/hostname", "of the context");
    symlink("/etc/hostname", varve.path("context/absolute")).unwrap();
    symlink("../../../../etc/hostname", varve.path("context/dots")).unwrap();
    varve.dockerfile("FROM scratch\nCOPY absolute /one\nCOPY dots /two\n");
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(varve.read("out/one"), "of the context");
    assert_eq!(varve.read("out/two"), "of the context");
}

#[test]
fn copy_from_a_stage_follows_no_link_out_of_the_stage() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let (name, dots) = (outside.name(), outside.by_dots());
    for source in [
        "/absolute",
        "/dots",
        "/directory/secret",
        "/directory/",
        "/d/dots/secret",
    ] {
        varve.dockerfile(&format!(
            "FROM busybox AS first\n\
             RUN ln -s {name}/secret /absolute; ln -s {dots}/secret /dots; \
                 ln -s {name} /directory; mkdir /d; ln -s {dots} /d/dots\n\
             FROM scratch\nCOPY --from=first {source} /copied\n"
        ));
        no_secret_comes_out(&varve, source);
    }
    outside.is_untouched();
}

#[test]
fn a_destination_behind_a_link_lies_in_the_image() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    varve.write("context/file", "written");
    for target in [outside.name(), outside.by_dots()] {
        varve.dockerfile(&format!(
            "FROM busybox\nRUN ln -s {target} /way\n\
             COPY file /way/file\nCOPY file /way/secret\nWORKDIR /way/made\nRUN echo x > here\n"
        ));
        let outcome = varve.build(["-o", "out"]);
        assert!([0, 1].contains(&outcome.code), "{outcome}");
        outside.is_untouched();
        if outcome.code == 0 {
            let inside = varve
                .path("out")
                .join(outside.name().trim_start_matches('/'));
            assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "written");
            assert_eq!(fs::read_to_string(inside.join("made/here")).unwrap(), "x\n");
            fs::remove_dir_all(varve.path("out")).unwrap();
        }
    }
}

#[test]
fn a_named_context_is_as_closed_as_the_main_one() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    varve.write("other/file", "other");
    symlink(outside.name(), varve.path("other/way")).unwrap();
    for source in ["/way/secret", "/way/", "../outside/secret"] {
        varve.dockerfile(&format!(
            "FROM scratch\nCOPY --from=other {source} /copied\n"
        ));
        let outcome = varve.build(["--build-context", "other=other", "-o", "out"]);
        assert!([0, 1].contains(&outcome.code), "{outcome}");
        let out = varve.path("out");
        assert!(
            !out.exists() || !super::holds_secret(&out),
            "{source}: {outcome}"
        );
    }
    outside.is_untouched();
}
