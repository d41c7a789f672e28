//! docker's commands that varve does not have: who types one is told why, and what to do instead.

/// Words, and what is said about them.
const ELSEWHERE: [(&[&str], &str); 4] = [
    (
        &[
            "attach",
            "commit",
            "container",
            "create",
            "exec",
            "export",
            "kill",
            "logs",
            "pause",
            "port",
            "ps",
            "rename",
            "restart",
            "rm",
            "start",
            "stats",
            "stop",
            "top",
            "unpause",
            "update",
            "wait",
        ],
        "varve keeps no containers: one ends with its `varve run`. For those that stay, hand the \
         image to docker or containerd (`varve build --load`)",
    ),
    (
        &["network", "volume"],
        "varve has no networks and volumes of its own: `varve run` takes --network host and \
         --network none, and mounts directories (-v)",
    ),
    (&["info"], "`varve doctor` tells about this machine"),
    (
        &[
            "bake", "compose", "config", "context", "manifest", "node", "plugin", "search",
            "secret", "service", "stack", "swarm", "trust",
        ],
        "this is docker's; `varve --help` lists what varve does",
    ),
];

/// What to say to somebody who types a command of docker that is not here.
pub(crate) fn hint(word: &str) -> Option<&'static str> {
    let mut known = ELSEWHERE.iter();
    let found = known.find(|(words, _)| words.contains(&word));
    found.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_for_words_that_are_no_commands_here() {
        let line = crate::args::Arguments::command();
        for word in ELSEWHERE.iter().flat_map(|(words, _)| *words) {
            assert!(line.find_subcommand(word).is_none(), "{word}");
        }
        assert!(hint("ps").is_some_and(|hint| hint.contains("keeps no containers")));
        assert_eq!(hint("build"), None);
    }
}
