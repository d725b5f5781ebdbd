//! `cutover compact`: a data directory at rest without what is dead in it.

use std::path::PathBuf;

use clap::Args;

use super::output::print;
use super::progress::Progress;
use crate::app::offline;
use crate::model::unit::human_bytes;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The data directory, which must not be in use.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut progress = Progress::new();
        progress.show(|| format!("compacting {}", self.dir.display()));
        let compacted = offline::compact(&self.dir)?;
        drop(progress);
        print(&format!(
            "{} samples: {} before, {} after\n",
            compacted.samples,
            human_bytes(compacted.before_bytes),
            human_bytes(compacted.after_bytes)
        ))
    }
}
