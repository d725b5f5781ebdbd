//! `cutover token new`: a token for a client, shown once.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::output::print;
use crate::http::{Scope, new_token};

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and the lines of configuration that let it in.
    ///
    /// The token is shown here and nowhere else: the configuration holds its SHA-256. A running server
    /// takes new tokens on SIGHUP.
    New(New),
}

#[derive(Args, Debug)]
struct New {
    /// What the token is good for: read, write, admin. Repeat it for several.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_enum)]
    scopes: Vec<ScopeArg>,
    /// What the server calls it in messages [default: its scopes].
    #[arg(long)]
    name: Option<String>,
    /// Write the token to this new file, which only you can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum ScopeArg {
    /// Queries, lists, states, /metrics.
    Read,
    /// Samples and reports of migrations.
    Write,
    /// Deleting, and writing to the server's disk.
    Admin,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Read => Self::Read,
            ScopeArg::Write => Self::Write,
            ScopeArg::Admin => Self::Admin,
        }
    }
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<()> {
        let mut scopes: Vec<&str> = Vec::new();
        for scope in &self.scopes {
            let name = Scope::from(*scope).name();
            if !scopes.contains(&name) {
                scopes.push(name);
            }
        }
        let name = self.name.unwrap_or_else(|| scopes.join("-"));
        let (token, sha256) = new_token();
        let lines = format!(
            "[[server.token]]\nname = {name}\nsha256 = \"{sha256}\"\nscopes = {scopes:?}\n",
            name = toml::Value::String(name)
        );
        let Some(path) = self.out else {
            return print(&format!("{}\n\n{lines}", token.expose()));
        };
        // One that is there already would be lost.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        writeln!(file, "{}", token.expose())?;
        print(&lines)
    }
}
