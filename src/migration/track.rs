//! The tracker: migrations in the store, changed by one hand at a time.
//!
//! Every operation starts from the records in the store, so nothing can differ from what is durable, also
//! after a failed commit or a restart. Calls block: run them off the async runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::binding::{Binding, Readings};
use super::progress::{self, Baselines, LagState, RATE_SPAN, Status};
use super::record::{
    Applied, EVENTS, EVENTS_MAX, Event, EventKind, MIGRATIONS, Migration, Phase, Report,
};
use super::{Config, Error, series};
use crate::model::{Batch, Clock, METRIC_NAME, Matcher, TimeRange, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Snapshot, Table, Writer};
use crate::telemetry::health::{Health, State};

/// Migrations that may exist.
const MIGRATIONS_MAX: usize = 10_000;

/// Samples that one look at the migrations' own series may read.
const SAMPLES_MAX: usize = 5_000_000;

/// The timestamp of the samples written last, under the one key [`LAST`].
const SERIES_TIME: Table<Timestamp> = Table::new("migration_series_time", 1);
const LAST: &[u8] = b"last";

/// Refuses configured migrations that cannot be tracked, or that share an id.
pub fn check(configs: &[Config]) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (at, config) in configs.iter().enumerate() {
        config.check()?;
        Binding::compile(config)?;
        if let Some(first) = seen.insert(&config.id, at) {
            return Err(Error::Invalid {
                field: "id",
                reason: format!(
                    "{:?} names both migration {} and {}",
                    config.id,
                    first + 1,
                    at + 1
                ),
            });
        }
    }
    Ok(())
}

/// Tracks migrations. Cloning is cheap; all clones are one tracker.
#[derive(Clone, Debug)]
pub struct Tracker {
    reader: Reader,
    writer: Writer,
    clock: Arc<dyn Clock>,
    /// Held from reading a record to having written it.
    turn: Arc<Mutex<()>>,
}

impl Tracker {
    /// Opens the tracker and brings the configured migrations up to date: new ones are created, changed
    /// ones take over the configuration and keep their counts.
    pub fn open(
        reader: Reader,
        writer: Writer,
        clock: Arc<dyn Clock>,
        configs: &[Config],
    ) -> Result<Self, Error> {
        let tracker = Self {
            reader,
            writer,
            clock,
            turn: Arc::default(),
        };
        check(configs)?;
        let batch = Batch {
            metadata: series::metadata(),
            ..Batch::default()
        };
        tracker.writer.write_blocking(batch)?;
        for config in configs {
            tracker.configure(config.clone())?;
        }
        Ok(tracker)
    }

    fn configure(&self, config: Config) -> Result<(), Error> {
        let turn = self.turn();
        let now = self.clock.now();
        let Some(before) = self.load(&config.id)? else {
            let (migration, event) = Migration::new(config, now);
            return self.commit(&turn, None, migration, vec![event]);
        };
        let Some((field, was, is)) = before.config.difference(&config) else {
            return Ok(());
        };
        let event = Event {
            at: now,
            kind: EventKind::Changed,
            message: format!("{field} was {was}, now {is}"),
        };
        let mut after = before.clone();
        after.config = config;
        self.commit(&turn, Some(&before), after, vec![event])
    }

    /// Creates a migration. The same again changes nothing; another one of the same id is refused.
    pub fn create(&self, config: Config) -> Result<Status, Error> {
        config.check()?;
        Binding::compile(&config)?;
        let turn = self.turn();
        let id = config.id.clone();
        if let Some(known) = self.load(&id)? {
            if let Some((field, was, now)) = known.config.difference(&config) {
                return Err(Error::Exists {
                    id,
                    field,
                    was,
                    now,
                });
            }
        } else {
            if load_all(&self.reader.snapshot()?)?.len() >= MIGRATIONS_MAX {
                return Err(Error::TooMany {
                    what: "migrations",
                    max: MIGRATIONS_MAX,
                });
            }
            let (migration, event) = Migration::new(config, self.clock.now());
            self.commit(&turn, None, migration, vec![event])?;
        }
        self.get(&id)
    }

    /// Takes in what a tool reports.
    pub fn progress(&self, id: &str, report: &Report) -> Result<Status, Error> {
        self.change(id, |migration, now| migration.apply(report, now))
    }

    pub fn set_phase(&self, id: &str, phase: Phase) -> Result<Status, Error> {
        self.change(id, |migration, now| {
            Ok(match migration.enter(phase, now)? {
                None => Applied::Unchanged,
                Some(event) => Applied::Changed(vec![event]),
            })
        })
    }

