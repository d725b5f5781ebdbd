use std::sync::Arc;

use super::*;
use crate::cdc::{Kind, Operation, Reason};
use crate::ingest::dead_letter;
use crate::model::ManualClock;
use crate::store::{Options, Store};

const CREATE: &str = r#"{"op":"c","source":{"connector":"postgresql","name":"srv","ts_ms":5,
                         "schema":"s","table":"t"}}"#;

struct Scene {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        Self {
            store: Store::open(folder.path(), Options::default(), clock).unwrap(),
            _folder: folder,
        }
    }

    fn load(&self) -> Ledger {
        Ledger::load(&self.store.reader(), Classifier::new("hb")).unwrap()
    }

    fn commit(&self, ledger: &mut Ledger) -> BTreeSet<PartitionId> {
        let mut batch = Batch::default();
        ledger.stage(&mut batch);
        self.store.writer().write_blocking(batch).unwrap();
        ledger.committed()
    }
}

fn id(number: i32) -> PartitionId {
    ("srv.s.t".to_owned(), number)
}

fn message(partition: i32, offset: i64, value: Option<&str>) -> Received<'_> {
    Received {
        topic: "srv.s.t",
        partition,
        offset,
        value: value.map(str::as_bytes),
    }
}

fn creates(ledger: &Ledger, number: i32) -> u64 {
    let partition = ledger.get(&id(number)).unwrap();
    partition.tally().changes().map(|(_, count)| count).sum()
}

#[test]
fn positions_and_counts_come_back_together() {
    let scene = Scene::new();
    let mut ledger = scene.load();
    assert!(ledger.is_blank());
    ledger.open(&id(0), 10);
    ledger.take(message(0, 10, Some(CREATE)), Timestamp::EPOCH);
    ledger.take(message(0, 11, None), Timestamp::EPOCH);
    assert_eq!(scene.commit(&mut ledger), BTreeSet::from([id(0)]));

    let loaded = scene.load();
    let partition = loaded.get(&id(0)).unwrap();
    assert_eq!(partition.next_offset(), 12);
    let (key, count) = partition.tally().changes().next().unwrap();
    assert_eq!((key.operation, count), (Operation::Create, 1));
    let kinds: Vec<_> = partition.tally().kinds().collect();
    assert_eq!(kinds, [(Kind::Tombstone, 1)]);
    assert!(!partition.is_read() && !loaded.is_blank());
}

#[test]
fn a_message_that_was_counted_is_not_counted_again() {
    let mut ledger = Scene::new().load();
    ledger.open(&id(0), 0);
    for offset in [0, 1, 1, 0, 2] {
        ledger.take(message(0, offset, Some(CREATE)), Timestamp::EPOCH);
    }
    assert_eq!(creates(&ledger, 0), 3);
}

#[test]
fn messages_of_partitions_that_are_not_read_are_left_alone() {
    let mut ledger = Scene::new().load();
    ledger.open(&id(0), 0);
    ledger.close(&id(0));
    ledger.take(message(0, 0, Some(CREATE)), Timestamp::EPOCH);
    ledger.take(message(1, 0, Some(CREATE)), Timestamp::EPOCH);
    assert_eq!(creates(&ledger, 0), 0);
    assert_eq!(ledger.staged(), (0, 0));
}

#[test]
fn markers_are_skipped_but_never_on_the_word_of_an_earlier_opening() {
    let mut ledger = Scene::new().load();
    let position = |offset| BTreeMap::from([(id(0), offset)]);
    ledger.open(&id(0), 5);
    ledger.skip_markers(&position(7));
    assert_eq!(ledger.get(&id(0)).unwrap().next_offset(), 7);
    ledger.skip_markers(&position(6));
    assert_eq!(ledger.get(&id(0)).unwrap().next_offset(), 7);

    // The topic was made anew, and the client has not yet let go of the old position.
    ledger.open(&id(0), 0);
    ledger.skip_markers(&position(7));
    assert_eq!(ledger.get(&id(0)).unwrap().next_offset(), 0);
    ledger.take(message(0, 0, Some(CREATE)), Timestamp::EPOCH);
    ledger.skip_markers(&position(2));
    assert_eq!(ledger.get(&id(0)).unwrap().next_offset(), 2);
}

#[test]
fn what_was_not_committed_is_not_there_after_a_reload() {
    let scene = Scene::new();
    let mut ledger = scene.load();
    ledger.open(&id(0), 0);
    scene.commit(&mut ledger);
    ledger.take(message(0, 0, Some(CREATE)), Timestamp::EPOCH);
    assert_eq!(ledger.staged().0, 1);
    let loaded = scene.load();
    assert_eq!(loaded.get(&id(0)).unwrap().next_offset(), 0);
    assert_eq!(creates(&loaded, 0), 0);
}

#[test]
fn a_partition_without_a_message_keeps_its_position_over_a_restart() {
    let scene = Scene::new();
    let mut ledger = scene.load();
    ledger.open(&id(3), 77);
    scene.commit(&mut ledger);
    assert_eq!(scene.load().get(&id(3)).unwrap().next_offset(), 77);
}

#[test]
fn a_bad_message_becomes_a_letter_and_the_position_moves_on() {
    let scene = Scene::new();
    let mut ledger = scene.load();
    ledger.open(&id(0), 4);
    ledger.take(message(0, 4, Some("{")), Timestamp::EPOCH);
    ledger.take(message(0, 5, Some(CREATE)), Timestamp::EPOCH);
    scene.commit(&mut ledger);
    let letters = dead_letter::newest(&scene.store.reader(), 10).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.offset, letter.reason), (4, Reason::TruncatedJson));
    let loaded = scene.load();
    let tally = loaded.get(&id(0)).unwrap().tally();
    assert_eq!(
        tally.dead_letters().collect::<Vec<_>>(),
        [(Reason::TruncatedJson, 1)]
    );
    assert_eq!(creates(&loaded, 0), 1);
}

#[test]
fn stamps_rise_although_the_clock_steps_back_or_the_process_restarts() {
    let scene = Scene::new();
    let mut ledger = scene.load();
    let mut batch = Batch::default();
    let at = Timestamp::from_ms;
    assert_eq!(ledger.next_stamp(at(5_000), &mut batch), at(5_000));
    assert_eq!(ledger.next_stamp(at(5_000), &mut batch), at(5_001));
    assert_eq!(ledger.next_stamp(at(4_000), &mut batch), at(5_002));
    scene.store.writer().write_blocking(batch).unwrap();
    let mut loaded = scene.load();
    assert_eq!(
        loaded.next_stamp(at(1_000), &mut Batch::default()),
        at(5_003)
    );
}

#[test]
fn keys_are_read_as_they_were_written() {
    let key = encode_key("a.b", 258);
    assert_eq!(decode_key(&key), Some(("a.b".to_owned(), 258)));
    assert_eq!(decode_key(b"abc"), None);
    assert_eq!(decode_key(b"abcdefgh"), None);
}
