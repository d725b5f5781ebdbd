//! Tables: columns as data, cells as plain values, and the rule by which columns give way.
//!
//! A column has a rank; when a terminal is too narrow for all, those of the highest rank go first, whole.
//! What is left grows from its least width to what its cells need. Numbers stand right and are never cut;
//! names stand left and are cut in their middle.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::theme::{Theme, Tone};
use super::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) align: Align,
    /// Columns of the terminal it needs at least, and the most it may take.
    pub(super) width_min: usize,
    pub(super) width_max: usize,
    /// 0 stays always; the highest goes first.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn left(
        title: &'static str,
        width_min: usize,
        width_max: usize,
        rank: u8,
    ) -> Self {
        Self {
            title,
            align: Align::Left,
            width_min,
            width_max,
            rank,
        }
    }

    pub(super) const fn right(title: &'static str, width: usize, rank: u8) -> Self {
        Self {
            title,
            align: Align::Right,
            width_min: width,
            width_max: width,
            rank,
        }
    }
}

/// What stands in one place of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text {
        text: String,
        tone: Tone,
    },
    /// The n-th colour of a chart's lines.
    Swatch(usize),
    /// A share from 0 to 1 as a bar and a percentage; `None` when no total is known.
    Progress(Option<f64>),
    /// The latest values of a curve, one a column; `None` where there is none.
    Trend(Vec<Option<f64>>),
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self::Text {
            text: text::clean(&text.into()),
            tone,
        }
    }

    /// Columns of the terminal it would like to have; bars and trends take what they get.
    fn width(&self) -> usize {
        match self {
            Self::Text { text, .. } => text::width(text),
            Self::Swatch(_) => 2,
            Self::Progress(_) | Self::Trend(_) => usize::MAX,
        }
    }

    fn spans(&self, width: usize, align: Align, theme: Theme) -> Vec<Span<'static>> {
        match self {
            Self::Text { text, tone } => {
                let text = text::truncate_middle(text, width);
                let rest = " ".repeat(width - text::width(&text).min(width));
                let text = match align {
                    Align::Left => format!("{text}{rest}"),
                    Align::Right => format!("{rest}{text}"),
                };
                vec![Span::styled(text, theme.tone(*tone))]
            }
            Self::Swatch(number) => vec![Span::styled("━━", theme.series(*number))],
            Self::Progress(share) => progress(*share, width, theme),
            Self::Trend(values) => {
                let line = text::pad_left(&sparkline(values, width), width);
                vec![Span::styled(line, theme.fill())]
            }
        }
    }
}

/// Rows under their heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) columns: &'a [Column],
    pub(super) rows: &'a [Vec<Cell>],
    /// The place of the selected row.
    pub(super) selected: Option<usize>,
    /// Whether the arrow keys move in this table.
    pub(super) focused: bool,
}

/// The rows that fit under the heads.
fn rows_visible(area: Rect) -> usize {
    usize::from(area.height).saturating_sub(1)
}

/// The first row on the screen, such that the selected one stands in the middle of a long list.
fn first_row(table: &Table<'_>, visible: usize) -> usize {
    let last = table.rows.len().saturating_sub(visible);
    table
        .selected
        .unwrap_or(0)
        .saturating_sub(visible / 2)
        .min(last)
}

/// Which rows are shown, such as `4-12 of 40`; empty when all are.
pub(super) fn extent(table: &Table<'_>, area: Rect) -> String {
    let visible = rows_visible(area);
    if table.rows.len() <= visible || visible == 0 {
        return String::new();
    }
    let first = first_row(table, visible);
    format!("{}-{} of {}", first + 1, first + visible, table.rows.len())
}

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, table: &Table<'_>, theme: Theme) {
    let widths = fit(table, area.width.into());
    let buffer = frame.buffer_mut();
    let mut lines = area.rows();
    let Some(head) = lines.next() else {
        return;
    };
    let mut titles = vec![Span::raw("  ")];
    for (column, width) in shown(table.columns, &widths) {
        let cell = Cell::plain(column.title);
        for span in cell.spans(width, column.align, theme) {
            titles.push(span.style(theme.column()));
        }
        titles.push(Span::raw(" "));
    }
    buffer.set_line(head.x, head.y, &Line::from(titles), head.width);

    let first = first_row(table, rows_visible(area));
    for ((place, row), area) in table.rows.iter().enumerate().skip(first).zip(lines) {
        let selected = table.selected == Some(place);
        let marker = match (selected, table.focused) {
            (true, true) => "▸ ",
            (true, false) => "▹ ",
            (false, _) => "  ",
        };
        let mut spans = vec![Span::raw(marker)];
        let cells = row.iter().zip(table.columns).zip(&widths);
        for ((cell, column), width) in cells {
            if let Some(width) = width {
                spans.extend(cell.spans(*width, column.align, theme));
                spans.push(Span::raw(" "));
            }
        }
        let line = Line::from(spans);
        buffer.set_line(area.x, area.y, &line, area.width);
        if selected && table.focused {
            buffer.set_style(area, theme.selected());
        }
    }
}

fn shown<'a>(
    columns: &'a [Column],
    widths: &'a [Option<usize>],
) -> impl Iterator<Item = (&'a Column, usize)> {
    columns
        .iter()
        .zip(widths)
        .filter_map(|(column, width)| width.map(|width| (column, width)))
}

