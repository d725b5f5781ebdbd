//! What SIGHUP reads again: the tokens, the certificate and the rule files.
//!
//! A configuration that cannot be used is refused whole: what was in force stays, the log says why, and
//! the part `configuration` is degraded until a later one is right. Rule files are the same on their own,
//! with the part `rules`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use super::may_be_open;
use crate::alert::rule::Rules;
use crate::config::Config;
use crate::http::Tokens;
use crate::net::tls::Identity;
use crate::shutdown::Shutdown;
use crate::telemetry::health::{Health, State};

/// What was read at the start, and where it came from.
pub(super) struct Reload {
    /// The file that was read, if any was.
    pub(super) source: Option<PathBuf>,
    pub(super) address: SocketAddr,
    pub(super) insecure: bool,
    pub(super) tokens: Tokens,
    pub(super) identity: Option<Identity>,
    pub(super) rules: Rules,
    pub(super) health: Health,
}

impl Reload {
    pub(super) async fn run(self, hangup: Arc<Notify>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = hangup.notified() => {}
            }
            match self.reload() {
                Ok(()) => {
                    tracing::info!(
                        "SIGHUP: tokens and certificate were read again, rule files are next"
                    );
                    self.health.set("configuration", State::Ok, "");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "SIGHUP: what was in force stays");
                    self.health.set("configuration", State::Degraded, &error);
                }
            }
        }
    }

    fn reload(&self) -> anyhow::Result<()> {
        let (config, _) = Config::load(self.source.as_deref())?;
        let server = config.server;
        may_be_open(self.address, server.tokens.is_empty(), self.insecure)?;
        // The certificate first: it alone can still fail, and then nothing has changed.
        let files = server.tls_files();
        match (&self.identity, files) {
            (Some(identity), Some(files)) => identity.reload(&files)?,
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                tracing::warn!("turning TLS on or off takes a restart");
            }
        }
        self.tokens.replace(&server.tokens)?;
        self.rules.reload(config.rules);
        Ok(())
    }
}
