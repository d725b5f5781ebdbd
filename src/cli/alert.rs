//! `cutover alert`: what fires, who is told of it, what is held back, and whether a channel works; one file
//! an action.

mod expire;
mod list;
mod silence;
mod test;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List alerts with what holds them back, groups with when they are next told, channels with what waits.
    List(list::Command),
    /// Hold back alerts whose labels match, for a while.
    ///
    /// An alert is held back when all matchers hold: name=value, name!=value, name=~regex, name!~regex; a
    /// regular expression has to match the whole value. What still fires when the silence ends is told then.
    Silence(silence::Command),
    /// End a silence now.
    Expire(expire::Command),
    /// Send a made-up alert through one channel of the configuration, and show what comes of it.
    ///
    /// It is sent from here, without a server. The exit code is 0 if the receiver took it and 1 if not;
    /// nothing is tried again.
    Test(test::Test),
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::List(command) => command.run(),
            Action::Silence(command) => command.run(),
            Action::Expire(command) => command.run(),
            Action::Test(test) => test.run(),
        }
    }
}
