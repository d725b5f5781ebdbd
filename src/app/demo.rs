//! The demo's composition: the appliance, a broker in the same process, and what is played through it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Appliance, Screen, UsageError, runtime, signals};
use crate::cdc::Key;
use crate::config::Config;
use crate::demo::broker::{self, Broker};
use crate::demo::deck::Deck;
use crate::demo::history::{self, History};
use crate::demo::story::{self, Cast};
use crate::ingest::kafka;
use crate::migration::{self, Phase, Report, Tracker};
use crate::model::{Clock, ManualClock, SystemClock};
use crate::shutdown::Shutdown;
use crate::store::{Reader, Store, Table};

/// What goes through the broker.
#[derive(Debug)]
pub enum Play {
    Story,
    Events {
        files: Vec<PathBuf>,
        exit_when_done: bool,
    },
}

/// Changes by source, table and operation.
pub type Counts = BTreeMap<(String, String, String), u64>;

/// Recorded events, read as they are played.
type Events = Box<dyn Iterator<Item = Result<broker::Event, broker::Error>> + Send>;

/// Under one key: a fingerprint of the events that a directory has been used with.
const PLAYED: Table<u64> = Table::new("demo_played", 1);
const PLAYED_KEY: &[u8] = b"events";

/// How often the story sends what is due, and how often what was consumed is looked at.
const BEAT: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(20);

/// Runs the demo until it is left; with events and `exit_when_done`, until all are committed, and
/// answers their counts.
pub fn demo(
    listen: SocketAddr,
    data: PathBuf,
    play: Play,
    screen: Screen,
) -> anyhow::Result<Option<Counts>> {
    let mut config = Config::default();
    config.server.listen = listen;
    config.server.data = Some(data);
    runtime()?.block_on(async {
        let shutdown = Shutdown::default();
        // There is no file that could be read again.
        let _hangup = signals::watch(&shutdown)?;
        match play {
            Play::Story => play_story(config, screen, shutdown).await.map(|()| None),
            Play::Events {
                files,
                exit_when_done,
            } => play_events(config, files, exit_when_done, screen, shutdown).await,
        }
    })
}

async fn play_events(
    mut config: Config,
    files: Vec<PathBuf>,
    exit_when_done: bool,
    screen: Screen,
    shutdown: Shutdown,
) -> anyhow::Result<Option<Counts>> {
    let (topics, fingerprint) = inspect(&files)?;
    let broker = Arc::new(Broker::start()?);
    config.kafka = Some(kafka_config(&broker, &topics));
    for topic in &topics {
        broker.create_topic(topic, 1)?;
    }
    let mut events = read(files);
    let appliance = Appliance::start(config, shutdown.clone(), None, |store| {
        claim(store, fingerprint)?;
        play_counted(&broker, &mut events, &store.reader())
    })?;
    let kafka = appliance
        .kafka
        .clone()
        .context("the demo reads from Kafka")?;

    let (player, reader, stop) = (broker.clone(), kafka.clone(), shutdown.clone());
    let playing = tokio::task::spawn_blocking(move || {
        let next_offset = |topic: &str, number| reader.next_offset(topic, number);
        player.play(events, next_offset, &stop)
    });
    let counts = if exit_when_done {
        playing.await.context("the player ended early")??;
        consumed(&broker, &kafka, &shutdown).await?;
        Some(counts(&kafka))
    } else {
        appliance.show(screen).await?;
        None
    };
    appliance.stop().await?;
    Ok(counts)
}

fn kafka_config(broker: &Broker, topics: &BTreeSet<String>) -> kafka::Config {
    kafka::Config {
        brokers: broker.brokers(),
        topics: topics.iter().cloned().collect(),
        // The in-process broker holds each fetch for the whole of this, whatever arrives meanwhile.
        properties: BTreeMap::from([("fetch.wait.max.ms".to_owned(), "20".to_owned())]),
        ..kafka::Config::default()
    }
}

