//! An overlay's option list, taken apart: what somebody else wrote, or our own read back.

use std::path::PathBuf;

use super::{Lower, OverlayOptions};
use crate::error::Error;

/// The directories and remaining options of an overlay, as read back from an option list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) data_only: Vec<PathBuf>,
    pub(crate) upper: Option<PathBuf>,
    pub(crate) work: Option<PathBuf>,
    /// Flags, and `key=value` pairs.
    pub(crate) flags: Vec<String>,
}

impl Plan {
    pub(crate) fn new(options: &OverlayOptions) -> Self {
        let (upper, work) = options.upper.clone().unzip();
        Self {
            lowers: options
                .lowers
                .iter()
                .map(|lower| lower.path().to_path_buf())
                .collect(),
            data_only: options.data_only.clone(),
            upper,
            work,
            flags: options.flags(),
        }
    }

    /// Reads an option list, whoever wrote it. Nothing is checked that the kernel checks too.
    pub(crate) fn parse<'o>(options: impl IntoIterator<Item = &'o str>) -> Result<Self, Error> {
        let mut plan = Self::default();
        for option in options {
            match option.split_once('=') {
                Some(("lowerdir", list)) => plan.parse_lowers(list)?,
                Some(("upperdir", path)) => plan.upper = Some(unescape(path)),
                Some(("workdir", path)) => plan.work = Some(unescape(path)),
                _ => plan.flags.push(option.to_owned()),
            }
        }
        Ok(plan)
    }

    fn parse_lowers(&mut self, list: &str) -> Result<(), Error> {
        let bad = |reason| Error::MountOption {
            option: format!("lowerdir={list}"),
            reason,
        };
        let mut groups = split_groups(list).into_iter();
        let lowers = groups.next().unwrap_or_default();
        if lowers.iter().any(String::is_empty) {
            return Err(bad("an empty lower directory"));
        }
        self.lowers = lowers.iter().map(|path| unescape(path)).collect();
        for group in groups {
            match group.as_slice() {
                [path] if !path.is_empty() => self.data_only.push(unescape(path)),
                _ => {
                    return Err(bad(
                        "after \"::\" every directory needs a \"::\" of its own",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The option string for mount(2).
    pub(crate) fn to_option_string(&self) -> Result<String, Error> {
        let as_lower = |path: &PathBuf| Lower::Directory(path.clone());
        let mut options = self.flags.clone();
        let layers = OverlayOptions {
            lowers: self.lowers.iter().map(as_lower).collect(),
            data_only: self.data_only.clone(),
            upper: self.upper.clone().zip(self.work.clone()),
            ..OverlayOptions::default()
        };
        options.extend(layers.to_mount()?.options);
        Ok(options.join(","))
    }
}

/// Splits at unescaped "::", and each group at unescaped ":". Escapes stay in.
fn split_groups(list: &str) -> Vec<Vec<String>> {
    let mut groups = vec![vec![String::new()]];
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        // Neither vector is ever empty: each starts with one element and only grows.
        let Some(group) = groups.last_mut() else {
            break;
        };
        let Some(path) = group.last_mut() else { break };
        match character {
            '\\' => {
                path.push(character);
                path.extend(characters.next());
            }
            ':' if characters.next_if_eq(&':').is_some() => groups.push(vec![String::new()]),
            ':' => group.push(String::new()),
            _ => path.push(character),
        }
    }
    groups
}

fn unescape(text: &str) -> PathBuf {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' {
            characters.next().unwrap_or('\\')
        } else {
            character
        });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::Plan;
    use crate::error::Error;
    use crate::overlay::{Lower, OverlayOptions};

    fn directory(path: &str) -> Lower {
        Lower::Directory(path.into())
    }

    #[test]
    fn what_is_rendered_is_read_back_whatever_the_paths() {
        let plain = OverlayOptions {
            lowers: vec![directory("/b"), Lower::Metadata("/a".into())],
            data_only: vec!["/objects".into(), "/lazy".into()],
            upper: Some(("/upper".into(), "/work".into())),
            volatile: true,
            ..OverlayOptions::default()
        };
        let odd = OverlayOptions {
            lowers: vec![
                directory("/a:b"),
                directory("/c,d"),
                directory("/e\\f"),
                directory("/:"),
            ],
            data_only: vec!["/ö::x".into(), "/\\:".into()],
            upper: Some(("/up:per,\\".into(), "/w,o:rk".into())),
            ..OverlayOptions::default()
        };
        for options in [plain, odd] {
            let mount = options.to_mount().expect("valid");
            let plan = Plan::parse(mount.options.iter().map(String::as_str)).expect("readable");
            assert_eq!(plan, Plan::new(&options));
            let string = plan.to_option_string().expect("renderable");
            assert_eq!(string, mount.options.join(","));
        }
    }

    #[test]
    fn malformed_lower_lists_are_refused() {
        let all = [
            "",
            ":",
            "/a:",
            ":/a",
            "/a::",
            "::/a",
            "/a::/b:/c",
            "/a:::/b",
            "/a::/b::",
        ];
        for list in all {
            let option = format!("lowerdir={list}");
            let result = Plan::parse([option.as_str()]);
            assert!(matches!(result, Err(Error::MountOption { .. })), "{list}");
        }
    }
}
