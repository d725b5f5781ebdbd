//! Everything the dashboard knows: what the server said, and what the operator is looking at.
//!
//! Plain values only; nothing here draws, waits or asks. `update` is the only writer, the views only
//! read. What the server said stays when the server goes away; [`Link`] then says that it is old.

mod row;

use std::time::Duration;

use jiff::tz::TimeZone;

pub use self::row::{
    AnomalyRow, CdcChart, CdcData, CdcTableRow, Curve, DeadLetterCount, HealthRow, LagKind,
    LagReading, LagState, MigrationRow, OperationRates, PartitionRow, Phase, Severity, TableId,
    TableProgress, Trouble,
};
use crate::model::Timestamp;

/// The spans that the zoom steps through.
pub const SPANS: [Duration; 12] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(3 * 3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(12 * 3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(2 * 24 * 3600),
    Duration::from_secs(7 * 24 * 3600),
    Duration::from_secs(30 * 24 * 3600),
];

/// Where the zoom starts: 15 minutes.
const SPAN_AT_START: usize = 2;

/// Three polls without an answer.
const STALE_AFTER: Duration = Duration::from_secs(6);

/// Steps in a chart's window: a little finer than the dots of a wide chart would need.
const STEPS_MAX: u32 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Screen {
    Overview,
    Cdc,
    Anomalies,
    Explore,
}

impl Screen {
    pub const ALL: [Self; 4] = [Self::Overview, Self::Cdc, Self::Anomalies, Self::Explore];

    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Cdc => "CDC",
            Self::Anomalies => "Anomalies",
            Self::Explore => "Explore",
        }
    }

    pub fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    pub fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

/// Who gets the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Normal,
    /// Typing into the filter of the visible list.
    Filter,
    /// Typing an expression on the explore screen.
    Edit,
    Help,
}

/// Whether the charts move with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Live,
    /// The charts end at this time.
    Paused {
        end: Timestamp,
    },
}

/// How it stands with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing has been answered yet.
    Connecting,
    Connected,
    Disconnected {
        since: Timestamp,
        /// Attempts since then, which set the pause before the next one.
        attempts: u32,
        reason: String,
    },
}

/// The span of time that the charts show: both ends are multiples of the step, so that a chart does
/// not shimmer while time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step: Duration,
}

impl Window {
    pub fn ending_at(end: Timestamp, span: Duration) -> Self {
        let step = Duration::from_secs((span.as_secs() / u64::from(STEPS_MAX)).max(1));
        let step_ms = step.as_millis() as i64;
        let end = Timestamp::from_ms(end.ms().div_euclid(step_ms) * step_ms);
        Self {
            start: end.before(span),
            end,
            step,
        }
    }

    pub fn span(self) -> Duration {
        self.end.since(self.start)
    }

    /// Two points further apart than this have a gap between them.
    pub fn gap(self) -> Duration {
        self.step * 3 / 2
    }
}

/// Which row of a list is selected: the row, not its place, so that a list may reorder itself under
/// the operator's eyes without the selection changing its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    key: Option<String>,
    /// Where it was, for when the row has gone.
    place: usize,
}

impl Selection {
    /// The place of the selected row among `keys`; the nearest one when it has gone.
    pub fn resolve(&self, keys: &[String]) -> Option<usize> {
        let last = keys.len().checked_sub(1)?;
        let found = self
            .key
            .as_ref()
            .and_then(|key| keys.iter().position(|candidate| candidate == key));
        Some(found.unwrap_or(self.place.min(last)))
    }

    /// Selects a row by its place, which is cut to the list's length.
    pub fn select(&mut self, keys: &[String], place: usize) {
        self.place = place.min(keys.len().saturating_sub(1));
        self.key = keys.get(self.place).cloned();
    }
}

/// A line being typed: the text on either side of the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub before: String,
    pub after: String,
}

impl Input {
    pub fn text(&self) -> String {
        format!("{}{}", self.before, self.after)
    }

    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Replaces the text; the cursor goes to its end.
    pub fn set(&mut self, text: &str) {
        text.clone_into(&mut self.before);
        self.after.clear();
    }
}

/// Which list of the CDC screen the keys move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdcPanel {
    Tables,
    Partitions,
}

#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// `None` until the first answer, as everywhere below.
    pub migrations: Option<Vec<MigrationRow>>,
    pub throughput: Vec<Curve>,
    pub lag: Vec<Curve>,
    pub window: Option<Window>,
    pub selection: Selection,
    pub filter: Input,
}

#[derive(Clone, Debug)]
pub struct Cdc {
    pub data: Option<CdcData>,
    pub window: Option<Window>,
    pub panel: CdcPanel,
    pub tables: Selection,
    pub partitions: Selection,
    pub filter: Input,
}

#[derive(Clone, Debug, Default)]
pub struct Anomalies {
    /// Open ones first, then the newest.
    pub rows: Option<Vec<AnomalyRow>>,
    /// The key of the charted anomaly and its curve.
    pub chart: Option<(String, Option<Curve>)>,
    pub window: Option<Window>,
    pub selection: Selection,
    pub filter: Input,
}

