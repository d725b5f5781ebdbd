//! Random histories against the rules, each stated as naively as it can be.

use proptest::prelude::*;

use super::*;
use crate::alert::dispatch::matchers::Matchers;
use crate::alert::{Pairs, Status};
use crate::model::Batch;
use crate::store::{Options, Store};

const GROUP_WAIT: i64 = 3;
const GROUP_INTERVAL: i64 = 10;
const REPEAT_INTERVAL: i64 = 40;
const RESOLVE_TIMEOUT: i64 = 20;

/// What happens in one second.
#[derive(Clone, Debug)]
enum Step {
    /// The alert's source says that it fires, from now on every second.
    Fires(usize),
    /// ... that it is over.
    Ends(usize),
    /// ... nothing of it any more.
    Falls(usize),
    Silence(usize, i64),
    /// The channel answers so from now on.
    Channel(Answer),
    /// The process is killed and started again; what the channel was sending may have arrived.
    Restart,
    Nothing(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Takes,
    IsDown,
    Refuses,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize).prop_map(Step::Fires),
        3 => (0..4_usize).prop_map(Step::Ends),
        1 => (0..4_usize).prop_map(Step::Falls),
        1 => (0..4_usize, 1..60_i64).prop_map(|(alert, span)| Step::Silence(alert, span)),
        1 => prop_oneof![Just(Answer::Takes), Just(Answer::IsDown), Just(Answer::Refuses)]
            .prop_map(Step::Channel),
        1 => Just(Step::Restart),
        6 => (1..30_i64).prop_map(Step::Nothing),
    ]
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(seconds * 1_000)
}

/// Alerts 0 and 1 are one group, 2 and 3 another; 1 is critical and inhibits 0.
fn alert(index: usize, starts_at: i64, ends_at: Option<i64>) -> Alert {
    let pairs = [
        ("alertname", ["lag", "lag", "errors", "stall"][index]),
        (
            "severity",
            ["warning", "critical", "warning", "info"][index],
        ),
        ("migration_id", ["shop", "shop", "crm", "crm"][index]),
    ];
    Alert {
        labels: pairs
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        annotations: Pairs::new(),
        starts_at: at(starts_at),
        ends_at: ends_at.map(at),
        generator_url: String::new(),
    }
}

fn index(alert: &Alert) -> usize {
    (0..4)
        .find(|index| self::alert(*index, 0, None).labels == alert.labels)
        .expect("it is one of ours")
}

/// What the model knows of one alert, from the outside.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    /// Since when its source says it fires.
    said_since: Option<i64>,
    /// Whether the source goes on saying so.
    is_said: bool,
    said_at: i64,
    /// Whether the channel was told that it fires, and not that it is over.
    is_told: bool,
    silenced_until: i64,
    /// Since when it fires with nothing in the way of its being told.
    tellable_since: Option<i64>,
}

struct Run {
    store: Store,
    dispatcher: Dispatcher,
    now: i64,
    alerts: [Truth; 4],
    answer: Answer,
    /// Since when the channel takes everything.
    takes_since: i64,
    /// When each group was last told, by the group's key.
    told_at: BTreeMap<String, i64>,
    /// What its last notification said fires.
    said: BTreeMap<String, BTreeSet<usize>>,
    delivered: BTreeMap<u64, Notification>,
    silences: usize,
    _dir: tempfile::TempDir,
}

fn config() -> Config {
    let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    Config {
        group_wait: seconds(GROUP_WAIT),
        group_interval: seconds(GROUP_INTERVAL),
        repeat_interval: seconds(REPEAT_INTERVAL),
        resolve_timeout: seconds(RESOLVE_TIMEOUT),
        flap_changes: 0,
        ..Config::default()
    }
}

