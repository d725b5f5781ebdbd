//! `cutover delete`: samples of series that are not wanted any more.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use super::block_on;
use super::output::print;
use super::place::{PlaceArgs, SpanArgs, as_texts};
use crate::app::{UsageError, offline};

#[derive(Args, Debug)]
pub(super) struct Command {
    /// Which series: a selector such as 'up{job="a"}', several times for several.
    #[arg(long = "match", value_name = "SELECTOR", required = true)]
    selectors: Vec<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let range = self.span.range()?;
        let selectors = as_texts(&self.selectors);
        if let Some(data) = &self.place.data {
            let deletion = offline::Deletion::prepare(data, &selectors, range)?;
            let count = deletion.count()?;
            if !self.is_meant(count)? {
                return Ok(());
            }
            deletion.run()?;
            return done(count);
        }
        let client = self.place.server.client()?;
        let count = block_on(async { Ok(client.series_in(&selectors, range).await?.len()) })?;
        if !self.is_meant(count)? {
            return Ok(());
        }
        block_on(async { Ok(client.delete_series(&selectors, range).await?) })?;
        done(count)
    }

    /// Whether there is something to delete and whoever typed the command wants that.
    fn is_meant(&self, count: usize) -> anyhow::Result<bool> {
        if count == 0 {
            print("No series has samples there: nothing is deleted.\n")?;
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        let question = format!("{count} series have samples that would be deleted.");
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            let message = format!("{question} Say --yes: there is no terminal to ask on");
            return Err(UsageError(message).into());
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "{question} Delete them? [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        let is_meant = matches!(answer.trim(), "y" | "Y" | "yes");
        if !is_meant {
            print("Nothing is deleted.\n")?;
        }
        Ok(is_meant)
    }
}

fn done(count: usize) -> anyhow::Result<()> {
    print(&format!("Samples of {count} series deleted.\n"))
}
