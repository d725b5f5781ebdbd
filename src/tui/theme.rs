//! What things mean, as styles: views name a meaning and never a colour.
//!
//! Every level says the same; what colour says is also said by a word, a mark or a place, so that the
//! level without colour loses nothing. Colours are middle tones that read on dark and light grounds; the
//! terminal's own foreground and background are left alone.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};

use super::state::{LagState, Phase, Severity};

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorLevel {
    None,
    Ansi8,
    Ansi16,
    Indexed256,
}

/// From here on lag is worth a look.
pub const LAG_WARN: Duration = Duration::from_secs(60);

/// From here on lag is critical.
pub const LAG_CRITICAL: Duration = Duration::from_secs(300);

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Ok,
    Warn,
    Critical,
    Muted,
}

impl Tone {
    /// The mark that says it without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Warn => "!",
            Self::Critical => "!!",
            Self::Plain | Self::Ok | Self::Muted => "",
        }
    }

    pub fn of_lag_seconds(seconds: f64) -> Self {
        if seconds >= LAG_CRITICAL.as_secs_f64() {
            Self::Critical
        } else if seconds >= LAG_WARN.as_secs_f64() {
            Self::Warn
        } else {
            Self::Ok
        }
    }

    pub fn of_lag_state(state: LagState) -> Self {
        match state {
            LagState::Fresh => Self::Ok,
            LagState::Idle | LagState::Unknown => Self::Muted,
            LagState::Stale | LagState::Throttled | LagState::Skewed => Self::Warn,
            LagState::Stalled => Self::Critical,
        }
    }

    pub fn of_phase(phase: Phase) -> Self {
        match phase {
            Phase::Snapshot | Phase::Streaming | Phase::Cutover => Self::Plain,
            Phase::Done => Self::Ok,
            Phase::Failed => Self::Critical,
            Phase::Unknown => Self::Muted,
        }
    }

    pub fn of_severity(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Plain,
            Severity::Warning => Self::Warn,
            Severity::Critical => Self::Critical,
        }
    }
}

/// The colours of one level, by role.
#[derive(Clone, Copy, Debug)]
struct Palette {
    ok: Color,
    warn: Color,
    critical: Color,
    muted: Color,
    accent: Color,
    series: [Color; 6],
}

const ANSI8: Palette = Palette {
    ok: Color::Green,
    warn: Color::Yellow,
    critical: Color::Red,
    muted: Color::Reset,
    accent: Color::Cyan,
    series: [
        Color::Cyan,
        Color::Yellow,
        Color::Magenta,
        Color::Green,
        Color::Blue,
        Color::Red,
    ],
};

const ANSI16: Palette = Palette {
    muted: Color::DarkGray,
    ..ANSI8
};

/// Middle tones of the 6x6x6 cube, told apart also by the common kinds of colour blindness.
const INDEXED256: Palette = Palette {
    ok: Color::Indexed(71),
    warn: Color::Indexed(172),
    critical: Color::Indexed(167),
    muted: Color::Indexed(243),
    accent: Color::Indexed(37),
    series: [
        Color::Indexed(37),
        Color::Indexed(172),
        Color::Indexed(133),
        Color::Indexed(71),
        Color::Indexed(68),
        Color::Indexed(167),
    ],
};

/// The styles of one colour level. Copying is free.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    palette: Option<Palette>,
    level: ColorLevel,
}

impl Theme {
    pub fn new(level: ColorLevel) -> Self {
        let palette = match level {
            ColorLevel::None => None,
            ColorLevel::Ansi8 => Some(ANSI8),
            ColorLevel::Ansi16 => Some(ANSI16),
            ColorLevel::Indexed256 => Some(INDEXED256),
        };
        Self { palette, level }
    }

    /// The level that the environment tells: `NO_COLOR` (not empty), `COLORTERM`, `TERM`.
    pub fn detect(env: impl Fn(&str) -> Option<String>) -> Self {
        let term = env("TERM").unwrap_or_default();
        let level = if env("NO_COLOR").is_some_and(|value| !value.is_empty()) || term == "dumb" {
            ColorLevel::None
        } else if env("COLORTERM").is_some_and(|value| !value.is_empty())
            || term.contains("256color")
            || term.contains("direct")
        {
            ColorLevel::Indexed256
        } else if matches!(
            term.as_str(),
            "linux" | "vt100" | "vt220" | "ansi" | "screen"
        ) {
            ColorLevel::Ansi8
        } else {
            ColorLevel::Ansi16
        };
        Self::new(level)
    }

