//! Hand-worked timelines, second by second.

use super::*;
use crate::alert::dispatch::matchers::Matchers;
use crate::alert::{Pairs, Status};

/// What a channel does with what it is sent.
#[derive(Clone, Copy, PartialEq)]
enum Channel {
    Takes,
    IsDown,
    Refuses,
}

/// A dispatcher whose sources say their alerts every second, and whose channels answer at once.
struct Timeline {
    dispatcher: Dispatcher,
    now: i64,
    /// Names of the alerts that are said to fire, with their severity.
    firing: Vec<(&'static str, &'static str)>,
    /// Whether the sources say anything.
    is_said: bool,
    channels: Vec<Channel>,
    /// What was delivered: when, on which channel, and what.
    told: Vec<String>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(seconds * 1_000)
}

fn labels(name: &str, severity: &str) -> Pairs {
    let pairs = [
        ("alertname", name),
        ("severity", severity),
        ("migration_id", "shop"),
    ];
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

fn alert(name: &str, severity: &str, starts_at: i64, ends_at: Option<i64>) -> Alert {
    Alert {
        labels: labels(name, severity),
        annotations: Pairs::new(),
        starts_at: at(starts_at),
        ends_at: ends_at.map(at),
        generator_url: String::new(),
    }
}

/// group_wait 30 s, group_interval 5 min, repeat_interval 1 h.
fn config() -> Config {
    Config {
        repeat_interval: Duration::from_secs(3_600),
        ..Config::default()
    }
}

impl Timeline {
    fn new() -> Self {
        Self::with(config(), vec![Route::default()])
    }

    fn with(config: Config, routes: Vec<Route>) -> Self {
        let channels = vec![Channel::Takes; routes.len()];
        let named = routes.into_iter().zip(["ops", "dev"]);
        let named = named.map(|(route, name)| (name.to_owned(), route));
        Self {
            dispatcher: Dispatcher::new(config, named.collect(), true),
            now: 0,
            firing: Vec::new(),
            is_said: true,
            channels,
            told: Vec::new(),
        }
    }

    fn fires(&mut self, name: &'static str) {
        self.fires_as(name, "warning");
    }

    fn fires_as(&mut self, name: &'static str, severity: &'static str) {
        self.firing.push((name, severity));
        self.say();
    }

    fn ends(&mut self, name: &'static str) {
        let (ended, firing): (Vec<_>, Vec<_>) = self
            .firing
            .iter()
            .copied()
            .partition(|(other, _)| *other == name);
        self.firing = firing;
        let now = self.now;
        let ended = ended
            .iter()
            .map(|(name, severity)| alert(name, severity, 0, Some(now)));
        self.dispatcher.post(at(now), ended.collect());
    }

    fn say(&mut self) {
        if self.is_said {
            let now = self.now;
            let said = self.firing.iter();
            let said = said.map(|(name, severity)| alert(name, severity, now, None));
            self.dispatcher.post(at(now), said.collect());
        }
    }

    fn silence(&mut self, matcher: &str, until: i64) -> String {
        let wish = Wish {
            id: None,
            matchers: Matchers::try_from(vec![matcher.to_owned()]).unwrap(),
            starts_at: at(self.now),
            ends_at: at(until),
            created_by: String::new(),
            comment: String::new(),
        };
        let id = format!("s{}", self.now);
        self.dispatcher.set_silence(at(self.now), wish, id).unwrap()
    }

    fn run_to(&mut self, seconds: i64) {
        while self.now < seconds {
            self.now += 1;
            self.say();
            self.step();
        }
    }

    fn step(&mut self) {
        let now = at(self.now);
        self.dispatcher.advance(now);
        for place in 0..self.channels.len() {
            while let Some(notification) = self.dispatcher.take(now, place) {
                self.attempt(place, &notification);
            }
        }
    }

    fn attempt(&mut self, place: usize, notification: &Notification) {
        let now = at(self.now);
        match self.channels[place] {
            Channel::Takes => {
                let channel = ["ops", "dev"][place];
                self.told
                    .push(format!("{} {channel}{}", self.now, text(notification)));
                self.dispatcher.delivered(now, place);
            }
            Channel::IsDown => {
                self.dispatcher
                    .delayed(now, place, "down".to_owned(), None, 0.5);
            }
            Channel::Refuses => self.dispatcher.refused(now, place, "no".to_owned()),
        }
    }

    #[track_caller]
    fn assert_told(&self, expected: &[&str]) {
        assert_eq!(self.told, expected);
    }
}

/// ` firing a b resolved c`
fn text(notification: &Notification) -> String {
    let mut text = String::new();
    for status in [Status::Firing, Status::Resolved] {
        let names: Vec<&str> = notification.with_status(status).map(Alert::name).collect();
        if !names.is_empty() {
            text.push_str(&format!(" {} {}", status.name(), names.join(" ")));
        }
    }
    text
}

#[test]
fn a_group_waits_then_tells_what_changed_at_its_interval() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(10);
    timeline.fires("b");
    timeline.run_to(40);
    timeline.fires("c");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.run_to(1_000);
    timeline.assert_told(&["30 ops firing a b", "330 ops firing b c resolved a"]);
}

