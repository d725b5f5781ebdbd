//! What was typed: the commands, their flags, and how a failure becomes an exit code.
//!
//! One file a command. This module alone prints to standard output and standard error; the rest of
//! the program logs. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 unknown (the server
//! does not answer), 130 on a second interrupt; a closed pipe is 0.

mod alert;
mod backup;
mod check_config;
mod check_rules;
mod compact;
mod dead_letters;
mod delete;
mod demo;
mod detect;
mod export;
mod import;
mod output;
mod place;
mod progress;
mod query;
mod replay;
mod serve;
mod stats;
mod token;
mod verify;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

use crate::alert::rule;
use crate::net::secret::Secret;
use crate::net::tls::{self, Trust};
use crate::telemetry::log;
use crate::{app, client, config, store};

/// Watches a database migration and says when it is safe to cut over.
#[derive(Debug, Parser)]
#[command(name = "cutover", version = VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How much to log: error, warn, info, debug or trace, also per module (info,cutover::store=debug).
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = "CUTOVER_LOG"
    )]
    log_level: log::Filter,

    /// How log lines are written.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance: read change events, store, detect, answer queries.
    Serve(serve::Command),
    /// See it work: a migration played through an in-process Kafka broker.
    Demo(demo::Command),
    /// Attach the dashboard to a running server.
    Watch(watch::Command),
    /// Evaluate a PromQL expression and print a table, or a chart over a range.
    Query(query::Command),
    /// List the messages that could not be understood, the newest first.
    DeadLetters(dead_letters::Command),
    /// See what is alerted and who is told, silence it, and try a channel.
    Alert(alert::Command),
    /// Say what the store holds, how fast it grows, and what that costs.
    Stats(stats::Command),
    /// Write stored samples as OpenMetrics text.
    ///
    /// Every sample with its exact value and time, series by series, with `# EOF` at the end; `cutover
    /// import` and `promtool tsdb create-blocks-from openmetrics` read it. Stale markers are left out.
    Export(export::Command),
    /// Store the samples of a text in a format of Prometheus.
    ///
    /// The file is sent in pieces of whole lines, each checked before it is sent. A wrong line ends the
    /// import; what comes before it is stored by then. Samples that are stored already are no error, so the
    /// same file can be imported again. Refused samples are told, and the exit code is 1.
    Import(import::Command),
    /// Delete samples of the selected series.
    ///
    /// Says first how many series that concerns, and asks. It cannot be undone; the space comes back as
    /// blocks are merged. A server needs `server.admin_api = true` in its configuration.
    Delete(delete::Command),
    /// Copy the store to another directory while it is in use.
    ///
    /// The server goes on meanwhile. The copy is a data directory: to restore it, or to move, run
    /// `cutover serve --data COPY`. The server writes it, so DIR is on the server's host, and its
    /// configuration has to say `server.admin_api = true`.
    Backup(backup::Command),
    /// Check everything in a data directory at rest, and list what is wrong.
    ///
    /// Nothing is changed. Every fault is listed with its file and place; the exit code is 0 when there is
    /// none and 1 otherwise. The directory must not be in use: to check a running server's store, verify a
    /// backup of it.
    Verify(verify::Command),
    /// Give back all space that is not in use in a data directory at rest.
    ///
    /// Everything is merged and both files are written anew, which needs room for a second copy. A running
    /// server does the same by itself when enough is dead.
    Compact(compact::Command),
    /// Score a recorded series with the default detector.
    ///
    /// Reads rows `timestamp,value` (Unix seconds, milliseconds, or YYYY-MM-DD hh:mm:ss in UTC; a first
    /// row of names says where the two columns are) and writes
    /// `timestamp,value,anomaly_score,expected,lower,upper`, one row for each, before the next is read. A
    /// score above 1 is an anomaly that begins or becomes much worse. Nothing has to be tuned.
    Detect(detect::Command),
    /// Make tokens for clients of a server.
    Token(token::Command),
    /// Check a configuration file and say what it sets.
    CheckConfig(check_config::Command),
    /// Check rule files: recording and alerting rules in Prometheus' format.
    ///
    /// Says how many rules a file has, or FILE:LINE and the reason of everything that is wrong: YAML and
    /// keys, expressions, templates, names, durations, repeated rules. The exit code is 1 when a file cannot
    /// be used.
    CheckRules(check_rules::Command),
    /// Say what rules would have told over stored history.
    ///
    /// Evaluates rules step by step over a range of a data directory at rest, as if they had been in force
    /// then, and lists every alert that would have fired: from when to when, how long, and its highest
    /// value; and the anomalies that were opened. Nothing is changed. What was pending before the range
    /// begins anew with it.
    Replay(replay::Command),
}

/// Where a client command finds its server.
#[derive(Args, Clone, Debug)]
struct ServerArgs {
    /// The server's address.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9490",
        env = "CUTOVER_SERVER"
    )]
    server: String,
    /// A file with the token that the server wants to see; the token itself can be in $CUTOVER_TOKEN.
    #[arg(long, value_name = "FILE", env = "CUTOVER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authorities to trust instead of the system's, for an https server.
    #[arg(long, value_name = "FILE", env = "CUTOVER_CA_FILE")]
    ca_file: Option<PathBuf>,
}

impl ServerArgs {
    fn client(&self) -> anyhow::Result<client::Client> {
        let token = match &self.token_file {
            Some(path) => Some(Secret::load(path).map_err(|error| {
                app::UsageError(format!("--token-file {}: {error}", path.display()))
            })?),
            None => std::env::var("CUTOVER_TOKEN").ok().map(Secret::new),
        };
        let trust = self.ca_file.clone().map_or(Trust::System, Trust::File);
        let access = client::Access { token, trust };
        Ok(client::Client::connect_with(&self.server, &access)?)
    }
}

/// Which configuration file a command reads.
#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// The configuration file [default: cutover/cutover.toml in $XDG_CONFIG_HOME, then in /etc].
    #[arg(long, value_name = "FILE", env = "CUTOVER_CONFIG")]
    config: Option<PathBuf>,
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, format) = (env!("CARGO_PKG_VERSION"), store::FORMAT);
    format!("{version} (store format {format})")
});

/// Reads the command line, runs the command and maps its end to an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = log::Options {
        filter: cli.log_level,
        format: cli.log_format,
    };
    let result = match cli.command {
        Command::Serve(command) => command.run(&logging),
        Command::Demo(command) => command.run(&logging),
        Command::Watch(command) => command.run(&logging),
        Command::Query(command) => command.run(),
        Command::DeadLetters(command) => command.run(),
        Command::Alert(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Delete(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Compact(command) => command.run(),
        Command::Detect(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
        Command::CheckRules(command) => command.run(),
        Command::Replay(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<config::Error>()
            || cause.is::<app::UsageError>()
            || cause.is::<tls::Error>()
            || cause.is::<rule::Error>()
        {
            return 2;
        }
        if let Some(error) = cause.downcast_ref::<client::Error>() {
            return match error {
                client::Error::Unreachable { .. } => 3,
                client::Error::Tls(_) | client::Error::Token => 2,
                _ => 1,
            };
        }
    }
    1
}

/// A runtime for the commands that only ask a server.
fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(task)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