#[derive(Clone, Debug, Default)]
pub struct Explore {
    pub input: Input,
    /// The expression that was last accepted; empty before the first.
    pub expr: String,
    /// `None` while it is being evaluated.
    pub result: Option<Result<Vec<Curve>, String>>,
    /// How many series the server answered; `result` keeps only the first of very many.
    pub series_total: usize,
    pub window: Option<Window>,
    pub selection: Selection,
    pub filter: Input,
    /// Accepted expressions, the oldest first, none twice.
    pub history: Vec<String>,
    /// Where in the history the input is; its length when it is a new text.
    pub history_place: usize,
}

/// The whole of it. Made once, changed by `update` alone.
#[derive(Clone, Debug)]
pub struct State {
    /// Where the server is, as the operator wrote it.
    pub server: String,
    pub zone: TimeZone,
    pub screen: Screen,
    /// Where Esc leads.
    pub back_to: Option<Screen>,
    pub mode: Mode,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    pub help_offset: u16,
    pub follow: Follow,
    /// A place in [`SPANS`].
    pub zoom: usize,
    pub link: Link,
    /// What the server last refused, until it answers again.
    pub refusal: Option<String>,
    /// This machine's clock at the last tick.
    pub local_now: Timestamp,
    /// How far the server's clock is ahead of this machine's.
    pub clock_offset_ms: i64,
    pub monotonic: Duration,
    /// When to ask again, on the monotonic clock.
    pub next_fetch_at: Duration,
    pub fetching: bool,
    /// When the last request went out, on the monotonic clock.
    pub fetch_started_at: Duration,
    /// Whether the visible screen still waits for an answer to what the operator last did.
    pub wanted: bool,
    pub health: Option<HealthRow>,
    /// The server's time of the last answer.
    pub answered_at: Option<Timestamp>,
    pub overview: Overview,
    pub cdc: Cdc,
    pub anomalies: Anomalies,
    pub explore: Explore,
}

impl State {
    pub fn new(server: impl Into<String>, zone: TimeZone, now: Timestamp) -> Self {
        Self {
            server: server.into(),
            zone,
            screen: Screen::Overview,
            back_to: None,
            mode: Mode::Normal,
            size: (80, 24),
            help_offset: 0,
            follow: Follow::Live,
            zoom: SPAN_AT_START,
            link: Link::Connecting,
            refusal: None,
            local_now: now,
            clock_offset_ms: 0,
            monotonic: Duration::ZERO,
            next_fetch_at: Duration::ZERO,
            fetching: false,
            fetch_started_at: Duration::ZERO,
            wanted: true,
            health: None,
            answered_at: None,
            overview: Overview::default(),
            cdc: Cdc {
                data: None,
                window: None,
                panel: CdcPanel::Tables,
                tables: Selection::default(),
                partitions: Selection::default(),
                filter: Input::default(),
            },
            anomalies: Anomalies::default(),
            explore: Explore::default(),
        }
    }

    /// The server's time, as well as we know it: everything on the screen is told in it.
    pub fn now(&self) -> Timestamp {
        self.local_now.offset_ms(self.clock_offset_ms)
    }

    pub fn span(&self) -> Duration {
        SPANS[self.zoom]
    }

    /// The window that the charts should show now.
    pub fn window(&self) -> Window {
        let end = match self.follow {
            Follow::Live => self.now(),
            Follow::Paused { end } => end,
        };
        Window::ending_at(end, self.span())
    }

    /// A lag as it stands now. While the server is away its age grows, and after three polls it is
    /// stale, whatever it was: a reading that nobody renews says nothing of the present.
    pub fn as_of_now(&self, lag: LagReading) -> LagReading {
        let (true, Some(at)) = (self.is_stale(), self.answered_at) else {
            return lag;
        };
        let silence = self.now().since(at);
        let state = if silence >= STALE_AFTER && lag.state != LagState::Unknown {
            LagState::Stale
        } else {
            lag.state
        };
        LagReading {
            age_seconds: lag.age_seconds.map(|age| age + silence.as_secs_f64()),
            state,
            ..lag
        }
    }

    pub fn is_stale(&self) -> bool {
        matches!(self.link, Link::Disconnected { .. })
    }

    /// The filter of the visible list.
    pub fn filter(&self) -> &Input {
        match self.screen {
            Screen::Overview => &self.overview.filter,
            Screen::Cdc => &self.cdc.filter,
            Screen::Anomalies => &self.anomalies.filter,
            Screen::Explore => &self.explore.filter,
        }
    }

    pub fn filter_mut(&mut self) -> &mut Input {
        match self.screen {
            Screen::Overview => &mut self.overview.filter,
            Screen::Cdc => &mut self.cdc.filter,
            Screen::Anomalies => &mut self.anomalies.filter,
            Screen::Explore => &mut self.explore.filter,
        }
    }

