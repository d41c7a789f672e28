//! Tests: definitions that contradict themselves are refused, with a reason.

use prost::Message;
use proto::pb;

use crate::op::*;
use crate::*;

fn source() -> pb::Op {
    let identifier = "local://context".to_owned();
    let source = pb::SourceOp {
        identifier,
        ..pb::SourceOp::default()
    };
    pb::Op {
        op: Some(pb::op::Op::Source(source)),
        ..pb::Op::default()
    }
}

fn digest(op: &pb::Op) -> String {
    VertexDigest::of(&op.encode_to_vec()).to_string()
}

fn reading(op: &pb::Op, index: i64) -> Vec<pb::Input> {
    vec![pb::Input {
        digest: digest(op),
        index,
    }]
}

/// Reads `ops` and a terminal op that wants the last of them.
fn read(ops: &[pb::Op]) -> Result<Graph, Error> {
    let last = ops.last().expect("a case has an op");
    let terminal = pb::Op {
        inputs: reading(last, 0),
        ..pb::Op::default()
    };
    raw(&ops.iter().chain([&terminal]).cloned().collect::<Vec<_>>())
}

fn raw(ops: &[pb::Op]) -> Result<Graph, Error> {
    let ops = ops.iter().map(|op| op.encode_to_vec().into()).collect();
    Graph::try_from(&Definition {
        ops,
        ..Definition::default()
    })
}

fn refused(result: Result<Graph, Error>, expected: &str) {
    let error = result.expect_err(expected).to_string();
    assert!(
        error.contains(expected),
        "{error:?} does not say {expected:?}"
    );
}

fn exec(change: impl FnOnce(&mut pb::ExecOp)) -> pb::Op {
    let args = vec!["true".to_owned()];
    let root = pb::Mount {
        input: 0,
        dest: "/".into(),
        ..pb::Mount::default()
    };
    let mut exec = pb::ExecOp {
        meta: Some(pb::Meta {
            args,
            ..pb::Meta::default()
        }),
        mounts: vec![root],
        ..pb::ExecOp::default()
    };
    change(&mut exec);
    let inputs = reading(&source(), 0);
    pb::Op {
        inputs,
        op: Some(pb::op::Op::Exec(exec)),
        ..pb::Op::default()
    }
}

fn refuse_exec(expected: &str, change: impl FnOnce(&mut pb::ExecOp)) {
    refused(read(&[source(), exec(change)]), expected);
}

#[test]
fn an_exec_that_cannot_run_is_refused() {
    assert!(read(&[source(), exec(|_| {})]).is_ok());
    refuse_exec("exec op with no meta", |exec| exec.meta = None);
    refuse_exec("exec op with no args", |exec| {
        exec.meta = Some(pb::Meta::default())
    });
    refuse_exec("exec op with no rootfs", |exec| {
        exec.mounts[0].dest = "/x".into()
    });
    refuse_exec("exec op with no rootfs", |exec| exec.mounts.clear());
    refuse_exec("input 1 of 1 inputs", |exec| exec.mounts[0].input = 1);
    refuse_exec("input -2 of 1 inputs", |exec| exec.mounts[0].input = -2);
    refuse_exec("output index -2 is out of range", |exec| {
        exec.mounts[0].output = -2
    });
    refuse_exec("output index 9223372036854775807", |exec| {
        exec.mounts[0].output = i64::MAX
    });
    refuse_exec("unknown network mode 9", |exec| exec.network = 9);
    refuse_exec("unknown security mode -1", |exec| exec.security = -1);
    refuse_exec("unknown mount type 5", |exec| exec.mounts[0].mount_type = 5);
    refuse_exec("output 0 is written twice", |exec| {
        let mut second = exec.mounts[0].clone();
        second.dest = "/b".into();
        exec.mounts.push(second);
    });
    refuse_exec("20000 mounts", |exec| {
        exec.mounts = vec![exec.mounts[0].clone(); 20_000];
    });
}

#[test]
fn the_output_of_a_secret_mount_is_none_whatever_it_says() {
    let op = exec(|exec| {
        let secret = pb::MountType::Secret.into();
        let dest = "/run/secret".into();
        exec.mounts.push(pb::Mount {
            dest,
            mount_type: secret,
            input: -1,
            ..Default::default()
        });
    });
    let graph = read(&[source(), op]).unwrap();
    let Op::Exec(found) = graph.vertices()[1].op() else {
        panic!("not an exec")
    };
    assert_eq!(found.mounts[1].output, None);
    assert_eq!(found.root().unwrap().output, Some(0));
}

