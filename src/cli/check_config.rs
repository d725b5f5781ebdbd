//! `cutover check-config`: whether a file and the rule files that it names are right, and what it sets.

use std::path::PathBuf;

use clap::Args;

use super::ConfigArgs;
use super::output::print;
use crate::config::Config;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The file to check [default: the one that `serve` would read].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (config, path) = Config::load(self.file.or(self.config.config).as_deref())?;
        config.rule_set(path.as_deref())?;
        let origin = match path {
            Some(path) => format!("{} is valid", path.display()),
            None => "no configuration file: the defaults apply".to_owned(),
        };
        print(&format!("{origin}\n{}", config.summary()))
    }
}