    /// Ends a migration as done or failed.
    pub fn finish(&self, id: &str, status: Phase) -> Result<Status, Error> {
        if !status.is_final() {
            return Err(Error::Invalid {
                field: "status",
                reason: format!("{:?} is neither done nor failed", status.name()),
            });
        }
        self.set_phase(id, status)
    }

    pub fn get(&self, id: &str) -> Result<Status, Error> {
        let snapshot = self.reader.snapshot()?;
        let record = snapshot.record(&MIGRATIONS, id.as_bytes())?;
        let statuses = self.statuses(&snapshot, Vec::from_iter(record))?;
        let unknown = || Error::Unknown { id: id.to_owned() };
        statuses.into_iter().next().ok_or_else(unknown)
    }

    /// All migrations by id.
    pub fn list(&self) -> Result<Vec<Status>, Error> {
        let snapshot = self.reader.snapshot()?;
        let migrations = load_all(&snapshot)?;
        self.statuses(&snapshot, migrations)
    }

    /// What happened to a migration, the oldest first.
    pub fn events(&self, id: &str) -> Result<Vec<Event>, Error> {
        if self.load(id)?.is_none() {
            return Err(Error::Unknown { id: id.to_owned() });
        }
        let prefix = Event::prefix(id);
        let snapshot = self.reader.snapshot()?;
        let records = snapshot.records(&EVENTS, Some(&prefix), EVENTS_MAX as usize)?;
        Ok(records
            .into_iter()
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, event)| event)
            .collect())
    }

    /// Takes in what CDC counted and writes all series, changed or not.
    pub fn tick(&self) -> Result<(), Error> {
        let _turn = self.turn();
        let now = self.clock.now();
        let mut batch = Batch::default();
        {
            let snapshot = self.reader.snapshot()?;
            let at = series_time(&snapshot, now)?;
            let readings = Readings::load(&snapshot, since(now))?;
            for before in load_all(&snapshot)? {
                let kept = before
                    .finished_at
                    .is_none_or(|finished| now.since(finished) < series::FINISHED_KEPT);
                if !kept {
                    continue;
                }
                let binding = Binding::compile(&before.config)?;
                let mut after = before.clone();
                let events = take_over_counts(&mut after, &binding, &readings, now)
                    .unwrap_or_else(|error| {
                        // The others go on, and this one as it was.
                        tracing::warn!(migration = before.id(), %error, "CDC counts not taken over");
                        after = before.clone();
                        Vec::new()
                    });
                let lag = progress::lag(&after, readings.lag_of(&binding), now);
                if after != before {
                    put(&mut batch, after.clone(), events);
                }
                series::write(&mut batch, &after, lag.as_ref(), at);
            }
            if batch.is_empty() {
                return Ok(());
            }
            batch.mutations.push(SERIES_TIME.put(LAST, &at));
        }
        self.write(batch)
    }

    fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Migration, Timestamp) -> Result<Applied, Error>,
    ) -> Result<Status, Error> {
        let turn = self.turn();
        let before = self
            .load(id)?
            .ok_or_else(|| Error::Unknown { id: id.to_owned() })?;
        let mut after = before.clone();
        if let Applied::Changed(events) = change(&mut after, self.clock.now())? {
            self.commit(&turn, Some(&before), after, events)?;
        }
        self.get(id)
    }

    /// Writes a migration's record, events and series in one commit.
    fn commit(
        &self,
        _turn: &Turn<'_>,
        before: Option<&Migration>,
        after: Migration,
        events: Vec<Event>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut at = series_time(&self.reader.snapshot()?, now)?;
        let mut batch = Batch::default();
        if let Some(before) = before {
            series::write_zeros(&mut batch, before, &after, at);
            if !batch.is_empty() {
                at = at.offset_ms(1);
            }
            if before.is_running() && !after.is_running() {
                series::end_lag(&mut batch, after.id(), at);
            }
        }
        // Whether a lag of another age still holds is for the next point of the grid to say.
        let lag = progress::lag(&after, None, now).filter(|lag| lag.state == LagState::Fresh);
        series::write(&mut batch, &after, lag.as_ref(), at);
        put(&mut batch, after, events);
        batch.mutations.push(SERIES_TIME.put(LAST, &at));
        self.write(batch)
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let written = self.writer.write_blocking(batch)?;
        if let Some(first) = written.first_rejection {
            tracing::warn!(
                rejected = written.rejected,
                series = %first.labels,
                reason = %first.reason,
                "samples of migrations were refused"
            );
        }
        Ok(())
    }

    fn turn(&self) -> Turn<'_> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, id: &str) -> Result<Option<Migration>, Error> {
        Ok(self.reader.snapshot()?.record(&MIGRATIONS, id.as_bytes())?)
    }

    fn statuses(
        &self,
        snapshot: &Snapshot,
        migrations: Vec<Migration>,
    ) -> Result<Vec<Status>, Error> {
        let now = self.clock.now();
        let mut matchers = vec![Matcher::equal(METRIC_NAME, series::ROWS)];
        if let [only] = migrations.as_slice() {
            matchers.push(Matcher::equal("migration_id", only.id()));
        }
        let baselines = Baselines::of(&snapshot.select(&matchers, since(now), SAMPLES_MAX)?);
        let readings = if migrations
            .iter()
            .any(|migration| migration.config.is_bound())
        {
            Readings::load(snapshot, since(now))?
        } else {
            Readings::default()
        };
        migrations
            .into_iter()
            .map(|migration| {
                let binding = Binding::compile(&migration.config)?;
                Ok(progress::status(
                    migration, &binding, &baselines, &readings, now,
                ))
            })
            .collect()
    }
}

