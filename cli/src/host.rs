//! What this machine can do, and which way varve goes on it.
//!
//! The answer is found by trying (`mount::Abilities`), which takes some 50 ms, so it is kept in
//! `<root>/host.json` for as long as nothing that it depends on has changed: the boot, the kernel,
//! the file system of the root, the user, varve itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use mount::{Abilities, Ability, ErofsAbility, KernelVersion, ProbeImage};
use serde::{Deserialize, Serialize};
use snapshotter::{Marks, Method, Options, metadata_image};
use store::{
    BlobId, Content, ContentKey, Delta, DeltaDirectory, DeltaEntry, Leaf, Metadata, Name, Store,
    Timestamp, TreeId, TreeRef,
};

use crate::args::MountsChoice;
use crate::rootless::{self, Standing};

/// File in the root directory that keeps the answer.
const CACHE: &str = "host.json";

/// Changes with each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What depends on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// For which circumstances this is true.
    circumstances: Circumstances,
    /// Why trees are not mounted in the kernel's way; `None` if they are.
    pub(crate) no_kernel_mounts: Option<String>,
    /// Why nothing can be mounted that is written to; `None` if it can.
    no_overlays: Option<String>,
    /// Whether overlayfs has to keep its marks in `user.*` attributes.
    user_marks: bool,
    /// Whether plain directories with such marks can do without the contents of files.
    user_redirects: bool,
    /// Whether uppers can do without flushes.
    volatile: bool,
    /// Whether even a single metadata image needs `metacopy=on` (before Linux 6.16).
    flat_needs_metacopy: bool,
}

/// What the abilities of a host depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    varve: String,
    boot: String,
    kernel: String,
    /// Device number of the file system of the root.
    device: u64,
    /// Which ids there are (user_namespaces(7)): users and groups.
    ids: [String; 2],
    may_mount: bool,
}

impl Circumstances {
    fn now(root: &Path, standing: &Standing) -> anyhow::Result<Self> {
        let device = fs::metadata(root).with_context(|| format!("cannot stat {}", root.display()));
        Ok(Circumstances {
            varve: env!("CARGO_PKG_VERSION").to_owned(),
            boot: fs::read_to_string(BOOT_ID)
                .unwrap_or_default()
                .trim()
                .to_owned(),
            kernel: KernelVersion::running().to_string(),
            device: device?.dev(),
            ids: ["/proc/self/uid_map", "/proc/self/gid_map"]
                .map(|path| fs::read_to_string(path).unwrap_or_default()),
            may_mount: standing.may_mount(),
        })
    }
}

impl Host {
    /// The host as it was found earlier, or as it is found now.
    ///
    /// # Errors
    /// The root directory cannot be used.
    pub(crate) fn get(store: &Store, standing: &Standing) -> anyhow::Result<Self> {
        let circumstances = Circumstances::now(store.root(), standing)?;
        let path = store.root().join(CACHE);
        let known = Self::known(&path);
        if let Some(host) = known.filter(|host: &Host| host.circumstances == circumstances) {
            return Ok(host);
        }
        Ok(Self::examine(store, standing)?.0)
    }

    /// Tries everything, and remembers the answer.
    ///
    /// # Errors
    /// The root directory cannot be used.
    pub(crate) fn examine(store: &Store, standing: &Standing) -> anyhow::Result<(Self, Abilities)> {
        let circumstances = Circumstances::now(store.root(), standing)?;
        if let Some(earlier) = Self::known(&store.root().join(CACHE)) {
            let (was, is) = (&earlier.circumstances.ids, &circumstances.ids);
            rootless::check_ids(was, is, standing, store.root())?;
        }
        let abilities = probe(store)?;
        let no_kernel_mounts = match standing {
            Standing::Root => why_not_kernel(&abilities),
            Standing::Mapped { .. } | Standing::SingleId { .. } => {
                Some("the kernel lets only root mount EROFS images".to_owned())
            }
            Standing::Nothing { reason } => Some(reason.clone()),
        };
        let host = Host {
            circumstances,
            no_kernel_mounts,
            no_overlays: why_not_overlays(&abilities),
            user_marks: has_user_marks(&abilities),
            user_redirects: abilities.user_redirects.is_yes(),
            volatile: abilities.volatile_upper.is_yes(),
            flat_needs_metacopy: !abilities.flat_without_metacopy.is_yes(),
        };
        // A cache: the next start finds out again.
        if let Err(error) = host.remember(&store.root().join(CACHE)) {
            tracing::warn!(%error, "cannot remember what this host can do");
        }
        Ok((host, abilities))
    }

    fn known(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn remember(&self, path: &Path) -> anyhow::Result<()> {
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(&new, path)?)
    }

    /// How snapshots are to be mounted here.
    pub(crate) fn options(&self, choice: MountsChoice) -> Options {
        Options {
            volatile: self.volatile,
            flat_needs_metacopy: self.flat_needs_metacopy,
            marks: match self.user_marks {
                true => Marks::User,
                false => Marks::Trusted,
            },
            redirects: self.redirects(choice),
            ..Options::new(self.method(choice))
        }
    }

