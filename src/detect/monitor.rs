//! One series under watch: its detectors, and the life of its anomaly.
//!
//! Owns when a verdict becomes an anomaly, when that is over, and from which samples the detectors
//! learn. Pure: a value and a time in, a step out. A monitor is the record that is stored, so after a
//! restart it goes on where it was.

use serde::{Deserialize, Serialize};

use super::anomaly::Anomaly;
use super::calibrated::Calibrated;
use super::ewma::Ewma;
use super::robust::RobustZ;
use super::seasonal::Seasonal;
use super::stall::Stall;
use super::summary::{self, Ending};
use super::threshold::Threshold;
use super::trend::Trend;
use super::verdict::{Manner, Verdict};
use super::watch::{DetectorKind, Watch};
use super::zscore::ZScore;
use crate::model::{Labels, METRIC_NAME, Timestamp};

/// An anomaly begins above this score...
pub const ENTER: f64 = 1.0;
/// ...is over once the score stays below this one...
pub const EXIT: f64 = 0.7;
/// ...for so many samples.
const CALM_SAMPLES: u32 = 2;
/// Samples above [`ENTER`] before the verdict on a single one counts: on real data one alone is mostly
/// noise. The other verdicts rest on more than one sample by themselves.
const EXCESS_SAMPLES: u32 = 2;
/// A score from which on one sample is enough.
const AT_ONCE: f64 = 3.0;
/// Intervals without a sample that make a gap.
const GAP_INTERVALS: u32 = 4;

/// The state of one series of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    detectors: Vec<Detector>,
    seen_at: Timestamp,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Detector {
    Ewma(Ewma),
    ZScore(ZScore),
    Stall(Stall),
    Threshold(Threshold),
    Calibrated(Box<Calibrated>),
    Robust(RobustZ),
    Trend(Trend),
    Seasonal(Box<Seasonal>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Quiet,
    /// The score is above 1, but not yet for long enough.
    Excess {
        since: Timestamp,
        samples: u32,
    },
    Open(Box<Open>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    anomaly: Anomaly,
    calm_samples: u32,
    /// The sentence at the highest score.
    worst: String,
}

/// What one sample came to.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The highest of the detectors' scores; 0 during the warm-up.
    pub score: f64,
    /// What the watch's first detector says, whose band is charted; `None` during the warm-up.
    pub band: Option<Verdict>,
    pub change: Option<Change>,
}

/// What happened to the anomaly of a series, with the anomaly as it now is.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Opened(Anomaly),
    Updated(Anomaly),
    Closed(Anomaly),
}

impl Change {
    pub fn anomaly(&self) -> &Anomaly {
        match self {
            Self::Opened(anomaly) | Self::Updated(anomaly) | Self::Closed(anomaly) => anomaly,
        }
    }
}

/// One value and what is known besides.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub at: Timestamp,
    /// Finite.
    pub value: f64,
    /// What is configured to be expected.
    pub expected: Option<f64>,
}

impl Monitor {
    pub fn new(watch: &Watch) -> Self {
        Self {
            detectors: watch
                .detectors
                .iter()
                .map(|kind| Detector::new(*kind))
                .collect(),
            seen_at: Timestamp::MIN,
            state: State::Quiet,
        }
    }

    /// Whether the state belongs to the watch as it now is.
    pub fn fits(&self, watch: &Watch) -> bool {
        let kinds = self.detectors.iter().map(Detector::kind);
        kinds.eq(watch.detectors.iter().copied())
    }

    pub fn seen_at(&self) -> Timestamp {
        self.seen_at
    }

    pub fn open(&self) -> Option<&Anomaly> {
        match &self.state {
            State::Open(open) => Some(&open.anomaly),
            State::Quiet | State::Excess { .. } => None,
        }
    }

    /// Judges the next value of the series, and learns from it if it is normal.
    pub fn step(&mut self, watch: &Watch, labels: &Labels, observation: Observation) -> Step {
        debug_assert!(observation.value.is_finite());
        let Observation { at, .. } = observation;
        if at.since(self.seen_at) > watch.terms.every * GAP_INTERVALS {
            self.resume();
        }
        self.seen_at = at;
        let verdicts: Vec<Option<Verdict>> = self
            .detectors
            .iter_mut()
            .map(|detector| detector.judge(watch, observation))
            .collect();
        let worst = self
            .detectors
            .iter()
            .zip(&verdicts)
            .filter_map(|(detector, verdict)| Some((detector.kind(), (*verdict)?)))
            .max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
        let score = worst.map_or(0.0, |(_, verdict)| verdict.score);
        if let State::Excess { .. } = self.state
            && score <= ENTER
        {
            self.state = State::Quiet;
            for detector in &mut self.detectors {
                detector.concede();
            }
        }
        if matches!(self.state, State::Quiet) && score <= ENTER {
            for detector in &mut self.detectors {
                detector.accept(watch, observation);
            }
        }
        let change = match worst {
            Some((kind, verdict)) => self.turn(watch, labels, kind, &verdict, at),
            None => self.close(at, Ending::Unknown),
        };
        Step {
            score,
            band: verdicts.first().copied().flatten(),
            change,
        }
    }

