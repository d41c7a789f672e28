//! What is said to look at the files of images.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::output::format::Format;

/// `varve diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Lines: A for what is only in AFTER, D for what is only in BEFORE (without what was below it), C for
what is in both and different; a directory also when something in it is.
Fields for --format: .Kind .Path .Parts .Before .After (sizes in bytes); `json` prints an object on
each line.

Examples:
  varve diff app:1 app:2
  varve diff --size app:1 app:2                     what an image grew by
  varve diff --format json a b | jq -r 'select(.Parts == [\"mtime\"]) | .Path'")]
pub(crate) struct Diff {
    /// Name or id of an image
    #[arg(value_name = "BEFORE")]
    pub(crate) before: String,
    /// Name or id of another one
    #[arg(value_name = "AFTER")]
    pub(crate) after: String,
    /// Show by how much files grew or shrank, and the sum
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) size: bool,
    /// Form of the list: json, or a template [default: lines as `docker diff` has them]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
}

/// `IMAGE:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImagePath {
    /// The image.
    pub(crate) image: String,
    /// The path in it.
    pub(crate) path: String,
}

impl FromStr for ImagePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A tag has no slash, so the path begins at the first ":/"; one without a slash in front
        // is what is behind the last colon.
        let split = match text.find(":/") {
            Some(at) => Some((&text[..at], &text[at + 1..])),
            None => text.rsplit_once(':'),
        };
        match split {
            Some((image, path)) if !image.is_empty() && !path.is_empty() => Ok(ImagePath {
                image: image.into(),
                path: path.into(),
            }),
            _ => Err("expected IMAGE:PATH, as debian:12:/etc/os-release".into()),
        }
    }
}

/// `varve cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
As `docker cp`: a file or directory goes into DEST if that is a directory, else under that name;
`IMAGE:/dir/.` is what is in the directory. Symbolic links of the image lead nowhere outside of it.

Examples:
  varve cp debian:12:/etc/os-release .
  varve cp app:/usr/local/bin/. ./bin
  varve cp app:/etc - | tar t                       a tar archive on standard output")]
pub(crate) struct Cp {
    /// The image and a path in it
    #[arg(value_name = "IMAGE:PATH")]
    pub(crate) source: ImagePath,
    /// Where to; `-` for a tar archive on standard output
    #[arg(value_name = "DEST|-")]
    pub(crate) target: PathBuf,
    /// Keep the owners that files have in the image
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Follow a symbolic link at the end of PATH
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
}

/// `varve mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
The mount is read-only, stays when the command has ended, and keeps the files of the image from
being collected. It is made where varve is called: who has another mount namespace does not see it.

Examples:
  varve mount debian:12                             prints where it is
  varve mount debian:12 /mnt
  varve mount                                       lists what is mounted
  varve umount debian:12")]
pub(crate) struct Mount {
    /// Name or id of an image; without one, what is mounted is listed
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// On which directory [default: one of its own, below the root directory of varve]
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Form of the list: table, json, or a template
    #[arg(long, value_name = "FORMAT", conflicts_with = "image")]
    pub(crate) format: Option<Format>,
}

/// `varve umount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve umount debian:12                            all mounts of an image
  varve umount /mnt
  varve umount --all")]
pub(crate) struct Unmount {
    /// Names or ids of images, or directories on which some are mounted
    #[arg(value_name = "IMAGE|DIR", required_unless_present = "all")]
    pub(crate) what: Vec<String>,
    /// Unmount all images
    #[arg(short, long, conflicts_with = "what")]
    pub(crate) all: bool,
    /// Take mounts that are in use out of sight
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_behind_the_name() {
        for (text, expected) in [
            ("a:/x", Some(("a", "/x"))),
            ("a:1:/x", Some(("a:1", "/x"))),
            (
                "localhost:5000/a:1:/x:/y",
                Some(("localhost:5000/a:1", "/x:/y")),
            ),
            ("a:1:x/y", Some(("a:1", "x/y"))),
            ("a:etc", Some(("a", "etc"))),
            ("a", None),
            (":/x", None),
            ("a:", None),
        ] {
            let read = text.parse::<ImagePath>().ok();
            let read = read.as_ref().map(|read| (&*read.image, &*read.path));
            assert_eq!(read, expected, "{text}");
        }
    }
}
