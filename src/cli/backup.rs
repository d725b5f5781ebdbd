//! `cutover backup`: a copy of the store, made while it is in use.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::block_on;
use super::output::print;
use super::place::PlaceArgs;
use crate::app::offline;
use crate::model::unit::human_bytes;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// Where the copy goes: a directory that is new or empty.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let backup = if let Some(data) = &self.place.data {
            offline::backup(data, &self.dir)?
        } else {
            let dir = std::path::absolute(&self.dir)
                .with_context(|| format!("{} has no absolute path", self.dir.display()))?;
            let client = self.place.server.client()?;
            block_on(async { Ok(client.snapshot(&dir.to_string_lossy()).await?) })?
        };
        let bytes = human_bytes(backup.bytes);
        print(&format!(
            "{}: {bytes}, everything up to commit {}\n",
            backup.dir, backup.seq
        ))
    }
}