    /// Takes the state where the highest verdict leads it.
    fn turn(
        &mut self,
        watch: &Watch,
        labels: &Labels,
        kind: DetectorKind,
        verdict: &Verdict,
        at: Timestamp,
    ) -> Option<Change> {
        match &mut self.state {
            State::Open(open) => {
                let calm = verdict.score < EXIT;
                open.calm_samples = if calm { open.calm_samples + 1 } else { 0 };
                let lasts_long = watch
                    .relearn_after
                    .is_some_and(|span| at.since(open.anomaly.opened_at) >= span);
                if open.calm_samples >= CALM_SAMPLES {
                    return self.close(at, Ending::Normal);
                }
                if lasts_long {
                    let closed = self.close(at, Ending::Accepted);
                    for detector in &mut self.detectors {
                        detector.relearn();
                    }
                    return closed;
                }
                open.update(watch, labels, kind, verdict, at);
                Some(Change::Updated(open.anomaly.clone()))
            }
            State::Quiet if verdict.score <= ENTER => None,
            State::Quiet | State::Excess { .. } => {
                let (since, samples) = match self.state {
                    State::Excess { since, samples } => (since, samples + 1),
                    _ => (at, 1),
                };
                let enough = match kind {
                    DetectorKind::ZScore | DetectorKind::Robust | DetectorKind::Seasonal => {
                        EXCESS_SAMPLES
                    }
                    DetectorKind::Calibrated
                    | DetectorKind::Ewma
                    | DetectorKind::Trend
                    | DetectorKind::Stall
                    | DetectorKind::Threshold => 1,
                };
                let glaring = verdict.score >= AT_ONCE && verdict.manner != Manner::Novel;
                if at.since(since) < watch.min_duration || (samples < enough && !glaring) {
                    self.state = State::Excess { since, samples };
                    return None;
                }
                let open = Open::new(watch, labels, kind, verdict, since, at);
                let opened = Change::Opened(open.anomaly.clone());
                self.state = State::Open(Box::new(open));
                Some(opened)
            }
        }
    }

    /// The series has no value any more: an anomaly of it is over, what is usual stays known.
    pub fn leave(&mut self, at: Timestamp) -> Option<Change> {
        self.close(at, Ending::Absent)
    }

    /// Another phase began: what was usual before it says nothing now.
    pub fn reset(&mut self, watch: &Watch, at: Timestamp) -> Option<Change> {
        let closed = self.close(at, Ending::PhaseChange);
        self.forget(watch);
        closed
    }

    fn forget(&mut self, watch: &Watch) {
        *self = Self {
            seen_at: self.seen_at,
            ..Self::new(watch)
        };
    }

    fn close(&mut self, at: Timestamp, ending: Ending) -> Option<Change> {
        match std::mem::take(&mut self.state) {
            State::Open(open) => {
                let Open {
                    mut anomaly, worst, ..
                } = *open;
                anomaly.summary = summary::conclude(&anomaly, &worst, ending, at);
                (anomaly.updated_at, anomaly.closed_at) = (at, Some(at));
                Some(Change::Closed(anomaly))
            }
            State::Quiet | State::Excess { .. } => None,
        }
    }

    fn resume(&mut self) {
        for detector in &mut self.detectors {
            match detector {
                Detector::Ewma(ewma) => ewma.restart(),
                Detector::Trend(trend) => trend.restart(),
                _ => {}
            }
        }
        if let State::Excess { .. } = self.state {
            self.state = State::Quiet;
        }
    }
}

impl Open {
    fn new(
        watch: &Watch,
        labels: &Labels,
        kind: DetectorKind,
        verdict: &Verdict,
        since: Timestamp,
        at: Timestamp,
    ) -> Self {
        let labels_by_name = labels
            .iter()
            .filter(|label| &*label.name != METRIC_NAME)
            .map(|label| (label.name.to_string(), label.value.to_string()))
            .collect();
        let mut open = Self {
            anomaly: Anomaly {
                watch: watch.name.clone(),
                labels: labels_by_name,
                detector: kind.name().to_owned(),
                direction: verdict.direction,
                severity: watch.severity,
                opened_at: since,
                updated_at: at,
                closed_at: None,
                score: 0.0,
                score_max: 0.0,
                observed: 0.0,
                expected: 0.0,
                lower: 0.0,
                upper: 0.0,
                summary: String::new(),
            },
            calm_samples: 0,
            worst: String::new(),
        };
        open.update(watch, labels, kind, verdict, at);
        open
    }

