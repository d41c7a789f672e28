//! docker's management commands: `varve image ls` is `varve images`, and so on. Each is the very
//! command that it stands for, with its options; only its page says no more than that.

use clap::{Args, Subcommand};

use super::images::{self, Filter};
use super::{Build, Command, Import, Pull, Push, archives, history, space};

/// A command as it is said: in varve's own words or in those of a group.
#[derive(Debug, Subcommand)]
pub(crate) enum Said {
    /// A command by its own name.
    #[command(flatten)]
    Plain(Command),
    /// Commands for images, by docker's names
    Image(Image),
    /// Commands for builds and their cache, by docker's names
    #[command(visible_alias = "buildx")]
    Builder(Builder),
    /// Show or free what images, containers and the build cache take
    System(System),
}

impl Said {
    /// The command that it means.
    pub(crate) fn meant(self) -> Command {
        match self {
            Said::Plain(command) => command,
            Said::Image(Image { command }) => command.meant(),
            Said::Builder(Builder { command }) => match command {
                BuilderCommand::Build(options) => Command::Build(options),
                BuilderCommand::Du(options) => Command::Du(options),
                BuilderCommand::Prune(options) => Command::Prune(space::Prune {
                    keeps_images: true,
                    ..options
                }),
            },
            Said::System(System { command }) => match command {
                SystemCommand::Df(options) => Command::SystemDf(options),
                SystemCommand::Prune(options) => Command::Prune(options),
            },
        }
    }
}

/// `varve image`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Options and examples: those of the command in brackets.")]
pub(crate) struct Image {
    /// What to do
    #[command(subcommand)]
    command: ImageCommand,
}

/// A command of `varve image`.
#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build an image from a Dockerfile (varve build)
    #[command(after_help = "\
The same as `varve build`.

Examples:
  varve image build -t app .")]
    Build(Box<Build>),
    /// Show how an image was made (varve history IMAGE)
    #[command(mut_arg("filter", |filter| filter.hide(true)))]
    #[command(after_help = "\
The same as `varve history IMAGE`.

Examples:
  varve image history --no-trunc debian:12")]
    History(ImageHistory),
    /// Take in images from a layout or archive (varve import)
    #[command(after_help = "\
The same as `varve import`.

Examples:
  varve image import ./layout debian:12")]
    Import(Import),
    /// Show all that is known of images (varve inspect)
    #[command(after_help = "\
The same as `varve inspect`.

Examples:
  varve image inspect -f '{{.Id}}' app")]
    Inspect(images::Inspect),
    /// Take in the images of an archive (varve load)
    #[command(after_help = "\
The same as `varve load`.

Examples:
  varve image load -i app.tar")]
    Load(archives::Load),
    /// List the images in the store (varve images)
    #[command(visible_alias = "list")]
    #[command(after_help = "\
The same as `varve images`, whose page has filters and fields.

Examples:
  varve image ls --filter dangling=false")]
    Ls(images::Images),
    /// Remove images without a name, or all that nobody uses
    Prune(Prune),
    /// Take in an image from a registry (varve pull)
    #[command(after_help = "\
The same as `varve pull`.

Examples:
  varve image pull debian:12")]
    Pull(Pull),
    /// Bring an image to a registry (varve push)
    #[command(after_help = "\
The same as `varve push`.

Examples:
  varve image push registry.example/team/app:1")]
    Push(Push),
    /// Take names of images away (varve rmi)
    #[command(visible_alias = "remove")]
    #[command(after_help = "\
The same as `varve rmi`.

Examples:
  varve image rm app:old")]
    Rm(images::Remove),
    /// Write images into an archive or layout (varve save)
    #[command(after_help = "\
The same as `varve save`.

Examples:
  varve image save -o app.tar app")]
    Save(archives::Save),
    /// Give an image one more name (varve tag)
    #[command(after_help = "\
The same as `varve tag`.

Examples:
  varve image tag app app:before")]
    Tag(images::Tag),
}

impl ImageCommand {
    fn meant(self) -> Command {
        match self {
            ImageCommand::Build(options) => Command::Build(options),
            ImageCommand::History(options) => Command::History(history::History {
                command: None,
                image: Some(options.image),
                list: options.list,
                platform: options.platform,
                human: options.human,
            }),
            ImageCommand::Import(options) => Command::Import(options),
            ImageCommand::Inspect(options) => Command::Inspect(options),
            ImageCommand::Load(options) => Command::Load(options),
            ImageCommand::Ls(options) => Command::Images(options),
            ImageCommand::Prune(options) => Command::ImagePrune(options),
            ImageCommand::Pull(options) => Command::Pull(options),
            ImageCommand::Push(options) => Command::Push(options),
            ImageCommand::Rm(options) => Command::Rmi(options),
            ImageCommand::Save(options) => Command::Save(options),
            ImageCommand::Tag(options) => Command::Tag(options),
        }
    }
}