fn load_all(snapshot: &Snapshot) -> Result<Vec<Migration>, store::Error> {
    let records = snapshot.records(&MIGRATIONS, None, MIGRATIONS_MAX)?;
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// Proof that nobody else changes a migration.
type Turn<'a> = MutexGuard<'a, ()>;

/// The span over which rates are taken, and everything after it: series may run ahead of a clock that
/// was set back.
fn since(now: Timestamp) -> TimeRange {
    TimeRange::new(now.before(RATE_SPAN), Timestamp::MAX).expect("no time is after the last")
}

/// The next timestamp of the series: now, or just after the last one when the clock was set back.
fn series_time(snapshot: &Snapshot, now: Timestamp) -> Result<Timestamp, store::Error> {
    let last = snapshot.record(&SERIES_TIME, LAST)?;
    Ok(last.map_or(now, |last| now.max(last.offset_ms(1))))
}

/// The counts of the bound tables, and the phase that follows from them: changes after the copy mean
/// that the migration streams. Back it goes never, and further only by a report.
fn take_over_counts(
    migration: &mut Migration,
    binding: &Binding,
    readings: &Readings,
    now: Timestamp,
) -> Result<Vec<Event>, Error> {
    if !migration.is_running() {
        return Ok(Vec::new());
    }
    // A table's name may come from several sources.
    let mut tables: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut streaming = false;
    for counts in readings.counts_of(binding) {
        let table = tables.entry(&counts.table).or_default();
        table.0 += counts.last.rows();
        table.1 += counts.last.copied();
        streaming |= counts.last.has_changes();
    }
    for (table, (rows, copied)) in tables {
        migration.count_cdc(table, rows, copied, now)?;
    }
    if streaming && migration.phase == Phase::Snapshot {
        return Ok(Vec::from_iter(migration.enter(Phase::Streaming, now)?));
    }
    Ok(Vec::new())
}

/// A migration's record with its new events; the oldest events make room.
fn put(batch: &mut Batch, mut migration: Migration, events: Vec<Event>) {
    for event in events {
        let number = migration.events;
        let key = Event::key(migration.id(), number);
        batch.mutations.push(EVENTS.put(key, &event));
        if let Some(oldest) = number.checked_sub(EVENTS_MAX) {
            let key = Event::key(migration.id(), oldest);
            batch.mutations.push(EVENTS.remove(key));
        }
        migration.events += 1;
    }
    let key = migration.id().as_bytes().to_vec();
    batch.mutations.push(MIGRATIONS.put(key, &migration));
}

/// Writes the series on every point of the grid until the shutdown begins.
pub async fn run(tracker: Tracker, health: Health, shutdown: Shutdown) {
    const PART: &str = "migrations";
    loop {
        let now_ms = tracker.clock.now().ms();
        let grid_ms = series::GRID.as_millis() as i64;
        let wait_ms = grid_ms - now_ms.rem_euclid(grid_ms);
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())) => {}
        }
        let ticking = tracker.clone();
        match tokio::task::spawn_blocking(move || ticking.tick()).await {
            Ok(Ok(())) => health.set(PART, State::Ok, ""),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the series of the migrations were not written");
                health.set(PART, State::Degraded, error.to_string());
            }
            Err(error) => {
                tracing::error!(%error, "the series of the migrations were not written");
                health.set(PART, State::Failed, error.to_string());
            }
        }
    }
}
