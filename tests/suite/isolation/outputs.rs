//! `-o DIR` with links in the result, or in a directory that is already there.

use std::fs;
use std::os::unix::fs::symlink;

use support::workspace::Varve;

use super::Outside;

#[test]
fn links_of_the_result_are_written_as_links() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let (name, dots) = (outside.name(), outside.by_dots());
    varve.dockerfile(&format!(
        "FROM busybox\nRUN mkdir /r; ln -s {name} /r/absolute; ln -s {dots} /r/dots; \
         ln -s {name}/new /r/dangling\nFROM scratch\nCOPY --from=0 /r/ /\n"
    ));
    // The second time they are there already.
    for _ in 0..2 {
        varve.build(["-o", "out"]).succeeded();
        for (link, target) in [("absolute", &name), ("dots", &dots)] {
            assert_eq!(
                fs::read_link(varve.path("out").join(link))
                    .unwrap()
                    .to_str(),
                Some(&**target)
            );
        }
        outside.is_untouched();
    }
}

#[test]
fn links_that_lie_in_the_directory_are_replaced_and_not_followed() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    fs::create_dir_all(varve.path("out/real")).unwrap();
    let link = |target: &str, name: &str| symlink(target, varve.path("out").join(name)).unwrap();
    link(&outside.name(), "directory");
    link("../outside", "relative");
    link(&format!("{}/secret", outside.name()), "file");
    link(&format!("{}/new", outside.name()), "dangling");
    link(&outside.by_dots(), "real/deep");
    varve.dockerfile(
        "FROM busybox\n\
         RUN mkdir -p /r/directory /r/relative/directory /r/real/deep; cd /r; \
             for file in directory/secret directory/new relative/directory/secret file dangling \
                 real/deep/secret; do echo evil > $file; done; chmod 777 directory\n\
         FROM scratch\nCOPY --from=0 /r/ /\n",
    );
    let outcome = varve.build(["-o", "out"]);
    assert!([0, 1].contains(&outcome.code), "{outcome}");
    outside.is_untouched();
    if outcome.code == 0 {
        assert_eq!(varve.read("out/directory/secret"), "evil\n");
        assert_eq!(varve.read("out/file"), "evil\n");
        assert!(
            fs::symlink_metadata(varve.path("out/directory"))
                .unwrap()
                .is_dir()
        );
    }
}

#[test]
fn hard_links_that_lie_in_the_directory_are_not_written_through() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    fs::create_dir(varve.path("out")).unwrap();
    fs::hard_link(outside.path.join("secret"), varve.path("out/file")).unwrap();
    let before = super::tree::list(&outside.path);
    varve.dockerfile("FROM scratch\nCOPY Dockerfile /file\n");
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(
        fs::read_to_string(outside.path.join("secret")).unwrap(),
        super::SECRET
    );
    assert_eq!(before.len(), super::tree::list(&outside.path).len());
    assert!(varve.read("out/file").starts_with("FROM scratch"));
}
