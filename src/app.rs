//! Composition: open the store, wire the parts, spawn them, stop them in order.
//!
//! The only place that knows every part. Starting goes from the store outwards, and the listener opens
//! last, once what was restored has been written again; stopping goes the other way, so that what was
//! read from Kafka is committed before the store closes.

mod demo;
pub mod offline;
mod own_series;
mod reload;
mod signals;
mod store_series;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpSocket;
use tokio::sync::Notify;

pub use demo::{Counts, Play, demo};

use crate::alert::channel::{self, Channel};
use crate::alert::dispatch::{self, Outlet};
use crate::alert::{self, rule};
use crate::client::Client;
use crate::config::{self, Config};
use crate::http::{self, ApiState, Tokens};
use crate::ingest::{Ways, kafka, push, scrape};
use crate::migration::{self, Tracker};
use crate::model::{Clock, SystemClock};
use crate::net::tls::Identity;
use crate::promql;
use crate::shutdown::{GRACE, Shutdown};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State};
use crate::telemetry::log;
use crate::{detect, tui};

/// A wish that cannot be granted as it was put: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What the terminal shows while the appliance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    None,
    Dashboard { utc: bool },
}

impl Screen {
    /// Where the log goes: nothing else may write to a terminal that shows a dashboard.
    pub fn log_target(self, data: &Path) -> log::Target {
        match self {
            Self::None => log::Target::Stderr,
            Self::Dashboard { .. } => log::Target::File(data.join("cutover.log")),
        }
    }
}

/// Runs the appliance until it is told to stop; `source` is the file that SIGHUP reads again.
pub fn serve(config: Config, source: Option<PathBuf>, screen: Screen) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let shutdown = Shutdown::default();
        let hangup = signals::watch(&shutdown)?;
        let appliance = Appliance::start(config, shutdown.clone(), source.as_deref(), |_| Ok(()))?;
        appliance.reload_on(hangup, source);
        let shown = appliance.show(screen).await;
        appliance.stop().await?;
        shown
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime cannot be started")
}

/// The running appliance.
struct Appliance {
    address: SocketAddr,
    router: Router,
    store: Store,
    migrations: Tracker,
    kafka: Option<kafka::Handle>,
    health: Health,
    insecure: bool,
    tokens: Tokens,
    identity: Option<Identity>,
    rules: rule::Rules,
    shutdown: Shutdown,
}