#[test]
fn what_ends_before_its_group_was_told_is_never_told() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(20);
    timeline.ends("a");
    timeline.run_to(1_000);
    timeline.assert_told(&[]);
}

#[test]
fn what_comes_and_goes_between_two_looks_is_not_told() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(100);
    timeline.fires("b");
    timeline.run_to(200);
    timeline.ends("b");
    timeline.run_to(400);
    timeline.assert_told(&["30 ops firing a"]);
}

#[test]
fn an_end_that_is_taken_back_before_the_next_look_is_not_told() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.run_to(200);
    timeline.fires("a");
    timeline.run_to(1_000);
    timeline.assert_told(&["30 ops firing a"]);
}

#[test]
fn what_still_fires_is_repeated_when_the_interval_has_passed_and_not_before() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(7_300);
    timeline.assert_told(&["30 ops firing a", "3630 ops firing a", "7230 ops firing a"]);
}

#[test]
fn a_late_loop_does_not_put_a_repeat_off_by_an_interval() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    // Looked at a second late each time: 3,600 s have not passed since 31, but since 30.
    for due in (30..=3_630).step_by(300) {
        timeline.now = due;
        timeline.say();
        timeline.now = due + 1;
        timeline.step();
    }
    timeline.assert_told(&["31 ops firing a", "3631 ops firing a"]);
}

#[test]
fn something_new_counts_as_a_repeat_of_the_rest() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(1_500);
    timeline.fires("b");
    timeline.run_to(5_200);
    timeline.assert_told(&[
        "30 ops firing a",
        "1530 ops firing a b",
        "5130 ops firing a b",
    ]);
}

#[test]
fn an_alert_that_is_not_said_again_is_over() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(60);
    timeline.is_said = false;
    timeline.run_to(1_000);
    // Last said at 60, over at 360, and the group is looked at at 330 and 630.
    timeline.assert_told(&["30 ops firing a", "630 ops resolved a"]);
}

#[test]
fn an_alert_that_says_until_when_it_holds_is_over_then() {
    let mut timeline = Timeline::new();
    timeline
        .dispatcher
        .post(at(0), vec![alert("a", "warning", 0, Some(100))]);
    timeline.run_to(99);
    assert!(timeline.dispatcher.alerts().all(|(_, known)| known.fires()));
    timeline.run_to(400);
    timeline.assert_told(&["30 ops firing a", "330 ops resolved a"]);
}

#[test]
fn what_is_silenced_is_told_when_the_silence_ends_if_it_still_fires() {
    let mut timeline = Timeline::new();
    timeline.silence("alertname=~a|b", 400);
    timeline.fires("a");
    timeline.fires("b");
    timeline.fires("c");
    timeline.run_to(200);
    timeline.ends("b");
    timeline.run_to(1_000);
    timeline.assert_told(&["30 ops firing c", "630 ops firing a c"]);
}

#[test]
fn the_end_of_what_was_told_is_told_although_it_is_silenced() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.fires("b");
    timeline.run_to(100);
    timeline.silence("alertname=a", 9_000);
    timeline.ends("a");
    timeline.run_to(1_000);
    timeline.assert_told(&["30 ops firing a b", "330 ops firing b resolved a"]);
}

#[test]
fn what_was_told_and_then_silenced_is_told_anew_once_others_were() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.fires("b");
    timeline.run_to(100);
    timeline.silence("alertname=a", 700);
    timeline.ends("b");
    timeline.run_to(2_000);
    // At 330 receivers that keep one incident a group close it, so that `a` has to open it again.
    timeline.assert_told(&[
        "30 ops firing a b",
        "330 ops resolved b",
        "930 ops firing a",
    ]);
}

