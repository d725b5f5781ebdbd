//! `cutover alert expire`: end a silence now.

use clap::Args;

use crate::cli::output::print;
use crate::cli::{ServerArgs, block_on};

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The silence's id, as `cutover alert list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let silence = block_on(async { Ok(client.silence_expire(&self.id).await?) })?;
        print(&format!("{} ended at {}\n", silence.id, silence.ends_at))
    }
}
