//! `cutover detect`: a recorded series under the default detector.

use std::fs::File;
use std::io::{BufWriter, Read, stdin, stdout};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use crate::detect::backtest::{self, Error};

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The file to read; - is standard input.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let is_stdin = self.file.as_os_str() == "-";
        let name = if is_stdin {
            "standard input".to_owned()
        } else {
            self.file.display().to_string()
        };
        let input: Box<dyn Read> = if is_stdin {
            Box::new(stdin().lock())
        } else {
            Box::new(File::open(&self.file).with_context(|| format!("{name} cannot be read"))?)
        };
        let output = BufWriter::new(stdout().lock());
        backtest::score(input, output).map_err(|error| match error {
            Error::Row { line, reason } => anyhow!("{name}:{line}: {reason}"),
            Error::Read { line, source } => {
                anyhow::Error::new(source).context(format!("{name}:{line} cannot be read"))
            }
            Error::Write(source) => source.into(),
        })
    }
}
