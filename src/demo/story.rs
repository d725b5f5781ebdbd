//! The story that `cutover demo` plays: two migrations, an error burst, a stall, recovery.
//!
//! Pure: given the time since the curtain rose it says what each source sends and what is to be read
//! at the foot of the dashboard. [`super::deck`] turns that into records, [`super::history`] writes what
//! went before.

use std::time::Duration;

/// A migration of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// PostgreSQL, in its snapshot when the story begins.
    Shop,
    /// MariaDB, streaming since long.
    Legacy,
}

impl Cast {
    pub const ALL: [Self; 2] = [Self::Shop, Self::Legacy];

    /// The connector's logical name, as the recorded events carry it.
    pub fn source(self) -> &'static str {
        match self {
            Self::Shop => "shopsrv",
            Self::Legacy => "legacy",
        }
    }

    pub fn migration_id(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Legacy => "legacy-crm",
        }
    }
}

/// What one source sends, in events per second, and how late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    pub reads: f64,
    pub changes: f64,
    /// From commit at the source to the topic.
    pub lag: Duration,
    /// A connector that has stopped sends no heartbeats either.
    pub heartbeats: bool,
}

/// A stretch of the story.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// When it ends, from the story's beginning.
    until: Duration,
    pub caption: &'static str,
    pub shop: Flow,
    pub legacy: Flow,
    /// Errors per second that the tool copying `shop` reports.
    pub errors: f64,
}

const LAG: Duration = Duration::from_millis(400);

/// What `shop` copied per second in the hours before the story begins.
pub const COPY_RATE: f64 = 6.0;
/// What `legacy` streamed per second, always.
pub const STREAM_RATE: f64 = 8.0;

const COPYING: Flow = Flow {
    reads: COPY_RATE,
    changes: 0.0,
    lag: LAG,
    heartbeats: true,
};
const STREAMING: Flow = Flow {
    reads: 0.0,
    changes: STREAM_RATE,
    lag: LAG,
    heartbeats: true,
};
const STOPPED: Flow = Flow {
    reads: 0.0,
    changes: 0.0,
    lag: LAG,
    heartbeats: false,
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const SCENES: [Scene; 7] = [
    Scene {
        until: seconds(15),
        caption: "shop: the snapshot is at work, slowly; legacy-crm: streaming changes, all is well",
        shop: COPYING,
        legacy: STREAMING,
        errors: 0.0,
    },
    Scene {
        until: seconds(27),
        caption: "shop: the target refuses rows (deadlocks): an error burst",
        shop: COPYING,
        legacy: STREAMING,
        errors: 4.0,
    },
    Scene {
        until: seconds(50),
        caption: "shop: the rows were tried again, the copy runs at full speed",
        shop: Flow {
            reads: 300.0,
            ..COPYING
        },
        legacy: STREAMING,
        errors: 0.0,
    },
    Scene {
        until: seconds(58),
        caption: "shop: the snapshot is complete, changes are streaming",
        shop: STREAMING,
        legacy: STREAMING,
        errors: 0.0,
    },
    Scene {
        until: seconds(95),
        caption: "legacy-crm: the connector has gone silent, lag grows with the clock",
        shop: STREAMING,
        legacy: STOPPED,
        errors: 0.0,
    },
    Scene {
        until: seconds(103),
        caption: "legacy-crm: the connector is back and catches up",
        shop: STREAMING,
        // What piled up in the silence, in eight seconds.
        legacy: Flow {
            changes: 45.0,
            lag: seconds(15),
            ..STREAMING
        },
        errors: 0.0,
    },
    Scene {
        until: Duration::MAX,
        caption: "both are back to normal: look around (1-4), ask in PromQL (4), leave with q",
        shop: STREAMING,
        legacy: STREAMING,
        errors: 0.0,
    },
];

/// What happens at a time since the story's beginning.
pub fn scene(since: Duration) -> &'static Scene {
    let found = SCENES.iter().find(|scene| since < scene.until);
    found.unwrap_or(&SCENES[SCENES.len() - 1])
}

/// The rows that `shop`'s snapshot still has to copy when the story begins.
pub fn rows_left() -> u64 {
    let mut begin = Duration::ZERO;
    let mut rows = 0.0;
    for scene in &SCENES {
        if scene.shop.reads > 0.0 {
            rows += scene.shop.reads * scene.until.saturating_sub(begin).as_secs_f64();
        }
        begin = scene.until;
    }
    rows as u64
}

impl Scene {
    pub fn flow(&self, cast: Cast) -> Flow {
        match cast {
            Cast::Shop => self.shop,
            Cast::Legacy => self.legacy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_follow_one_another_and_the_last_has_no_end() {
        assert!(SCENES.windows(2).all(|pair| pair[0].until < pair[1].until));
        assert_eq!(
            scene(seconds(86_400)).caption,
            SCENES[SCENES.len() - 1].caption
        );
        assert!(scene(seconds(20)).errors > 0.0);
    }

    #[test]
    fn everything_has_happened_within_two_minutes() {
        assert!(SCENES[SCENES.len() - 2].until <= seconds(120));
    }
}