    /// The migrations that pass the filter.
    pub fn visible_migrations(&self) -> Vec<&MigrationRow> {
        let filter = self.overview.filter.text();
        let rows = self.overview.migrations.iter().flatten();
        rows.filter(|row| passes(&filter, &[&row.id, &row.route, row.phase.name()]))
            .collect()
    }

    pub fn selected_migration(&self) -> Option<&MigrationRow> {
        let rows = self.visible_migrations();
        let keys: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        rows.get(self.overview.selection.resolve(&keys)?).copied()
    }

    pub fn visible_tables(&self) -> Vec<&CdcTableRow> {
        let filter = self.cdc.filter.text();
        let rows = self.cdc.data.iter().flat_map(|data| &data.tables);
        rows.filter(|row| passes(&filter, &[&row.key(), row.lag.state.name()]))
            .collect()
    }

    pub fn selected_table(&self) -> Option<&CdcTableRow> {
        let rows = self.visible_tables();
        let keys: Vec<String> = rows.iter().map(|row| row.key()).collect();
        rows.get(self.cdc.tables.resolve(&keys)?).copied()
    }

    pub fn visible_partitions(&self) -> Vec<&PartitionRow> {
        let filter = self.cdc.filter.text();
        let rows = self.cdc.data.iter().flat_map(|data| &data.partitions);
        rows.filter(|row| passes(&filter, &[&row.key()])).collect()
    }

    pub fn selected_partition(&self) -> Option<&PartitionRow> {
        let rows = self.visible_partitions();
        let keys: Vec<String> = rows.iter().map(|row| row.key()).collect();
        rows.get(self.cdc.partitions.resolve(&keys)?).copied()
    }

    pub fn visible_anomalies(&self) -> Vec<&AnomalyRow> {
        let filter = self.anomalies.filter.text();
        let rows = self.anomalies.rows.iter().flatten();
        rows.filter(|row| {
            let life = if row.is_open() { "open" } else { "closed" };
            passes(
                &filter,
                &[&row.watch, &row.series(), row.severity.name(), life],
            )
        })
        .collect()
    }

    pub fn selected_anomaly(&self) -> Option<&AnomalyRow> {
        let rows = self.visible_anomalies();
        let keys: Vec<String> = rows.iter().map(|row| row.key()).collect();
        rows.get(self.anomalies.selection.resolve(&keys)?).copied()
    }

    /// The open anomalies, whatever the filter says.
    pub fn open_anomalies(&self) -> impl Iterator<Item = &AnomalyRow> {
        let rows = self.anomalies.rows.iter().flatten();
        rows.filter(|row| row.is_open())
    }

    /// The curves of the explored expression that pass the filter, with their places among all.
    pub fn visible_curves(&self) -> Vec<(usize, &Curve)> {
        let filter = self.explore.filter.text();
        let curves = match &self.explore.result {
            Some(Ok(curves)) => curves.as_slice(),
            _ => &[],
        };
        let numbered = curves.iter().enumerate();
        numbered
            .filter(|(_, curve)| passes(&filter, &[&curve.name]))
            .collect()
    }

    pub fn selected_curve(&self) -> Option<usize> {
        let rows = self.visible_curves();
        let keys: Vec<String> = rows.iter().map(|(_, curve)| curve.name.clone()).collect();
        let place = self.explore.selection.resolve(&keys)?;
        rows.get(place).map(|&(number, _)| number)
    }

    /// The keys of the list that the arrow keys move in, and its selection.
    pub fn visible_list(&mut self) -> (Vec<String>, &mut Selection) {
        match self.screen {
            Screen::Overview => {
                let rows = self.visible_migrations();
                let keys = rows.iter().map(|row| row.id.clone()).collect();
                (keys, &mut self.overview.selection)
            }
            Screen::Cdc if self.cdc.panel == CdcPanel::Tables => {
                let keys = self.visible_tables().iter().map(|row| row.key()).collect();
                (keys, &mut self.cdc.tables)
            }
            Screen::Cdc => {
                let rows = self.visible_partitions();
                let keys = rows.iter().map(|row| row.key()).collect();
                (keys, &mut self.cdc.partitions)
            }
            Screen::Anomalies => {
                let rows = self.visible_anomalies();
                let keys = rows.iter().map(|row| row.key()).collect();
                (keys, &mut self.anomalies.selection)
            }
            Screen::Explore => {
                let rows = self.visible_curves();
                let keys = rows.iter().map(|(_, curve)| curve.name.clone()).collect();
                (keys, &mut self.explore.selection)
            }
        }
    }
}

/// Whether one of a row's texts contains the filter, in any case; `!text` turns it round.
fn passes(filter: &str, texts: &[&str]) -> bool {
    let (inverse, needle) = match filter.strip_prefix('!') {
        Some(rest) => (true, rest.to_lowercase()),
        None => (false, filter.to_lowercase()),
    };
    if needle.is_empty() {
        return true;
    }
    inverse
        != texts
            .iter()
            .any(|text| text.to_lowercase().contains(&needle))
}
