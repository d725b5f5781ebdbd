//! `cutover import`: samples from Prometheus' text formats.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::block_on;
use super::output::print;
use super::place::PlaceArgs;
use super::progress::Progress;
use crate::app::offline;
use crate::client::{self, Client};
use crate::ingest::text::{Entry, Format, Parser};

/// A piece has so many bytes and lines, or a little more: what a server takes at once is limited.
const PIECE_BYTES: usize = 4 << 20;
const PIECE_LINES: usize = 100_000;
/// How often a server without room is asked again, and how long after.
const BUSY_TRIES: u32 = 60;
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Refusals that are shown.
const REFUSALS_SHOWN: usize = 10;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The file to read; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The format [default: OpenMetrics when the file ends with `# EOF`, else the text format 0.0.4].
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatArg>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// Prometheus' text format: timestamps in milliseconds.
    Text,
    /// OpenMetrics: timestamps in seconds, `# EOF` at the end.
    Openmetrics,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let name = self.file.display().to_string();
        let mut input = self
            .open()
            .with_context(|| format!("{name} cannot be read"))?;
        let format = match self.format {
            Some(FormatArg::Text) => Format::Text,
            Some(FormatArg::Openmetrics) => Format::OpenMetrics,
            None => detect(&mut input).with_context(|| format!("{name} cannot be read"))?,
        };
        let target = self.target()?;
        let mut pieces = Pieces::new(BufReader::new(input), format);
        let mut progress = Progress::new();
        let (mut samples, mut refusals) = (0, Vec::new());
        while let Some(piece) = pieces
            .next()
            .with_context(|| format!("{name} cannot be read"))?
        {
            samples += check(&piece, format).with_context(|| name.clone())?;
            refusals.extend(target.take(format, &piece.text)?);
            progress.show(|| format!("{samples} samples"));
        }
        drop(progress);
        target.close()?;
        if refusals.is_empty() {
            return print(&format!("{samples} samples imported\n"));
        }
        refusals.truncate(REFUSALS_SHOWN);
        print(&format!("{}\n", refusals.join("\n")))?;
        bail!("not all of the {samples} samples of {name} were taken");
    }

    /// The file; standard input is copied to one first, since its end has to be looked at.
    fn open(&self) -> std::io::Result<File> {
        if self.file.as_os_str() != "-" {
            return File::open(&self.file);
        }
        let mut copy = tempfile::tempfile()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut copy)?;
        copy.rewind()?;
        Ok(copy)
    }

    fn target(&self) -> anyhow::Result<Target> {
        Ok(match &self.place.data {
            Some(data) => Target::Data(offline::Import::open(data)?),
            None => Target::Server(self.place.server.client()?),
        })
    }
}

/// OpenMetrics has an end.
fn detect(file: &mut File) -> std::io::Result<Format> {
    const TAIL: u64 = 64;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    file.rewind()?;
    let is_ended = tail.trim_ascii_end().ends_with(b"# EOF");
    Ok(if is_ended {
        Format::OpenMetrics
    } else {
        Format::Text
    })
}

/// Where the samples go.
enum Target {
    Data(offline::Import),
    Server(Client),
}

impl Target {
    /// Stores a piece; answers what was refused of it, in words.
    fn take(&self, format: Format, text: &[u8]) -> anyhow::Result<Option<String>> {
        match self {
            Self::Data(import) => {
                let imported = import.take(format, text)?;
                let (refused, stored) = (imported.refused, imported.stored);
                Ok(imported
                    .first_refusal
                    .map(|first| format!("{first} (samples refused: {refused}, stored: {stored})")))
            }
            Self::Server(client) => send(client, format, text),
        }
    }

    fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Data(import) => import.close(),
            Self::Server(_) => Ok(()),
        }
    }
}

