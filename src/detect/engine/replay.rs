//! Stepping through stored history, so that what is usual is known at once.

use std::collections::BTreeSet;

use super::{Engine, Evaluation, Inputs};
use crate::model::{Column, Labels, Sample, Timestamp};
use crate::promql::VectorSample;

/// Range answers for one watch, to be replayed.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub watch: String,
    pub columns: Vec<Column>,
    pub expected: Vec<Column>,
}

impl Engine {
    /// Steps through stored history, so that what is usual is known at once. Nothing is written: only
    /// an anomaly that is still open at the end shows, from the next step on.
    ///
    /// Only the watches that `histories` name are touched.
    pub fn replay(&mut self, histories: &[History], phases: &[Column]) {
        let times: BTreeSet<Timestamp> = histories
            .iter()
            .flat_map(|history| &history.columns)
            .flat_map(|column| column.timestamps.iter().copied())
            .collect();
        let mut cursors: Vec<_> = histories
            .iter()
            .map(|history| {
                (
                    Cursor::new(&history.columns),
                    Cursor::new(&history.expected),
                )
            })
            .collect();
        let mut phases = Cursor::new(phases);
        for at in times {
            let evaluations = histories
                .iter()
                .zip(&mut cursors)
                .map(|(history, (samples, expected))| Evaluation {
                    watch: history.watch.clone(),
                    samples: samples.at(at),
                    expected: expected.at(at),
                })
                .collect();
            self.advance(
                at,
                &Inputs {
                    evaluations,
                    phases: phases.at(at),
                },
            );
        }
        for followed in &mut self.watches {
            if histories
                .iter()
                .any(|history| history.watch == followed.watch.name)
            {
                for series in followed.series.values_mut() {
                    series.is_present = false;
                }
            }
        }
    }
}

/// Reads columns step by step.
struct Cursor<'a> {
    columns: Vec<(&'a Column, Labels, usize)>,
}

impl<'a> Cursor<'a> {
    fn new(columns: &'a [Column]) -> Self {
        Self {
            columns: columns
                .iter()
                .map(|column| (column, column.labels.clone(), 0))
                .collect(),
        }
    }

    /// The samples at exactly this time, which is later than the last one asked for.
    fn at(&mut self, at: Timestamp) -> Vec<VectorSample> {
        let mut samples = Vec::new();
        for (column, labels, next) in &mut self.columns {
            while column
                .timestamps
                .get(*next)
                .is_some_and(|timestamp| *timestamp < at)
            {
                *next += 1;
            }
            if column.timestamps.get(*next) == Some(&at) {
                samples.push(VectorSample {
                    labels: labels.clone(),
                    sample: Sample::new(at, column.values[*next]),
                });
            }
        }
        samples
    }
}
