//! moby's default seccomp profile, which BuildKit uses for every step, as data.
//!
//! What is not listed fails with EPERM. Names that this machine's libseccomp does not know are
//! skipped by the runtimes, so newer system calls may stand here. The facts are those of
//! moby/profiles (August 2026); the conditions on the kernel's version are left out because every
//! kernel that varve runs on fulfils them.

use serde_json::{Value, json};

/// System calls that are always allowed.
const ALWAYS: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod \
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr \
    flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 \
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority \
    getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage \
    getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup \
    io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
    lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek \
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create \
    memfd_secret mincore mkdir mkdirat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
    name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl \
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 \
    pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat \
    rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam \
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority \
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit \
    set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr \
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink \
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate \
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 \
    utimes vfork vmsplice wait4 waitid waitpid write writev";

/// System calls that only this machine's architecture has.
const OF_THIS_ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "arch_prctl modify_ldt"
} else if cfg!(any(target_arch = "aarch64", target_arch = "arm")) {
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
} else if cfg!(target_arch = "powerpc64") {
    "sync_file_range2 swapcontext"
} else if cfg!(target_arch = "riscv64") {
    "riscv_flush_icache"
} else if cfg!(target_arch = "s390x") {
    "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"
} else {
    ""
};

/// The native architecture and those whose programs its kernel runs too; without a list, the
/// native one.
///
/// moby lists x32 for x86-64 as well. Distributions have switched it off in their kernels, and
/// libseccomp needs half of its time for it: 4 of 8 ms per step.
const ARCHITECTURES: &[&str] = if cfg!(target_arch = "x86_64") {
    &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
} else if cfg!(target_arch = "aarch64") {
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
} else if cfg!(target_arch = "s390x") {
    &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"]
} else {
    &[]
};

/// System calls that come with a capability of the process.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    (
        "CAP_SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Values of personality(2) that change nothing of importance: Linux, Linux32, UNAME26, both, and
/// the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families that socket(2) refuses: the kernel's crypto interface and virtual machine
/// sockets. The rules below count on exactly one family between them.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The namespace flags of clone(2): mount, cgroup, uts, ipc, user, pid, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// ENOSYS: makes C libraries fall back from clone3(2), whose flags a filter cannot see.
const ENOSYS: u32 = 38;

/// EPERM, for everything else.
const EPERM: u32 = 1;

/// Bits of mknod(2)'s mode that hold the file type, and the types.
const S_IFMT: u64 = 0o170_000;
const S_IFCHR: u64 = 0o020_000;
const NODES_WITHOUT_DEVICE: [u64; 4] = [0, 0o100_000, 0o010_000, 0o140_000];

/// Character devices that do no harm: 0:0 (a whiteout), null, zero, full, random, urandom, tty,
/// console, ptmx; as mknod(2)'s third argument.
const HARMLESS_DEVICES: [u64; 9] = [0, 0x103, 0x105, 0x107, 0x108, 0x109, 0x500, 0x501, 0x502];

/// Which device nodes a step may create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceNodes {
    /// All, as with BuildKit: the device cgroup keeps them from being opened.
    Any,
    /// Those of [`HARMLESS_DEVICES`]: there is no device cgroup, so a node for the host's disk
    /// would give access to it.
    Harmless,
}

/// How a runtime reads a masked comparison. The OCI specification says: `value` is the mask and
/// `valueTwo` what must be left of the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskOrder {
    /// As specified.
    Specified,
    /// The other way round, as libcontainer 0.7 does: with the specified order it would forbid
    /// every clone(2), so no process could fork.
    Swapped,
}

/// The profile for a process with these capabilities, as `linux.seccomp` of the configuration.
pub(super) fn profile(capabilities: &[&str], nodes: DeviceNodes, order: MaskOrder) -> Value {
    let mut names: Vec<&str> = ALWAYS.split_whitespace().collect();
    names.extend(OF_THIS_ARCHITECTURE.split_whitespace());
    for (capability, extra) in BY_CAPABILITY {
        if capabilities.contains(&capability) {
            names.extend(extra.split_whitespace());
        }
    }
    let mut rules = Vec::new();
    match nodes {
        DeviceNodes::Any => names.extend(["mknod", "mknodat"]),
        DeviceNodes::Harmless => rules.extend(harmless_nodes(order)),
    }
    if !capabilities.contains(&"CAP_SYS_ADMIN") {
        let flags = if cfg!(target_arch = "s390x") { 1 } else { 0 };
        rules.push(allow_if(
            "clone",
            &[masked(order, flags, CLONE_NAMESPACES, 0)],
        ));
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    rules.push(allow_if("socket", &[compare(0, AF_ALG, "SCMP_CMP_LT")]));
    rules.push(allow_if("socket", &[compare(0, AF_ALG + 1, "SCMP_CMP_EQ")]));
    rules.push(allow_if("socket", &[compare(0, AF_VSOCK, "SCMP_CMP_GT")]));
    for value in PERSONALITIES {
        rules.push(allow_if("personality", &[compare(0, value, "SCMP_CMP_EQ")]));
    }
    rules.insert(0, json!({ "names": names, "action": "SCMP_ACT_ALLOW" }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": ARCHITECTURES,
        "syscalls": rules,
    })
}

fn harmless_nodes(order: MaskOrder) -> Vec<Value> {
    let mut rules = Vec::new();
    for (name, mode) in [("mknod", 1), ("mknodat", 2)] {
        for kind in NODES_WITHOUT_DEVICE {
            rules.push(allow_if(name, &[masked(order, mode, S_IFMT, kind)]));
        }
        for device in HARMLESS_DEVICES {
            let device = compare(mode + 1, device, "SCMP_CMP_EQ");
            rules.push(allow_if(
                name,
                &[masked(order, mode, S_IFMT, S_IFCHR), device],
            ));
        }
    }
    rules
}

fn allow_if(name: &str, conditions: &[Value]) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": conditions })
}

fn compare(index: u32, value: u64, operator: &str) -> Value {
    json!({ "index": index, "value": value, "op": operator })
}

/// True when `argument & mask == rest`.
fn masked(order: MaskOrder, index: u32, mask: u64, rest: u64) -> Value {
    let (value, value_two) = match order {
        MaskOrder::Specified => (mask, rest),
        MaskOrder::Swapped => (rest, mask),
    };
    json!({ "index": index, "value": value, "valueTwo": value_two, "op": "SCMP_CMP_MASKED_EQ" })
}
