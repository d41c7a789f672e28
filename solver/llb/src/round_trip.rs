//! Tests: what is written is read back, and what is no definition is refused without a panic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::metadata::ProgressGroup;
use crate::op::*;
use crate::*;

/// One vertex of a generated graph; inputs are taken from earlier vertices by these numbers.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    text: String,
    number: u32,
    inputs: Vec<usize>,
    flag: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let inputs = prop::collection::vec(any::<usize>(), 0..4);
    (0..6u8, "[a-z/é]{0,6}", any::<u32>(), inputs, any::<bool>()).prop_map(
        |(kind, text, number, inputs, flag)| Step {
            kind,
            text,
            number,
            inputs,
            flag,
        },
    )
}

fn metadata(step: &Step, file: usize) -> Metadata {
    Metadata {
        ignore_cache: step.flag,
        description: BTreeMap::from([(CUSTOM_NAME.to_owned(), step.text.clone())]),
        export_cache: step.number.is_multiple_of(3).then_some(step.flag),
        progress_group: step.flag.then(|| ProgressGroup {
            id: step.text.clone(),
            name: "group".into(),
            weak: step.number.is_multiple_of(2),
        }),
        resources: step.number.is_multiple_of(5).then(|| LinuxResources {
            memory_bytes: i64::from(step.number),
            cpuset_cpus: step.text.clone(),
            ..LinuxResources::default()
        }),
        locations: vec![Location {
            file,
            ranges: vec![Range::lines(1, 3), Range::lines(7, 7)],
        }],
        ..Metadata::default()
    }
}

fn exec_of(step: &Step) -> Exec {
    Exec {
        args: vec!["sh".into(), step.text.clone()],
        env: vec![format!("A={}", step.text)],
        cwd: "/".into(),
        user: step.text.clone(),
        proxy: step.flag.then(|| ProxyEnv {
            no: step.text.clone(),
            ..ProxyEnv::default()
        }),
        extra_hosts: vec![HostIp {
            host: "h".into(),
            ip: step.text.clone(),
        }],
        ulimits: vec![Ulimit {
            name: "nofile".into(),
            soft: -1,
            hard: i64::from(step.number),
        }],
        remove_mount_stubs_recursive: true,
        valid_exit_codes: vec![0, step.number as i32],
        network: if step.flag {
            Network::Host
        } else {
            Network::None
        },
        security: if step.flag {
            Security::Insecure
        } else {
            Security::Sandbox
        },
        secret_env: vec![SecretEnv {
            id: "s".into(),
            name: "S".into(),
            optional: step.flag,
        }],
        devices: vec![Device {
            name: "v/d=0".into(),
            optional: step.flag,
        }],
        ..Exec::default()
    }
}

fn exec_mounts(step: &Step, inputs: &[Output]) -> Vec<ExecMount> {
    let at = |dest: &str, kind| Mount {
        dest: dest.into(),
        kind,
        ..Mount::default()
    };
    let cache = CacheMount {
        id: step.text.clone(),
        sharing: CacheSharing::Locked,
    };
    let secret = SecretMount {
        id: "s".into(),
        mode: 0o400,
        uid: 7,
        ..SecretMount::default()
    };
    let mut mounts = vec![
        at(
            "/tmp",
            MountKind::Tmpfs {
                size_bytes: i64::from(step.number),
            },
        )
        .with_source(None),
        at("/cache", MountKind::Cache(cache)).with_source(inputs.first().copied()),
        at("/run/s", MountKind::Secret(secret)).with_source(None),
        at("/run/a", MountKind::Ssh(SshMount::default())).with_source(None),
    ];
    for (number, input) in inputs.iter().enumerate() {
        let mut mount = at(&format!("/m{number}"), MountKind::Bind);
        mount.readonly = number % 2 == 0;
        mount.selector = step.text.clone();
        mount.content_cache = ContentCache::On;
        mounts.push(mount.with_source(Some(*input)));
    }
    mounts
}

fn chain_of(step: &Step, inputs: &[Output]) -> FileChain {
    let chain = FileChain::on(inputs.first().copied());
    let owner = Some(Owner::parse(
        if step.flag { "app:0" } else { "1:staff" },
        chain.base(),
    ));
    let copy = Copy {
        src: "/a".into(),
        dest: step.text.clone(),
        owner: owner.clone(),
        mode: match step.number % 3 {
            0 => CopyMode::Keep,
            1 => CopyMode::Bits(0o7777 & step.number),
            _ => CopyMode::Symbolic("u=rwX".into()),
        },
        timestamp_ns: step.flag.then_some(i64::from(step.number)),
        exclude_patterns: vec![step.text.clone()],
        allow_wildcard: step.flag,
        ..Copy::default()
    };
    chain
        .copy(inputs.last().copied(), copy)
        .mkdir(Mkdir {
            path: "/d".into(),
            mode: 0o755,
            owner,
            ..Mkdir::default()
        })
        .mkfile(Mkfile {
            path: "/f".into(),
            data: vec![0, 255],
            ..Mkfile::default()
        })
        .symlink(Symlink {
            target: "f".into(),
            path: "/l".into(),
            ..Symlink::default()
        })
        .rm(Rm {
            path: "/f".into(),
            allow_wildcard: step.flag,
            ..Rm::default()
        })
}

