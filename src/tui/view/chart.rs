//! Line charts in braille dots, two by four to a cell.
//!
//! A chart is computed as plain glyphs from points in time, so that the dashboard and `cutover query`
//! print the same picture. The time axis is the window that was asked for, not what data there is; a gap
//! in the data is a gap in the line.
//!
//! ```text
//!   2k ┤      ⢀⠤⠒⠒⠢⡀
//!      │···⡠⠊··········   · the expected band
//!   1k ┤⡠⠊         ┊      ┊ a marked moment
//!    0 ┤
//!       12:00       12:05
//! ```

mod cells;
mod scale;

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use self::cells::Cells;
use self::scale::Scale;
use super::super::theme::Theme;
use super::text;
use crate::model::Timestamp;

/// A point in time and its value. A value that is not finite breaks the line.
pub type Point = (Timestamp, f64);

/// What the values are, which decides how the axis is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Number,
    Seconds,
}

/// Where the value axis begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// At zero, or below for negative values: for rates and lags.
    Zero,
    /// At zero only when the values come near it: for anything.
    Fitting,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// Each in order of time. The first has colour 0, and so on.
    pub lines: &'a [&'a [Point]],
    /// The line that is drawn last and strong.
    pub strong: Option<usize>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Points further apart are not joined.
    pub gap: Duration,
    pub unit: Unit,
    pub base: Base,
    /// The band of expected values; a missing bound is open.
    pub band: Option<(Option<f64>, Option<f64>)>,
    pub moments: &'a [Timestamp],
    /// Guide lines, drawn where the axis reaches them.
    pub levels: &'a [f64],
}