/// The width of each column; `None` for those that had to go.
fn fit(table: &Table<'_>, room: usize) -> Vec<Option<usize>> {
    // The marker of the selected row, and a space after each column.
    let mut spare = room.saturating_sub(2);
    let mut widths = vec![None; table.columns.len()];
    let mut order: Vec<usize> = (0..table.columns.len()).collect();
    order.sort_by_key(|place| table.columns[*place].rank);
    for place in &order {
        let column = &table.columns[*place];
        if column.rank > 0 && column.width_min + 1 > spare {
            break;
        }
        widths[*place] = Some(column.width_min);
        spare = spare.saturating_sub(column.width_min + 1);
    }
    // One column at a time, so that a single long name does not starve the rest.
    loop {
        let before = spare;
        for place in &order {
            if let Some(width) = &mut widths[*place]
                && spare > 0
                && *width < wanted(table, *place)
            {
                *width += 1;
                spare -= 1;
            }
        }
        if spare == before {
            break;
        }
    }
    widths
}

/// The columns of the terminal that a column has a use for.
fn wanted(table: &Table<'_>, place: usize) -> usize {
    let column = &table.columns[place];
    let cells = table.rows.iter().filter_map(|row| row.get(place));
    let natural = cells.map(Cell::width).max().unwrap_or(0);
    natural.max(text::width(column.title)).min(column.width_max)
}

/// A bar in eighths of a column, and the percentage after it.
fn progress(share: Option<f64>, width: usize, theme: Theme) -> Vec<Span<'static>> {
    const PERCENT_WIDTH: usize = 6;
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let Some(share) = share else {
        let long = "total unknown";
        let text = if text::width(long) <= width {
            long
        } else {
            "?"
        };
        let rest = " ".repeat(width - text::width(text).min(width));
        return vec![Span::styled(format!("{text}{rest}"), theme.muted())];
    };
    let bar = width.saturating_sub(PERCENT_WIDTH);
    let eighths = (share.clamp(0.0, 1.0) * (bar * 8) as f64).floor() as usize;
    let mut filled = "█".repeat(eighths / 8);
    filled.push_str(EIGHTHS[eighths % 8]);
    let empty = "·".repeat(bar.saturating_sub(text::width(&filled)));
    let percent = text::pad_left(&text::percent(share), width - bar);
    vec![
        Span::styled(filled, theme.fill()),
        Span::styled(empty, theme.muted()),
        Span::styled(percent, Style::new()),
    ]
}

/// The values as bars from zero to the largest of them. Where there are more values than columns, the
/// latest of those that share a column stands for all.
pub(super) fn sparkline(values: &[Option<f64>], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = width.min(values.len());
    let shared = |column: usize| {
        let (from, to) = (
            column * values.len() / columns,
            (column + 1) * values.len() / columns,
        );
        values[from..to].iter().rev().find_map(|value| *value)
    };
    let shown: Vec<Option<f64>> = (0..columns).map(shared).collect();
    let finite = shown.iter().flatten().filter(|value| value.is_finite());
    let top = finite.fold(0.0, |top: f64, value| top.max(*value));
    let bar = |value: &Option<f64>| match value {
        Some(value) if value.is_finite() && top > 0.0 => {
            let height = (value / top * 7.0).round().clamp(0.0, 7.0);
            BARS[height as usize]
        }
        Some(value) if value.is_finite() => BARS[0],
        _ => ' ',
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::left("NAME", 6, 20, 0),
        Column::right("RATE", 6, 1),
        Column::right("ERRORS", 6, 2),
    ];

    fn widths(room: usize) -> Vec<Option<usize>> {
        let rows = vec![vec![
            Cell::plain("a-name-of-seventeen"),
            Cell::plain("1"),
            Cell::plain("2"),
        ]];
        let table = Table {
            columns: COLUMNS,
            rows: &rows,
            selected: None,
            focused: true,
        };
        fit(&table, room)
    }

    #[test]
    fn columns_of_the_highest_rank_go_first() {
        assert_eq!(widths(16), [Some(6), Some(6), None]);
        assert_eq!(widths(17), [Some(7), Some(6), None]);
        assert_eq!(widths(23), [Some(6), Some(6), Some(6)]);
        assert_eq!(widths(9), [Some(6), None, None]);
    }

    #[test]
    fn spare_room_goes_to_what_needs_it() {
        assert_eq!(widths(80), [Some(19), Some(6), Some(6)]);
    }

    #[test]
    fn a_sparkline_is_scaled_to_its_largest_value_and_keeps_gaps() {
        let values = [Some(0.0), None, Some(3.5), Some(7.0)];
        assert_eq!(sparkline(&values, 4), "▁ ▅█");
        assert_eq!(sparkline(&values, 2), "▁█");
        assert_eq!(sparkline(&values, 0), "");
        assert_eq!(sparkline(&[Some(0.0)], 4), "▁");
        assert_eq!(sparkline(&[Some(f64::NAN)], 4), " ");
    }

    #[test]
    fn a_bar_is_full_only_when_all_is_done() {
        let theme = Theme::new(super::super::super::theme::ColorLevel::None);
        let bar = |share| -> String {
            let spans = progress(share, 14, theme);
            spans.iter().map(|span| span.content.as_ref()).collect()
        };
        assert_eq!(bar(Some(0.5)), "████···· 50.0%");
        assert_eq!(bar(Some(0.999_9)), "███████▉ 99.9%");
        assert_eq!(bar(Some(1.0)), "████████  100%");
        assert_eq!(bar(None), "total unknown ");
    }
}
