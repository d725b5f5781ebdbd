use super::*;
use crate::cdc::Operation;

const SECOND: i64 = 1_000;

/// One partition with one table, a heartbeat every 10 s, a poll every 5 s, and a clock in seconds.
struct Scene {
    model: Model,
    marks: Marks,
    watermark: Watermark,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(1_000_000_000 + seconds * SECOND)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Scene {
    fn new() -> Self {
        Self {
            model: Model::new(secs(10), secs(5)),
            marks: Marks::default(),
            watermark: Watermark::default(),
        }
    }

    fn change(&mut self, committed: i64, read: i64) -> &mut Self {
        let change = Change {
            source: "srv".into(),
            table: "s.t".into(),
            operation: Operation::Create,
            committed_at: Some(at(committed)),
            captured_at: None,
            snapshot: false,
        };
        self.marks.change(&change, at(read));
        self
    }

    fn heartbeat(&mut self, sent: i64, read: i64) -> &mut Self {
        self.marks.heartbeat("srv", at(sent), at(read));
        self
    }

    fn poll(&mut self, next: i64, end: i64, now: i64) -> &mut Self {
        self.watermark.poll(next, end, at(now));
        self
    }

    fn read(&self, now: i64) -> Reading {
        let readings = self
            .model
            .assess(&[(&self.marks, &self.watermark)], at(now));
        readings["s.t"]
    }

    #[track_caller]
    fn expect(&self, now: i64, lag: u64, state: State) {
        let reading = self.read(now);
        assert_eq!(
            (reading.lag, reading.state),
            (secs(lag), state),
            "at {now} s"
        );
    }
}

#[test]
fn a_change_is_measured_from_commit_to_reading() {
    let mut scene = Scene::new();
    scene.change(0, 2).poll(1, 1, 3);
    scene.expect(3, 2, State::Fresh);
    assert_eq!(scene.read(3).age, secs(1));
}

#[test]
fn without_proof_of_idleness_lag_grows_with_the_clock() {
    let mut scene = Scene::new();
    scene.change(0, 2).poll(1, 2, 5).poll(1, 3, 10);
    scene.expect(10, 10, State::Fresh);
    scene.poll(1, 3, 20).poll(1, 3, 33);
    scene.expect(33, 33, State::Stalled);
    scene.expect(40, 40, State::Stalled);
}

#[test]
fn an_end_that_rests_for_two_polls_proves_idleness_where_no_heartbeats_are_known() {
    let mut scene = Scene::new();
    scene.change(0, 2).poll(1, 1, 8);
    scene.expect(8, 8, State::Fresh);
    scene.poll(1, 1, 13);
    scene.expect(13, 0, State::Fresh);
    scene.poll(1, 1, 33);
    scene.expect(33, 0, State::Idle);
}

#[test]
fn an_end_that_moves_proves_nothing() {
    let mut scene = Scene::new();
    scene.change(0, 2);
    for poll in 2..8 {
        scene.poll(poll, poll, poll * 5);
    }
    scene.expect(36, 36, State::Stalled);
}

#[test]
fn heartbeats_alone_make_a_table_idle() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(50, 51).poll(1, 1, 52);
    scene.expect(55, 0, State::Idle);
    assert_eq!(scene.read(55).age, secs(5));
}

#[test]
fn a_stopped_connector_is_stalled_although_its_topics_rest_at_their_end() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(10, 10);
    for poll in (5..=40).step_by(5) {
        scene.poll(1, 1, poll);
    }
    scene.expect(40, 0, State::Idle);
    scene.poll(1, 1, 45);
    scene.expect(45, 35, State::Stalled);
    scene.poll(1, 1, 70);
    scene.expect(70, 60, State::Stalled);
}

#[test]
fn a_connector_that_comes_back_is_no_longer_stalled() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(10, 10).poll(1, 1, 90);
    scene.expect(90, 80, State::Stalled);
    scene.heartbeat(91, 91).poll(1, 1, 92);
    scene.expect(92, 0, State::Idle);
}

#[test]
fn heartbeats_out_of_a_backlog_prove_nothing() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(10, 100).poll(1, 1, 100);
    scene.expect(100, 90, State::Stalled);
}

#[test]
fn a_heartbeat_does_not_hide_what_waits_in_the_topic() {
    let mut scene = Scene::new();
    scene
        .change(0, 1)
        .poll(1, 1, 20)
        .heartbeat(50, 50)
        .poll(1, 9, 50);
    // All up to the poll at 20 s had been read, nothing is known of later.
    scene.expect(50, 30, State::Stale);
}