#[test]
fn an_expired_silence_holds_nothing_back() {
    let mut timeline = Timeline::new();
    let id = timeline.silence("alertname=a", 9_000);
    timeline.fires("a");
    timeline.run_to(100);
    timeline.dispatcher.expire_silence(at(100), &id).unwrap();
    timeline.run_to(400);
    timeline.assert_told(&["330 ops firing a"]);
}

#[test]
fn a_milder_alert_is_held_back_while_the_critical_one_fires() {
    let mut timeline = Timeline::new();
    timeline.fires_as("a", "critical");
    timeline.firing.push(("a", "warning"));
    timeline.run_to(100);
    timeline.assert_told(&["30 ops firing a"]);
    let said = &timeline.dispatcher.overview(at(100)).alerts;
    let held = said
        .iter()
        .find(|view| view.alert.severity() == "warning")
        .unwrap();
    assert!(held.inhibited_by.is_some() && held.told.is_empty());
    timeline
        .firing
        .retain(|(_, severity)| *severity == "warning");
    timeline
        .dispatcher
        .post(at(100), vec![alert("a", "critical", 0, Some(100))]);
    timeline.run_to(400);
    timeline.assert_told(&["30 ops firing a", "330 ops firing a resolved a"]);
}

#[test]
fn a_channel_is_told_only_what_its_route_takes() {
    let severe: Route = toml::from_str("severity_min = \"critical\"").unwrap();
    let mut timeline = Timeline::with(config(), vec![Route::default(), severe]);
    timeline.fires("a");
    timeline.fires_as("b", "critical");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.ends("b");
    timeline.run_to(1_000);
    timeline.assert_told(&[
        "30 ops firing a b",
        "30 dev firing b",
        "330 ops resolved a b",
        "330 dev resolved b",
    ]);
}

#[test]
fn without_send_resolved_an_end_is_not_told_and_a_new_beginning_is() {
    let quiet: Route = toml::from_str("send_resolved = false").unwrap();
    let mut timeline = Timeline::with(config(), vec![quiet]);
    timeline.fires("a");
    timeline.fires("b");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.run_to(400);
    timeline.fires("a");
    timeline.run_to(1_000);
    timeline.assert_told(&["30 ops firing a b", "630 ops firing b a"]);
}

#[test]
fn groups_are_told_apart() {
    let by_name = Config {
        group_by: vec!["alertname".to_owned()],
        ..config()
    };
    let mut timeline = Timeline::with(by_name, vec![Route::default()]);
    timeline.fires("a");
    timeline.run_to(10);
    timeline.fires("b");
    timeline.run_to(100);
    timeline.assert_told(&["30 ops firing a", "40 ops firing b"]);
}

#[test]
fn a_channel_that_was_down_hears_all_that_was_decided_in_order() {
    let mut timeline = Timeline::with(config(), vec![Route::default(), Route::default()]);
    timeline.channels[1] = Channel::IsDown;
    timeline.fires("a");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.run_to(400);
    timeline.assert_told(&["30 ops firing a", "330 ops resolved a"]);
    timeline.channels[1] = Channel::Takes;
    timeline.run_to(1_000);
    let late: Vec<&String> = timeline
        .told
        .iter()
        .filter(|told| told.contains("dev"))
        .collect();
    assert!(
        late[0].ends_with(" dev firing a") && late[1].ends_with(" dev resolved a"),
        "{late:?}"
    );
    assert_eq!(late.len(), 2);
}

#[test]
fn a_repeat_does_not_wait_behind_what_waits_and_counts_from_a_late_delivery() {
    let mut timeline = Timeline::new();
    timeline.channels[0] = Channel::IsDown;
    timeline.fires("a");
    timeline.run_to(8_000);
    assert_eq!(timeline.dispatcher.outboxes()[0].waiting().count(), 1);
    timeline.channels[0] = Channel::Takes;
    timeline.run_to(8_300);
    assert_eq!(timeline.told.len(), 1);
    timeline.run_to(11_500);
    assert_eq!(timeline.told.len(), 1);
    timeline.run_to(12_200);
    assert_eq!(timeline.told.len(), 2);
}

