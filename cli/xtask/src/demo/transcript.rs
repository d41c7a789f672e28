//! What a build said: its plain progress, line by line, read back as steps that ran or were cached.

use std::collections::BTreeMap;

/// How one Dockerfile step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// `[summer 2/3] RUN …`, as printed.
    pub(crate) name: String,
    /// Whether the build said `CACHED` instead of running it.
    pub(crate) cached: bool,
}

impl Step {
    /// A `FROM` names an image; whether it counts as cached says nothing about the build.
    fn is_base(&self) -> bool {
        self.name
            .split_once("] ")
            .is_some_and(|(_, command)| command.starts_with("FROM "))
    }
}

/// Collects the steps of one build.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    names: BTreeMap<u32, String>,
    cached: BTreeMap<u32, bool>,
}

impl Transcript {
    /// Takes one line of `--progress=plain`. Lines that are no progress are of no interest.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some((number, text)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' '))
        else {
            return;
        };
        let Ok(number) = number.parse() else { return };
        if text == "CACHED" {
            self.cached.insert(number, true);
        } else if text.starts_with("DONE ") {
            self.cached.entry(number).or_insert(false);
        } else if is_step_name(text) {
            self.names.entry(number).or_insert_with(|| text.to_owned());
        }
    }

    /// All finished Dockerfile steps except `FROM`, in the order of their numbers.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let finished = self.names.iter().filter_map(|(number, name)| {
            Some(Step {
                name: name.clone(),
                cached: *self.cached.get(number)?,
            })
        });
        finished.filter(|step| !step.is_base()).collect()
    }
}

/// `[1/3] …` or `[stage 1/3] …`; `[internal] load build context` is none.
fn is_step_name(text: &str) -> bool {
    let Some((label, _)) = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return false;
    };
    let position = label.rsplit(' ').next().unwrap_or(label);
    position
        .split_once('/')
        .is_some_and(|(step, of)| step.parse::<u32>().is_ok() && of.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<(String, bool)> {
        let mut transcript = Transcript::default();
        text.lines().for_each(|line| transcript.add_line(line));
        transcript
            .steps()
            .into_iter()
            .map(|step| (step.name, step.cached))
            .collect()
    }

    #[test]
    fn steps_are_told_from_their_output_and_from_internal_work() {
        let text = "#1 [internal] load build context\n#1 DONE 0.0s\n\
            #2 [summer 1/3] FROM busybox\n#2 CACHED\n\
            #3 [summer 2/3] RUN sleep 1\n#3 0.213 [4/5] RUN fake\n#3 DONE 1.0s\n\
            #4 [stage-2 1/2] COPY a b\n#4 CACHED\n\
            plain text\n#x [1/1] RUN odd\n";
        let expect = [
            ("[summer 2/3] RUN sleep 1".to_owned(), false),
            ("[stage-2 1/2] COPY a b".to_owned(), true),
        ];
        assert_eq!(steps(text), expect);
    }

    #[test]
    fn a_step_that_did_not_finish_is_not_counted() {
        assert_eq!(steps("#3 [1/2] RUN false\n#3 ERROR: exit code: 1\n"), []);
    }
}
