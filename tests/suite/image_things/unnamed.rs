//! Images without a name: what `varve build -q` and `--iidfile` leave.

use support::workspace::Varve;

fn rows(varve: &Varve, arguments: &[&str]) -> Vec<String> {
    let format = "{{.Repository}} {{.Tag}} {{.ID}}";
    let words = ["images", "--no-trunc", "--format", format];
    let listed = varve.varve(words.iter().chain(arguments)).success().stdout;
    listed.lines().map(str::to_owned).collect()
}

fn built(varve: &Varve) -> String {
    let id = varve.build(["-q"]).success().stdout;
    assert!(id.starts_with("sha256:") && id.ends_with('\n'), "{id:?}");
    id.trim_end().to_owned()
}

#[test]
fn an_image_that_nobody_named_is_kept_by_its_id() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo text > /file\nCMD [\"cat\", \"/file\"]\n");
    let id = built(&varve);
    assert_eq!(varve.varve(["run", &id]).success().stdout, "text\n");
    assert_eq!(built(&varve), id);
    let row = [format!("<none> <none> {id}")];
    assert_eq!(rows(&varve, &[]), row);
    assert_eq!(rows(&varve, &["--filter", "dangling=true"]), row);
    assert!(rows(&varve, &["--filter", "dangling=false"]).is_empty());
    let names = "{{.RepoTags}} {{.RepoDigests}}";
    let inspected = varve.varve(["inspect", "-f", names, &id]).success();
    assert_eq!(inspected.stdout, "[] []\n");
    let removed = varve.varve(["rmi", &id[7..19]]).success();
    assert_eq!(removed.stdout, format!("Deleted: {id}\n"));
    assert!(rows(&varve, &[]).is_empty());

    // The same by the other ways to say it.
    varve.build(["--iidfile=id"]).succeeded();
    assert_eq!(varve.read("id"), id);
    assert_eq!(rows(&varve, &[]), row);
    let told = varve.varve(["prune", "--dry-run"]).success().stdout;
    assert!(
        told.contains("would remove 1 image without a name"),
        "{told}"
    );
    assert_eq!(rows(&varve, &[]), row);
    let told = varve.varve(["prune"]).success().stdout;
    assert!(told.contains("removed 1 image without a name"), "{told}");
    assert!(rows(&varve, &[]).is_empty());
    varve.build(["-otype=image"]).succeeded();
    assert_eq!(rows(&varve, &[]), row);
}

#[test]
fn an_image_has_a_name_or_none_and_never_both() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let id = built(&varve);
    let named = [format!("app latest {id}")];
    varve.varve(["tag", &id, "app"]).succeeded();
    assert_eq!(rows(&varve, &[]), named);
    assert_eq!(built(&varve), id);
    assert_eq!(rows(&varve, &[]), named);
    varve.varve(["prune"]).succeeded();
    assert_eq!(rows(&varve, &[]), named);
    varve.varve(["rmi", "app"]).succeeded();
    assert_eq!(built(&varve), id);
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(rows(&varve, &[]), named);
}