#[test]
fn rare_heartbeats_are_waited_for() {
    let mut scene = Scene::new();
    scene.model = Model::new(secs(60), secs(5));
    scene.change(0, 1).heartbeat(10, 10).poll(1, 1, 188);
    scene.expect(190, 0, State::Idle);
    scene.expect(191, 181, State::Stalled);
}

#[test]
fn frequent_heartbeats_that_fail_are_stale_before_they_are_stalled() {
    let mut scene = Scene::new();
    scene.model = Model::new(secs(1), secs(5));
    scene.change(0, 1).heartbeat(10, 10).poll(1, 1, 14);
    scene.expect(14, 4, State::Stale);
    scene.poll(1, 1, 40);
    scene.expect(40, 30, State::Stalled);
}

#[test]
fn our_own_old_reading_is_stale_and_grows() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(10, 10).poll(1, 1, 10);
    scene.expect(25, 0, State::Fresh);
    scene.expect(26, 16, State::Stale);
    scene.expect(100, 90, State::Stale);
}

#[test]
fn a_source_clock_that_is_ahead_is_shown_as_skew_and_never_as_negative_lag() {
    let mut scene = Scene::new();
    scene.change(10, 2).poll(1, 1, 3);
    let reading = scene.read(3);
    assert_eq!((reading.lag, reading.skew), (secs(0), secs(8)));
    assert_eq!(reading.state, State::Skewed);
}

#[test]
fn the_noise_of_synchronised_clocks_is_no_skew() {
    let mut scene = Scene::new();
    scene.change(3, 2).poll(1, 1, 3);
    scene.expect(3, 0, State::Fresh);
    assert_eq!(scene.read(3).skew, secs(1));
}

#[test]
fn a_throttled_source_says_so_and_its_lag_still_grows() {
    let mut scene = Scene::new();
    scene.model.set_throttled("srv", true);
    scene.change(0, 1).poll(1, 5, 50);
    scene.expect(50, 50, State::Throttled);
    scene.model.set_throttled("srv", false);
    scene.expect(50, 50, State::Stalled);
}

#[test]
fn a_restart_at_the_end_is_idle_at_once() {
    let mut scene = Scene::new();
    scene.change(0, 1);
    scene.watermark = Watermark::resumed(7);
    scene.expect(1000, 1000, State::Stale);
    scene.poll(7, 7, 1000);
    scene.expect(1000, 0, State::Idle);
}

#[test]
fn a_restart_remembers_that_the_source_sends_heartbeats() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(10, 10);
    scene.watermark = Watermark::resumed(7);
    scene.poll(7, 7, 1000);
    scene.expect(1000, 990, State::Stalled);
}

#[test]
fn a_clock_set_back_does_not_keep_old_proofs_alive() {
    let mut scene = Scene::new();
    scene.change(0, 1).heartbeat(3600, 3600).poll(1, 1, 3600);
    scene.poll(1, 1, 100);
    assert_eq!(scene.read(100).state, State::Stale);
}

#[test]
fn a_table_is_as_late_as_its_latest_partition() {
    let mut first = Scene::new();
    first.change(95, 96).poll(1, 1, 100);
    let mut second = Scene::new();
    second.change(10, 11).poll(1, 5, 100);
    let partitions = [
        (&first.marks, &first.watermark),
        (&second.marks, &second.watermark),
    ];
    let readings = first.model.assess(&partitions, at(100));
    assert_eq!(readings.len(), 1);
    assert_eq!(readings["s.t"].lag, secs(90));
    assert_eq!(readings["s.t"].state, State::Stalled);
}

#[test]
fn messages_of_the_log_have_no_lag() {
    let mut scene = Scene::new();
    let change = Change {
        source: "srv".into(),
        table: "".into(),
        operation: Operation::Message,
        committed_at: Some(at(0)),
        captured_at: None,
        snapshot: false,
    };
    scene.marks.change(&change, at(1));
    let readings = scene
        .model
        .assess(&[(&scene.marks, &scene.watermark)], at(1));
    assert!(readings.is_empty());
}

#[test]
fn unknown_commit_times_fall_back_to_the_connector_and_then_to_us() {
    let mut scene = Scene::new();
    let mut change = Change {
        source: "srv".into(),
        table: "s.t".into(),
        operation: Operation::Read,
        committed_at: None,
        captured_at: Some(at(7)),
        snapshot: true,
    };
    scene.marks.change(&change, at(10));
    scene.poll(1, 1, 10);
    scene.expect(10, 3, State::Fresh);
    change.captured_at = None;
    scene.marks.change(&change, at(10));
    scene.expect(10, 0, State::Fresh);
}