    fn update(
        &mut self,
        watch: &Watch,
        labels: &Labels,
        kind: DetectorKind,
        verdict: &Verdict,
        at: Timestamp,
    ) {
        let anomaly = &mut self.anomaly;
        anomaly.updated_at = at;
        anomaly.score = verdict.score;
        anomaly.observed = verdict.observed;
        anomaly.expected = verdict.expected;
        anomaly.lower = verdict.lower;
        anomaly.upper = verdict.upper;
        anomaly.summary = summary::describe(watch, labels, kind, verdict, anomaly.opened_at, at);
        if verdict.score > anomaly.score_max {
            anomaly.score_max = verdict.score;
            self.worst.clone_from(&anomaly.summary);
        }
    }
}

impl Detector {
    fn new(kind: DetectorKind) -> Self {
        match kind {
            DetectorKind::Calibrated => Self::Calibrated(Box::default()),
            DetectorKind::Ewma => Self::Ewma(Ewma::default()),
            DetectorKind::ZScore => Self::ZScore(ZScore::default()),
            DetectorKind::Robust => Self::Robust(RobustZ::default()),
            DetectorKind::Trend => Self::Trend(Trend::default()),
            DetectorKind::Seasonal => Self::Seasonal(Box::default()),
            DetectorKind::Stall => Self::Stall(Stall::default()),
            DetectorKind::Threshold => Self::Threshold(Threshold::default()),
        }
    }

    fn kind(&self) -> DetectorKind {
        match self {
            Self::Calibrated(_) => DetectorKind::Calibrated,
            Self::Ewma(_) => DetectorKind::Ewma,
            Self::ZScore(_) => DetectorKind::ZScore,
            Self::Robust(_) => DetectorKind::Robust,
            Self::Trend(_) => DetectorKind::Trend,
            Self::Seasonal(_) => DetectorKind::Seasonal,
            Self::Stall(_) => DetectorKind::Stall,
            Self::Threshold(_) => DetectorKind::Threshold,
        }
    }

    fn judge(&mut self, watch: &Watch, observation: Observation) -> Option<Verdict> {
        let Observation {
            at,
            value,
            expected,
        } = observation;
        match self {
            Self::Calibrated(calibrated) => calibrated.judge(at, value, &watch.terms),
            Self::Ewma(ewma) => ewma.judge(value, &watch.terms),
            Self::ZScore(zscore) => zscore.judge(value, &watch.terms),
            Self::Robust(robust) => robust.judge(value, &watch.terms),
            Self::Trend(trend) => trend.judge(at, value, &watch.terms),
            Self::Seasonal(seasonal) => seasonal.judge(at, value, &watch.terms),
            Self::Stall(stall) => stall.judge(at, value, &watch.terms),
            Self::Threshold(threshold) => {
                threshold.judge(value, watch.limit?, expected, &watch.terms)
            }
        }
    }

    /// What was usual is so no more.
    fn relearn(&mut self) {
        match self {
            Self::Calibrated(calibrated) => calibrated.relearn(),
            _ => *self = Self::new(self.kind()),
        }
    }

    fn accept(&mut self, watch: &Watch, observation: Observation) {
        let Observation { at, value, .. } = observation;
        match self {
            Self::Ewma(ewma) => ewma.accept(at, value, &watch.terms),
            Self::ZScore(zscore) => zscore.accept(at, value, &watch.terms),
            Self::Robust(robust) => robust.accept(value, &watch.terms),
            Self::Trend(trend) => trend.accept(at, &watch.terms),
            Self::Seasonal(seasonal) => seasonal.accept(at, value, &watch.terms),
            // A stall learns from movements, which tell by themselves when a pause was usual; the
            // calibrated detector says itself what is normal, more strictly than the watch's terms.
            Self::Stall(_) | Self::Calibrated(_) => {}
            Self::Threshold(threshold) => threshold.accept(at, value, &watch.terms),
        }
    }

    fn concede(&mut self) {
        match self {
            Self::Ewma(ewma) => ewma.concede(),
            Self::ZScore(zscore) => zscore.concede(),
            Self::Robust(robust) => robust.concede(),
            Self::Trend(trend) => trend.concede(),
            Self::Seasonal(seasonal) => seasonal.concede(),
            Self::Stall(_) | Self::Threshold(_) | Self::Calibrated(_) => {}
        }
    }
}
