//! `cutover detect`: a recorded series under the default detector.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, stdin, stdout};
use std::path::PathBuf;

use anyhow::Context;
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
        let name = self.file.display().to_string();
        let input: Box<dyn Read> = if self.file.as_os_str() == "-" {
            Box::new(stdin().lock())
        } else {
            Box::new(File::open(&self.file).with_context(|| format!("{name} cannot be read"))?)
        };
        let output = BufWriter::new(stdout().lock());
        match backtest::score(BufReader::new(input), output) {
            Ok(_summary) => Ok(()),
            Err(Error::Write(error)) => Err(error.into()),
            Err(error) => Err(error).with_context(|| name),
        }
    }
}
