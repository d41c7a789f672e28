//! --shm-size, --ulimit and --add-host: what docker's users give their steps.

use support::workspace::Varve;

use super::said;

#[test]
fn steps_get_shared_memory_limits_and_hosts() {
    let varve = Varve::new();
    let options = [
        "--shm-size",
        "2m",
        "--ulimit",
        "nofile=512:1024",
        "--ulimit",
        "core=0",
        "--add-host",
        "build.test:192.0.2.7",
        "--add-host",
        "six.test=[2001:db8::7]",
    ];
    let lines = "RUN df -k /dev/shm | tail -1 | awk '{print $2}'; ulimit -n; ulimit -Hn; ulimit -c; \
        grep test /etc/hosts\n";
    let output = said(&varve, lines, &options);
    assert_eq!(output[..4], ["2048", "512", "1024", "0"], "{output:?}");
    let hosts = output[4..].join(" ").replace('\t', " ");
    assert_eq!(hosts, "192.0.2.7 build.test 2001:db8::7 six.test");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    for (option, value, part) in [
        ("--shm-size", "much", "is no size"),
        ("--ulimit", "files=1", "invalid ulimit type: files"),
        ("--ulimit", "nofile=5:2", "above the hard limit"),
        ("--add-host", "nowhere", "it is not HOST:IP"),
        ("--add-host", "a:b.c", "is no IP address"),
    ] {
        let failed = varve.build([option, value]).code(2);
        assert!(failed.stderr.contains(part), "{option} {value}: {failed}");
    }
}
