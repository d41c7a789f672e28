//! What is in the layers and in the history of an exported image.

use support::layout::LayerEntry;
use support::workspace::Varve;
use tar::EntryType;

/// Paths of the entries, sorted; the root itself, whose time changes with what is in it, left out.
fn paths(layer: &[LayerEntry]) -> Vec<&str> {
    let mut paths: Vec<_> = layer.iter().map(|entry| entry.path.as_str()).collect();
    paths.retain(|path| !path.is_empty() && *path != ".");
    paths.sort_unstable();
    paths
}

#[test]
fn every_step_has_its_layer_and_every_instruction_its_history() {
    let varve = Varve::new();
    varve.write("context/a", "a");
    varve.dockerfile(
        "FROM busybox\nENV A=1\nCOPY a /a\nARG X=2\nRUN echo $X > /b\nWORKDIR /w\nLABEL l=1\nUSER 1\n\
         EXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nCMD [\"true\"]\n",
    );
    let image = varve.image([""; 0]);
    let history = image.history();
    let shown: Vec<_> = history
        .iter()
        .map(|(by, empty)| (by.as_str(), *empty))
        .collect();
    assert_eq!(
        shown,
        [
            ("busybox-static of this host", false),
            ("ENV A=1", true),
            ("COPY a /a # buildkit", false),
            ("ARG X=2", true),
            ("RUN |1 X=2 /bin/sh -c echo $X > /b # buildkit", false),
            ("WORKDIR /w", false),
            ("LABEL l=1", true),
            ("USER 1", true),
            ("EXPOSE [1/tcp]", true),
            ("VOLUME [/v]", true),
            ("STOPSIGNAL 9", true),
            ("CMD [\"true\"]", true),
        ]
    );
    assert_eq!(image.layer_digests().len(), 4);
    assert_eq!(paths(&image.layer(1)), ["a"]);
    assert_eq!(paths(&image.layer(2)), ["b"]);
    assert_eq!(paths(&image.layer(3)), ["w"]);
}

#[test]
fn what_was_deleted_is_a_whiteout_in_the_layer() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir -p /d/sub && echo 1 > /d/a && echo 1 > /d/sub/b && echo 1 > /f\n\
         RUN rm /d/a && rm -r /d/sub && rm /f && mkdir /f && mkdir /d/sub && echo 2 > /d/sub/c\n",
    );
    let image = varve.image([""; 0]);
    let layer = image.layer(2);
    let all = paths(&layer);
    assert!(all.contains(&"d/.wh.a"), "{all:?}");
    assert!(all.contains(&"d/sub/c"), "{all:?}");
    let hides_b = all.contains(&"d/sub/.wh..wh..opq") || all.contains(&"d/sub/.wh.b");
    assert!(hides_b, "{all:?}");
    let f = layer.iter().find(|entry| entry.path == "f").unwrap();
    assert_eq!(f.kind, EntryType::Directory);
    assert!(
        !all.contains(&"d/a") && !all.contains(&"d/sub/b"),
        "{all:?}"
    );
    let whiteout = layer.iter().find(|entry| entry.path == "d/.wh.a").unwrap();
    assert_eq!(
        (whiteout.kind, whiteout.body.len()),
        (EntryType::Regular, 0)
    );

    varve
        .varve(["import", "--root", "other", "image", "back"])
        .succeeded();
    let list = ["run", "--root", "other", "back", "find", "/d", "/f"];
    let list = varve.varve(list).success().stdout;
    let mut list: Vec<_> = list.lines().collect();
    list.sort_unstable();
    assert_eq!(list, ["/d", "/d/sub", "/d/sub/c", "/f"]);
}

#[test]
fn a_layer_holds_only_what_its_step_changed() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/kept && echo 1 > /d/changed\n\
         RUN cat /d/* > /dev/null && ls -R /bin /d /etc > /dev/null && chmod 600 /d/changed\n\
         RUN true\n",
    );
    let image = varve.image([""; 0]);
    assert_eq!(paths(&image.layer(2)), ["d", "d/changed"]);
    assert_eq!(paths(&image.layer(3)), [""; 0]);
    assert_eq!(
        image
            .layer(2)
            .iter()
            .find(|entry| entry.path == "d/changed")
            .unwrap()
            .mode,
        0o600
    );
}

#[test]
fn hard_links_of_a_step_are_hard_links_in_its_layer() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN mkdir /d && echo x > /d/a && ln /d/a /d/b && ln /d/a /c\n");
    let layer = varve.image([""; 0]).last_layer();
    let links: Vec<_> = layer
        .iter()
        .filter(|entry| entry.kind == EntryType::Link)
        .collect();
    let files: Vec<_> = layer
        .iter()
        .filter(|entry| entry.kind == EntryType::Regular)
        .collect();
    assert_eq!((links.len(), files.len()), (2, 1), "{:?}", paths(&layer));
    for link in links {
        let target = link
            .link
            .as_deref()
            .map(|link| link.trim_start_matches("./"));
        assert_eq!(target, Some(files[0].path.as_str()));
    }
}

#[test]
fn layers_of_the_base_are_passed_on_byte_by_byte() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    let image = varve.image([""; 0]);
    let base = support::layout::Layout::open(&varve.base());
    assert_eq!(image.layer_digests()[0], base.layer_digests()[0]);
    assert_eq!(
        image.config()["rootfs"]["diff_ids"][0],
        base.config()["rootfs"]["diff_ids"][0]
    );
}