/// `varve image history`.
#[derive(Debug, Args)]
struct ImageHistory {
    /// An image of the store
    #[arg(value_name = "IMAGE")]
    image: String,
    /// How the list looks
    #[command(flatten)]
    list: history::List,
    /// The platform, as linux/arm64, of an image that has several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Times and sizes for people; `-H=false` prints RFC 3339 and bytes
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
}

/// `varve image prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Goes with what only these images need; the build cache, and what it needs, stays.

Filters: until=24h (made before that) or until=2026-01-31, label=KEY, label=KEY=VALUE, label!=KEY,
label!=KEY=VALUE. All of them must hold.

Examples:
  varve image prune --force
  varve image prune -a --filter until=240h        all that nobody runs or has mounted")]
pub(crate) struct Prune {
    /// Also images that have a name, unless they are mounted or run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what fits, see below (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<Filter>,
}

/// `varve builder`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Options and examples: those of the command in brackets.")]
pub(crate) struct Builder {
    /// What to do
    #[command(subcommand)]
    command: BuilderCommand,
}

/// A command of `varve builder`.
#[derive(Debug, Subcommand)]
enum BuilderCommand {
    /// Build an image from a Dockerfile (varve build)
    #[command(after_help = "\
The same as `varve build`.

Examples:
  varve builder build -t app .")]
    Build(Box<Build>),
    /// Show what takes space (varve du)
    #[command(after_help = "\
The same as `varve du`, whose page has filters and fields.

Examples:
  varve builder du --verbose")]
    Du(space::Usage),
    /// Free the space of the build cache (varve prune, but for images without a name)
    #[command(after_help = "\
The same as `varve prune`, whose page has filters and amounts; but images without a name stay.

Examples:
  varve builder prune --all --force")]
    Prune(space::Prune),
}

/// `varve system`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct System {
    /// What to do
    #[command(subcommand)]
    command: SystemCommand,
}

/// A command of `varve system`.
#[derive(Debug, Subcommand)]
enum SystemCommand {
    /// Show what images, containers and the build cache take
    Df(space::SystemDf),
    /// Free the space of what nothing needs any more (varve prune)
    #[command(after_help = "\
The same as `varve prune`, whose page has filters and amounts. Images with a name stay, also with
--all: `varve image prune --all` removes those that nobody uses.

Examples:
  varve system prune --force")]
    Prune(space::Prune),
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use crate::help::stands_for;

    fn meant(line: &str) -> String {
        let parsed = Arguments::try_parse_from(line.split(' '));
        format!(
            "{:?}",
            parsed.unwrap_or_else(|e| panic!("{line}: {e}")).command
        )
    }

    #[test]
    fn a_command_of_a_group_is_the_one_that_it_stands_for() {
        for (said, plain) in [
            ("image build -t a --no-cache .", "build -t a --no-cache ."),
            ("builder build -t a .", "build -t a ."),
            ("buildx build --load .", "build --load ."),
            (
                "image ls -aq --filter label=x",
                "images -aq --filter label=x",
            ),
            ("image list --digests", "images --digests"),
            ("image inspect -f json a", "inspect -f json a"),
            ("image history -H=false -q a", "history -H=false -q a"),
            ("image pull -q a", "pull -q a"),
            ("image push a", "push a"),
            ("image rm -f a b", "rmi -f a b"),
            ("image remove a", "rmi a"),
            ("image tag a b", "tag a b"),
            ("image save -o f a", "save -o f a"),
            ("image load -i f", "load -i f"),
            ("image import f a", "import f a"),
            ("builder du --verbose", "du --verbose"),
            ("system prune -af", "prune -af"),
        ] {
            assert_eq!(
                meant(&format!("varve {said}")),
                meant(&format!("varve {plain}")),
                "{said}"
            );
        }
        assert!(meant("varve builder prune -af").contains("keeps_images: true"));
    }

    #[test]
    fn a_command_of_a_group_has_all_options_of_the_one_that_it_stands_for() {
        let line = Arguments::command();
        let mut count = 0;
        for group in ["image", "builder", "system"] {
            for one in line.find_subcommand(group).unwrap().get_subcommands() {
                let Some(plain) = stands_for(one) else {
                    continue;
                };
                count += 1;
                let options = |command: &clap::Command| -> Vec<_> {
                    let options = command.get_opts().map(|option| option.get_id().to_string());
                    let mut options: Vec<_> = options.collect();
                    options.sort();
                    options
                };
                let plain = line.find_subcommand(&plain).expect("it names a command");
                assert_eq!(options(one), options(plain), "{group} {}", one.get_name());
            }
        }
        assert_eq!(count, 14);
    }
}
