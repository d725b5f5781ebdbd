//! `cutover watch`: the dashboard of a running server.

use std::io::IsTerminal;

use anyhow::bail;
use clap::Args;

use super::{ServerArgs, block_on};
use crate::shutdown::Shutdown;
use crate::telemetry::log;
use crate::tui;

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(flatten)]
    server: ServerArgs,
    /// Show times in UTC instead of $TZ.
    #[arg(long)]
    utc: bool,
}

impl Command {
    pub(super) fn run(self, _logging: &log::Options) -> anyhow::Result<()> {
        if !std::io::stdout().is_terminal() {
            bail!("watch draws a dashboard and needs a terminal; for scripts use `cutover query`");
        }
        let client = self.server.client()?;
        block_on(async move {
            let options = tui::Options {
                utc: self.utc,
                ..tui::Options::new(&self.server.server)
            };
            tui::run(client, options, Shutdown::default()).await?;
            Ok(())
        })
    }
}