fn build(steps: &[Step]) -> Graph {
    let mut graph = GraphBuilder::new();
    let file = graph.source_file(SourceFile {
        name: "Dockerfile".into(),
        data: b"FROM scratch\n".to_vec(),
        language: "Dockerfile".into(),
        definition: Some(Box::default()),
    });
    let mut made: Vec<Output> = Vec::new();
    for step in steps {
        let pick = |at: &usize| made.get(at % made.len().max(1)).copied();
        let inputs: Vec<Output> = step.inputs.iter().filter_map(pick).collect();
        let known = metadata(step, file);
        let platform = Some(Platform::new("linux", "amd64"));
        let output = match step.kind {
            0 => graph.source(ImageSource::new(&step.text), platform, known),
            1 => {
                let (root, exec) = (inputs.first().copied(), exec_of(step));
                let mounts = exec_mounts(step, &inputs);
                let outputs = graph.exec(root, exec, mounts, platform, known);
                made.extend(outputs.mounts.iter().map(|(_, output)| *output));
                outputs.root
            }
            2 => graph.file(chain_of(step, &inputs), known),
            3 => {
                let layers: Vec<_> = inputs.iter().copied().map(Some).collect();
                match graph.merge(&layers, known) {
                    Some(merged) => merged,
                    None => continue,
                }
            }
            4 => match graph.diff(inputs.first().copied(), inputs.get(1).copied(), known) {
                Some(diff) => diff,
                None => continue,
            },
            _ => {
                let source = LocalSource {
                    unique: step.text.clone(),
                    ..LocalSource::new("c")
                };
                graph.source(source, platform, known)
            }
        };
        made.push(output);
    }
    graph.finish(made.last().copied()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_definition_survives_the_way_through_a_graph(
        steps in prop::collection::vec(step(), 0..12),
    ) {
        let graph = build(&steps);
        let definition = graph.to_definition();
        let read = Definition::from_bytes(&definition.to_bytes()).unwrap();
        prop_assert_eq!(&read, &definition);
        let again = Graph::try_from(&read).unwrap();
        if graph.result().is_some() {
            prop_assert_eq!(&again, &graph);
        }
        prop_assert_eq!(again.to_definition().to_bytes(), definition.to_bytes());
        // What was decoded says the same as what was marshalled.
        for vertex in again.vertices() {
            let written = wire::vertex(
                vertex.op().clone(),
                vertex.inputs().to_vec(),
                vertex.platform().cloned(),
                vertex.worker_filters().to_vec(),
            );
            prop_assert_eq!(written.digest(), vertex.digest());
        }
    }

    #[test]
    fn the_order_of_operations_does_not_matter(
        steps in prop::collection::vec(step(), 1..12),
        turn in any::<usize>(),
    ) {
        let graph = build(&steps);
        let mut definition = graph.to_definition();
        prop_assume!(definition.ops.len() > 2);
        let last = definition.ops.len() - 1;
        definition.ops[..last].rotate_left(turn % last);
        let read = Graph::try_from(&definition).unwrap();
        prop_assert_eq!(read.result(), graph.result());
        prop_assert_eq!(read.vertices().len(), graph.vertices().len());
        for (at, vertex) in read.vertices().iter().enumerate() {
            for input in vertex.inputs() {
                let mut earlier = read.vertices()[..at].iter();
                let found = earlier.any(|early| early.digest() == input.vertex);
                prop_assert!(found, "an input stands after what uses it");
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_panic(
        steps in prop::collection::vec(step(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let definition = build(&steps).to_definition();
        let mut bytes = definition.to_bytes();
        for (at, byte) in &damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
        let read = Definition::from_bytes(&bytes).and_then(|read| Graph::try_from(&read));
        if let Ok(graph) = read {
            let _printed = graph.to_string();
        }
        // And damage that leaves the envelope whole.
        let mut inner = definition.clone();
        for (at, byte) in &damage {
            if inner.ops.is_empty() {
                continue;
            }
            let op = at.index(inner.ops.len());
            let mut bytes = inner.ops[op].to_vec();
            if !bytes.is_empty() {
                let place = at.index(bytes.len());
                bytes[place] ^= *byte;
            }
            inner.ops[op] = bytes.into();
        }
        if let Ok(graph) = Graph::try_from(&inner) {
            let _printed = graph.to_string();
        }
    }
}