fn send(client: &Client, format: Format, text: &[u8]) -> anyhow::Result<Option<String>> {
    let content_type = match format {
        Format::Text => "text/plain; version=0.0.4",
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0",
    };
    let mut tries = 0;
    loop {
        let sent = block_on(async { Ok(client.import(content_type, text.to_vec()).await) })?;
        match sent {
            Ok(()) => return Ok(None),
            // The text itself was checked before.
            Err(client::Error::Api {
                status: 400,
                message,
                ..
            }) => return Ok(Some(message)),
            Err(client::Error::Api { status: 503, .. }) if tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whole lines of the file.
struct Piece {
    text: Vec<u8>,
    /// How many lines come before it.
    lines_before: usize,
}

/// How many samples a piece has; refuses one that is not in the format, with the line in the file.
fn check(piece: &Piece, format: Format) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(&piece.text).with_context(|| {
        let first = piece.lines_before + 1;
        format!("the text is not UTF-8, in line {first} or after it")
    })?;
    let mut parser = Parser::new(format, text);
    let mut samples = 0;
    loop {
        match parser.next() {
            Ok(Some(Entry::Sample { .. })) => samples += 1,
            Ok(Some(_)) => {}
            Ok(None) => return Ok(samples),
            Err(mut error) => {
                error.line += piece.lines_before;
                return Err(error.into());
            }
        }
    }
}

/// Cuts a text between two samples, so that what describes a metric stays together.
struct Pieces<R> {
    input: R,
    format: Format,
    lines: usize,
    has_ended: bool,
}

impl<R: BufRead> Pieces<R> {
    fn new(input: R, format: Format) -> Self {
        Self {
            input,
            format,
            lines: 0,
            has_ended: false,
        }
    }

    fn next(&mut self) -> std::io::Result<Option<Piece>> {
        if self.has_ended {
            return Ok(None);
        }
        let lines_before = self.lines;
        let mut text = Vec::new();
        while !self.has_ended {
            let start = text.len();
            if self.input.read_until(b'\n', &mut text)? == 0 {
                self.has_ended = true;
                break;
            }
            self.lines += 1;
            let is_sample = text.get(start).is_some_and(|&byte| byte != b'#');
            let is_full = text.len() >= PIECE_BYTES || self.lines - lines_before >= PIECE_LINES;
            if is_full && is_sample {
                break;
            }
        }
        if text.is_empty() && self.format == Format::Text {
            return Ok(None);
        }
        // Each piece is a text of its own; the last one has to have its end in the file.
        if self.format == Format::OpenMetrics && !self.has_ended {
            text.extend_from_slice(b"# EOF\n");
        }
        Ok(Some(Piece { text, lines_before }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, format: Format) -> Vec<(usize, String)> {
        let mut pieces = Pieces::new(text.as_bytes(), format);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            all.push((piece.lines_before, String::from_utf8(piece.text).unwrap()));
        }
        all
    }

    #[test]
    fn a_short_text_is_one_piece() {
        assert_eq!(
            pieces("a 1\nb 2", Format::Text),
            [(0, "a 1\nb 2".to_owned())]
        );
        assert_eq!(pieces("", Format::Text), []);
        // An empty file is no OpenMetrics, and the parser says so.
        assert_eq!(pieces("", Format::OpenMetrics), [(0, String::new())]);
    }

    #[test]
    fn a_long_text_is_cut_after_a_sample_and_every_piece_has_an_end() {
        let mut text = "a 1\n".repeat(PIECE_LINES - 1);
        text.push_str("# TYPE b gauge\n# HELP b x\nb 1\nb 2\n# EOF\n");
        let pieces = pieces(&text, Format::OpenMetrics);
        assert_eq!(pieces.len(), 2);
        assert!(pieces[0].1.ends_with("# HELP b x\nb 1\n# EOF\n"));
        assert_eq!(pieces[1], (PIECE_LINES + 2, "b 2\n# EOF\n".to_owned()));
        let last = Piece {
            text: b"b 2\nc\n# EOF\n".to_vec(),
            lines_before: 100,
        };
        let error = check(&last, Format::OpenMetrics).unwrap_err();
        assert!(error.to_string().starts_with("line 102, "), "{error}");
    }
}
