//! Made-up series of a migration with known anomalies, to measure detectors by.
//!
//! Everything follows from the kind, the interval and the seed. A series lasts weeks and has four
//! anomalies, or none; what is not an anomaly (resets, gaps, seasons, drift, rare ticks, heavy tails) is
//! there to be left alone.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::calibrated::Calibrated;
use super::noise::Noise;
use crate::model::Timestamp;

/// What a series is like, and what happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A rate that stops.
    Stall,
    /// A rate with a strong daily season that stops.
    StallInSeason,
    /// A level that shifts by 4 to 10 deviations, up or down.
    Step,
    /// Lag that grows by a third of its deviation with every value.
    CreepingLag,
    /// Lag with a long tail that trebles.
    LagStep,
    /// Errors in bursts, where single ones are usual.
    ErrorBurst,
    /// Changes that come twice.
    DuplicateReplay,
    /// The source's clock is set ahead: lag becomes negative.
    ClockSkew,
    /// A counter that is reset now and then, and stops.
    CounterStall,
    /// A rate with gaps in which nothing was measured, that falls to half.
    DropAmongGaps,
    /// The snapshot ends: the rate falls to a tenth and stays there.
    PhaseChange,
    QuietConstant,
    QuietTicks,
    QuietSeason,
    /// Half a day nothing, half a day much.
    QuietWorkingHours,
    QuietHeavyTail,
    QuietLongTail,
    QuietDrift,
    QuietGaps,
    QuietNoise,
    QuietCounterResets,
}

/// A series and its truth.
#[derive(Clone, Debug)]
pub struct Series {
    pub samples: Vec<(Timestamp, f64)>,
    /// The samples of each anomaly.
    pub anomalies: Vec<RangeInclusive<usize>>,
}

impl Series {
    /// What the default detector gives each sample.
    pub fn scores(&self) -> Vec<f64> {
        let mut detector = Calibrated::default();
        let samples = self.samples.iter();
        samples
            .map(|(at, value)| detector.score(*at, *value).score)
            .collect()
    }
}

pub const ALL: [Scenario; 21] = [
    Scenario::Stall,
    Scenario::StallInSeason,
    Scenario::Step,
    Scenario::CreepingLag,
    Scenario::LagStep,
    Scenario::ErrorBurst,
    Scenario::DuplicateReplay,
    Scenario::ClockSkew,
    Scenario::CounterStall,
    Scenario::DropAmongGaps,
    Scenario::PhaseChange,
    Scenario::QuietConstant,
    Scenario::QuietTicks,
    Scenario::QuietSeason,
    Scenario::QuietWorkingHours,
    Scenario::QuietHeavyTail,
    Scenario::QuietLongTail,
    Scenario::QuietDrift,
    Scenario::QuietGaps,
    Scenario::QuietNoise,
    Scenario::QuietCounterResets,
];

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const ANOMALIES: usize = 4;
const START_MS: i64 = 1_700_000_000_000;

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stall => "stall",
            Self::StallInSeason => "stall in a daily season",
            Self::Step => "step",
            Self::CreepingLag => "creeping lag",
            Self::LagStep => "step of a lag with a long tail",
            Self::ErrorBurst => "burst of errors",
            Self::DuplicateReplay => "duplicate replay",
            Self::ClockSkew => "clock skew",
            Self::CounterStall => "stall of a counter with resets",
            Self::DropAmongGaps => "drop among gaps",
            Self::PhaseChange => "phase change",
            Self::QuietConstant => "quiet: constant",
            Self::QuietTicks => "quiet: constant with rare ticks",
            Self::QuietSeason => "quiet: strong daily season",
            Self::QuietWorkingHours => "quiet: working hours",
            Self::QuietHeavyTail => "quiet: heavy tail",
            Self::QuietLongTail => "quiet: long tail on one side",
            Self::QuietDrift => "quiet: slow drift",
            Self::QuietGaps => "quiet: gaps",
            Self::QuietNoise => "quiet: noise",
            Self::QuietCounterResets => "quiet: counter with resets",
        }
    }

    /// The series of a seed: half a week at 15 s, a week at a minute, two at longer intervals.
    pub fn series(self, every: Duration, seed: u64) -> Series {
        let mut story = Story::new(self, every, seed);
        let span = match every.as_secs() {
            0..30 => WEEK / 2,
            30..100 => WEEK,
            _ => WEEK * 2,
        };
        let count = (span.as_secs() / every.as_secs().max(1)) as usize;
        story.plan(count);
        let mut at_ms = START_MS;
        let mut samples = Vec::with_capacity(count);
        for index in 0..count {
            at_ms += every.as_millis() as i64 * story.intervals();
            let at = Timestamp::from_ms(at_ms);
            samples.push((at, story.value(at, index)));
        }
        Series {
            samples,
            anomalies: story.anomalies,
        }
    }

    fn is_quiet(self) -> bool {
        self.name().starts_with("quiet")
    }

    fn has_gaps(self) -> bool {
        matches!(self, Self::DropAmongGaps | Self::QuietGaps)
    }
}

