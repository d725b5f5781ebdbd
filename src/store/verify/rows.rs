//! The rows of the write-ahead file: each decodes, none is missing, and what they say fits what is sealed.

use super::super::entry::Entry;
use super::super::handle::Handle;
use super::super::{deletion, wal};
use super::names::Names;
use super::{Verified, each_row, malformed};
use crate::model::Labels;

impl Verified {
    /// Reads every row; those up to `applied` are only left over.
    pub(super) fn rows(&mut self, wal: &Handle, applied: u64, names: &mut Names) {
        let transaction = match wal.begin_read() {
            Ok(transaction) => transaction,
            Err(error) => return self.error(wal, "", &error),
        };
        let mut faults = Vec::new();
        let mut next = applied + 1;
        let count = each_row(wal, &transaction, wal::ROWS, |seq: u64, value| {
            let place = format!("row {seq}");
            match Entry::decode(value, seq) {
                // What is left over says nothing of what there is now.
                Ok(_) if seq <= applied => {}
                Ok(entry) => {
                    faults.extend(check(&entry, names).map(|detail| (place.clone(), detail)));
                }
                Err(error) => faults.push((place.clone(), malformed(error))),
            }
            if seq > applied {
                if seq != next {
                    faults.push((place, format!("row {next} before it is missing")));
                }
                next = seq + 1;
            }
        });
        self.rows = self.counted(wal, "rows", count);
        for (place, detail) in faults {
            self.fault(wal, place, detail);
        }
    }
}

/// What of an entry does not fit.
fn check(entry: &Entry, names: &mut Names) -> Option<String> {
    for (series, labels) in &entry.definitions {
        let labels: &Labels = labels;
        if !names.define(*series, labels) {
            return Some(format!("series {} is out of sequence", series.0));
        }
    }
    let mut series = entry.points.iter().map(|point| point.series);
    if let Some(series) = series.find(|&series| !names.has(series)) {
        return Some(format!("series {} is not defined", series.0));
    }
    for series in &entry.forgotten {
        if !names.forget(*series) {
            return Some(format!("series {} is not there to be forgotten", series.0));
        }
    }
    let mut deletions = entry.mutations.iter().filter_map(deletion::of_mutation);
    deletions.find_map(|(_, request)| request.err().map(|error| error.to_string()))
}
