//! A PostgreSQL workload through Debezium: the counts equal the database's, and a connector that is
//! stopped shows as growing lag, not as the last value.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use cutover::model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::appliance::{self, Appliance};
use super::workload::{Database, SOURCE};
use super::{Form, Servers, eventually, http, say, topic};

/// The connector, its slot and its publication are named as the source.
const NAME: &str = SOURCE;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn counts_equal_the_databases_and_a_stopped_connector_is_stalled() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let (changes, outage) = match servers.form {
        Form::Short => (5_000, Duration::from_secs(40)),
        Form::Full => (50_000, Duration::from_secs(60)),
    };
    let home = tempfile::tempdir().expect("the temporary folder is writable");
    let mut database = Database::create(&servers.postgres, home.path().join("script.sql"));
    let connector = Connector::register(servers.connect, &servers.postgres);
    await_streaming(&database);
    appliance::configure(home.path(), &servers.kafka, r"^shop\..*");
    let mut appliance = Appliance::start(home.path());
    appliance.await_ready();

    let clock = SystemClock::default();
    database.change(changes);
    let written = clock.monotonic();
    appliance.await_counts(database.counts(), LIMIT);
    say(&format!(
        "{changes} changes: written in {written:?}, counted after {:?}",
        clock.monotonic()
    ));
    await_caught_up(&appliance);

    connector.stop();
    database.change(1_000);
    let lags = watch_lag(&appliance, outage);
    say(&format!("lag during the outage: {lags:?}"));
    assert!(
        lags.is_sorted(),
        "the lag fell while nothing came: {lags:?}"
    );
    let last = *lags.last().expect("an outage is longer than a look at it");
    // A sample is up to 5 s old, and so is the last heartbeat before the stop.
    assert!(
        last > outage.as_secs_f64() - 15.0,
        "after {outage:?} without the connector the lag is {last} s"
    );
    assert_eq!(
        stalled(&appliance),
        Ok(vec![true; 4]),
        "every table is stalled"
    );

    connector.resume();
    let topics = eventually("the changes of the outage are in the topics", LIMIT, || {
        let topics = topic::count(&servers.kafka, "shop.sales.");
        // A connector may repeat changes after a stop; it may not lose any.
        let missing = |(key, count): (_, &u64)| topics.get(key).unwrap_or(&0) < count;
        match database
            .counts()
            .iter()
            .find(|&(key, count)| missing((key, count)))
        {
            None => Ok(topics),
            Some((key, count)) => Err(format!("{key:?}: {:?} of {count}", topics.get(key))),
        }
    });
    appliance.await_counts(&topics, LIMIT);
    await_caught_up(&appliance);
    assert_eq!(
        stalled(&appliance),
        Ok(vec![false; 4]),
        "no table is stalled any more"
    );
}

/// Waits until the connector is past its first snapshot, so that what follows are changes.
fn await_streaming(database: &Database) {
    eventually("the connector streams", LIMIT, || {
        match database.followers() {
            1 => Ok(()),
            many => Err(format!("{many} connections follow the log")),
        }
    });
}

/// Waits until all has been read and the lag, which is never a leftover, says so.
#[track_caller]
fn await_caught_up(appliance: &Appliance) {
    let limit = Duration::from_secs(30);
    eventually("the lag is under 5 s", limit, || {
        match appliance.value("max(cdc_replication_lag_seconds)")? {
            Some(lag) if (0.0..5.0).contains(&lag) => Ok(()),
            lag => Err(format!("it is {lag:?}")),
        }
    });
    eventually("nothing is left to read", limit, || {
        match appliance.value(r#"sum(cdc_consumer_lag_messages{topic=~"shop[.]sales[.].*"})"#)? {
            Some(0.0) => Ok(()),
            left => Err(format!("{left:?} messages are left")),
        }
    });
}

/// The largest lag every 5 s of an outage, but for its first 10 s, in which what was under way arrives.
fn watch_lag(appliance: &Appliance, outage: Duration) -> Vec<f64> {
    let clock = SystemClock::default();
    let mut lags = Vec::new();
    thread::sleep(Duration::from_secs(10));
    while clock.monotonic() < outage {
        thread::sleep(Duration::from_secs(5));
        let lag = appliance.value("max(cdc_replication_lag_seconds)");
        lags.push(
            lag.expect("a query")
                .expect("a lag does not vanish while nothing comes"),
        );
    }
    lags
}

/// For each table, whether the state of its lag is `stalled`.
fn stalled(appliance: &Appliance) -> Result<Vec<bool>, String> {
    let expr =
        r#"max by (source_table)(cutover_lag_state{state="stalled",source_table=~"sales[.].*"})"#;
    let tables = appliance.query(expr)?;
    Ok(tables.into_iter().map(|(_, value)| value == 1.0).collect())
}

/// The Debezium connector, driven over Kafka Connect's REST API.
struct Connector {
    worker: SocketAddr,
}

impl Connector {
    fn register(worker: SocketAddr, postgres: &str) -> Self {
        let connector = Self { worker };
        let (host, port) = postgres
            .split_once('@')
            .and_then(|(_, rest)| rest.split_once('/'))
            .and_then(|(address, _)| address.split_once(':'))
            .expect("CUTOVER_REAL_POSTGRES is postgresql://USER@HOST:PORT/DATABASE");
        let body = json!({
            "name": NAME,
            "config": {
                "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
                "tasks.max": "1",
                "database.hostname": host,
                "database.port": port,
                "database.user": "postgres",
                "database.password": "any",
                "database.dbname": "postgres",
                "topic.prefix": NAME,
                "schema.include.list": "sales",
                "plugin.name": "pgoutput",
                "slot.name": NAME,
                "publication.name": NAME,
                "publication.autocreate.mode": "filtered",
                "snapshot.mode": "initial",
                "heartbeat.interval.ms": "1000",
                "provide.transaction.metadata": "true",
            },
        });
        connector.ask("POST", "/connectors", &body.to_string(), 201);
        connector.await_state("RUNNING", 1);
        connector
    }

    fn stop(&self) {
        self.ask("PUT", &format!("/connectors/{NAME}/stop"), "", 204);
        self.await_state("STOPPED", 0);
    }

    fn resume(&self) {
        self.ask("PUT", &format!("/connectors/{NAME}/resume"), "", 202);
        self.await_state("RUNNING", 1);
    }

    fn ask(&self, method: &str, target: &str, body: &str, expected: u16) {
        eventually("Kafka Connect obeys", LIMIT, || {
            let reply = http::request(method, self.worker, target, body)
                .unwrap_or_else(|error| panic!("{method} {target}: {error}"));
            match reply.status {
                status if status == expected => Ok(()),
                // The workers are rebalancing.
                409 => Err(reply.body),
                status => panic!("{method} {target}: status {status}: {}", reply.body),
            }
        });
    }

    /// Waits until the connector and the given number of tasks are in a state.
    fn await_state(&self, state: &str, tasks: usize) {
        let target = format!("/connectors/{NAME}/status");
        eventually(&format!("the connector is {state}"), LIMIT, || {
            let reply = http::request("GET", self.worker, &target, "")
                .map_err(|error| error.to_string())?;
            let status = reply.json()?;
            let is = |part: &Value| part.get("state").is_some_and(|found| found == state);
            let running = status.get("tasks").and_then(Value::as_array);
            let all = running.is_some_and(|found| found.len() == tasks && found.iter().all(is));
            if all && status.get("connector").is_some_and(is) {
                Ok(())
            } else {
                Err(reply.body)
            }
        });
    }
}
