//! What an ordinary user can do, what is slower or missing compared with root, and how to get it.

use crate::rootless::Standing;

/// What is the same for everybody with containers.
const SAME: &str = "the same as for root: RUN with its mounts, varve run, COPY and ADD, pull, push, \
    every output; images are bit for bit those that root builds";

/// What a user namespace costs and lacks, whatever ids it has.
const LESS: [&str; 7] = [
    "slower: a tree that steps read is made a plain directory when it is first used, because the \
     kernel lets only root mount EROFS images: a first step waits for that, and later ones do \
     not. What a step or COPY has added to a base is copied out, and before Linux 6.16 the base \
     too: it takes its size on the disk once more",
    "slower: a directory of a lower layer is not renamed but copied, by programs that know how to \
     (rename(2) answers EXDEV, as with BuildKit); one that does not keep times, like busybox's mv \
     those of links, leaves others than as root",
    "missing: a step cannot make device nodes (mknod); those of a base stay in the image, and \
     steps see empty files in their place",
    "missing: trusted.* attributes of a base stay in the image, but steps do not see them",
    "missing: control groups of their own for steps, unless this user's are delegated",
    "network of steps: the host's, or none (--network=none); ports below \
     net.ipv4.ip_unprivileged_port_start and ping outside of net.ipv4.ping_group_range are refused \
     by the kernel",
    "only root: varve mount, varve daemon",
];

/// What root of a container has to be given to be like any other root.
const ADMIN: &str = "to do all that root can, start this container with CAP_SYS_ADMIN and without \
    what keeps it from mounting: docker run --privileged, or --cap-add SYS_ADMIN with \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined";

/// Paragraphs for the end of `varve doctor`; none for root, if it has all rights.
pub(super) fn describe(standing: &Standing, is_root: bool) -> String {
    let text = describe_user(standing);
    match is_root && *standing != Standing::Root {
        true => format!(
            "{}- {ADMIN}\n",
            text.replacen("\nwithout root", "\nwithout CAP_SYS_ADMIN", 1)
        ),
        false => text,
    }
}

fn describe_user(standing: &Standing) -> String {
    let list =
        |lines: &[&str]| -> String { lines.iter().map(|line| format!("- {line}\n")).collect() };
    match standing {
        Standing::Root => String::new(),
        Standing::Mapped { .. } => format!("\nwithout root:\n- {SAME}\n{}", list(&LESS)),
        Standing::SingleId { reason } => format!(
            "\nwithout root, and with one id:\n- there is one user in containers, root, because \
             {reason}\n- until then steps fail that change owners or users (chown, apt-get, \
             USER), and so do images with files of others than root\n{}",
            list(&LESS)
        ),
        Standing::Nothing { reason } => format!(
            "\nwithout root, and without user namespaces:\n- missing: RUN, varve run, secrets, \
             because {reason}\n- COPY and ADD with --chown and --chmod, pull, push, and every \
             output work, and give the images that root builds\n- only root: varve mount, varve \
             daemon\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        assert_eq!(describe(&Standing::Root, true), "");
        let reason = || "newuidmap is not installed".to_owned();
        for standing in [
            Standing::SingleId { reason: reason() },
            Standing::Nothing { reason: reason() },
        ] {
            let text = describe(&standing, false);
            assert!(
                text.contains("because newuidmap is not installed"),
                "{text}"
            );
        }
        let text = describe(&Standing::Mapped { ids: 65537 }, false);
        assert!(
            text.contains("- slower: ") && text.contains("- missing: "),
            "{text}"
        );
    }

    #[test]
    fn root_without_its_rights_is_told_so() {
        let standing = Standing::Nothing {
            reason: "the container forbids them".to_owned(),
        };
        let text = describe(&standing, true);
        assert!(
            text.starts_with("\nwithout CAP_SYS_ADMIN, and without user"),
            "{text}"
        );
        assert!(text.contains("--cap-add SYS_ADMIN"), "{text}");
        assert!(
            standing
                .describe(true)
                .starts_with("root without CAP_SYS_ADMIN")
        );
        assert!(standing.describe(false).starts_with("not root"));
    }
}