/// The course of one series.
struct Story {
    scenario: Scenario,
    noise: Noise,
    /// The level, a usual deviation from it, and how much one deviation has of the one before.
    base: f64,
    deviation: f64,
    memory: f64,
    /// Of a step, in deviations, with its sign.
    step: f64,
    anomalies: Vec<RangeInclusive<usize>>,
    state: f64,
    counter: f64,
    drift: f64,
}

impl Story {
    fn new(scenario: Scenario, every: Duration, seed: u64) -> Self {
        let mut noise = Noise::new(seed ^ (scenario as u64) << 32 ^ every.as_secs() << 48);
        let base = 10_f64.powf(4.0 * noise.uniform());
        let deviation = base * (0.02 + 0.1 * noise.uniform());
        let memory = [0.0, 0.5, 0.9][(3.0 * noise.uniform()) as usize % 3];
        let sign = if noise.uniform() < 0.5 { -1.0 } else { 1.0 };
        let step = sign * (4.0 + 6.0 * noise.uniform());
        Self {
            scenario,
            noise,
            base,
            deviation,
            memory,
            step,
            anomalies: Vec::new(),
            state: 0.0,
            counter: 0.0,
            drift: 0.0,
        }
    }

    fn plan(&mut self, count: usize) {
        if self.scenario.is_quiet() {
            return;
        }
        let span = count / (ANOMALIES + 1);
        let mut starts = (0..ANOMALIES)
            .map(|nth| {
                nth * span + 3 * span / 4 + (0.3 * span as f64 * self.noise.uniform()) as usize
            })
            .collect::<Vec<_>>();
        if self.scenario == Scenario::PhaseChange {
            starts.truncate(1);
        }
        for start in starts {
            let values = match self.scenario {
                Scenario::CreepingLag => 200,
                Scenario::ErrorBurst => 10 + (30.0 * self.noise.uniform()) as usize,
                Scenario::PhaseChange => 300,
                _ => 20 + (100.0 * self.noise.uniform()) as usize,
            };
            self.anomalies.push(start..=start + values);
        }
    }

    /// Intervals from one sample to the next.
    fn intervals(&mut self) -> i64 {
        if self.scenario.has_gaps() && self.noise.uniform() < 1.0 / 300.0 {
            2 + (200.0 * self.noise.uniform()) as i64
        } else {
            1
        }
    }

