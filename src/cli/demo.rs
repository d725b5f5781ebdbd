//! `cutover demo`: the appliance with an in-process broker and something to watch.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::output::{print, table};
use crate::app::{self, Counts, Play, Screen};
use crate::telemetry::log;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// Show no dashboard; the API listens all the same.
    #[arg(long)]
    headless: bool,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9490")]
    listen: SocketAddr,
    /// The data directory [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Play these recorded events instead of the story, one JSON object a line.
    #[arg(long, value_name = "FILE.ndjson", num_args = 1..)]
    events: Vec<PathBuf>,
    /// Print the counts and exit once all events are consumed and committed.
    #[arg(long, requires = "events")]
    exit_when_done: bool,
    /// Show times in UTC instead of $TZ.
    #[arg(long)]
    utc: bool,
}

impl Command {
    pub(super) fn run(self, logging: &log::Options) -> anyhow::Result<()> {
        let temporary = match &self.data {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("cutover-demo-").tempdir()?),
        };
        let data = match (&self.data, &temporary) {
            (Some(data), _) => data.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => unreachable!("one of the two was made"),
        };
        std::fs::create_dir_all(&data)?;
        let with_dashboard =
            !self.headless && !self.exit_when_done && std::io::stdout().is_terminal();
        let screen = if with_dashboard {
            Screen::Dashboard { utc: self.utc }
        } else {
            Screen::None
        };
        log::start(logging, screen.log_target(&data))?;
        let play = if self.events.is_empty() {
            Play::Story
        } else {
            Play::Events {
                files: self.events,
                exit_when_done: self.exit_when_done,
            }
        };
        match app::demo(self.listen, data, play, screen)? {
            Some(counts) => print(&counted(&counts)),
            None => Ok(()),
        }
    }
}

/// The counts per source, table and operation; records without a table are shown with a dash.
fn counted(counts: &Counts) -> String {
    let rows: Vec<_> = counts
        .iter()
        .map(|((source, table, operation), count)| {
            let table = if table.is_empty() { "—" } else { table };
            vec![
                source.clone(),
                table.to_owned(),
                operation.clone(),
                count.to_string(),
            ]
        })
        .collect();
    let total: u64 = counts.values().sum();
    let table = table(&["source", "table", "operation", "count"], &rows, &[3]);
    format!("{table}\n{total} changes in all\n")
}