/// Reads all events once before any is played: a bad line is told before anything has happened.
fn inspect(files: &[PathBuf]) -> anyhow::Result<(BTreeSet<String>, u64)> {
    let mut topics = BTreeSet::new();
    let mut hash = Xxh3Default::new();
    for file in files {
        for event in broker::read_events(file).map_err(|error| usage(&error))? {
            let event = event.map_err(|error| usage(&error))?;
            hash.update(event.topic.as_bytes());
            hash.update(&[
                0,
                u8::from(event.key.is_some()),
                u8::from(event.value.is_some()),
            ]);
            hash.update(event.key.as_deref().unwrap_or_default());
            hash.update(event.value.as_deref().unwrap_or_default());
            topics.insert(event.topic);
        }
    }
    if topics.is_empty() {
        return Err(UsageError("there are no events in the files given".to_owned()).into());
    }
    Ok((topics, hash.digest()))
}

fn usage(error: &broker::Error) -> UsageError {
    UsageError(error.to_string())
}

/// The events of all files, one after the other.
fn read(files: Vec<PathBuf>) -> Events {
    let events = |file: PathBuf| match broker::read_events(&file) {
        Ok(events) => Box::new(events) as Events,
        Err(error) => Box::new(std::iter::once(Err(error))),
    };
    Box::new(files.into_iter().flat_map(events))
}

/// Plays again what an earlier run has counted, before anything reads: a stored position beyond the end
/// of a topic would be taken for a topic made anew.
fn play_counted(broker: &Broker, events: &mut Events, reader: &Reader) -> anyhow::Result<()> {
    let mut counted = kafka::positions(reader)?;
    counted.retain(|_, next_offset| *next_offset > 0);
    while !counted.is_empty() {
        let Some(event) = events.next().transpose()? else {
            break;
        };
        broker.produce(&event, 0)?;
        if let Entry::Occupied(mut left) = counted.entry((event.topic, 0)) {
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
            }
        }
    }
    Ok(broker.flush()?)
}

/// Marks a new directory as used with these events; a directory used otherwise is refused.
fn claim(store: &Store, fingerprint: u64) -> anyhow::Result<()> {
    let reader = store.reader();
    let played = reader.snapshot()?.record(&PLAYED, PLAYED_KEY)?;
    match played {
        Some(played) if played == fingerprint => return Ok(()),
        None if kafka::positions(&reader)?.is_empty() => {}
        _ => {
            return Err(UsageError(format!(
                "{} was used with other events: their counts would mix; take another --data",
                store.dir().display()
            ))
            .into());
        }
    }
    let mutations = vec![PLAYED.put(PLAYED_KEY, &fingerprint)];
    store.writer().write_blocking(crate::model::Batch {
        mutations,
        ..Default::default()
    })?;
    Ok(())
}

