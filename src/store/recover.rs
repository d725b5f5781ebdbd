//! What the files hold, as the state that readers and the writer go on from: at start, and after a
//! failure of the write-ahead file.

use std::sync::Arc;

use super::files::Files;
use super::head::Part;
use super::live::Live;
use super::{Error, data, deletion, wal};

/// The state that the files hold.
pub(crate) struct Recovered {
    pub(crate) live: Live,
    pub(crate) applied: u64,
    pub(crate) row_bytes: u64,
}

impl Recovered {
    /// Reads the index as of the last seal and replays what came after it.
    pub(crate) fn load(files: &Files) -> Result<Self, Error> {
        let transaction = files.data.begin_read()?;
        let (applied, mut index) = files.data.contain(|| {
            Ok((
                data::applied(&transaction)?,
                data::load_index(&transaction)?,
            ))
        })?;
        let mut deletions = files
            .data
            .contain(|| deletion::load(&transaction, &index))??;
        let part = Part::new(applied + 1);
        let mut row_bytes = 0;
        let published = wal::replay(&files.wal, applied, |seq, bytes, entry| {
            row_bytes += bytes as u64;
            for (series, labels) in &entry.definitions {
                if index.define(labels) != *series {
                    let detail = format!("row {seq}: series {} is out of sequence", series.0);
                    return Err(redb::Error::Corrupted(detail));
                }
            }
            let points = entry.points.iter().map(|point| point.series);
            let mut named = points.chain(entry.forgotten.iter().copied());
            if let Some(series) = named.find(|series| !index.has(*series)) {
                let detail = format!("row {seq}: series {} is not defined", series.0);
                return Err(redb::Error::Corrupted(detail));
            }
            if !entry.forgotten.is_empty() {
                index.forget(seq, &entry.forgotten);
                // Nobody reads yet.
                let symbols = index.sweep(seq);
                let mut gone = part.gone();
                gone.series.extend_from_slice(&entry.forgotten);
                gone.symbols.extend(symbols);
            }
            let mut fill = part.fill(seq);
            for point in &entry.points {
                fill.insert(*point);
            }
            drop(fill);
            for mutation in &entry.mutations {
                // Nobody reads yet: only the last version is kept.
                part.mutate(seq, mutation, seq);
                match deletion::of_mutation(mutation) {
                    None => {}
                    Some((of, Ok(None))) => deletions.remove(of),
                    Some((_, Ok(Some(request)))) => {
                        let deletion = request.resolve(seq, &index);
                        part.purge(&deletion);
                        deletions.push(Arc::new(deletion));
                    }
                    Some((_, Err(error))) => {
                        let detail = format!("row {seq}: {error}");
                        return Err(redb::Error::Corrupted(detail));
                    }
                }
            }
            Ok(())
        })?;
        // They were still to be read when their series were sealed as gone.
        part.gone().symbols.extend(index.sweep_symbols());
        Ok(Self {
            live: Live::new(index, part, deletions, published),
            applied,
            row_bytes,
        })
    }
}
