//! The same inputs and SOURCE_DATE_EPOCH give the same bytes.

use support::workspace::{Varve, run};

const EPOCH: &str = "1700000000";

#[test]
fn the_same_inputs_give_the_same_digest_in_two_roots() {
    let varve = Varve::new();
    varve.write("context/a/b.txt", "b");
    varve.write("context/c.txt", "c");
    varve.dockerfile(
        "FROM busybox AS made\nRUN mkdir /m && date > /dev/null && echo made > /m/f && ln /m/f /m/g\n\
         FROM busybox\nWORKDIR /w\nCOPY . .\nCOPY --from=made /m /m\n\
         RUN rm c.txt && echo run > f && mkdir -p x/y && ln -s f l\nENV A=1\n",
    );
    let layouts = ["one", "two"].map(|name| {
        let dest = format!("type=oci,dest={name},tar=false");
        let mut command = varve.build_command(["--root", &format!("root-{name}"), "-o", &dest]);
        run(command.env("SOURCE_DATE_EPOCH", EPOCH)).succeeded();
        // The clock goes on between the two, and so do the times of the context.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        varve.write("context/a/b.txt", "b");
        support::layout::Layout::open(&varve.path(name))
    });
    assert_eq!(layouts[0].layer_digests(), layouts[1].layer_digests());
    assert_eq!(layouts[0].config(), layouts[1].config());
    assert_eq!(layouts[0].digest(), layouts[1].digest());
    assert_eq!(layouts[0].config()["created"], "2023-11-14T22:13:20Z");
    for layer in 1..layouts[0].layer_digests().len() {
        for entry in layouts[0].layer(layer) {
            assert!(
                entry.mtime <= 1_700_000_000,
                "{} is of {}",
                entry.path,
                entry.mtime
            );
        }
    }
}

#[test]
fn layers_of_a_base_that_was_built_here_stay_what_they_are() {
    let varve = Varve::new();
    varve.write("context/f", "of the base");
    let diff_ids = |name: &str, text: &str, epoch: Option<&str>| {
        varve.dockerfile(text);
        let mut command = varve.build_command(["-t", name]);
        run(match epoch {
            Some(epoch) => command.env("SOURCE_DATE_EPOCH", epoch),
            None => &mut command,
        })
        .succeeded();
        let words = ["inspect", "--format", "{{json .RootFS.Layers}}", name];
        let text = varve.varve(words).success().stdout;
        serde_json::from_str::<Vec<String>>(&text).unwrap()
    };
    for of_base in [None, Some("1000"), Some(EPOCH)] {
        let base = diff_ids("base", "FROM scratch\nCOPY f /\n", of_base);
        for of_child in [None, Some("2000"), Some(EPOCH)] {
            let child = diff_ids("child", "FROM base\nCOPY f /g\n", of_child);
            assert_eq!(child[..1], base, "{of_base:?} {of_child:?}");
            varve
                .varve(["save", "-o", "child.tar", "child"])
                .succeeded();
        }
    }
}

#[test]
fn an_image_is_saved_though_another_has_the_same_layer_by_another_epoch() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY f /\n");
    let layers = |name: &str, epoch: &str, changed: &str| {
        varve.write("context/f", "text");
        varve
            .tool("touch", ["-d", changed, "context/f"])
            .succeeded();
        let mut command = varve.build_command(["--no-cache", "-t", name]);
        run(command.env("SOURCE_DATE_EPOCH", epoch)).succeeded();
        let words = ["inspect", "--format", "{{json .RootFS.Layers}}", name];
        varve.varve(words).success().stdout
    };
    let one = layers("one", "1000", "@5000");
    // What is known of the context goes by its contents: with its times it is read anew.
    varve.varve(["prune", "--all", "--force"]).succeeded();
    let other = layers("other", "2000", "@1000");
    assert_eq!(one, other);
    for name in ["one", "other"] {
        varve.varve(["save", "-o", "image.tar", name]).succeeded();
    }
}

#[test]
fn archives_of_two_builds_are_the_same_bytes() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo x > /f\n");
    for kind in ["oci", "docker"] {
        let archives = ["one", "two"].map(|name| {
            let dest = format!("type={kind},dest={name}.tar,name=app");
            let root = format!("root-{name}");
            let arguments = [
                "--root",
                &root,
                "--build-arg",
                "SOURCE_DATE_EPOCH=1700000000",
                "-o",
                &dest,
            ];
            varve.build(arguments).succeeded();
            std::fs::read(varve.path(format!("{name}.tar"))).unwrap()
        });
        assert!(archives[0] == archives[1], "{kind}");
    }
}

#[test]
fn times_of_directories_alone_do_not_make_another_layer() {
    let varve = Varve::new();
    varve.write("context/f", "text");
    varve.dockerfile(
        "FROM busybox AS other\nRUN touch /tmp/f && rm /tmp/f\nFROM scratch AS plain\nCOPY f /app\n",
    );
    let layers = |root: &str, target: &str| {
        let dest = format!("{root}-{target}");
        let output = format!("type=oci,dest={dest},tar=false");
        let target = format!("--target={target}");
        let arguments = ["--root", root, "-o", &output, &target];
        varve.build(arguments).succeeded();
        support::layout::Layout::open(&varve.path(dest)).layer_digests()
    };
    let made = |root: &str| ["other", "plain"].map(|target| layers(root, target));
    let first = made("one");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(made("two"), first);
}
