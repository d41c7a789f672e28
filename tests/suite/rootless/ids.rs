//! What there is without subordinate ids, without the programs that map them, without user
//! namespaces; and whose root directory it is.

use support::user::{Hurdle, User};
use support::workspace::Varve;

#[test]
fn without_more_ids_steps_run_as_root_and_a_warning_says_why() {
    for (number, hurdle, reason) in [
        (
            1,
            Hurdle::NoRanges,
            "has no range of ids in /etc/subuid and /etc/subgid: sudo usermod --add-subuids",
        ),
        (2, Hurdle::NoPrograms, "newuidmap is not installed"),
        (3, Hurdle::NoNewPrivileges, "no_new_privs"),
    ] {
        let varve = Varve::new();
        let user = User::with(&varve, number, hurdle);
        varve.dockerfile("FROM busybox\nRUN id -u && touch x && stat -c %u:%g x\n");
        let built = user.build(["-tapp"]).success();
        assert!(built.stderr.contains("0:0"), "{built}");
        assert!(built.stderr.contains(reason), "{built}");
        varve.dockerfile("FROM busybox\nRUN touch x && chown 5 x\n");
        let built = user.build([""; 0]).code(1);
        assert!(built.stderr.contains(reason), "{built}");
        varve.dockerfile("FROM busybox\nRUN touch x\nUSER nobody\nRUN touch /tmp/y\n");
        let built = user.build([""; 0]).code(1);
        assert!(
            built.stderr.contains("the user id 65534 of this step"),
            "{built}"
        );
    }
}

#[test]
fn without_user_namespaces_what_needs_no_step_is_built_and_the_rest_says_why() {
    let varve = Varve::new();
    let user = User::with(&varve, 1, Hurdle::NoNamespaces);
    varve.write("context/file", "content\n");
    varve.dockerfile("FROM busybox\nCOPY --chown=7:8 file /\n");
    user.build(["-tapp", "-otype=oci,dest=image.tar"]).success();
    varve.dockerfile("FROM busybox\nRUN id\n");
    let built = user.build([""; 0]).code(1);
    assert!(
        built.stderr.contains("no user namespace can be made"),
        "{built}"
    );
}

#[test]
fn ids_that_are_taken_away_are_missed_before_anything_is_touched() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN touch x && chown 5 x\n");
    User::new(&varve, 1).build(["-tapp"]).success();
    let refused = User::with(&varve, 1, Hurdle::NoRanges)
        .varve(["run", "app", "id"])
        .code(125);
    assert!(
        refused
            .stderr
            .contains("ids that this user had and has no more"),
        "{refused}"
    );
    User::new(&varve, 1).varve(["run", "app", "id"]).success();
}

#[test]
fn a_root_directory_of_another_user_is_refused() {
    let varve = Varve::new();
    let user = User::new(&varve, 1);
    let images = ["images", "--root"];
    varve.varve(["images"]).success();
    let roots = user.varve(
        images
            .iter()
            .map(Into::into)
            .chain([varve.root().into_os_string()]),
    );
    let roots = roots.code(1).stderr;
    assert!(
        roots.contains("belongs to root, and this is varve61001"),
        "{roots}"
    );
    user.varve(["images"]).success();
    let users = varve.varve(
        images
            .iter()
            .map(Into::into)
            .chain([user.root().into_os_string()]),
    );
    let users = users.code(1).stderr;
    assert!(
        users.contains("belongs to the user with id 61001, and this is root"),
        "{users}"
    );
    assert!(users.contains("choose another --root"), "{users}");
}