impl Appliance {
    /// Starts every part; blocks until all of them have. `prologue` has the store to itself before anything else writes to it.
    fn start(
        config: Config,
        shutdown: Shutdown,
        source: Option<&Path>,
        prologue: impl FnOnce(&Store) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let settings = config.settings(source);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        // Bound before anything is opened, so that a taken address costs nothing; it listens last.
        let server = &config.server;
        let tokens = Tokens::new(&server.tokens)?;
        let files = server.tls_files();
        let identity = files.map(|files| Identity::load(&files)).transpose()?;
        let rule_set = config.rule_set(source)?;
        let socket = bind(server)?;
        let address = socket.local_addr()?;
        let data = config
            .server
            .data
            .clone()
            .unwrap_or_else(config::default_data_dir);
        let names = config.server.names.clone();
        let insecure = config.server.insecure;
        let admin_api = config.server.admin_api;
        let store = open_store(&config, &data, address, &clock)?;
        let (writer, reader) = (store.writer(), store.reader());
        let metrics = Metrics::default();
        let health = Health::new(clock.clone());
        health.set("store", State::Ok, "");
        prologue(&store)?;

        let kafka = start_kafka(config.kafka, &store, &clock, &metrics, &health, &shutdown)?;
        let migrations = Tracker::open(
            reader.clone(),
            writer.clone(),
            clock.clone(),
            &config.migrations,
        )?;
        // Whoever asks first sees the migrations' series too.
        migrations.tick()?;
        let tracking = migration::run(migrations.clone(), health.clone(), shutdown.clone());
        shutdown.spawn("migrations", tracking);

        let ways = Ways::open(&reader, &writer, &clock, &metrics, config.otlp)?;
        ways.push.tick()?;
        let pushing = push::run(ways.push.clone(), health.clone(), shutdown.clone());
        shutdown.spawn("push", pushing);
        let scraping = scrape::Parts {
            writer: writer.clone(),
            clock: clock.clone(),
            counters: ways.counters.clone(),
            health: health.clone(),
            targets: ways.targets.clone(),
        };
        scrape::start(config.scrape, &scraping, &shutdown)?;

        let engine = promql::Engine::new(reader.clone(), config.query.limits());
        let watches = config.anomaly.expressions()?;
        let parts = detect::run::Parts {
            promql: engine.clone(),
            reader: reader.clone(),
            writer: writer.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let notifies = config.anomaly.notify;
        let rules = rule::Rules::default();
        let (inbox, posted) = alert::inbox();
        let rule_parts = rule::Parts {
            promql: engine.clone(),
            reader: reader.clone(),
            writer: writer.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            inbox: inbox.clone(),
            external_url: config.alert.external_url.clone(),
        };
        let evaluating = rule::run(rules.clone(), rule_set, rule_parts, shutdown.clone());
        shutdown.spawn("rules", evaluating);
        let detection = detect::run::run(config.anomaly, parts, shutdown.clone());
        shutdown.spawn("detection", async {
            // The configuration was checked above, and it is the only thing that can be wrong.
            if let Err(error) = detection.await {
                tracing::error!(%error, "detection does not run");
            }
        });
        let parts = dispatch::run::Parts {
            reader: reader.clone(),
            writer: writer.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let outlets = outlets(&config.channels, config.alert.repeat_interval)?;
        let alerts = dispatch::run::start(config.alert, outlets, posted, parts, &shutdown)?;
        if notifies {
            let feed =
                dispatch::anomaly::run(reader.clone(), inbox, clock.clone(), shutdown.clone());
            shutdown.spawn("anomaly alerts", feed);
        }
        let own = own_series::run(
            metrics.clone(),
            reader.clone(),
            writer.clone(),
            clock.clone(),
            shutdown.clone(),
        );
        shutdown.spawn("own metrics", own);

        let letters = reader.clone();
        let targets = ways.targets.clone();
        let router = http::router(ApiState {
            engine,
            reader,
            writer,
            migrations: migrations.clone(),
            alerts,
            ways,
            metrics,
            health: health.clone(),
            clock,
            limits: config.query.http_limits(),
            listen: http::Listen {
                host: address.ip().to_string(),
                names,
            },
            tokens: tokens.clone(),
            watches: Arc::new(watches),
            snapshots: admin_api.then(|| data.join("snapshots")),
            dead_letters: Arc::new(move |limit| offline::newest_dead_letters(&letters, limit)),
            targets: Arc::new(move || targets.list().into_iter().map(Into::into).collect()),
            rules: rules.clone(),
            settings: Arc::new(settings),
        });
        let listener = socket
            .listen(1024)
            .with_context(|| format!("cannot listen on {address}"))?;
        let acceptor = identity.as_ref().map(Identity::acceptor);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        if !address.ip().is_loopback() && acceptor.is_none() && !tokens.is_empty() {
            tracing::warn!("tokens cross the network in clear: server.tls_cert_file turns TLS on");
        }
        shutdown.spawn(
            "http",
            http::serve(listener, acceptor, router.clone(), shutdown.clone()),
        );
        tracing::info!(data = %data.display(), "listening on {scheme}://{address}");
        Ok(Self {
            address,
            router,
            store,
            migrations,
            kafka,
            health,
            insecure,
            tokens,
            identity,
            rules,
            shutdown,
        })
    }

    /// Reads tokens, certificate and rule files again whenever `hangup` says so.
    fn reload_on(&self, hangup: Arc<Notify>, source: Option<PathBuf>) {
        let reload = reload::Reload {
            source,
            address: self.address,
            insecure: self.insecure,
            tokens: self.tokens.clone(),
            identity: self.identity.clone(),
            rules: self.rules.clone(),
            health: self.health.clone(),
        };
        let reloading = reload.run(hangup, self.shutdown.clone());
        self.shutdown.spawn("reload", reloading);
    }

    /// Shows the dashboard until it is left, or nothing until the process is to stop.
    async fn show(&self, screen: Screen) -> anyhow::Result<()> {
        match screen {
            Screen::None => self.shutdown.begun().await,
            Screen::Dashboard { utc } => {
                let client = Client::in_process(self.router.clone());
                let scheme = if self.identity.is_some() {
                    "https"
                } else {
                    "http"
                };
                let server = format!("{scheme}://{}", self.address);
                let options = tui::Options {
                    utc,
                    ..tui::Options::new(server)
                };
                tui::run(client, options, self.shutdown.clone()).await?;
            }
        }
        Ok(())
    }

    /// Drains what is under way, commits it, and closes the store.
    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        tracing::info!("stopping");
        if let Err(cut) = self.shutdown.wait(GRACE).await {
            tracing::warn!("cut after {GRACE:?}: {}", cut.join(", "));
        }
        self.store.close()?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The configured channels as the dispatcher sees them.
fn outlets(
    channels: &[channel::Config],
    repeat_interval: Duration,
) -> Result<Vec<Outlet>, channel::ConfigError> {
    let outlet = |config: &channel::Config| {
        let channel = Channel::new(config, repeat_interval)?;
        Ok(Outlet::channel(config.route.clone(), channel))
    };
    channels.iter().map(outlet).collect()
}

/// Starts reading Kafka; without it, what was counted before is still served.
fn start_kafka(
    config: Option<kafka::Config>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    health: &Health,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<kafka::Handle>> {
    let (writer, reader, clock) = (store.writer(), store.reader(), clock.clone());
    let Some(config) = config else {
        kafka::keep(writer, &reader, clock, shutdown)?;
        return Ok(None);
    };
    let health = health.clone();
    let handle = kafka::Consumer::start(config, writer, reader, clock, metrics, health, shutdown)?;
    Ok(Some(handle))
}

/// Refuses an address that others reach where everybody may ask, unless that is wanted.
fn may_be_open(listen: SocketAddr, is_open: bool, insecure: bool) -> Result<(), UsageError> {
    if listen.ip().is_loopback() || !is_open || insecure {
        return Ok(());
    }
    Err(UsageError(format!(
        "{listen} is reachable from other hosts and there is no [[server.token]]: make one with \
         `cutover token new --scope read`, listen on 127.0.0.1, or say --insecure to let everybody in"
    )))
}

fn bind(server: &config::Server) -> anyhow::Result<TcpSocket> {
    let listen = server.listen;
    may_be_open(listen, server.tokens.is_empty(), server.insecure)?;
    let socket = if listen.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart must not wait for the last one's connections to time out.
    socket.set_reuseaddr(true)?;
    socket
        .bind(listen)
        .with_context(|| format!("cannot listen on {listen}"))?;
    Ok(socket)
}

fn open_store(
    config: &Config,
    data: &PathBuf,
    address: SocketAddr,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Store> {
    std::fs::create_dir_all(data)
        .with_context(|| format!("data directory {} cannot be made", data.display()))?;
    Ok(Store::open(
        data,
        config.store.options(address),
        clock.clone(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_loopback_needs_tokens_or_a_wish() {
        let listen = |address: &str| address.parse::<SocketAddr>().unwrap();
        let (near, far) = (listen("[::1]:9490"), listen("0.0.0.0:9490"));
        assert!(may_be_open(near, true, false).is_ok());
        assert!(may_be_open(far, false, false).is_ok());
        assert!(may_be_open(far, true, true).is_ok());
        let refused = may_be_open(far, true, false).unwrap_err().to_string();
        for word in ["0.0.0.0:9490", "cutover token new", "--insecure"] {
            assert!(refused.contains(word), "{refused}");
        }
    }
}
