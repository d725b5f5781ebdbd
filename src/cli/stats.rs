//! `cutover stats`: what the store holds, and what that costs.

use std::time::Duration;

use clap::Args;

use super::block_on;
use super::output::{print, table};
use super::place::PlaceArgs;
use crate::app::offline;
use crate::http::wire::{Codec, Encoding, StoreStatus};
use crate::model::unit::{human_bytes, human_duration};

/// A store that was opened a moment ago has nothing to say of what is new.
const OBSERVED_MIN: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(flatten)]
    place: PlaceArgs,
    /// Read every block as well, and say how it is encoded.
    #[arg(long)]
    blocks: bool,
    /// Print JSON, as the API's `data`.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let status = if let Some(data) = &self.place.data {
            offline::status(data, self.blocks)?
        } else {
            let client = self.place.server.client()?;
            block_on(async { Ok(client.store_status(self.blocks).await?) })?
        };
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
        }
        let mut text = shown(&status);
        if let Some(encoding) = &status.encoding {
            text.push_str(&encoded(encoding));
        }
        print(&text)
    }
}

fn shown(status: &StoreStatus) -> String {
    let observed = Duration::from_secs_f64(status.series_observed_seconds.max(0.0));
    let per_sample = match status.bytes_per_sample {
        Some(bytes) => format!("{bytes:.2} bytes"),
        None => "-".to_owned(),
    };
    let rejected: u64 = status.rejected_samples_total.values().sum();
    let rows = [
        (
            "series",
            if observed < OBSERVED_MIN {
                status.series.to_string()
            } else {
                format!(
                    "{}, {} new in the last hour, {} in the last day (seen for {})",
                    status.series,
                    status.series_new_hour,
                    status.series_new_day,
                    human_duration(observed)
                )
            },
        ),
        (
            "head",
            format!(
                "{} samples, {}",
                status.head_samples,
                human_bytes(status.head_bytes)
            ),
        ),
        (
            "sealed",
            format!(
                "{} samples in {} blocks of {} windows, {} generations",
                status.sealed_samples, status.blocks, status.windows, status.generations
            ),
        ),
        ("a sample", per_sample),
        (
            "data file",
            format!(
                "{}, {} in use ({:.0} % dead)",
                human_bytes(status.data_bytes),
                human_bytes(status.live_bytes),
                status.dead_ratio * 100.0
            ),
        ),
        ("write-ahead", human_bytes(status.wal_bytes)),
        ("deletions", format!("{} in force", status.deletions)),
        (
            "done",
            format!(
                "{} commits, {} seals, {} merges, {} rewrites, {} failures",
                status.commits_total,
                status.seals_total,
                status.merges_total,
                status.rewrites_total,
                status.failures_total
            ),
        ),
        ("refused", format!("{rejected} samples")),
    ];
    let line = |(name, value): &(&str, String)| format!("{name:<12} {value}\n");
    rows.iter().map(line).collect()
}

fn encoded(encoding: &Encoding) -> String {
    let row = |column: &str, codec: &Codec| {
        let exceptions = if codec.exceptions {
            " + exceptions"
        } else {
            ""
        };
        vec![
            format!("{column}, {}{exceptions}", codec.codec),
            codec.count.to_string(),
            codec.samples.to_string(),
            codec.bytes.to_string(),
            format!("{:.3}", codec.bytes as f64 / codec.samples.max(1) as f64),
        ]
    };
    let values = encoding.values.iter().map(|codec| row("values", codec));
    let timestamps = encoding.timestamps.iter();
    let rows: Vec<_> = values
        .chain(timestamps.map(|codec| row("timestamps", codec)))
        .collect();
    let header = ["column", "count", "samples", "bytes", "bytes a sample"];
    format!(
        "\n{} blocks of {}, on pages of {}\n{}",
        encoding.blocks,
        human_bytes(encoding.block_bytes),
        human_bytes(encoding.page_bytes),
        table(&header, &rows, &[1, 2, 3, 4])
    )
}
