//! The dispatcher's records in the store: alerts, groups, silences, and for each channel what it was told
//! and what waits for it.

use super::dispatcher::Known;
use super::group::Group;
use super::outbox::{Queued, Told};
use super::silence::Silence;
use crate::store::record::Record;
use crate::store::{self, Snapshot, Table};

/// By fingerprint.
pub(super) const ALERTS: Table<Known> = Table::new("alert_alerts", 1);
/// By the hash of the group's key.
pub(super) const GROUPS: Table<Group> = Table::new("alert_groups", 1);
/// By id.
pub(super) const SILENCES: Table<Silence> = Table::new("alert_silences", 1);
/// By channel and group: see [`key`].
pub(super) const TOLD: Table<Told> = Table::new("alert_told", 1);
/// By channel and number, so that each channel's notifications are in order.
pub(super) const QUEUE: Table<Queued> = Table::new("alert_queue", 1);

/// Records read at once.
const PAGE: usize = 1_000;

/// The key of what belongs to a channel.
pub(super) fn key(channel: &str, number: u64) -> Vec<u8> {
    let mut key = channel.as_bytes().to_vec();
    key.push(0);
    key.extend(number.to_be_bytes());
    key
}

/// Every record of a table with its key.
pub(super) fn load<V: Record>(
    snapshot: &Snapshot,
    table: &Table<V>,
) -> Result<Vec<(Vec<u8>, V)>, store::Error> {
    let mut records: Vec<(Vec<u8>, V)> = Vec::new();
    loop {
        let after = records.last().map(|(key, _)| key.clone());
        let page = snapshot.records(table, after.as_deref(), PAGE)?;
        let is_last = page.len() < PAGE;
        records.extend(page);
        if is_last {
            return Ok(records);
        }
    }
}