    pub fn level(self) -> ColorLevel {
        self.level
    }

    fn ink(self, pick: impl Fn(&Palette) -> Color) -> Style {
        match &self.palette {
            Some(palette) => Style::new().fg(pick(palette)),
            None => Style::new(),
        }
    }

    pub fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Ok => self.ink(|palette| palette.ok),
            Tone::Warn => self
                .ink(|palette| palette.warn)
                .add_modifier(Modifier::BOLD),
            Tone::Critical => self
                .ink(|palette| palette.critical)
                .add_modifier(Modifier::BOLD),
            Tone::Muted => self.muted(),
        }
    }

    pub fn muted(self) -> Style {
        match self.level {
            // Eight colours have no grey, and `dim` is the next best where it is known.
            ColorLevel::Ansi8 | ColorLevel::None => Style::new().add_modifier(Modifier::DIM),
            ColorLevel::Ansi16 | ColorLevel::Indexed256 => self.ink(|palette| palette.muted),
        }
    }

    pub fn axis(self) -> Style {
        self.muted()
    }

    /// The lines between panels.
    pub fn rule(self) -> Style {
        self.muted()
    }

    /// The expected band behind a curve, and the guide lines.
    pub fn band(self) -> Style {
        self.muted()
    }

    /// The mark of a moment in a chart.
    pub fn moment(self) -> Style {
        self.tone(Tone::Warn)
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn title(self, focused: bool) -> Style {
        if focused {
            self.ink(|palette| palette.accent)
                .add_modifier(Modifier::BOLD)
        } else {
            self.strong()
        }
    }

    /// The head of a table's column.
    pub fn column(self) -> Style {
        self.muted()
    }

    /// The selected row, tab or piece of text: one bar, whatever the colours of its cells are.
    pub fn selected(self) -> Style {
        Style::new()
            .fg(Color::Reset)
            .add_modifier(Modifier::REVERSED)
            .remove_modifier(Modifier::DIM)
    }

    /// A key in the footer and in the help.
    pub fn key(self) -> Style {
        self.ink(|palette| palette.accent)
            .add_modifier(Modifier::BOLD)
    }

    /// The filled part of a progress bar, and sparklines.
    pub fn fill(self) -> Style {
        self.ink(|palette| palette.accent)
    }

    /// The n-th line of a chart; after the last colour they begin again.
    pub fn series(self, number: usize) -> Style {
        self.ink(|palette| palette.series[number % palette.series.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(pairs: &[(&str, &str)]) -> ColorLevel {
        Theme::detect(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .level()
    }

    #[test]
    fn the_environment_sets_the_level() {
        assert_eq!(level(&[("TERM", "xterm-256color")]), ColorLevel::Indexed256);
        assert_eq!(
            level(&[("TERM", "xterm"), ("COLORTERM", "truecolor")]),
            ColorLevel::Indexed256
        );
        assert_eq!(level(&[("TERM", "xterm")]), ColorLevel::Ansi16);
        assert_eq!(level(&[("TERM", "linux")]), ColorLevel::Ansi8);
    }

    #[test]
    fn no_color_wins_unless_it_is_empty() {
        let term = ("TERM", "xterm-256color");
        assert_eq!(level(&[term, ("NO_COLOR", "1")]), ColorLevel::None);
        assert_eq!(level(&[term, ("NO_COLOR", "")]), ColorLevel::Indexed256);
    }

    #[test]
    fn without_colour_no_style_names_one() {
        let theme = Theme::new(ColorLevel::None);
        let tones = [
            Tone::Plain,
            Tone::Ok,
            Tone::Warn,
            Tone::Critical,
            Tone::Muted,
        ];
        let styles = tones.map(|tone| theme.tone(tone));
        for style in styles
            .into_iter()
            .chain([theme.series(3), theme.key(), theme.title(true)])
        {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }

    #[test]
    fn lag_changes_its_tone_at_60_and_300_seconds() {
        assert_eq!(Tone::of_lag_seconds(59.9), Tone::Ok);
        assert_eq!(Tone::of_lag_seconds(60.0), Tone::Warn);
        assert_eq!(Tone::of_lag_seconds(299.9), Tone::Warn);
        assert_eq!(Tone::of_lag_seconds(300.0), Tone::Critical);
    }
}
