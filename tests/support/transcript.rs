//! Plain progress read back: which steps a build had, how each ended, what each said.

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ran.
    Done,
    /// It was taken from the cache.
    Cached,
    /// It failed, with this message.
    Failed(String),
    /// It was stopped, because another failed.
    Cancelled,
    /// Nothing was said of its end.
    Unknown,
}

/// A step: `#NUMBER …`.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number.
    pub number: u32,
    /// `[stage 1/3] RUN …`, as printed.
    pub name: String,
    /// How it ended.
    pub ending: Ending,
    /// What it wrote, line by line, without the times.
    pub output: Vec<String>,
    /// What it said of itself: `transferring context: 2B done`.
    pub parts: Vec<String>,
}

/// The steps of a build, by number.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// All of them, also `[internal] …` and those of the export.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// Reads plain progress. What is no progress is of no interest.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut transcript = Transcript::default();
        for line in text.lines() {
            let numbered = line.strip_prefix('#').and_then(|rest| rest.split_once(' '));
            if let Some((number, text)) = numbered
                && let Ok(number) = number.parse()
            {
                transcript.add(number, text);
            }
        }
        transcript
    }

    fn add(&mut self, number: u32, text: &str) {
        let Some(step) = self.steps.iter_mut().find(|step| step.number == number) else {
            self.steps.push(Step {
                number,
                name: text.to_owned(),
                ending: Ending::Unknown,
                output: Vec::new(),
                parts: Vec::new(),
            });
            return;
        };
        if text == "CACHED" {
            step.ending = Ending::Cached;
        } else if text == "CANCELED" {
            step.ending = Ending::Cancelled;
        } else if text
            .strip_prefix("DONE ")
            .is_some_and(|time| time.ends_with('s'))
        {
            step.ending = Ending::Done;
        } else if let Some(message) = text.strip_prefix("ERROR: ") {
            step.ending = Ending::Failed(message.to_owned());
        } else if let Some((time, output)) = text.split_once(' ')
            && time.parse::<f64>().is_ok()
        {
            step.output.push(output.to_owned());
        } else if text != step.name && text != "..." {
            step.parts.push(text.to_owned());
        }
    }

    /// The step whose name contains `part`.
    ///
    /// # Panics
    /// None has, or several have.
    #[track_caller]
    #[must_use]
    pub fn step(&self, part: &str) -> &Step {
        let found: Vec<_> = self
            .steps
            .iter()
            .filter(|step| step.name.contains(part))
            .collect();
        assert!(
            found.len() == 1,
            "not one step has {part:?} in its name: {:#?}",
            self.steps
        );
        found[0]
    }

    /// Whether a step has `part` in its name.
    #[must_use]
    pub fn has(&self, part: &str) -> bool {
        self.steps.iter().any(|step| step.name.contains(part))
    }

    /// The steps of the Dockerfile without its FROMs: those with a position like `2/3`.
    pub fn instructions(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| {
            let label = step
                .name
                .strip_prefix('[')
                .and_then(|rest| rest.split_once("] "));
            label.is_some_and(|(label, text)| {
                let position = label.rsplit(' ').next().unwrap_or(label).split_once('/');
                position
                    .is_some_and(|(at, of)| at.trim().parse::<u32>().and(of.parse::<u32>()).is_ok())
                    && !text.starts_with("FROM ")
            })
        })
    }

    /// What of the Dockerfile was executed: the instructions without `[stage 1/2]`, by number.
    #[must_use]
    pub fn executed(&self) -> Vec<&str> {
        self.ended(&Ending::Done)
    }

    /// What of the Dockerfile was taken from the cache.
    #[must_use]
    pub fn cached(&self) -> Vec<&str> {
        self.ended(&Ending::Cached)
    }

    fn ended(&self, ending: &Ending) -> Vec<&str> {
        let steps = self.instructions().filter(|step| step.ending == *ending);
        let mut texts: Vec<_> = steps
            .map(|step| {
                step.name
                    .split_once("] ")
                    .map_or(step.name.as_str(), |(_, text)| text)
            })
            .collect();
        texts.sort_unstable();
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_endings_and_output_are_read_back() {
        let transcript = Transcript::parse(
            "#1 [internal] load build context\n#1 transferring context: 2B done\n#1 DONE 0.0s\n\n\
             #2 [summer 1/3] FROM busybox\n#2 CACHED\n\
             #3 [summer 2/3] RUN echo 1\n#3 0.213 #9 DONE 1.0s\n#3 ...\n\n\
             #4 [ 2/12] COPY a b\n#4 CACHED\n\n\
             #3 [summer 2/3] RUN echo 1\n#3 DONE 1.0s\n\
             #5 [3/12] RUN false\n#5 ERROR: exit code: 1\nplain text\n",
        );
        assert_eq!(transcript.executed(), ["RUN echo 1"]);
        assert_eq!(transcript.cached(), ["COPY a b"]);
        assert_eq!(transcript.step("echo 1").output, ["#9 DONE 1.0s"]);
        assert_eq!(
            transcript.step("false").ending,
            Ending::Failed("exit code: 1".to_owned())
        );
        assert_eq!(
            transcript.step("load").parts,
            ["transferring context: 2B done"]
        );
        assert_eq!(transcript.step("echo 1").parts, [""; 0]);
        assert!(transcript.has("load build context") && !transcript.has("plain"));
    }
}
