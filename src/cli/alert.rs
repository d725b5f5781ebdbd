//! `cutover alert`: what can be done about alerts from the command line, one file an action.

mod test;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a made-up alert through one channel of the configuration, and show what comes of it.
    ///
    /// It is sent from here, without a server. The exit code is 0 if the receiver took it and 1 if not;
    /// nothing is tried again.
    Test(test::Test),
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Test(test) => test.run(),
        }
    }
}