    fn value(&mut self, at: Timestamp, index: usize) -> f64 {
        let since = self
            .anomalies
            .iter()
            .find(|anomaly| anomaly.contains(&index))
            .map(|anomaly| (index - anomaly.start()) as f64);
        let is_anomalous = since.is_some();
        let fresh = (1.0 - self.memory * self.memory).sqrt() * self.noise.normal();
        self.state = self.memory * self.state + fresh;
        let (base, noise) = (self.base, self.deviation * self.state);
        let rate = (base + noise).max(0.05 * base);
        let turn = (at.seconds() / 86_400.0 * std::f64::consts::TAU).sin();
        let season = (base * (1.0 + 0.6 * turn) + noise).max(0.05 * base);
        match self.scenario {
            Scenario::Stall | Scenario::StallInSeason if is_anomalous => 0.0,
            Scenario::Stall => rate,
            Scenario::StallInSeason | Scenario::QuietSeason => season,
            Scenario::Step if is_anomalous => base + noise + self.step * self.deviation,
            Scenario::CreepingLag => base + noise + 0.3 * self.deviation * since.unwrap_or(0.0),
            Scenario::LagStep if is_anomalous => 3.0 * base * (1.0 + 0.3 * self.exponential()),
            Scenario::LagStep | Scenario::QuietLongTail => base * (0.1 + 0.3 * self.exponential()),
            Scenario::ErrorBurst => {
                let usual = f64::from(u8::from(self.noise.uniform() < 0.02));
                let burst = 5.0 + (20.0 * self.noise.uniform()).floor();
                if is_anomalous { usual + burst } else { usual }
            }
            Scenario::DuplicateReplay if is_anomalous => 2.0 * base + noise,
            Scenario::ClockSkew => {
                let lag = 0.1 * base + 0.3 * self.deviation * self.exponential();
                if is_anomalous { lag - 2.0 * base } else { lag }
            }
            Scenario::CounterStall | Scenario::QuietCounterResets => {
                if !is_anomalous {
                    self.counter += rate;
                    if self.noise.uniform() < 1.0 / 3_000.0 {
                        self.counter = 0.0;
                    }
                }
                self.counter
            }
            Scenario::DropAmongGaps if is_anomalous => 0.5 * rate,
            Scenario::PhaseChange => {
                let has_changed = self.anomalies.iter().any(|change| index >= *change.start());
                if has_changed { 0.1 * rate } else { rate }
            }
            Scenario::QuietConstant => base,
            Scenario::QuietTicks => {
                let ticks = self.noise.uniform() < 1.0 / 400.0;
                let size = 1.0 + (3.0 * self.noise.uniform()).floor();
                if ticks { size } else { 0.0 }
            }
            Scenario::QuietWorkingHours => base * (0.3 + 2.0 * turn.max(0.0)) + 0.5 * noise,
            Scenario::QuietHeavyTail => base * self.noise.normal().exp(),
            Scenario::QuietDrift => {
                self.drift += 5e-5 * base;
                base + self.drift + noise
            }
            Scenario::Step
            | Scenario::DuplicateReplay
            | Scenario::DropAmongGaps
            | Scenario::QuietGaps
            | Scenario::QuietNoise => base + noise,
        }
    }

    fn exponential(&mut self) -> f64 {
        -self.noise.uniform().ln()
    }
}

/// How a detector did on one kind of series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub anomalies: usize,
    pub found: usize,
    pub false_alarms: usize,
    /// Alarms in all; closer ones than 20 samples are one.
    pub alarms: usize,
    pub weeks: f64,
    /// Samples from the beginning of each anomaly that was found to its first alarm.
    pub delays: Vec<usize>,
}

/// Alarms closer than this are one.
const ALARM_SAMPLES: usize = 20;
/// The return to normal belongs to an anomaly.
const AFTERMATH_SAMPLES: usize = 60;

impl Tally {
    /// Counts the scores of one series; above 1 is an alarm.
    pub fn count(&mut self, series: &Series, scores: &[f64]) {
        let belongs = |index: usize| {
            let mut anomalies = series.anomalies.iter();
            anomalies.any(|anomaly| {
                (*anomaly.start()..=anomaly.end() + AFTERMATH_SAMPLES).contains(&index)
            })
        };
        let alarms = (0..scores.len()).filter(|index| scores[*index] > 1.0);
        let (mut last, mut last_false) = (None, None);
        for index in alarms {
            let is_new = |last: Option<usize>| last.is_none_or(|at| index - at > ALARM_SAMPLES);
            self.alarms += usize::from(is_new(last));
            last = Some(index);
            if !belongs(index) {
                self.false_alarms += usize::from(is_new(last_false));
                last_false = Some(index);
            }
        }
        for anomaly in &series.anomalies {
            self.anomalies += 1;
            let found = anomaly.clone().find(|index| scores[*index] > 1.0);
            if let Some(index) = found {
                self.found += 1;
                self.delays.push(index - anomaly.start());
            }
        }
        if let (Some((first, _)), Some((last, _))) = (series.samples.first(), series.samples.last())
        {
            self.weeks += last.since(*first).as_secs_f64() / WEEK.as_secs_f64();
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.anomalies += other.anomalies;
        self.found += other.found;
        self.false_alarms += other.false_alarms;
        self.alarms += other.alarms;
        self.weeks += other.weeks;
        self.delays.extend(&other.delays);
    }

    /// The part of the anomalies that was found; 1 where there are none.
    pub fn recall(&self) -> f64 {
        if self.anomalies == 0 {
            return 1.0;
        }
        self.found as f64 / self.anomalies as f64
    }

    /// The part of the alarms that told of an anomaly; 1 where there are none.
    pub fn precision(&self) -> f64 {
        if self.alarms == 0 {
            return 1.0;
        }
        1.0 - self.false_alarms as f64 / self.alarms as f64
    }

    pub fn false_alarms_a_week(&self) -> f64 {
        self.false_alarms as f64 / self.weeks
    }

    pub fn median_delay(&self) -> Option<usize> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.get(delays.len() / 2).copied()
    }
}
