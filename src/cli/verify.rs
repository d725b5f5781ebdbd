//! `cutover verify`: whether everything in a data directory can be read.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::output::print;
use super::progress::Progress;
use crate::app::offline;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The data directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut progress = Progress::new();
        // Damage that makes the engine panic is listed as a fault; it need not be told twice.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let verified = offline::verify(&self.dir, |done, all| {
            progress.show(|| format!("{done} of {all} blocks"));
        });
        std::panic::set_hook(hook);
        drop(progress);
        let verified = verified?;
        let mut text = String::new();
        for fault in &verified.faults {
            text.push_str(&format!("{fault}\n"));
        }
        text.push_str(&format!(
            "{} series, {} samples in {} blocks of {} windows, {} records, {} write-ahead rows\n",
            verified.series,
            verified.samples,
            verified.blocks,
            verified.windows,
            verified.records,
            verified.rows
        ));
        print(&text)?;
        match verified.faults.len() {
            0 => Ok(()),
            1 => bail!("{}: 1 fault", self.dir.display()),
            faults => bail!("{}: {faults} faults", self.dir.display()),
        }
    }
}
