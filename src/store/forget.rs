//! Which series nothing refers to any more: no block holds them, and no part of the head.
//!
//! Retention and deletion take samples away, not series. What is found here is only a proposal: the
//! writer decides, who knows what came meanwhile. Blocks are not written while it is being found.

use super::live::Live;
use super::manifest::WindowRow;
use super::select::{OpenBlocks, Outliner, Wanted, blocks_of};
use super::{Error, Shared};
use crate::model::SeriesId;

/// The series without a sample, by rising id.
pub(crate) fn unused(shared: &Shared) -> Result<Vec<SeriesId>, Error> {
    let live = shared.live();
    let mut unused = not_in_head(&live);
    // The newest first: that is where most series are.
    for row in shared.manifest().rows.iter().rev() {
        if unused.is_empty() {
            break;
        }
        retain_unheld(shared, &live, row, &mut unused)?;
    }
    let mut unused: Vec<SeriesId> = unused.into_iter().map(|wanted| wanted.series).collect();
    unused.sort_unstable();
    Ok(unused)
}

/// The series without a column in the head, in the order of blocks.
fn not_in_head(live: &Live) -> Vec<Wanted> {
    let all = live.index().select(&[]);
    let unused = live.without_columns(all);
    let index = live.index();
    let mut unused: Vec<Wanted> = unused
        .into_iter()
        .filter(|&series| index.has(series))
        .map(|series| Wanted {
            metric: index.metric(series),
            series,
            group: series.0,
        })
        .collect();
    drop(index);
    unused.sort_unstable();
    unused
}

/// Keeps the series that a window does not hold. Of what cannot be read, all may be held.
fn retain_unheld(
    shared: &Shared,
    live: &Live,
    row: &WindowRow,
    unused: &mut Vec<Wanted>,
) -> Result<(), Error> {
    let data = &shared.files.data;
    // A transaction for each window, lest space is held back for long.
    let transaction = data.begin_read()?;
    let mut blocks = OpenBlocks::new(data, &transaction)?;
    let outliner = Outliner {
        outlines: &shared.outlines,
        live,
    };
    let mut is_held = vec![false; unused.len()];
    for (block, positions) in blocks_of(row, unused) {
        let outline = match blocks.outline(row, block, &outliner) {
            Ok(outline) => Some(outline),
            Err(Error::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        for position in positions {
            let lacks = |series| {
                outline
                    .as_ref()
                    .is_some_and(|outline| outline.lacks(series))
            };
            is_held[position] = !lacks(unused[position].series);
        }
    }
    let mut is_held = is_held.into_iter();
    unused.retain(|_| is_held.next() == Some(false));
    Ok(())
}