fn dispatcher() -> Dispatcher {
    Dispatcher::new(config(), vec![("ops".to_owned(), Route::default())], true)
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = std::sync::Arc::new(crate::model::ManualClock::at(at(0)));
        Self {
            store: Store::open(dir.path(), Options::default(), clock).unwrap(),
            dispatcher: dispatcher(),
            now: 0,
            alerts: [Truth::default(); 4],
            answer: Answer::Takes,
            takes_since: 0,
            told_at: BTreeMap::new(),
            said: BTreeMap::new(),
            delivered: BTreeMap::new(),
            silences: 0,
            _dir: dir,
        }
    }

    fn commit(&mut self) {
        let mutations = self.dispatcher.mutations();
        if !mutations.is_empty() {
            let batch = Batch {
                mutations,
                ..Batch::default()
            };
            self.store.writer().write_blocking(batch).unwrap();
            self.dispatcher.committed();
        }
    }

    fn apply(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Fires(index) => {
                let truth = &mut self.alerts[index];
                truth.said_since.get_or_insert(now);
                truth.is_said = true;
                self.second();
            }
            Step::Ends(index) => {
                let truth = &mut self.alerts[index];
                truth.is_said = false;
                if let Some(since) = truth.said_since.take() {
                    self.dispatcher
                        .post(at(now), vec![alert(index, since, Some(now))]);
                }
                self.second();
            }
            Step::Falls(index) => {
                self.alerts[index].is_said = false;
                self.second();
            }
            Step::Silence(index, span) => {
                let labels = alert(index, 0, None).labels;
                let texts = labels.iter().map(|(name, value)| format!("{name}={value}"));
                let wish = Wish {
                    id: None,
                    matchers: Matchers::try_from(texts.collect::<Vec<_>>()).unwrap(),
                    starts_at: at(now),
                    ends_at: at(now + span),
                    created_by: String::new(),
                    comment: String::new(),
                };
                self.silences += 1;
                let id = format!("s{}", self.silences);
                self.dispatcher.set_silence(at(now), wish, id).unwrap();
                let truth = &mut self.alerts[index];
                truth.silenced_until = truth.silenced_until.max(now + span);
                self.second();
            }
            Step::Channel(answer) => {
                if answer == Answer::Takes && self.answer != Answer::Takes {
                    self.takes_since = now;
                }
                self.answer = answer;
                self.second();
            }
            Step::Restart => self.restart(),
            Step::Nothing(seconds) => (0..seconds).for_each(|_| self.second()),
        }
    }

    /// Everything that was not committed is lost, and what is being sent counts as not sent.
    fn restart(&mut self) {
        self.commit();
        if self.answer == Answer::Takes {
            // It arrives, but nobody notes that it did.
            if let Some(notification) = self.dispatcher.take(at(self.now), 0) {
                self.receive(&notification);
            }
        }
        self.dispatcher = dispatcher();
        let snapshot = self.store.reader().snapshot().unwrap();
        self.dispatcher.restore(&snapshot, at(self.now)).unwrap();
        // Everything that fired has time to be said again.
        for truth in &mut self.alerts {
            truth.said_at = self.now;
        }
    }

    fn second(&mut self) {
        self.now += 1;
        let now = self.now;
        let said = (0..4).filter(|index| self.alerts[*index].is_said);
        let said = said.map(|index| alert(index, self.alerts[index].said_since.unwrap(), None));
        let said: Vec<Alert> = said.collect();
        for alert in &said {
            self.alerts[index(alert)].said_at = now;
        }
        self.dispatcher.post(at(now), said);
        for truth in &mut self.alerts {
            // What is no longer said is over when the time-out has passed.
            if !truth.is_said && now - truth.said_at >= RESOLVE_TIMEOUT {
                truth.said_since = None;
            }
        }
        self.note_tellable();
        self.dispatcher.advance(at(now));
        self.commit();
        while let Some(notification) = self.dispatcher.take(at(now), 0) {
            match self.answer {
                Answer::Takes => {
                    self.receive(&notification);
                    self.dispatcher.delivered(at(now), 0);
                }
                Answer::IsDown => {
                    self.dispatcher
                        .delayed(at(now), 0, "down".to_owned(), None, 0.0);
                }
                Answer::Refuses => {
                    self.give_up(&notification);
                    self.dispatcher.refused(at(now), 0, "no".to_owned());
                }
            }
            self.commit();
        }
        self.check_all_told();
    }

    fn note_tellable(&mut self) {
        let now = self.now;
        let inhibitor_fires = self.alerts[1].said_since.is_some();
        for (index, truth) in self.alerts.iter_mut().enumerate() {
            let is_held = now < truth.silenced_until || (index == 0 && inhibitor_fires);
            if truth.said_since.is_some() && !is_held {
                truth.tellable_since.get_or_insert(now);
            } else {
                truth.tellable_since = None;
            }
        }
    }

    /// The receiver drops what it has by its id, and checks what is new to it.
    fn receive(&mut self, notification: &Notification) {
        let now = self.now;
        if let Some(before) = self.delivered.insert(notification.id, notification.clone()) {
            assert_eq!(&before, notification, "another text under the same id");
            return;
        }
        let firing = notification.with_status(Status::Firing);
        let firing: BTreeSet<usize> = firing.map(index).collect();
        let said = self
            .said
            .insert(notification.group_key.clone(), firing.clone());
        let mut has_news = !firing.is_subset(&said.unwrap_or_default());
        for told in &notification.alerts {
            let truth = &mut self.alerts[index(told)];
            match told.status() {
                Status::Firing => truth.is_told = true,
                Status::Resolved => {
                    assert!(
                        truth.is_told,
                        "{now}: resolved what was never told to fire: {told:?}"
                    );
                    has_news = true;
                    truth.is_told = false;
                }
            }
        }
        let last = self.told_at.insert(notification.group_key.clone(), now);
        if let Some(last) = last {
            let decided = notification.at.ms() / 1_000;
            // What waited is told when it can be; otherwise the intervals hold.
            let waited = decided < self.takes_since || decided < now;
            assert!(
                waited || has_news || now - last >= REPEAT_INTERVAL - 1,
                "{now}: repeated too early"
            );
        }
    }

    /// An end that is refused is given up: should the alert fire again, that is new.
    fn give_up(&mut self, notification: &Notification) {
        for ended in notification.with_status(Status::Resolved) {
            self.alerts[index(ended)].is_told = false;
            if let Some(said) = self.said.get_mut(&notification.group_key) {
                said.remove(&index(ended));
            }
        }
    }

    /// While the channel takes everything, nothing that can be told stays untold for longer than it takes
    /// to look.
    fn check_all_told(&self) {
        // Twice the interval: a refusal at one look is made good at the next.
        let patience = GROUP_WAIT + 2 * GROUP_INTERVAL;
        // The longest pause of a channel that was down, without jitter, is the shortest there is.
        if self.answer != Answer::Takes || self.now - self.takes_since <= patience {
            return;
        }
        for (index, truth) in self.alerts.iter().enumerate() {
            let since = truth.tellable_since.unwrap_or(self.now);
            assert!(
                truth.is_told || self.now - since <= patience,
                "{}: alert {index} fires since {since} and nobody is told",
                self.now
            );
        }
    }

    /// When everything has ended, everybody who was told that it began is told so.
    fn end(&mut self) {
        self.apply(&Step::Channel(Answer::Takes));
        (0..4).for_each(|index| self.apply(&Step::Ends(index)));
        self.apply(&Step::Nothing(3 * GROUP_INTERVAL));
        let untold = self.alerts.iter().position(|truth| truth.is_told);
        assert_eq!(untold, None, "the end of an alert was not told");
        let left =
            self.dispatcher.outboxes()[0].waiting().count() + self.dispatcher.groups().count();
        assert_eq!(left, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.apply(step);
        }
        run.end();
    }
}
