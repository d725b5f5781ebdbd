//! `cutover export`: stored samples as OpenMetrics text.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::block_on;
use super::place::{PlaceArgs, SpanArgs, as_texts};
use super::progress::Progress;
use crate::app::offline;
use crate::client::ExportError;
use crate::model::unit::human_bytes;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// Which series: a selector such as 'up{job="a"}', several times for several [default: all].
    #[arg(
        long = "match",
        value_name = "SELECTOR",
        default_value = r#"{__name__=~".+"}"#
    )]
    selectors: Vec<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// The file to write; it gets its name when it is complete [default: standard output].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Some(path) = &self.output else {
            return self.write(BufWriter::new(std::io::stdout().lock()));
        };
        let context = || format!("{} cannot be written", path.display());
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
        self.write(BufWriter::new(file.as_file_mut()))?;
        file.as_file().sync_all().with_context(context)?;
        file.persist(path).with_context(context)?;
        Ok(())
    }

    fn write(&self, mut out: impl Write) -> anyhow::Result<()> {
        let range = self.span.range()?;
        let selectors = as_texts(&self.selectors);
        let mut progress = Progress::new();
        let mut bytes = 0;
        let mut sink = |piece: &[u8]| {
            bytes += piece.len() as u64;
            progress.show(|| format!("{} exported", human_bytes(bytes)));
            out.write_all(piece)
        };
        if let Some(data) = &self.place.data {
            offline::export(data, &selectors, range, sink)?;
        } else {
            let client = self.place.server.client()?;
            block_on(async {
                let exported = client.export(&selectors, range, &mut sink).await;
                exported.map_err(|error| match error {
                    ExportError::Asked(error) => error.into(),
                    ExportError::Sink(error) => error.into(),
                })
            })?;
        }
        out.flush()?;
        Ok(())
    }
}
