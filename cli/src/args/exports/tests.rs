//! What the forms of `-o` mean, and what is said of those that mean nothing.

use super::*;

fn image_output(format: ImageFormat, destination: &str) -> ImageOutput {
    ImageOutput {
        format,
        destination: match destination {
            "-" => Destination::Stdout,
            path => Destination::Path(path.into()),
        },
        is_directory: false,
        names: Vec::new(),
        attributes: ImageAttributes::default(),
    }
}

fn attributes(text: &str) -> Result<ImageAttributes, String> {
    match parse(&format!("type=oci,dest=x,{text}"))? {
        Export::Write(Output::Image(image)) => Ok(image.attributes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_written_to_directories_and_archives() {
    let local = |directory: &str| {
        Export::Write(Output::Local {
            deletes_others: false,
            directory: directory.into(),
            epoch: None,
            platform_split: None,
        })
    };
    let tar = |destination| {
        Export::Write(Output::Tar {
            destination,
            epoch: None,
            platform_split: None,
        })
    };
    for (text, expect) in [
        ("out", local("out")),
        ("a=b", local("a=b")),
        ("type=local,dest=out", local("out")),
        ("type=local,dest=out,mode=copy", local("out")),
        ("-", tar(Destination::Stdout)),
        ("type=tar", tar(Destination::Stdout)),
        ("type=tar,dest=-", tar(Destination::Stdout)),
        (
            "type=tar,dest=x.tar",
            tar(Destination::Path("x.tar".into())),
        ),
        ("type=cacheonly", Export::CacheOnly),
    ] {
        assert_eq!(parse(text).as_ref(), Ok(&expect), "{text}");
    }
    let expect = Export::Write(Output::Local {
        deletes_others: false,
        directory: "d".into(),
        epoch: Some(Some(7)),
        platform_split: Some(false),
    });
    let text = "type=local,dest=d,platform-split=0,source-date-epoch=7";
    assert_eq!(parse(text), Ok(expect));
}

#[test]
fn images_are_written_to_archives_and_layouts() {
    let oci = |dest| image_output(ImageFormat::Oci, dest);
    let image = |image| Export::Write(Output::Image(image));
    for (text, expect) in [
        ("type=oci,dest=x.tar", image(oci("x.tar"))),
        ("type=oci", image(oci("-"))),
        ("dest=x.tar,type=oci", image(oci("x.tar"))),
        ("type=oci,\"dest=a,b.tar\"", image(oci("a,b.tar"))),
        (
            "type=oci,dest=d,tar=false,\"name=a:1,b\"",
            image(ImageOutput {
                is_directory: true,
                names: vec!["a:1".into(), "b".into()],
                ..oci("d")
            }),
        ),
        (
            "type=docker,DEST=x",
            image(image_output(ImageFormat::Docker, "x")),
        ),
        (
            "type=docker,dest=-",
            image(image_output(ImageFormat::Docker, "-")),
        ),
    ] {
        assert_eq!(parse(text).as_ref(), Ok(&expect), "{text}");
    }
}

#[test]
fn a_docker_image_without_a_file_goes_into_docker() {
    assert_eq!(parse("type=docker"), Ok(Export::Load(Load::default())));
    let elsewhere = Load {
        context: Some("remote".into()),
        names: vec!["a".into()],
        ..Load::default()
    };
    let text = "type=docker,context=remote,name=a";
    assert_eq!(parse(text), Ok(Export::Load(elsewhere)));
}

#[test]
fn an_image_output_keeps_it_in_the_store() {
    let store = |store| Ok(Export::Write(Output::Store(store)));
    for text in ["type=image", "type=image,push=false,unpack=true"] {
        assert_eq!(parse(text), store(StoreOutput::default()), "{text}");
    }
    let text = "type=image,\"name=a,b\",name-canonical=true,store=false";
    let expect = StoreOutput {
        names: vec!["a".into(), "b".into()],
        is_canonical: true,
        is_unnamed: true,
        ..StoreOutput::default()
    };
    assert_eq!(parse(text), store(expect));
    for key in ["danging-name-empty-only", "dangling-name-empty-only"] {
        let expect = StoreOutput {
            dangling_prefix: Some("<none>".into()),
            dangling_empty_only: true,
            ..StoreOutput::default()
        };
        let text = format!("type=image,dangling-name-prefix=<none>,{key}=true");
        assert_eq!(parse(&text), store(expect));
    }
}

#[test]
fn an_image_is_pushed_by_its_type_or_by_a_key() {
    let attributes = ImageAttributes {
        compression: Some(Compression::Zstd),
        ..ImageAttributes::default()
    };
    let output = RegistryOutput {
        names: vec!["h/a:1".into(), "h/b".into()],
        by_digest: false,
        is_insecure: true,
        attributes: attributes.clone(),
    };
    let keys = "\"name=h/a:1,h/b\",registry.insecure=true,compression=zstd";
    let pushed = Export::Write(Output::Registry(output.clone()));
    assert_eq!(parse(&format!("type=registry,{keys}")).unwrap(), pushed);
    let kept = StoreOutput {
        names: output.names.clone(),
        attributes,
        ..StoreOutput::default()
    };
    let both = Export::Push(Box::new((kept, output)));
    let text = format!("type=image,push=true,{keys}");
    assert_eq!(parse(&text).unwrap(), both);
}

#[test]
fn attributes_of_images_have_the_names_of_buildx() {
    let usual = ImageAttributes::default;
    for (text, expect) in [
        (
            "compression=zstd,compression-level=19,force-compression=true",
            ImageAttributes {
                compression: Some(Compression::Zstd),
                compression_level: Some(19),
                force_compression: true,
                ..usual()
            },
        ),
        (
            "compression=uncompressed,oci-mediatypes=false,prefer-nondist-layers=1",
            ImageAttributes {
                compression: Some(Compression::None),
                docker_media_types: true,
                keeps_nondistributable: true,
                ..usual()
            },
        ),
        (
            "source-date-epoch=0,rewrite-timestamp=false",
            ImageAttributes {
                epoch: Some(Some(0)),
                rewrite_timestamp: Some(false),
                ..usual()
            },
        ),
        (
            "source-date-epoch=",
            ImageAttributes {
                epoch: Some(None),
                ..usual()
            },
        ),
        ("oci-mediatypes=true", usual()),
    ] {
        assert_eq!(attributes(text).as_ref(), Ok(&expect), "{text}");
    }
    let noted = attributes("annotation.Key=V,annotation-index.k=a=b").unwrap();
    let notes = noted.annotations.iter();
    let notes: Vec<_> = notes.map(|note| (&*note.key, &*note.value)).collect();
    assert_eq!(notes, [("k", "a=b"), ("Key", "V")]);
}

/// A value of `-o`, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("", "empty"),
    (
        "dest=x,tar=false",
        "type= is missing; it is one of oci, docker",
    ),
    ("type=zip", "unknown type \"zip\"; it is one of oci, docker"),
    ("type=dcoker", "(did you mean docker?)"),
    (
        "type=registry,dest=x",
        "takes no key \"dest\"; it takes name",
    ),
    ("type=registry,push=false", "use type=image"),
    ("type=image,push-by-digest=true", "add push=true"),
    ("type=image,push=perhaps", "neither true nor false"),
    (
        "type=oci,dest=x,colour=red",
        "takes no key \"colour\"; it takes dest, tar, name",
    ),
    (
        "type=oci,dest=x,compresion=zstd",
        "(did you mean compression?)",
    ),
    ("type=oci,dest=x,force=1", "takes no key \"force\""),
    (
        "type=local,dest=d,name=x",
        "type=local takes no key \"name\"",
    ),
    (
        "type=local,dest=d,annotation.k=v",
        "type=local takes no key",
    ),
    ("type=local,dest=d,mode=move", "it is copy"),
    ("type=cacheonly,dest=x", "it takes none"),
    ("type=local", "needs dest=DIR"),
    ("type=local,dest=-", "needs dest=DIR"),
    ("type=oci,tar=false", "needs dest=DIR"),
    ("type=docker,tar=false", "needs dest=DIR"),
    ("type=oci,dest=x,tar=maybe", "neither true nor false"),
    (
        "type=oci,dest=x,compression=lz4",
        "uncompressed, gzip, zstd",
    ),
    ("type=oci,dest=x,compression-level=3", "needs compression="),
    (
        "type=oci,dest=x,compression=gzip,compression-level=10",
        "use 0 to 9",
    ),
    (
        "type=oci,dest=x,compression=zstd,compression-level=0",
        "use 1 to 22",
    ),
    (
        "type=oci,dest=x,compression=zstd,compression-level=x",
        "not a whole number",
    ),
    (
        "type=oci,dest=x,compression=zstd,oci-mediatypes=false",
        "conflicts",
    ),
    (
        "type=oci,dest=x,source-date-epoch=now",
        "seconds since 1970",
    ),
    (
        "type=oci,dest=x,annotation-layer.k=v",
        "unknown annotation type",
    ),
    (
        "type=oci,dest=x,oci-artifact=perhaps",
        "neither true nor false",
    ),
    ("type=docker,dest=x,context=c", "dest= writes a file"),
    ("type=oci,dest", "not KEY=VALUE"),
    ("type=oci,dest=a,dest=b", "given twice"),
    ("type=oci,\"dest=a", "not closed"),
];

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    for (text, part) in WRONG {
        let error = parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn standard_output_is_recognised() {
    for (text, expect) in [
        ("-", true),
        ("type=oci", true),
        ("type=docker,dest=-", true),
        ("type=docker", false),
        ("type=oci,dest=x", false),
        ("type=image", false),
        ("out", false),
    ] {
        assert_eq!(parse(text).unwrap().is_stdout(), expect, "{text}");
    }
}

#[test]
fn what_is_said_of_attestations_and_of_unpacking_changes_nothing() {
    for (text, same) in [
        ("type=oci,dest=x,oci-artifact=true", "type=oci,dest=x"),
        ("type=image,unpack=false", "type=image"),
        ("type=image,unpack=true,attestation-inline=1", "type=image"),
        ("type=tar,dest=x,attestation-prefix=p-", "type=tar,dest=x"),
    ] {
        assert_eq!(parse(text), parse(same), "{text}");
    }
    let Ok(Export::Write(Output::Local { deletes_others, .. })) =
        parse("type=local,dest=d,mode=delete")
    else {
        panic!("mode=delete");
    };
    assert!(deletes_others);
}

#[test]
fn push_pushes_images_that_are_kept_as_they_are_and_else_one_more() {
    let after = |texts: &[&str]| {
        let mut exports: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
        push(&mut exports);
        exports
    };
    let own = parse("type=registry").unwrap();
    assert_eq!(after(&[]), std::slice::from_ref(&own));
    let files = parse("out").unwrap();
    assert_eq!(after(&["out"]), [files.clone(), own.clone()]);
    assert_eq!(after(&["out", "type=registry"]), [files, own]);
    let zstd = "type=image,name=r.example/a,compression=zstd";
    let pushed = parse(&format!("{zstd},push=true")).unwrap();
    assert_eq!(after(&[zstd]), std::slice::from_ref(&pushed));
    assert_eq!(after(&[&format!("{zstd},push=true")]), [pushed]);
}