/// What a glyph is part of; a theme makes a style of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Ground,
    Axis,
    Band,
    Moment,
    Line { number: usize, strong: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyph {
    pub symbol: char,
    pub ink: Ink,
}

/// Below this there is no room for an axis, and nothing is drawn.
const WIDTH_MIN: usize = 16;
const HEIGHT_MIN: usize = 3;

/// The chart as rows of glyphs, `height` rows of `width`; empty when there is no room for one.
pub fn plot(chart: &Chart<'_>, width: usize, height: usize, zone: &TimeZone) -> Vec<Vec<Glyph>> {
    if width < WIDTH_MIN || height < HEIGHT_MIN || chart.end <= chart.start {
        return Vec::new();
    }
    let rows = height - 1;
    let scale = Scale::of(chart, rows);
    let labels: Vec<(usize, String)> = scale
        .ticks()
        .map(|value| (scale.dot_row(value, rows) / 4, label(value, chart.unit)))
        .collect();
    let widest = labels.iter().map(|(_, label)| text::width(label)).max();
    let gutter = widest.unwrap_or(0) + 1;
    let columns = width.saturating_sub(gutter);
    if columns < WIDTH_MIN / 2 {
        return Vec::new();
    }

    let mut cells = Cells::new(columns, rows);
    draw_ground(&mut cells, chart, &scale);
    let numbers = 0..chart.lines.len();
    let weak = numbers.filter(|number| chart.strong != Some(*number));
    for number in weak.chain(chart.strong) {
        if let Some(points) = chart.lines.get(number) {
            let strong = chart.strong == Some(number);
            draw_line(
                &mut cells,
                chart,
                &scale,
                points,
                Ink::Line { number, strong },
            );
        }
    }

    let mut picture: Vec<Vec<Glyph>> = Vec::with_capacity(height);
    for (row, cells) in cells.glyphs.chunks(columns).enumerate() {
        let tick = labels.iter().find(|(at, _)| *at == row);
        let text = tick.map_or("", |(_, label)| label);
        let axis = if tick.is_some() { '┤' } else { '│' };
        let margin = format!("{}{axis}", text::pad_left(text, gutter - 1));
        let mut line: Vec<Glyph> = axis_glyphs(&margin);
        line.extend_from_slice(cells);
        picture.push(line);
    }
    let times = time_axis(chart, columns, zone);
    picture.push(axis_glyphs(&format!("{}{times}", " ".repeat(gutter))));
    picture
}

/// The chart of some series as lines of text, for a terminal without a dashboard.
///
/// The axis runs from the first to the last point; points further apart than `gap` are not joined.
/// Empty when there are fewer than two moments to draw, or no room.
pub fn text_chart(
    series: &[&[Point]],
    width: usize,
    height: usize,
    gap: Duration,
    zone: &TimeZone,
) -> Vec<String> {
    let times = || {
        series
            .iter()
            .flat_map(|points| points.iter())
            .map(|&(at, _)| at)
    };
    let (Some(start), Some(end)) = (times().min(), times().max()) else {
        return Vec::new();
    };
    let chart = Chart {
        lines: series,
        strong: None,
        start,
        end,
        gap,
        unit: Unit::Number,
        base: Base::Fitting,
        band: None,
        moments: &[],
        levels: &[],
    };
    let rows = plot(&chart, width, height, zone);
    rows.into_iter()
        .map(|row| {
            let line: String = row.into_iter().map(|glyph| glyph.symbol).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

/// Draws the chart into an area.
pub fn render(frame: &mut Frame<'_>, area: Rect, chart: &Chart<'_>, zone: &TimeZone, theme: Theme) {
    let picture = plot(chart, area.width.into(), area.height.into(), zone);
    let buffer = frame.buffer_mut();
    for (row, y) in picture.iter().zip(area.rows()) {
        for (glyph, cell) in row.iter().zip(y.columns()) {
            let style = match glyph.ink {
                Ink::Ground => continue,
                Ink::Axis => theme.axis(),
                Ink::Band => theme.band(),
                Ink::Moment => theme.moment(),
                Ink::Line { number, strong } => {
                    let style = theme.series(number);
                    if strong {
                        style.add_modifier(Modifier::BOLD)
                    } else {
                        style
                    }
                }
            };
            buffer[cell.as_position()]
                .set_char(glyph.symbol)
                .set_style(style);
        }
    }
}

fn axis_glyphs(text: &str) -> Vec<Glyph> {
    let glyph = |symbol| Glyph {
        symbol,
        ink: Ink::Axis,
    };
    text.chars().map(glyph).collect()
}

fn label(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Number => text::number(value),
        Unit::Seconds => {
            let text = text::seconds(value);
            let whole = text.strip_suffix("00s").or(text.strip_suffix("00m"));
            whole.map_or(text.clone(), str::to_owned)
        }
    }
}

/// The band, the guide lines and the moments, which the lines are drawn over.
fn draw_ground(cells: &mut Cells, chart: &Chart<'_>, scale: &Scale) {
    let row_of = |value: f64, rows| scale.dot_row(value, rows) / 4;
    if let Some((lower, upper)) = chart.band {
        let top = upper.map_or(0, |upper| row_of(upper, cells.rows));
        let bottom = lower.map_or(cells.rows - 1, |lower| row_of(lower, cells.rows));
        for row in top..=bottom {
            for column in 0..cells.columns {
                cells.ground(column, row, '·', Ink::Band);
            }
        }
    }
    for level in chart.levels {
        if scale.low < *level && *level < scale.high {
            let row = row_of(*level, cells.rows);
            for column in 0..cells.columns {
                cells.ground(column, row, '╌', Ink::Band);
            }
        }
    }
    for moment in chart.moments {
        if let Some(x) = dot_column(chart, *moment, cells.columns) {
            for row in 0..cells.rows {
                cells.ground(x / 2, row, '┊', Ink::Moment);
            }
        }
    }
}

fn draw_line(cells: &mut Cells, chart: &Chart<'_>, scale: &Scale, points: &[Point], ink: Ink) {
    let mut previous: Option<(Timestamp, (usize, usize))> = None;
    for &(at, value) in points {
        let dot = dot_column(chart, at, cells.columns)
            .filter(|_| value.is_finite())
            .map(|x| (x, scale.dot_row(value, cells.rows)));
        if let Some(dot) = dot {
            let from = match previous {
                Some((before, from)) if at.since(before) <= chart.gap => from,
                _ => dot,
            };
            cells.segment(from, dot, ink);
        }
        previous = dot.map(|dot| (at, dot));
    }
}

/// The column of dots of a time; `None` outside the window.
fn dot_column(chart: &Chart<'_>, at: Timestamp, columns: usize) -> Option<usize> {
    if at < chart.start || chart.end < at {
        return None;
    }
    let share = at.ms_since(chart.start) as f64 / chart.end.ms_since(chart.start) as f64;
    Some((share * (2 * columns - 1) as f64).round() as usize)
}

/// The distances between the labels of the time axis, in seconds.
const TIME_STEPS: [i64; 20] = [
    1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 2_592_000,
];

/// The labels of the time axis, each centred under its moment, at round local times.
fn time_axis(chart: &Chart<'_>, columns: usize, zone: &TimeZone) -> String {
    let span_ms = chart.end.ms_since(chart.start);
    let fits = |step: &&i64| {
        let room = columns as f64 * (**step * 1000) as f64 / span_ms as f64;
        room >= text::width(&time_label(chart.end, **step, span_ms, zone)) as f64 + 3.0
    };
    let last = TIME_STEPS[TIME_STEPS.len() - 1];
    let step = *TIME_STEPS.iter().find(fits).unwrap_or(&last);
    let offset_ms = offset_ms(chart.start, zone);
    let step_ms = step * 1000;
    let local_start = chart.start.ms().saturating_add(offset_ms);
    let first = local_start.div_euclid(step_ms) * step_ms - offset_ms;

    let mut axis = String::new();
    let moments = (0..=columns as i64).map(|number| first + number * step_ms);
    for at in moments
        .map(Timestamp::from_ms)
        .take_while(|at| *at <= chart.end)
    {
        let Some(x) = dot_column(chart, at, columns) else {
            continue;
        };
        let label = time_label(at, step, span_ms, zone);
        let left = (x / 2).saturating_sub(text::width(&label) / 2);
        let left = left.min(columns.saturating_sub(text::width(&label)));
        let used = text::width(&axis);
        if used == 0 || left > used {
            axis.push_str(&" ".repeat(left - used));
            axis.push_str(&label);
        }
    }
    let rest = columns.saturating_sub(text::width(&axis));
    axis.push_str(&" ".repeat(rest));
    axis
}

fn time_label(at: Timestamp, step: i64, span_ms: i64, zone: &TimeZone) -> String {
    let pattern = match step {
        86_400.. => "%m-%d",
        _ if span_ms > 86_400_000 => "%m-%d %H:%M",
        60.. => "%H:%M",
        _ => "%H:%M:%S",
    };
    text::time(at, zone, pattern)
}

fn offset_ms(at: Timestamp, zone: &TimeZone) -> i64 {
    let timestamp = jiff::Timestamp::from_millisecond(at.ms()).unwrap_or_default();
    i64::from(zone.to_offset(timestamp).seconds()) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_ms(second * 1000)
    }

    fn ramp(seconds: std::ops::Range<i64>) -> Vec<Point> {
        seconds.map(|second| (at(second), second as f64)).collect()
    }

    fn draw(points: &[Point], gap: Duration) -> Vec<String> {
        text_chart(&[points], 24, 6, gap, &TimeZone::UTC)
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A column of the plot holds dots of a line.
    fn drawn(rows: &[String], column: usize) -> bool {
        rows.iter().any(|row| {
            let symbol = row.chars().nth(column).unwrap_or(' ');
            ('\u{2801}'..='\u{28ff}').contains(&symbol)
        })
    }

    #[test]
    fn a_ramp_climbs_from_corner_to_corner() {
        let rows = draw(&ramp(0..41), SECOND);
        assert_eq!(rows.len(), 6);
        assert!(
            rows[0].starts_with("40┤") || rows[0].starts_with(" 40┤"),
            "{rows:#?}"
        );
        let last = |row: &String| row.chars().last().unwrap();
        assert_ne!(
            last(&rows[0]),
            '┤',
            "the top right corner is reached: {rows:#?}"
        );
        assert!(rows[4].contains("0┤"), "{rows:#?}");
        assert!(rows[5].contains("00:00:"), "{rows:#?}");
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let mut points = ramp(0..10);
        points.extend(ramp(31..41));
        let joined = draw(&points, SECOND * 60);
        let broken = draw(&points, SECOND);
        // The middle of a plot that begins at column 3 and is 21 wide.
        assert!(drawn(&joined, 13), "{joined:#?}");
        assert!(!drawn(&broken, 13), "{broken:#?}");
    }

    #[test]
    fn a_value_that_is_not_finite_breaks_the_line() {
        let mut points = ramp(0..41);
        for point in &mut points[10..31] {
            point.1 = f64::NAN;
        }
        let rows = draw(&points, SECOND * 60);
        assert!(!drawn(&rows, 13), "{rows:#?}");
    }

    #[test]
    fn extreme_values_do_not_panic() {
        for value in [
            0.0,
            -1.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            1e-300,
        ] {
            for other in [0.0, value, -value] {
                draw(&[(at(0), value), (at(1), other)], SECOND);
            }
        }
    }

    #[test]
    fn no_room_draws_nothing() {
        let points = ramp(0..41);
        assert!(text_chart(&[&points], 10, 6, SECOND, &TimeZone::UTC).is_empty());
        assert!(text_chart(&[&points], 40, 2, SECOND, &TimeZone::UTC).is_empty());
        assert!(text_chart(&[], 40, 9, SECOND, &TimeZone::UTC).is_empty());
    }
}
