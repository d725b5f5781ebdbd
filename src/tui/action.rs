//! What can happen to the dashboard, and what it can ask of the world.
//!
//! An [`Action`] goes into `update`, an [`Effect`] comes out. Both are plain values: nothing here does
//! I/O, and nothing here knows keys or widgets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{AnomalyRow, CdcData, Curve, HealthRow, MigrationRow, TableId, Window};
use crate::model::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Action {
    /// A key that the key table binds.
    Command(Command),
    /// A character typed into the filter or the expression.
    Type(char),
    /// A text pasted into the filter or the expression.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize { width: u16, height: u16 },
    /// Time has passed. `now` is this machine's clock, `monotonic` never steps back.
    Tick { now: Timestamp, monotonic: Duration },
    /// The server answered.
    Loaded(Box<Loaded>),
    /// The server could not be reached.
    Unreachable { reason: String },
    /// The server was reached and refused; `reason` is its own text.
    Refused { reason: String },
}

/// Defines [`Command`] together with the list of all of them, which tests walk.
macro_rules! commands {
    ($($name:ident),+ $(,)?) => {
        /// What a key can ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command { $($name),+ }

        impl Command {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

commands! {
    Quit, Suspend, Help,
    ShowOverview, ShowCdc, ShowAnomalies, ShowExplore, NextScreen, PreviousScreen,
    Up, Down, PageUp, PageDown, First, Last, NextPanel,
    Open, Back, Filter, Edit,
    PauseOrResume, Live, Earlier, Later, ZoomIn, ZoomOut, Refresh,
    Accept, Cancel, CursorLeft, CursorRight, CursorStart, CursorEnd,
    DeleteBefore, DeleteAfter, DeleteWord, DeleteLine, OlderExpression, NewerExpression,
}

/// What `update` asks the loop to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Quit,
    /// Give the terminal back and stop, as Ctrl-Z does to any program.
    Suspend,
    /// Ask the server; a request still on its way is dropped.
    Fetch(Request),
}

/// What the visible screen needs, and of which time.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub window: Window,
    /// The time of what is not a chart: the window's end is up to a step older.
    pub at: Timestamp,
    pub scope: Scope,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// Health and open anomalies only, which every other scope includes.
    Link,
    Overview,
    /// With the charts of one table.
    Cdc {
        charted: Option<TableId>,
    },
    /// With the chart of one anomaly.
    Anomalies {
        charted: Option<AnomalyQuery>,
    },
    Explore {
        expr: String,
    },
}

/// Which series an anomaly was found in.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyQuery {
    /// [`AnomalyRow::key`] of the anomaly.
    pub key: String,
    pub expr: String,
    /// The labels of the one series, without the metric's name.
    pub labels: BTreeMap<String, String>,
}

/// An answer of the server.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub health: HealthRow,
    /// All anomalies, in any order.
    pub anomalies: Vec<AnomalyRow>,
    pub window: Window,
    pub part: LoadedPart,
}

/// The part of an answer that belongs to one screen.
#[derive(Clone, Debug)]
pub enum LoadedPart {
    Nothing,
    Overview {
        migrations: Vec<MigrationRow>,
        /// One curve a migration, named by its id.
        throughput: Vec<Curve>,
        lag: Vec<Curve>,
    },
    Cdc(CdcData),
    Anomalies {
        /// The charted anomaly and its curve, if one was asked for.
        chart: Option<(String, Option<Curve>)>,
    },
    Explore {
        expr: String,
        /// The curves, or the server's words why there are none.
        result: Result<Vec<Curve>, String>,
        /// How many there are; only the first of very many are kept.
        series_total: usize,
    },
}
