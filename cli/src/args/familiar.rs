//! Options of `docker build` that ask for what varve does anyway, or for leaving out what it does
//! not do: they are taken, so that scripts go on working. What they would switch on is refused.
//! Limits are taken as buildx takes them, and it is said that they have no effect.

use clap::Args;

const NO_OTHER_CACHE: &str =
    "caches outside of this store are neither read nor written yet: leave the option out";
const NO_CHECK: &str = "Dockerfiles are not checked yet: leave the option out";
const NO_SQUASH: &str =
    "layers are not put together: copy what counts into a last stage (FROM … COPY --from=…)";
const NO_SECURITY: &str = "steps have one seccomp profile and set of rights: leave the option out";
const NO_PARENT: &str = "steps are below varve's own control group: leave the option out";

/// See the head of this file. None of them changes anything.
#[derive(Debug, Args)]
pub(crate) struct Familiar {
    /// No container is left after a step
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = only_true)]
    rm: Option<bool>,
    /// Nor after one that failed
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    force_rm: Option<bool>,
    /// Contexts are not sent anywhere
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    compress: Option<bool>,
    /// Attestations that are not to be made
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = no_attestation)]
    provenance: Option<String>,
    /// Attestations that are not to be made
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = no_attestation)]
    sbom: Option<String>,
    /// Attestations that are not to be made
    #[arg(long, hide = true, value_parser = no_attestation)]
    attest: Vec<String>,
    /// The one that there is: of buildx's builders none is asked
    #[arg(long, hide = true)]
    builder: Option<String>,
    /// Caches elsewhere
    #[arg(long, hide = true, value_parser = refused(NO_OTHER_CACHE))]
    cache_from: Vec<String>,
    /// Caches elsewhere
    #[arg(long, hide = true, value_parser = refused(NO_OTHER_CACHE))]
    cache_to: Vec<String>,
    /// Only as it is
    #[arg(long, hide = true, value_parser = only_default)]
    isolation: Option<String>,
    /// Looking for what is unusual in a Dockerfile
    #[arg(long, hide = true, num_args = 0, default_missing_value = "", value_parser = refused(NO_CHECK))]
    check: Option<String>,
    /// Anything but a build
    #[arg(long, hide = true, value_parser = only_build)]
    call: Option<String>,
    /// One layer of all
    #[arg(long, hide = true, num_args = 0, default_missing_value = "", value_parser = refused(NO_SQUASH))]
    squash: Option<String>,
    /// Profiles of all steps
    #[arg(long, hide = true, value_parser = refused(NO_SECURITY))]
    security_opt: Vec<String>,
    /// Where the groups of steps are
    #[arg(long, hide = true, value_parser = refused(NO_PARENT))]
    cgroup_parent: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// Limits of the classic builder.
#[derive(Debug, Args)]
struct Limits {
    /// Of all memory
    #[arg(long, short, hide = true)]
    memory: Option<String>,
    /// With what is swapped
    #[arg(long, hide = true, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Of the scheduler
    #[arg(long, hide = true)]
    cpu_period: Option<u64>,
    /// Of the scheduler
    #[arg(long, hide = true, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Of the scheduler
    #[arg(long, short, hide = true)]
    cpu_shares: Option<u64>,
    /// Which processors
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    /// Whose memory
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
}

impl Familiar {
    /// Options that were given and have no effect, though they are meant to have one.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        let Limits {
            memory,
            memory_swap,
            cpu_period,
            cpu_quota,
            cpu_shares,
            cpuset_cpus,
            cpuset_mems,
        } = &self.limits;
        let given = [
            ("--memory", memory.is_some()),
            ("--memory-swap", memory_swap.is_some()),
            ("--cpu-period", cpu_period.is_some()),
            ("--cpu-quota", cpu_quota.is_some()),
            ("--cpu-shares", cpu_shares.is_some()),
            ("--cpuset-cpus", cpuset_cpus.is_some()),
            ("--cpuset-mems", cpuset_mems.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }
}

/// Takes no value at all, for that reason.
fn refused(
    reason: &'static str,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |_| Err(reason.to_owned())
}

fn only_default(text: &str) -> Result<String, String> {
    match text {
        "" | "default" => Ok(text.to_owned()),
        _ => Err("there is one kind of isolation, the default".to_owned()),
    }
}

fn only_build(text: &str) -> Result<String, String> {
    match text {
        "build" => Ok(text.to_owned()),
        _ => Err("a Dockerfile can be built only; checks and outlines are not made yet".to_owned()),
    }
}

fn only_true(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        _ => Err("containers of steps are always removed".to_owned()),
    }
}

fn no_attestation(text: &str) -> Result<String, String> {
    let is_off = text == "false" || text.split(',').any(|field| field == "disabled=true");
    match is_off {
        true => Ok(text.to_owned()),
        false => Err("attestations are not supported yet: leave the option out".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::args::Arguments;

    #[test]
    fn options_that_change_nothing_are_taken_and_others_refused_with_a_reason() {
        let parse = |option: &str| Arguments::try_parse_from(["varve", "build", option, "."]);
        for taken in [
            "--rm",
            "--rm=true",
            "--force-rm",
            "--force-rm=false",
            "--compress",
            "--provenance=false",
            "--sbom=false",
            "--attest=type=sbom,disabled=true",
            "--builder=default",
            "--isolation=default",
            "--call=build",
        ] {
            assert!(parse(taken).is_ok(), "{taken}");
        }
        for (refused, reason) in [
            ("--rm=false", "always removed"),
            ("--provenance", "not supported yet"),
            ("--provenance=mode=max", "not supported yet"),
            ("--sbom=true", "not supported yet"),
            ("--attest=type=sbom", "not supported yet"),
            ("--cache-from=type=gha", "outside of this store"),
            ("--cache-to=type=inline", "outside of this store"),
            ("--isolation=hyperv", "one kind of isolation"),
            ("--check", "not checked yet"),
            ("--call=outline", "built only"),
            ("--squash", "last stage"),
            ("--security-opt=seccomp=unconfined", "one seccomp profile"),
            ("--cgroup-parent=/x", "own control group"),
        ] {
            let error = parse(refused).unwrap_err().to_string();
            assert!(error.contains(reason), "{refused}: {error}");
        }
    }
    #[test]
    fn limits_of_the_classic_builder_are_taken_and_named() {
        let words = ["varve", "build", "-m", "1g", "--cpu-quota=-1", "-c=2", "."];
        let parsed = Arguments::try_parse_from(words).unwrap();
        let crate::args::Command::Build(build) = parsed.command else {
            panic!("{words:?}");
        };
        let expected = ["--memory", "--cpu-quota", "--cpu-shares"];
        assert_eq!(build.familiar.without_effect(), expected);
    }
}
