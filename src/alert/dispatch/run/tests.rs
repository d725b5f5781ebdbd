use std::future::pending;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::alert::dispatch::route::Route;
use crate::alert::dispatch::silence::Wish;
use crate::alert::dispatch::{matchers::Matchers, outlet};
use crate::alert::{Alert, Notification, Pairs, Status};
use crate::model::SystemClock;
use crate::store::{Options, Store};

/// What a channel received.
type Received = Arc<Mutex<Vec<Notification>>>;

struct Fixture {
    store: Store,
    clock: Arc<SystemClock>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::default());
        let store = Store::open(dir.path(), Options::default(), clock.clone()).unwrap();
        Self {
            store,
            clock,
            _dir: dir,
        }
    }

    fn start(&self, outlets: Vec<Outlet>) -> (Handle, Shutdown, Health) {
        let parts = Parts {
            reader: self.store.reader(),
            writer: self.store.writer(),
            clock: self.clock.clone(),
            metrics: Metrics::default(),
            health: Health::new(self.clock.clone()),
        };
        let config = Config {
            group_wait: Duration::ZERO,
            group_interval: Duration::from_secs(1),
            ..Config::default()
        };
        let (shutdown, health) = (Shutdown::default(), parts.health.clone());
        let (_inbox, posted) = crate::alert::inbox();
        let handle = start(config, outlets, posted, parts, &shutdown).unwrap();
        (handle, shutdown, health)
    }

    fn alert(&self, ends_at: Option<Timestamp>) -> Alert {
        Alert {
            labels: Pairs::from([("alertname".to_owned(), "lag".to_owned())]),
            annotations: Pairs::new(),
            starts_at: self.clock.now().before(Duration::from_secs(60)),
            ends_at,
            generator_url: String::new(),
        }
    }
}

fn outlet(name: &str, send: outlet::Send) -> Outlet {
    Outlet::new(name, Route::default(), send)
}

/// An outlet that takes everything.
fn taking(name: &str) -> (Outlet, Received) {
    let received = Received::default();
    let kept = received.clone();
    let send: outlet::Send = Arc::new(move |notification| {
        let kept = kept.clone();
        Box::pin(async move {
            lock(&kept).push(notification);
            Ok("taken".to_owned())
        })
    });
    (outlet(name, send), received)
}

fn lock(received: &Received) -> std::sync::MutexGuard<'_, Vec<Notification>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until so many were received, in real time.
async fn wait_for(received: &Received, count: usize) {
    for _ in 0..1_000 {
        if lock(received).len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} instead of {count} were received", lock(received).len());
}

#[tokio::test]
async fn a_restart_neither_repeats_nor_loses() {
    let fixture = Fixture::new();
    let (ops, received) = taking("ops");
    let (handle, shutdown, _) = fixture.start(vec![ops]);
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    wait_for(&received, 1).await;
    shutdown.begin();
    shutdown.wait(Duration::from_secs(5)).await.unwrap();

    let (ops, received_later) = taking("ops");
    let (handle, _shutdown, _) = fixture.start(vec![ops]);
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(lock(&received_later).len(), 0);
    let now = fixture.clock.now();
    handle.post(vec![fixture.alert(Some(now))]).await.unwrap();
    wait_for(&received_later, 1).await;
    assert_eq!(lock(&received_later)[0].status(), Status::Resolved);
}

#[tokio::test]
async fn what_was_being_sent_when_the_process_died_is_sent_again_as_it_was() {
    let fixture = Fixture::new();
    let (sent, seen) = (Received::default(), Received::default());
    let kept = sent.clone();
    let hangs: outlet::Send = Arc::new(move |notification| {
        lock(&kept).push(notification);
        Box::pin(pending())
    });
    let (handle, _shutdown, _) = fixture.start(vec![outlet("ops", hangs)]);
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    wait_for(&sent, 1).await;

    // The first dispatcher is never heard of again; the second one finds what it left.
    let (ops, received) = taking("ops");
    let (_handle, _shutdown, _) = fixture.start(vec![ops]);
    wait_for(&received, 1).await;
    lock(&seen).extend(lock(&received).clone());
    assert_eq!(*lock(&seen), *lock(&sent));
}

#[tokio::test]
async fn a_channel_that_hangs_or_fails_holds_up_no_other() {
    let fixture = Fixture::new();
    let hangs: outlet::Send = Arc::new(|_| Box::pin(pending()));
    let fails: outlet::Send = Arc::new(|_| {
        Box::pin(async {
            Err(channel::Error::Later {
                reason: "no route to host".to_owned(),
                retry_after: None,
            })
        })
    });
    let (ops, received) = taking("ops");
    let outlets = vec![outlet("hangs", hangs), outlet("fails", fails), ops];
    let (handle, _shutdown, health) = fixture.start(outlets);
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    wait_for(&received, 1).await;
    let now = fixture.clock.now();
    handle.post(vec![fixture.alert(Some(now))]).await.unwrap();
    wait_for(&received, 2).await;
    let channels = handle.overview().await.unwrap().channels;
    let waiting: Vec<usize> = channels.iter().map(|channel| channel.waiting).collect();
    assert_eq!(waiting, [2, 2, 0]);
    let parts = health.parts();
    assert_eq!(parts["alert channel ops"].state, State::Ok);
    let failing = &parts["alert channel fails"];
    assert_eq!(failing.state, State::Degraded);
    assert!(
        failing.message.ends_with("no route to host"),
        "{}",
        failing.message
    );
    assert_eq!(parts["alert"].state, State::Ok);
}

#[tokio::test]
async fn silences_are_durable() {
    let fixture = Fixture::new();
    let (handle, shutdown, _) = fixture.start(Vec::new());
    let now = fixture.clock.now();
    let wish = Wish {
        id: None,
        matchers: Matchers::try_from(vec!["alertname=~\"la.\"".to_owned()]).unwrap(),
        starts_at: now,
        ends_at: now.after(Duration::from_secs(60)),
        created_by: "ops".to_owned(),
        comment: "planned".to_owned(),
    };
    let id = handle.silence(wish).await.unwrap();
    let before = handle.silences().await.unwrap();
    shutdown.begin();
    shutdown.wait(Duration::from_secs(5)).await.unwrap();

    let (handle, _shutdown, _) = fixture.start(Vec::new());
    assert_eq!(handle.silences().await.unwrap(), before);
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    let overview = handle.overview().await.unwrap();
    assert_eq!(overview.alerts[0].silenced_by, std::slice::from_ref(&id));
    handle.expire(id).await.unwrap();
    let overview = handle.overview().await.unwrap();
    assert!(overview.alerts[0].silenced_by.is_empty());
}

#[tokio::test]
async fn without_a_channel_the_log_is_told() {
    let fixture = Fixture::new();
    let (handle, _shutdown, _) = fixture.start(Vec::new());
    handle.post(vec![fixture.alert(None)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let overview = handle.overview().await.unwrap();
    assert_eq!(overview.alerts[0].told, ["log"]);
    assert_eq!(overview.channels[0].waiting, 0);
}

#[test]
fn an_id_has_the_form_of_a_uuid() {
    let id = fresh_id();
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_ne!(id, fresh_id());
}