/// Waits until everything that the broker acknowledged is committed in the store.
async fn consumed(
    broker: &Broker,
    kafka: &kafka::Handle,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    while !broker.is_read(|topic, partition| kafka.next_offset(topic, partition)) {
        if shutdown.has_begun() {
            anyhow::bail!("stopped before all events were consumed");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn counts(kafka: &kafka::Handle) -> Counts {
    let counts = kafka.counts().into_iter();
    counts
        .map(|(key, count)| {
            (
                (key.source, key.table, key.operation.name().to_owned()),
                count,
            )
        })
        .collect()
}

async fn play_story(mut config: Config, screen: Screen, shutdown: Shutdown) -> anyhow::Result<()> {
    let clock = SystemClock::default();
    let broker = Arc::new(Broker::start()?);
    let history = history::before(clock.now());
    let decks = Cast::ALL.map(|cast| (cast, Deck::new(cast)));
    let topics: BTreeSet<String> = decks.iter().flat_map(|(_, deck)| deck.topics()).collect();
    for topic in &topics {
        broker.create_topic(topic, 1)?;
    }
    config.kafka = Some(kafka::Config {
        heartbeat_interval: Duration::from_secs(1),
        ..kafka_config(&broker, &topics)
    });
    config.migrations = migrations(&history);
    config.anomaly.every = Duration::from_secs(1);
    let migrations = config.migrations.clone();
    let appliance = Appliance::start(config, shutdown.clone(), None, |store| {
        write_history(store, history, &migrations, clock.now())
    })?;
    let stage = Stage {
        broker,
        decks,
        health: appliance.health.clone(),
        migrations: appliance.migrations.clone(),
        clock: Arc::new(clock),
    };
    shutdown.spawn("story", stage.perform(shutdown.clone()));
    let shown = appliance.show(screen).await;
    appliance.stop().await?;
    shown
}

fn migrations(history: &History) -> Vec<migration::Config> {
    let copied: u64 = history
        .counters
        .iter()
        .filter(|counter| counter.cast == Cast::Shop)
        .map(|counter| counter.total)
        .sum();
    Cast::ALL
        .map(|cast| {
            let (source, target, expected_rows) = match cast {
                Cast::Shop => (
                    "PostgreSQL 15",
                    "PostgreSQL 17",
                    Some(copied + story::rows_left()),
                ),
                Cast::Legacy => ("MariaDB 10.11", "PostgreSQL 17", None),
            };
            migration::Config {
                id: cast.migration_id().to_owned(),
                source: Some(source.to_owned()),
                target: Some(target.to_owned()),
                topics: vec![format!("^{}\\..*", cast.source())],
                expected_rows,
                ..migration::Config::default()
            }
        })
        .to_vec()
}

/// Writes what went before, as if the appliance had been there two hours ago.
fn write_history(
    store: &Store,
    history: History,
    migrations: &[migration::Config],
    now: crate::model::Timestamp,
) -> anyhow::Result<()> {
    let mut batch = history.batch;
    batch.mutations =
        kafka::continue_from(history.counters.into_iter().map(|counter| kafka::Counted {
            topic: counter.topic,
            key: Key {
                source: counter.cast.source().to_owned(),
                table: counter.table,
                operation: counter.operation,
            },
            count: counter.total,
        }));
    store.writer().write_blocking(batch)?;
    let began = Arc::new(ManualClock::at(now.before(history::SPAN)));
    let tracker = Tracker::open(store.reader(), store.writer(), began, migrations)?;
    tracker.set_phase(Cast::Legacy.migration_id(), Phase::Streaming)?;
    Ok(())
}

/// What performs the story.
struct Stage {
    broker: Arc<Broker>,
    decks: [(Cast, Deck); 2],
    health: crate::telemetry::health::Health,
    migrations: Tracker,
    clock: Arc<dyn Clock>,
}

impl Stage {
    async fn perform(mut self, shutdown: Shutdown) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let curtain = self.clock.monotonic();
        let mut last = curtain;
        let mut errors = 0.0;
        let mut reported = 0;
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = beats.tick() => {}
            }
            let now = self.clock.monotonic();
            let scene = story::scene(now.saturating_sub(curtain));
            self.health.set_caption(scene.caption);
            if let Err(error) = self.send(scene, now.saturating_sub(last)) {
                tracing::error!(%error, "the story cannot go on");
                return;
            }
            errors += scene.errors * (now.saturating_sub(last)).as_secs_f64();
            last = now;
            if errors as u64 > reported {
                reported = errors as u64;
                self.report(reported).await;
            }
        }
    }

    fn send(&mut self, scene: &story::Scene, span: Duration) -> Result<(), broker::Error> {
        let now = self.clock.now();
        for (cast, deck) in &mut self.decks {
            for event in deck.deal(scene.flow(*cast), span, now) {
                self.broker.produce(&event, 0)?;
            }
        }
        Ok(())
    }

    /// What the tool that copies `shop` says about its errors.
    async fn report(&self, deadlocks: u64) {
        let migrations = self.migrations.clone();
        let report = Report {
            errors: BTreeMap::from([("deadlock".to_owned(), deadlocks)]),
            ..Report::default()
        };
        let reported = tokio::task::spawn_blocking(move || {
            migrations.progress(Cast::Shop.migration_id(), &report)
        });
        if let Ok(Err(error)) = reported.await {
            tracing::warn!(%error, "the story's errors were not reported");
        }
    }
}