fn file(actions: Vec<pb::FileAction>) -> pb::Op {
    let inputs = reading(&source(), 0);
    let op = Some(pb::op::Op::File(pb::FileOp { actions }));
    pb::Op {
        inputs,
        op,
        ..pb::Op::default()
    }
}

fn mkdir(input: i64, output: i64) -> pb::FileAction {
    let made = pb::FileActionMkDir {
        path: "/d".into(),
        ..Default::default()
    };
    let action = Some(pb::file_action::Action::Mkdir(made));
    pb::FileAction {
        input,
        secondary_input: -1,
        output,
        action,
    }
}

#[test]
fn file_actions_use_inputs_and_earlier_actions_only() {
    let graph = read(&[source(), file(vec![mkdir(0, -1), mkdir(1, 0)])]).unwrap();
    let Op::File(found) = graph.vertices()[1].op() else {
        panic!("not a file op")
    };
    assert_eq!(found.steps[0].input, FileInput::Input(InputIndex(0)));
    assert_eq!(found.steps[1].input, FileInput::Step(0));

    let refuse = |actions, expected: &str| refused(read(&[source(), file(actions)]), expected);
    refuse(vec![], "file op with no actions");
    refuse(vec![mkdir(1, 0)], "action 0 uses the result of action 0");
    refuse(
        vec![mkdir(2, -1), mkdir(0, 0)],
        "action 0 uses the result of action 1",
    );
    refuse(vec![mkdir(-2, 0)], "input -2 of action 0");
    refuse(vec![mkdir(0, 0), mkdir(1, 0)], "output 0 is written twice");
    refuse(
        vec![pb::FileAction {
            action: None,
            ..mkdir(0, 0)
        }],
        "action 0 has an unknown kind",
    );
}

#[test]
fn edges_that_lead_nowhere_are_refused() {
    let user = exec(|_| {});
    refused(
        read(std::slice::from_ref(&user)),
        "invalid missing input digest sha256:",
    );
    let mut wrong = exec(|_| {});
    wrong.inputs = reading(&source(), 1);
    refused(read(&[source(), wrong]), "reads output 1 of");
    let mut negative = exec(|_| {});
    negative.inputs = reading(&source(), -1);
    refused(read(&[source(), negative]), "invalid input output index -1");
    let mut garbled = exec(|_| {});
    garbled.inputs[0].digest = "latest".into();
    refused(read(&[source(), garbled]), "invalid LLB digest \"latest\"");
    let terminal = pb::Op {
        inputs: reading(&source(), 3),
        ..pb::Op::default()
    };
    refused(raw(&[source(), terminal]), "reads output 3 of");
}

#[test]
fn the_last_op_names_the_result() {
    refused(raw(&[source()]), "it has a kind");
    refused(
        raw(&[source(), pb::Op::default()]),
        "no inputs on last vertex",
    );
    let terminal = pb::Op {
        inputs: reading(&source(), 0),
        ..pb::Op::default()
    };
    refused(
        raw(&[source(), terminal.clone(), terminal]),
        "stands before the last one",
    );
    let empty = raw(&[]).unwrap();
    assert_eq!(empty.result(), None);
}

#[test]
fn an_op_that_is_given_twice_is_one_vertex() {
    let graph = read(&[source(), source()]).unwrap();
    assert_eq!(graph.vertices().len(), 1);
}

#[test]
fn kinds_that_are_not_run_are_refused_by_name() {
    let op = pb::PassthroughOp {
        id: "x".into(),
        outputs: vec![0],
    };
    let op = pb::Op {
        op: Some(pb::op::Op::Passthrough(op)),
        ..pb::Op::default()
    };
    refused(read(&[op]), "invalid passthrough op");
    let op = pb::Op {
        op: Some(pb::op::Op::Diff(pb::DiffOp::default())),
        ..pb::Op::default()
    };
    refused(read(&[op]), "diff op without lower or upper input");
    let op = pb::Op {
        op: Some(pb::op::Op::Source(Default::default())),
        ..pb::Op::default()
    };
    refused(read(&[op]), "source identifier can't be empty");
}

#[test]
fn sizes_are_bounded() {
    let many = vec![source().encode_to_vec().into(); OPS_MAX + 1];
    let definition = Definition {
        ops: many,
        ..Definition::default()
    };
    refused(Graph::try_from(&definition), "too large");
    let bytes = vec![0; DEFINITION_BYTES_MAX + 1];
    let error = Definition::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
}

#[test]
fn a_location_in_a_file_that_is_not_there_is_refused() {
    let location = pb::Location {
        source_index: 1,
        ..Default::default()
    };
    let locations = pb::Locations {
        locations: vec![location],
    };
    let source = pb::Source {
        infos: vec![pb::SourceInfo::default()],
        locations: [(digest(&source()), locations)].into(),
    };
    let message = pb::Definition {
        source: Some(source),
        ..Default::default()
    };
    let error = Definition::try_from(message).unwrap_err().to_string();
    assert!(
        error.starts_with("failed to find source map with index 1"),
        "{error}"
    );
}

