//! `cutover alert silence`: hold back alerts for a while.

use std::time::Duration;

use clap::Args;

use crate::alert::dispatch::matchers;
use crate::app::UsageError;
use crate::cli::output::print;
use crate::cli::{ServerArgs, block_on};
use crate::http::wire::{NewSilence, SilenceMatcher};
use crate::model::{Clock, MatchOp, Matcher, SystemClock, unit};

#[derive(Args, Debug)]
pub(super) struct Command {
    /// Conditions on the labels, which all have to hold: migration_id=shop 'severity=~warning|info'.
    #[arg(value_name = "MATCHER", required = true, value_parser = matchers::parse)]
    matchers: Vec<Matcher>,
    /// For how long.
    #[arg(long = "for", value_name = "SPAN", value_parser = unit::parse_duration)]
    span: Duration,
    /// Begin after this span instead of now.
    #[arg(long, value_name = "SPAN", value_parser = unit::parse_duration, default_value = "0")]
    after: Duration,
    /// Why, for whoever wonders why nothing was said.
    #[arg(long, value_name = "TEXT")]
    comment: String,
    /// Who says so.
    #[arg(long, value_name = "NAME", env = "USER", default_value = "")]
    by: String,
    /// Change this silence instead of making another.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.span.is_zero() {
            return Err(UsageError("--for 0 would hold nothing back".to_owned()).into());
        }
        // The server's clock may differ by a little; a silence of the past begins now.
        let starts_at = SystemClock::default().now().after(self.after);
        let ends_at = starts_at.after(self.span);
        let silence = NewSilence {
            id: self.id,
            matchers: self.matchers.iter().map(on_the_wire).collect(),
            starts_at: Some(starts_at.to_string()),
            ends_at: ends_at.to_string(),
            created_by: self.by,
            comment: self.comment,
        };
        let client = self.server.client()?;
        let made = block_on(async { Ok(client.silence_set(&silence).await?) })?;
        print(&format!("{} until {ends_at}\n", made.silence_id))
    }
}

fn on_the_wire(matcher: &Matcher) -> SilenceMatcher {
    SilenceMatcher {
        name: matcher.name.clone(),
        value: matcher.value.clone(),
        is_regex: matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
        is_equal: matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
    }
}
