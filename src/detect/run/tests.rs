use super::*;
use crate::model::ManualClock;
use crate::store::{Options, Store};

/// 2026-01-01 00:00:07 UTC: between two multiples of an interval.
pub(super) const START: Timestamp = Timestamp::from_ms(1_767_225_607_000);

pub(super) fn parts(dir: &std::path::Path, clock: &Arc<ManualClock>) -> (Store, Parts) {
    let clock: Arc<dyn Clock> = clock.clone();
    let store = Store::open(dir, Options::default(), clock.clone()).unwrap();
    let parts = Parts {
        promql: promql::Engine::new(store.reader(), promql::Limits::default()),
        reader: store.reader(),
        writer: store.writer(),
        metrics: Metrics::default(),
        health: Health::new(clock.clone()),
        clock,
    };
    (store, parts)
}

fn detection(parts: Parts) -> Detection {
    Detection::new(
        &Config::default(),
        Config::default().watches().unwrap(),
        parts,
    )
}

#[tokio::test(start_paused = true)]
async fn a_step_is_written_and_the_next_one_is_later_though_the_clock_steps_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let mut detection = detection(parts.clone());
    let engine = detection.cycle(None).await.unwrap();
    assert_eq!(engine.last_step(), Some(START));
    clock.step_to(START.before(Duration::from_secs(60)));
    let engine = detection.cycle(Some(engine)).await.unwrap();
    assert_eq!(engine.last_step(), Some(START.offset_ms(1)));
    let stored = Engine::load(config_watches(), &parts.reader).unwrap();
    assert_eq!(stored.last_step(), engine.last_step());
    store.close().unwrap();
}

fn config_watches() -> Vec<Watch> {
    Config::default().watches().unwrap()
}

#[test]
fn a_watch_is_due_once_in_each_of_its_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let mut detection = detection(parts);
    let all = detection.watches.len();
    let mut due = |offset_s: u64| {
        detection
            .take_due(START.after(Duration::from_secs(offset_s)))
            .len()
    };
    // Intervals of 15 s begin 8 s after the start.
    assert_eq!(
        [due(0), due(7), due(8), due(9), due(23)],
        [all, 0, all, 0, all]
    );
    // After a step back every interval is another one.
    assert_eq!(due(0), all);
    store.close().unwrap();
}

#[test]
fn the_next_step_is_at_the_next_multiple_of_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let detection = detection(parts);
    assert_eq!(detection.until_next(), Duration::from_secs(8));
    clock.advance(Duration::from_secs(8));
    assert_eq!(detection.until_next(), Duration::from_secs(15));
    store.close().unwrap();
}

#[tokio::test]
async fn it_runs_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let shutdown = Shutdown::default();
    let (own, stop) = (parts.clone(), shutdown.clone());
    shutdown.spawn("detect", async move {
        run(Config::default(), own, stop)
            .await
            .expect("the default configuration is right");
    });
    // The store's thread knows nothing of a paused clock, so this one waits in real time.
    let mut looks = 0;
    while !parts.health.is_ready() || parts.health.parts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        looks += 1;
        assert!(looks < 10_000, "{:?}", parts.health.parts());
    }
    shutdown.begin();
    assert_eq!(shutdown.wait(Duration::from_secs(10)).await, Ok(()));
    assert!(
        Engine::load(config_watches(), &parts.reader)
            .unwrap()
            .last_step()
            .is_some()
    );
    store.close().unwrap();
}

#[tokio::test]
async fn a_wrong_watch_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let config = Config {
        disable: vec!["nothing".into()],
        ..Config::default()
    };
    let error = run(config, parts, Shutdown::default()).await.unwrap_err();
    assert_eq!(error, Error::Unknown("nothing".into()));
    store.close().unwrap();
}
