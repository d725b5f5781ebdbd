//! Recorded events dealt again: the records that a flow sends now, made from the recording's.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::broker::Event;
use super::story::{Cast, Flow};
use crate::cdc::Operation;
use crate::model::Timestamp;

/// The excerpt of real connectors' events that the story is made from.
const RECORDING: &str = include_str!("../../assets/demo/events.ndjson");

/// The recorded events of one source, dealt round and round, with what is owed of each kind.
#[derive(Debug)]
pub struct Deck {
    reads: Hand,
    changes: Hand,
    heartbeats: Hand,
}

#[derive(Debug, Default)]
struct Hand {
    cards: Vec<Card>,
    next: usize,
    /// Fractions of events that rates left over.
    owed: f64,
}

/// One recorded event, parsed so that its times can be shifted.
#[derive(Debug)]
struct Card {
    topic: String,
    key: Value,
    value: Value,
}

impl Deck {
    pub fn new(cast: Cast) -> Self {
        let mut deck = Self {
            reads: Hand::default(),
            changes: Hand::default(),
            heartbeats: Hand::default(),
        };
        for line in RECORDING.lines() {
            let mut line: Value = serde_json::from_str(line).expect("the recording is JSON");
            let topic = line["topic"]
                .as_str()
                .expect("a line has a topic")
                .to_owned();
            let card = Card {
                topic,
                key: line["key"].take(),
                value: line["value"].take(),
            };
            let source = card.value["source"]["name"].as_str();
            let hand = match (source, card.value["op"].as_str()) {
                (Some(source), _) if source != cast.source() => continue,
                (Some(_), Some("r")) => &mut deck.reads,
                (Some(_), _) => &mut deck.changes,
                (None, _) if card.topic.ends_with(cast.source()) => &mut deck.heartbeats,
                (None, _) => continue,
            };
            hand.cards.push(card);
        }
        // Recorded table by table: dealt in that order one table would have all the rate.
        deck.reads.interleave();
        deck.changes.interleave();
        deck
    }

    /// What a flow sends in the span that ends now.
    pub fn deal(&mut self, flow: Flow, span: Duration, now: Timestamp) -> Vec<Event> {
        let committed = now.before(flow.lag);
        let mut events = self
            .reads
            .deal(flow.reads * span.as_secs_f64(), committed, now);
        events.extend(
            self.changes
                .deal(flow.changes * span.as_secs_f64(), committed, now),
        );
        if flow.heartbeats {
            events.extend(self.heartbeats.deal(span.as_secs_f64(), now, now));
        }
        events
    }

    /// Every topic that records are dealt to.
    pub fn topics(&self) -> impl Iterator<Item = String> + '_ {
        let hands = [&self.reads, &self.changes, &self.heartbeats];
        hands
            .into_iter()
            .flat_map(|hand| &hand.cards)
            .map(|card| card.topic.clone())
    }

    /// Each table with the share of reads, or of changes by operation, that it is dealt.
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for (snapshot, hand) in [(true, &self.reads), (false, &self.changes)] {
            let each = 1.0 / hand.cards.len() as f64;
            for card in &hand.cards {
                let source = &card.value["source"];
                // PostgreSQL names the schema, MariaDB the database.
                let schema = source["schema"].as_str().or(source["db"].as_str());
                let table = source["table"].as_str();
                let table = format!("{}.{}", schema.unwrap_or(""), table.unwrap_or(""));
                let operation = match card.value["op"].as_str() {
                    Some("r") => Operation::Read,
                    Some("c") => Operation::Create,
                    Some("u") => Operation::Update,
                    _ => Operation::Delete,
                };
                let same =
                    |share: &&mut Share| share.table == table && share.operation == operation;
                match shares.iter_mut().find(same) {
                    Some(share) => share.part += each,
                    None => shares.push(Share {
                        topic: card.topic.clone(),
                        table,
                        operation,
                        snapshot,
                        part: each,
                    }),
                }
            }
        }
        shares
    }
}

/// How much of a flow one operation on one table is.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub topic: String,
    /// `schema.table`.
    pub table: String,
    pub operation: Operation,
    /// A part of the reads, else of the changes.
    pub snapshot: bool,
    pub part: f64,
}

impl Hand {
    fn interleave(&mut self) {
        let mut dealt: HashMap<String, usize> = HashMap::new();
        let mut ranked: Vec<(usize, Card)> = Vec::new();
        for card in self.cards.drain(..) {
            let rank = dealt.entry(card.topic.clone()).or_default();
            ranked.push((*rank, card));
            *rank += 1;
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        self.cards = ranked.into_iter().map(|(_, card)| card).collect();
    }

    fn deal(&mut self, count: f64, committed: Timestamp, now: Timestamp) -> Vec<Event> {
        self.owed += count;
        let due = self.owed.floor();
        self.owed -= due;
        (0..due as usize)
            .map(|_| self.draw(committed, now))
            .collect()
    }

    fn draw(&mut self, committed: Timestamp, now: Timestamp) -> Event {
        let card = &self.cards[self.next];
        self.next = (self.next + 1) % self.cards.len();
        let mut value = card.value.clone();
        stamp(&mut value, now);
        if let Some(source) = value.get_mut("source") {
            stamp(source, committed);
        }
        Event {
            topic: card.topic.clone(),
            key: (!card.key.is_null()).then(|| card.key.to_string().into_bytes()),
            value: Some(value.to_string().into_bytes()),
            headers: Vec::new(),
        }
    }
}

/// Shifts an object's own timestamps, in each of the precisions that it has.
fn stamp(object: &mut Value, at: Timestamp) {
    for (name, per_ms) in [("ts_ms", 1), ("ts_us", 1_000), ("ts_ns", 1_000_000)] {
        if let Some(field) = object.get_mut(name) {
            *field = Value::from(at.ms().saturating_mul(per_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::story;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn a_flow_is_dealt_at_its_rate_with_shifted_times() {
        let mut deck = Deck::new(Cast::Shop);
        let flow = story::scene(Duration::ZERO).shop;
        let mut events = Vec::new();
        for _ in 0..50 {
            events.extend(deck.deal(flow, Duration::from_millis(200), NOW));
        }
        let heartbeats = events
            .iter()
            .filter(|event| event.topic.starts_with("__"))
            .count();
        assert!((9..=10).contains(&heartbeats), "{heartbeats}");
        assert!(
            (59..=60).contains(&(events.len() - heartbeats)),
            "{}",
            events.len()
        );
        let change = events
            .iter()
            .find(|event| !event.topic.starts_with("__"))
            .unwrap();
        let value: Value = serde_json::from_slice(change.value.as_ref().unwrap()).unwrap();
        assert_eq!(value["ts_ms"], NOW.ms());
        assert_eq!(value["source"]["ts_ms"], NOW.ms() - 400);
    }

    #[test]
    fn shares_of_a_flow_add_up_to_one() {
        for cast in Cast::ALL {
            let shares = Deck::new(cast).shares();
            for snapshot in [true, false] {
                let parts = shares.iter().filter(|share| share.snapshot == snapshot);
                let sum: f64 = parts.map(|share| share.part).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{cast:?} {sum}");
            }
        }
    }

    #[test]
    fn a_stopped_source_sends_nothing() {
        let mut deck = Deck::new(Cast::Legacy);
        let flow = story::scene(Duration::from_secs(70)).legacy;
        assert_eq!(deck.deal(flow, Duration::from_secs(10), NOW), []);
    }
}
