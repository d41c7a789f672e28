//! Options of `docker build` that ask for what varve does anyway, or for leaving out what it does
//! not do: they are taken, so that scripts go on working. What they would switch on is refused.

use clap::Args;

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
    #[arg(long, hide = true, value_parser = no_other_cache)]
    cache_from: Vec<String>,
    /// Caches elsewhere
    #[arg(long, hide = true, value_parser = no_other_cache)]
    cache_to: Vec<String>,
}

fn only_true(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        _ => Err("containers of steps are always removed".to_owned()),
    }
}

fn no_other_cache(_: &str) -> Result<String, String> {
    Err(
        "caches outside of this store are neither read nor written yet: leave the option out"
            .to_owned(),
    )
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
    use clap::Parser;

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
        ] {
            let error = parse(refused).unwrap_err().to_string();
            assert!(error.contains(reason), "{refused}: {error}");
        }
    }
}
