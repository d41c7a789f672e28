//! The [`Mount`] value, and the system calls that carry it out.
//!
//! Storage makes `Mount`s, execution and containerd take them; nobody else needs to know how a
//! root file system comes about. This is the only crate of the workspace that may contain
//! `unsafe`, and what needs it is small: the ioctls of a loop device, mounts with mapped
//! owners, a fork, and the action of a signal.
//!
//! Reading order:
//! - [`Mount`] and [`OverlayOptions`]: values, no system calls;
//! - [`apply`], [`mount_erofs`], [`mount_overlay`], [`mount_id_mapped`]: make mounts, each under a
//!   [`MountGuard`];
//! - [`unmount`], [`unmount_detached`], [`mounts_below`]: end them, also those of a dead process;
//! - [`enter_private_namespace`]: mounts that cannot outlive the process;
//!   [`enter_user_namespace`]: mounts of an ordinary user; [`fork_process`]; [`reset_signals`];
//! - [`detached`], [`attach`], [`Namespace`]: mounts for somebody who does not see this process's;
//! - [`Abilities`]: what this host can do, found by doing it.
//!
//! What is absent on purpose: making images.

mod mount;
mod overlay;

mod apply;
mod erofs;
mod id_mapped;
mod overlay_mount;

mod fork;
mod guard;
mod namespace;
mod table;
mod user_namespace;

mod abilities;
mod probe;

mod signals;

mod context;
mod loop_device;

mod error;

pub use abilities::{Abilities, Ability, ErofsAbility, KernelVersion};
pub use apply::apply;
pub use erofs::{ErofsBacking, mount_erofs, mount_erofs_with};
pub use error::Error;
pub use fork::{Forked, fork_process};
pub use guard::{MountGuard, unmount, unmount_detached};
pub use id_mapped::{IdMapping, IdRange, IdRanges, mount_id_mapped};
pub use mount::{Kind, Mount};
pub use namespace::{Namespace, attach, detached, enter_private_namespace, isolate_thread};
pub use overlay::{LOWER_COUNT_MAX, Lower, OverlayOptions, RedirectDir};
pub use overlay_mount::{mount_overlay, renew_work_directory};
pub use probe::ProbeImage;
pub use signals::reset_signals;
pub use table::{MountEntry, mounts_below, parse_mountinfo, unmount_all_below};
pub use user_namespace::{MapWriter, enter_user_namespace, may_set_groups, own_ids, partial_ids};
