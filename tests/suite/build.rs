//! `varve build` as a user meets it.

use support::workspace::Varve;

#[test]
fn an_argument_reaches_the_run_step() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nARG X=1\nRUN echo $X > /f\n");
    varve
        .build(["-t", "app", "--build-arg", "X=two"])
        .succeeded();
    assert_eq!(varve.shell("app", "cat /f"), "two\n");
}