#[test]
fn what_a_channel_refused_is_told_anew_while_it_fires_and_its_end_only_if_it_was_told() {
    let mut timeline = Timeline::new();
    timeline.channels[0] = Channel::Refuses;
    timeline.fires("a");
    timeline.fires("b");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.channels[0] = Channel::Takes;
    timeline.run_to(400);
    timeline.ends("b");
    timeline.run_to(1_000);
    timeline.assert_told(&["330 ops firing b", "630 ops resolved b"]);
}

#[test]
fn the_end_of_what_waited_and_was_then_refused_is_passed_over() {
    let mut timeline = Timeline::new();
    timeline.channels[0] = Channel::IsDown;
    timeline.fires("a");
    timeline.run_to(100);
    timeline.ends("a");
    timeline.run_to(400);
    assert_eq!(timeline.dispatcher.outboxes()[0].waiting().count(), 2);
    timeline.channels[0] = Channel::Refuses;
    timeline.run_to(1_000);
    assert_eq!(timeline.dispatcher.outboxes()[0].waiting().count(), 0);
    let passed_over = Event::PassedOver {
        outbox: 0,
        count: 1,
    };
    assert!(timeline.dispatcher.take_events().contains(&passed_over));
    timeline.assert_told(&[]);
}

#[test]
fn a_failed_attempt_is_repeated_after_a_pause_that_doubles_and_never_before_retry_after() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(29);
    timeline.now = 30;
    timeline.dispatcher.advance(at(30));
    let mut now = at(30);
    let mut pauses = Vec::new();
    for retry_after in [None, None, None, Some(60), Some(7_200)] {
        assert!(timeline.dispatcher.take(now, 0).is_some());
        let retry_after = retry_after.map(Duration::from_secs);
        timeline
            .dispatcher
            .delayed(now, 0, "busy".to_owned(), retry_after, 0.5);
        let next = timeline.dispatcher.outboxes()[0].next_at().unwrap();
        assert!(timeline.dispatcher.take(next.offset_ms(-1), 0).is_none());
        pauses.push(next.since(now).as_secs());
        now = next;
    }
    // Half of 2, 4 and 8 s; then what was asked for, of which an hour is granted.
    assert_eq!(pauses, [1, 2, 4, 60, 3_600]);
    for _ in 0..20 {
        assert!(timeline.dispatcher.take(now, 0).is_some());
        timeline
            .dispatcher
            .delayed(now, 0, "busy".to_owned(), None, 0.999);
        now = timeline.dispatcher.outboxes()[0].next_at().unwrap();
    }
    timeline.dispatcher.take(now, 0).unwrap();
    timeline
        .dispatcher
        .delayed(now, 0, "busy".to_owned(), None, 1.0);
    let longest = timeline.dispatcher.outboxes()[0]
        .next_at()
        .unwrap()
        .since(now);
    assert_eq!(longest, Duration::from_secs(300));
}

#[test]
fn an_alert_that_flaps_is_told_once_and_its_end_when_it_is_steady() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(100);
    for _ in 0..10 {
        timeline.ends("a");
        timeline.run_to(timeline.now + 60);
        timeline.fires("a");
        timeline.run_to(timeline.now + 60);
    }
    // The fifth change, at 340, makes it flap; the look at 630 tells so, and those up to 1,300 nothing.
    timeline.assert_told(&["30 ops firing a", "630 ops firing a"]);
    let views = timeline.dispatcher.overview(at(timeline.now)).alerts;
    assert_eq!(views[0].flapping_since, Some(at(340)));
    assert_eq!(
        views[0].alert.annotations[FLAPPING],
        "changed more than 4 times within 30m; held firing until it has not changed for 15m"
    );
    timeline.ends("a");
    timeline.run_to(1_300 + 899);
    assert_eq!(timeline.told.len(), 2);
    timeline.run_to(3_000);
    timeline.assert_told(&["30 ops firing a", "630 ops firing a", "2430 ops resolved a"]);
}

#[test]
fn at_the_limit_new_alerts_are_refused_until_there_is_room() {
    let mut timeline = Timeline::new();
    let many = |range: std::ops::Range<usize>, ends_at: Option<i64>| -> Vec<Alert> {
        let name = |index| format!("alert {index}");
        range
            .map(|index| alert(&name(index), "warning", 0, ends_at))
            .collect()
    };
    assert_eq!(
        timeline.dispatcher.post(at(0), many(0..ALERTS_MAX, None)),
        0
    );
    assert_eq!(
        timeline.dispatcher.post(at(0), many(9_999..10_002, None)),
        2
    );
    timeline.now = 30;
    timeline.step();
    let named: usize = timeline.told[0]
        .split(' ')
        .filter(|word| *word == "alert")
        .count();
    assert_eq!(named, NAMED_MAX);
    timeline
        .dispatcher
        .post(at(31), many(0..ALERTS_MAX, Some(31)));
    timeline.now = 330;
    timeline.step();
    timeline.now = 3_000;
    timeline.step();
    assert_eq!(
        timeline
            .dispatcher
            .post(at(3_000), many(10_000..10_001, None)),
        0
    );
}