#[test]
fn deeply_nested_definitions_end_in_an_error_not_in_a_crash() {
    let mut bytes = Vec::new();
    for _ in 0..20_000 {
        // Definition.Source (3) > Source.infos (2) > SourceInfo.definition (3).
        for field in [3, 2, 3] {
            let mut outer = vec![field << 3 | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(&bytes);
            bytes = outer;
        }
        if bytes.len() > 4096 {
            break;
        }
    }
    refused_bytes(&bytes);
}

fn refused_bytes(bytes: &[u8]) {
    let error = Definition::from_bytes(bytes).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[test]
fn names_of_merges_are_made_from_their_inputs() {
    let mut graph = GraphBuilder::new();
    let local = |name: &str| LocalSource::new(name);
    let first = graph.source(local("a"), None, Metadata::default());
    let second = graph.source(local("b"), None, Metadata::named("[b]"));
    let merged = graph.merge(&[Some(first), Some(second)], Metadata::default());
    let diff = graph.diff(Some(first), merged, Metadata::default());
    let finished = graph.finish(diff).unwrap();
    let name = finished.name(finished.result().unwrap().vertex);
    assert_eq!(name, "diff (local://a) -> (merge (local://a, [b]))");
}

#[test]
fn the_name_of_a_tower_of_wide_merges_stays_short_and_is_made_quickly() {
    let mut graph = GraphBuilder::new();
    let mut top = Some(graph.source(LocalSource::new("a"), None, Metadata::default()));
    for _ in 0..40 {
        top = graph.merge(&vec![top; 1000], Metadata::default());
    }
    let graph = graph.finish(top).unwrap();
    let longest = graph
        .vertices()
        .iter()
        .map(|vertex| graph.name(vertex.digest()).len())
        .max();
    assert!(longest.unwrap() < 1100, "{longest:?}");
}

#[test]
fn a_deferred_source_must_be_given_when_it_is_used() {
    let mut graph = GraphBuilder::new();
    let context = graph.defer();
    assert!(matches!(graph.finish(Some(context)), Err(Error::Unfilled)));
    let mut graph = GraphBuilder::new();
    graph.defer();
    let used = graph.source(LocalSource::new("a"), None, Metadata::default());
    assert_eq!(graph.finish(Some(used)).unwrap().vertices().len(), 1);
}

#[test]
fn the_key_of_an_operation_leaves_out_inputs_and_proxies_and_nothing_else() {
    let key = |name: &str, proxy: Option<&str>, args: &str| {
        let mut graph = GraphBuilder::new();
        let root = graph.source(LocalSource::new(name), None, Metadata::default());
        let proxy = proxy.map(|http| ProxyEnv {
            http: http.into(),
            ..ProxyEnv::default()
        });
        let exec = Exec {
            args: vec![args.into()],
            proxy,
            ..Exec::default()
        };
        let outputs = graph.exec(Some(root), exec, Vec::new(), None, Metadata::named(name));
        let graph = graph.finish(Some(outputs.root)).unwrap();
        graph
            .vertex(graph.result().unwrap().vertex)
            .unwrap()
            .key_bytes()
    };
    assert_eq!(key("a", None, "make"), key("b", Some("http://p"), "make"));
    assert_ne!(key("a", None, "make"), key("a", None, "make test"));

    // The second step changes the result of the first, or the input again.
    let mkdir = |path: &str| Mkdir {
        path: path.into(),
        ..Mkdir::default()
    };
    let chained = {
        let mut graph = GraphBuilder::new();
        let root = graph.source(LocalSource::new("a"), None, Metadata::default());
        let chain = FileChain::on(Some(root))
            .mkdir(mkdir("/x"))
            .mkdir(mkdir("/y"));
        let file = graph.file(chain, Metadata::default());
        graph.finish(Some(file)).unwrap()
    };
    let again = {
        let mut op = chained.vertices()[1].op().clone();
        let Op::File(file) = &mut op else {
            panic!("not a file op")
        };
        file.steps[1].input = FileInput::Input(InputIndex(0));
        let mut graph = GraphBuilder::new();
        let root = graph.source(LocalSource::new("a"), None, Metadata::default());
        let file = graph.vertex(op, vec![root], None, Metadata::default());
        graph.finish(Some(file)).unwrap()
    };
    assert_ne!(
        chained.vertices()[1].key_bytes(),
        again.vertices()[1].key_bytes()
    );
}
