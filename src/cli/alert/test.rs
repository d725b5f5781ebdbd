//! `cutover alert test`: whether a channel works, before it has to.

use anyhow::anyhow;
use clap::Args;

use crate::alert::channel::{self, Channel};
use crate::alert::{Notification, Status};
use crate::app::UsageError;
use crate::cli::output::print;
use crate::cli::{ConfigArgs, block_on};
use crate::config::Config;
use crate::model::{Clock as _, SystemClock};

#[derive(Args, Debug)]
pub(super) struct Test {
    /// The channel's name in the configuration.
    #[arg(value_name = "CHANNEL")]
    channel: String,
    /// Send that it is over, too.
    #[arg(long)]
    resolve: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (config, _) = Config::load(self.config.config.as_deref())?;
        let section = find(&config.channels, &self.channel)?;
        let channel = Channel::new(section, config.alert.repeat_interval)
            .map_err(|error| UsageError(error.to_string()))?;
        let clock = SystemClock::default();
        let statuses: &[Status] = if self.resolve {
            &[Status::Firing, Status::Resolved]
        } else {
            &[Status::Firing]
        };
        for status in statuses {
            let url = &config.alert.external_url;
            let notification = channel::trial(channel.name(), url, *status, clock.now());
            let answer = block_on(send(&channel, &notification))?;
            let (name, status) = (channel.name(), status.name());
            print(&format!("{name}: {status}: {answer}\n"))?;
        }
        Ok(())
    }
}

fn find<'a>(
    sections: &'a [channel::Config],
    name: &str,
) -> Result<&'a channel::Config, UsageError> {
    let found = sections.iter().find(|section| section.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = sections.iter().map(|section| &*section.name).collect();
        UsageError(match &*names.join(", ") {
            "" => "the configuration has no [[channel]]".to_owned(),
            names => format!("no channel is called {name:?}; there are {names}"),
        })
    })
}

async fn send(channel: &Channel, notification: &Notification) -> anyhow::Result<String> {
    let name = channel.name();
    let status = notification.status().name();
    channel
        .send(notification)
        .await
        .map_err(|error| match error {
            channel::Error::Later { reason, .. } => {
                anyhow!("{name}: {status}: {reason} (a server would try again)")
            }
            channel::Error::Never { reason } => {
                anyhow!("{name}: {status}: {reason} (a server would not try again)")
            }
        })
}