#[test]
fn when_a_queue_is_full_repeats_make_room_and_news_wait_with_their_group() {
    let by_name = Config {
        group_by: vec!["alertname".to_owned()],
        flap_changes: 0,
        ..config()
    };
    let mut dispatcher = Dispatcher::new(by_name, vec![("ops".to_owned(), Route::default())], true);
    let said = |range: std::ops::Range<usize>, now| -> Vec<Alert> {
        range
            .map(|index| alert(&format!("a{index}"), "warning", now, None))
            .collect()
    };
    let waiting = |dispatcher: &Dispatcher| dispatcher.outboxes()[0].waiting().count();
    // One group is told and, an hour later, waits to be repeated while the channel is down.
    dispatcher.post(at(0), said(0..1, 0));
    dispatcher.advance(at(30));
    dispatcher.take(at(30), 0).unwrap();
    dispatcher.delivered(at(30), 0);
    for now in (60..=3_630).step_by(30) {
        dispatcher.post(at(now), said(0..1, now));
        dispatcher.advance(at(now));
    }
    assert_eq!(waiting(&dispatcher), 1);
    // 1,001 more groups: the repeat makes room for the 1,000th, and the last has to wait.
    dispatcher.post(at(3_631), said(0..1_002, 3_631));
    dispatcher.advance(at(3_661));
    assert_eq!(waiting(&dispatcher), 1_000);
    let superseded = Event::Superseded {
        outbox: 0,
        count: 1,
    };
    assert!(dispatcher.take_events().contains(&superseded));
    for _ in 0..1_000 {
        let notification = dispatcher.take(at(3_662), 0).unwrap();
        assert!(notification.alerts.iter().all(|alert| alert.name() != "a0"));
        dispatcher.delivered(at(3_662), 0);
    }
    dispatcher.post(at(3_900), said(0..1_002, 3_900));
    dispatcher.advance(at(3_961));
    // The one that had to wait; the repeat comes again when it is due again.
    assert_eq!(waiting(&dispatcher), 1);
}

#[test]
fn a_clock_that_was_set_makes_nothing_over_and_nothing_due() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(100);
    let day = 86_400;
    timeline.dispatcher.shift(day * 1_000);
    timeline.now += day;
    timeline.is_said = false;
    timeline.run_to(day + 399);
    timeline.assert_told(&["30 ops firing a"]);
    timeline.run_to(day + 700);
    timeline.told.remove(0);
    timeline.assert_told(&[&format!("{} ops resolved a", day + 630)]);
}

#[test]
fn an_end_that_lies_before_the_beginning_is_not_this_alerts() {
    let mut timeline = Timeline::new();
    timeline.run_to(50);
    timeline.fires("a");
    timeline
        .dispatcher
        .post(at(50), vec![alert("a", "warning", 10, Some(20))]);
    timeline.run_to(500);
    timeline.assert_told(&["80 ops firing a"]);
}

#[test]
fn every_notification_has_an_id_of_its_own_that_attempts_share() {
    let mut timeline = Timeline::new();
    timeline.fires("a");
    timeline.run_to(29);
    timeline.dispatcher.advance(at(30));
    let first = timeline.dispatcher.take(at(30), 0).unwrap();
    timeline
        .dispatcher
        .delayed(at(30), 0, "busy".to_owned(), None, 0.0);
    let again = timeline.dispatcher.take(at(31), 0).unwrap();
    assert_eq!(first, again);
    timeline.dispatcher.delivered(at(31), 0);
    timeline
        .dispatcher
        .post(at(32), vec![alert("a", "warning", 0, Some(32))]);
    timeline.dispatcher.advance(at(330));
    let over = timeline.dispatcher.take(at(330), 0).unwrap();
    assert_eq!(over.group_key, first.group_key);
    assert_ne!(over.id, first.id);
}
