//! `cutover query`: a PromQL expression, answered as a table, a chart or JSON.

use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::output::{print, table};
use super::{ServerArgs, block_on};
use crate::client::{LabelMap, PromData, PromSeries, QueryAnswer};
use crate::model::{Clock, METRIC_NAME, SystemClock, unit};
use crate::tui::view::chart::{Point, text_chart};

/// The size of the chart where the terminal's is not known, and the largest that still reads well.
const CHART_COLUMNS: u16 = 100;
const CHART_COLUMNS_MAX: u16 = 160;
const CHART_ROWS: usize = 12;
/// Points of a range without a step: what a chart can show.
const POINTS: u32 = 240;

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The expression.
    #[arg(value_name = "EXPR")]
    expr: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Look back over this span and draw a chart.
    #[arg(long, value_name = "SPAN", value_parser = unit::parse_duration)]
    range: Option<Duration>,
    /// The distance of a range's points [default: 240 points, at least 1s].
    #[arg(long, value_name = "SPAN", value_parser = unit::parse_duration, requires = "range")]
    step: Option<Duration>,
    /// Print JSON, as the API's `data`.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let step = self.step.or(self.range.map(default_step));
        let answer = block_on(async {
            Ok(match (self.range, step) {
                (Some(range), Some(step)) => {
                    let end = SystemClock::default().now();
                    client
                        .query_range(&self.expr, end.before(range), end, step)
                        .await?
                }
                _ => client.query(&self.expr, None).await?,
            })
        })?;
        if self.json {
            return print(&format!("{}\n", to_json(&answer.data)));
        }
        let text = match &answer.data {
            PromData::Matrix(series) => matrix(series, step.unwrap_or_default()),
            data => instant(data),
        };
        print(&(text + &notes(&answer)))
    }
}

fn default_step(range: Duration) -> Duration {
    let seconds = range.as_secs() / u64::from(POINTS);
    Duration::from_secs(seconds.max(1))
}

/// A series as people write it: `name{a="b"}`.
fn name(labels: &LabelMap) -> String {
    let metric = labels.get(METRIC_NAME).map_or("", String::as_str);
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if pairs.is_empty() && !metric.is_empty() {
        return metric.to_owned();
    }
    format!("{metric}{{{}}}", pairs.join(", "))
}

fn instant(data: &PromData) -> String {
    match data {
        PromData::Scalar { value, .. } => format!("{value}\n"),
        PromData::String { text, .. } => format!("{text}\n"),
        PromData::Vector(samples) if samples.is_empty() => "No series.\n".to_owned(),
        PromData::Vector(samples) => {
            let row = |(labels, value): (&LabelMap, f64)| vec![name(labels), value.to_string()];
            let rows: Vec<_> = samples
                .iter()
                .map(|sample| row((&sample.labels, sample.value)))
                .collect();
            table(&["series", "value"], &rows, &[1])
        }
        // `name[5m]` asked for at one time.
        PromData::Matrix(series) => matrix(series, Duration::ZERO),
    }
}

fn matrix(series: &[PromSeries], step: Duration) -> String {
    if series.is_empty() {
        return "No series.\n".to_owned();
    }
    let columns = crossterm::terminal::size().map_or(CHART_COLUMNS, |(columns, _)| columns);
    let lines: Vec<&[Point]> = series
        .iter()
        .map(|series| series.points.as_slice())
        .collect();
    let chart = text_chart(
        &lines,
        usize::from(columns.min(CHART_COLUMNS_MAX)),
        CHART_ROWS,
        // Two points with one missing between them are not joined.
        (step * 2).max(Duration::from_secs(1)),
        &TimeZone::system(),
    );
    let mut text: String = chart.into_iter().map(|line| line + "\n").collect();
    if !text.is_empty() {
        text.push('\n');
    }
    text + &table(
        &["series", "min", "mean", "max", "last"],
        &rows(series),
        &[1, 2, 3, 4],
    )
}

fn rows(series: &[PromSeries]) -> Vec<Vec<String>> {
    let row = |series: &PromSeries| {
        let values = || series.points.iter().map(|(_, value)| *value);
        let mean = values().sum::<f64>() / series.points.len() as f64;
        let last = values().next_back().unwrap_or(f64::NAN);
        let figures = [
            values().fold(f64::NAN, f64::min),
            mean,
            values().fold(f64::NAN, f64::max),
            last,
        ];
        let mut row = vec![name(&series.labels)];
        row.extend(figures.map(unit::human_number));
        row
    };
    series.iter().map(row).collect()
}

/// What the server said about the query.
fn notes(answer: &QueryAnswer) -> String {
    let warnings = answer
        .warnings
        .iter()
        .map(|text| format!("warning: {text}\n"));
    warnings
        .chain(answer.infos.iter().map(|text| format!("info: {text}\n")))
        .collect()
}

/// The shape of the API: values are texts, since JSON has no NaN.
fn to_json(data: &PromData) -> serde_json::Value {
    let point = |at: crate::model::Timestamp, value: f64| {
        let text = value.to_string().replace("inf", "Inf");
        json!([
            at.seconds(),
            if text == "Inf" {
                "+Inf".to_owned()
            } else {
                text
            }
        ])
    };
    match data {
        PromData::Scalar { at, value } => {
            json!({"resultType": "scalar", "result": point(*at, *value)})
        }
        PromData::String { at, text } => {
            json!({"resultType": "string", "result": [at.seconds(), text]})
        }
        PromData::Vector(samples) => {
            let samples: Vec<_> = samples
                .iter()
                .map(|sample| {
                    json!({"metric": sample.labels, "value": point(sample.at, sample.value)})
                })
                .collect();
            json!({"resultType": "vector", "result": samples})
        }
        PromData::Matrix(series) => {
            let series: Vec<_> = series
                .iter()
                .map(|series| {
                    let points: Vec<_> = series
                        .points
                        .iter()
                        .map(|(at, value)| point(*at, *value))
                        .collect();
                    json!({"metric": series.labels, "values": points})
                })
                .collect();
            json!({"resultType": "matrix", "result": series})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PromSample;
    use crate::model::Timestamp;

    #[test]
    fn a_vector_is_a_table() {
        let labels = LabelMap::from([
            (METRIC_NAME.to_owned(), "up".to_owned()),
            ("job".to_owned(), "a".to_owned()),
        ]);
        let sample = PromSample {
            labels,
            at: Timestamp::EPOCH,
            value: 1.5,
        };
        let text = instant(&PromData::Vector(vec![sample.clone()]));
        assert_eq!(text, "series       value\nup{job=\"a\"}    1.5\n");
        assert_eq!(instant(&PromData::Vector(Vec::new())), "No series.\n");
        let json = to_json(&PromData::Vector(vec![PromSample {
            value: f64::INFINITY,
            ..sample
        }]));
        assert_eq!(json["result"][0]["value"][1], "+Inf");
    }

    #[test]
    fn a_range_has_figures_that_leave_nan_out() {
        let at = Timestamp::from_ms;
        let points = vec![(at(0), 1.0), (at(1_000), f64::NAN), (at(2_000), 4.0)];
        let series = PromSeries {
            labels: LabelMap::new(),
            points,
        };
        let row = &rows(&[series])[0];
        assert_eq!(row[1], "1");
        assert_eq!(row[3], "4");
    }
}
