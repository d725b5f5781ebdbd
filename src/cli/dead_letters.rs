//! `cutover dead-letters`: the messages that could not be understood.

use std::path::PathBuf;

use clap::Args;

use super::output::{print, table};
use super::{ServerArgs, block_on};
use crate::app::offline;
use crate::http::wire::DeadLetter;
use crate::model::Timestamp;

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(flatten)]
    server: ServerArgs,
    /// Read a directory at rest instead of asking a server.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// How many to list.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print them as JSON, with the first 4 KiB of each message.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let letters = if let Some(dir) = &self.data {
            offline::dead_letters(dir, self.limit)?
        } else {
            let client = self.server.client()?;
            block_on(async { Ok(client.dead_letters(self.limit).await?) })?
        };
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&letters)?));
        }
        if letters.is_empty() {
            return print("No dead letters: every message was understood.\n");
        }
        let rows: Vec<_> = letters.iter().map(row).collect();
        let header = [
            "time (UTC)",
            "topic",
            "partition",
            "offset",
            "bytes",
            "reason",
            "detail",
        ];
        print(&table(&header, &rows, &[2, 3, 4]))
    }
}

fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        Timestamp::from_ms(letter.at_ms).to_string(),
        letter.topic.clone(),
        letter.partition.to_string(),
        letter.offset.to_string(),
        letter.value_bytes.to_string(),
        letter.reason.clone(),
        letter.detail.clone(),
    ]
}
