//! `cutover serve`: the appliance.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::ConfigArgs;
use crate::app;
use crate::config::{self, Config};
use crate::model::unit;
use crate::telemetry::log;

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(flatten)]
    config: ConfigArgs,
    /// The data directory [default: /var/lib/cutover for root, else $XDG_DATA_HOME/cutover].
    #[arg(long, value_name = "DIR", env = "CUTOVER_DATA")]
    data: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:9490].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How long samples are kept, such as 90d; 0 keeps everything [default: 90d].
    #[arg(long, value_name = "AGE", value_parser = unit::parse_duration)]
    retention: Option<Duration>,
    /// Listen beyond loopback although everybody may ask.
    #[arg(long)]
    insecure: bool,
    /// Show the dashboard in this terminal; the log goes to cutover.log in the data directory.
    #[arg(long)]
    tui: bool,
    /// With --tui: show times in UTC instead of $TZ.
    #[arg(long, requires = "tui")]
    utc: bool,
}

impl Command {
    pub(super) fn run(self, logging: &log::Options) -> anyhow::Result<()> {
        let (mut config, path) = Config::load(self.config.config.as_deref())?;
        let data = self.data.or(config.server.data.take());
        let data = data.unwrap_or_else(config::default_data_dir);
        config.server.data = Some(data.clone());
        config.server.insecure |= self.insecure;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        if let Some(retention) = self.retention {
            config.store.retention = retention;
        }
        let screen = if self.tui {
            app::Screen::Dashboard { utc: self.utc }
        } else {
            app::Screen::None
        };
        std::fs::create_dir_all(&data)
            .with_context(|| format!("data directory {} cannot be made", data.display()))?;
        log::start(logging, screen.log_target(&data))?;
        if let Some(path) = &path {
            tracing::info!(config = %path.display(), "configuration read");
        } else {
            tracing::info!("no configuration file, the defaults apply");
        }
        app::serve(config, path, screen)
    }
}
