//! Alerts arrive once: the process is killed with -9 again and again while it delivers notifications, and
//! a receiver that drops what it has by its key has heard of each alert exactly once.
//!
//! `CUTOVER_KILLS` sets how often, `CUTOVER_SEED` when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kill::{Random, seed};
use crate::support::{Server, file, request, wait_for};

const KILLS: u64 = 20;

/// Alerts that begin in each life of the process.
const BEGIN: usize = 4;

/// A webhook's receiver that takes its time, at times answers 503, and keeps what it took.
#[derive(Default)]
struct Receiver {
    /// What was taken, in order, by the key that a receiver knows a notification by.
    taken: Vec<(String, Value)>,
    /// Requests whose key was there already.
    repeated: usize,
}

impl Receiver {
    fn listen(random: u64) -> (SocketAddr, Arc<Mutex<Self>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Arc::new(Mutex::new(Self::default()));
        let kept = receiver.clone();
        let mut random = Random(random);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                let pause = Duration::from_millis(random.below(60));
                let fails = random.below(8) == 0;
                std::thread::spawn(move || serve(stream, &kept, pause, fails));
            }
        });
        (address, receiver)
    }

    fn take(&mut self, key: String, notification: Value) {
        if self.taken.iter().any(|(known, _)| *known == key) {
            self.repeated += 1;
        } else {
            self.taken.push((key, notification));
        }
    }
}

/// Answers the requests of one connection; it ends when the other side is killed.
fn serve(stream: TcpStream, kept: &Mutex<Receiver>, pause: Duration, fails: bool) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (key, body) = read_request(&mut reader)?;
        // Half of the time passes before it is taken and half before that is said: a kill in between
        // leaves a notification that arrived and is not known to have.
        std::thread::sleep(pause);
        let status = if fails {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        if !fails {
            kept.lock().unwrap().take(key, body);
        }
        std::thread::sleep(pause);
        write!(writer, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

/// The key and the body of a request.
fn read_request(reader: &mut impl BufRead) -> Option<(String, Value)> {
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.trim().clone_into(&mut key),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((key, serde_json::from_slice(&body).unwrap()))
}

/// What a receiver that drops repeated keys has heard, checked as it is read.
#[derive(Default)]
struct Heard {
    firing: BTreeSet<String>,
    /// How often each alert was heard to begin, and to end.
    begun: BTreeMap<String, usize>,
    ended: BTreeMap<String, usize>,
}

impl Heard {
    fn of(receiver: &Receiver) -> Self {
        let mut heard = Self::default();
        for (_, notification) in &receiver.taken {
            let mut says_news = false;
            for alert in notification["alerts"].as_array().unwrap() {
                let name = alert["labels"]["alertname"].as_str().unwrap().to_owned();
                if alert["status"] == "firing" {
                    if heard.firing.insert(name.clone()) {
                        *heard.begun.entry(name).or_default() += 1;
                        says_news = true;
                    }
                } else {
                    assert!(heard.firing.remove(&name), "{name} ended but never fired");
                    *heard.ended.entry(name).or_default() += 1;
                    says_news = true;
                }
            }
            assert!(says_news, "told without anything new: {notification}");
        }
        heard
    }
}

/// Posts alerts, as long as the server lives; whether they are acknowledged.
fn post(server: &Server, names: &[String], is_over: bool) -> bool {
    let alerts = names.iter().map(|name| {
        let migration = if name.ends_with(['0', '2']) {
            "shop"
        } else {
            "crm"
        };
        let labels = json!({"alertname": name, "severity": "warning", "migration_id": migration});
        let mut alert = json!({"labels": labels, "startsAt": "2026-01-01T00:00:00Z"});
        if is_over {
            alert["endsAt"] = json!("2026-01-01T00:00:01Z");
        }
        alert
    });
    let body = alerts.collect::<Value>().to_string();
    let answer = request(server.address, "POST", "/api/v2/alerts", &body);
    matches!(answer, Some((200, _)))
}

fn config(address: SocketAddr) -> String {
    format!(
        "[anomaly]\nenabled = false\n[rules]\nbuilt_in = false\n\
         [alert]\ngroup_wait = \"0\"\ngroup_interval = \"1s\"\nresolve_timeout = \"1h\"\n\
         [[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://{address}/\"\n"
    )
}

#[test]
fn each_alert_arrives_exactly_once_after_twenty_kills() {
    let kills = std::env::var("CUTOVER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = seed();
    println!("CUTOVER_SEED={seed}");
    let mut random = Random(seed);
    let (address, receiver) = Receiver::listen(random.below(u64::MAX) | 1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = file(dir.path(), "cutover.toml", config(address));

    let mut begun: Vec<String> = Vec::new();
    for life in 0..kills {
        let server = Server::start_unready(&data, Some(&config), &[]);
        let names: Vec<String> = (0..BEGIN).map(|index| format!("a{life}_{index}")).collect();
        // Until it is acknowledged nothing is promised.
        wait_for("alerts are acknowledged", Duration::from_secs(30), || {
            post(&server, &names, false).then_some(())
        });
        begun.extend(names);
        // What has arrived ends, half of it: ends are delivered while the next alerts begin.
        let heard = Heard::of(&receiver.lock().unwrap());
        let ending: Vec<String> = heard.firing.into_iter().step_by(2).collect();
        std::thread::sleep(Duration::from_millis(random.below(700)));
        post(&server, &ending, true);
        std::thread::sleep(Duration::from_millis(random.below(700)));
        server.kill();
    }

    let server = Server::start(&data, Some(&config), &[]);
    wait_for("every alert arrives", Duration::from_secs(60), || {
        let heard = Heard::of(&receiver.lock().unwrap());
        begun
            .iter()
            .all(|name| heard.begun.contains_key(name))
            .then_some(())
    });
    for chunk in begun.chunks(BEGIN) {
        assert!(post(&server, chunk, true));
    }
    let heard = wait_for("every end arrives", Duration::from_secs(60), || {
        let heard = Heard::of(&receiver.lock().unwrap());
        heard.firing.is_empty().then_some(heard)
    });
    // Another turn of every group: one more that came would show.
    std::thread::sleep(Duration::from_secs(3));
    let once: BTreeMap<String, usize> = begun.iter().map(|name| (name.clone(), 1)).collect();
    assert_eq!(heard.begun, once);
    assert_eq!(heard.ended, once);
    let receiver = receiver.lock().unwrap();
    Heard::of(&receiver);
    println!(
        "{} notifications, {} arrived again under the same key",
        receiver.taken.len(),
        receiver.repeated
    );
    assert_eq!(server.stop(), Some(0));
}