    /// Whether a whole tree is checked out without contents.
    pub(crate) fn redirects(&self, choice: MountsChoice) -> bool {
        self.method(choice) == Method::Directories && self.user_marks && self.user_redirects
    }

    /// Whether anything can be mounted that is written to.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(crate) fn check_overlays(&self, root: &Path) -> anyhow::Result<()> {
        match &self.no_overlays {
            None => Ok(()),
            Some(reason) => anyhow::bail!(
                "containers cannot be mounted from {}: {reason}; choose a --root on ext4 or XFS \
                 (in a container: on a volume)",
                root.display()
            ),
        }
    }

    /// The way to go.
    pub(crate) fn method(&self, choice: MountsChoice) -> Method {
        match (choice, &self.no_kernel_mounts) {
            (MountsChoice::Kernel, _) | (MountsChoice::Auto, None) => Method::Kernel,
            (MountsChoice::Dirs, _) | (MountsChoice::Auto, Some(_)) => Method::Directories,
        }
    }
}

/// Why containers cannot be given overlays. Without `trusted.*` attributes one can be mounted, but
/// a directory of a lower layer cannot be deleted in it.
fn why_not_overlays(abilities: &Abilities) -> Option<String> {
    match (&abilities.overlay, &abilities.trusted_xattrs) {
        (Ability::Yes, Ability::Yes) => None,
        (Ability::Yes, _) if abilities.user_overlay.is_yes() => None,
        (Ability::No { reason }, _) => Some(reason.clone()),
        (_, Ability::No { reason }) => Some(format!("trusted.* attributes do not work: {reason}")),
    }
}

/// Whether overlays work with marks in `user.*` attributes only.
fn has_user_marks(abilities: &Abilities) -> bool {
    !abilities.trusted_xattrs.is_yes() && abilities.user_overlay.is_yes()
}

/// The first thing that the kernel's way needs and this host does not have.
fn why_not_kernel(abilities: &Abilities) -> Option<String> {
    if let ErofsAbility::None { reason } = &abilities.erofs {
        return Some(format!("EROFS images cannot be mounted: {reason}"));
    }
    let needed = [
        ("overlays", &abilities.overlay),
        ("data-only lower directories", &abilities.data_only_lowers),
        ("stacks of images", &abilities.metacopy_stack),
        ("trusted.* attributes", &abilities.trusted_xattrs),
    ];
    needed
        .into_iter()
        .find_map(|(what, ability)| match ability {
            Ability::Yes => None,
            Ability::No { reason } => Some(format!("{what} do not work: {reason}")),
        })
}

/// Content of the files of the two images that are tried.
const CONTENTS: [&[u8]; 2] = [b"low!", b"high!"];

fn probe(store: &Store) -> anyhow::Result<Abilities> {
    let names = ["low", "high"];
    let mut images = Vec::new();
    for (name, content) in names.into_iter().zip(CONTENTS) {
        let redirect = store.objects().redirect(BlobId::of(content));
        images.push((
            probe_image(store, name, content)?,
            format!("shared/{name}"),
            redirect,
        ));
    }
    let probes: Vec<_> = images
        .iter()
        .zip(CONTENTS)
        .map(|((image, file, redirect), content)| ProbeImage {
            image,
            file,
            redirect: redirect.trim_start_matches('/'),
            content,
        })
        .collect();
    let probes: [ProbeImage<'_>; 2] = probes
        .try_into()
        .map_err(|_| anyhow::anyhow!("the self-test needs two images"))?;
    let scratch = store.root().join(store::layout::INGEST);
    Abilities::probe(&scratch, &probes)
        .with_context(|| format!("cannot test what this host can do in {}", scratch.display()))
}

/// An image with the file `shared/<name>`, made as every other image is.
fn probe_image(store: &Store, name: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let metadata = |mode| Metadata {
        mode,
        uid: 0,
        gid: 0,
        mtime: Timestamp::EPOCH,
        xattrs: std::collections::BTreeMap::new(),
    };
    let size = content.len() as u64;
    let content = Content::File {
        blob: BlobId::of(content),
        size,
    };
    let leaf = DeltaEntry::Leaf(Leaf {
        metadata: metadata(0o644),
        content,
        link: None,
    });
    let directory = |name: &str, entry| -> anyhow::Result<DeltaDirectory> {
        let entries = [(Name::new(name.as_bytes())?, entry)].into();
        Ok(DeltaDirectory {
            metadata: Some(metadata(0o755)),
            opaque: false,
            entries,
        })
    };
    let shared = DeltaEntry::Directory(directory(name, leaf)?);
    let delta = Delta {
        root: directory("shared", shared)?,
    };
    // Only named in messages.
    let tree = TreeRef {
        id: TreeId::from_bytes([0; 32]),
        key: ContentKey::from_bytes([0; 32]),
        inodes: 3,
        bytes: size,
        links: 0,
    };
    Ok(metadata_image::stacked(
        &delta,
        tree,
        store,
        store.objects(),
    )?)
}
