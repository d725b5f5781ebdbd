//! The figures as Markdown: one row a figure, one column a program, and how cutover compares.

use std::time::Duration;

use crate::figures::{Figures, Parallel, Single};
use crate::send::{Sent, quantile};
use crate::server::Program;

#[derive(Clone, Copy)]
enum Better {
    Higher,
    Lower,
}

/// A figure: its name with the unit, and how it is read from a program's figures.
type Row = (&'static str, Better, fn(&Figures) -> Option<f64>);

const ROWS: [Row; 17] = [
    ("ingest, 1 connection, samples/s", Better::Higher, |of| {
        of.single.as_ref().map(|it| it.sent.samples_per_second())
    }),
    ("ingest, 4 connections, samples/s", Better::Higher, |of| {
        of.parallel.as_ref().map(|it| it.sent.samples_per_second())
    }),
    ("processor s per million samples", Better::Lower, |of| {
        let single = of.single.as_ref()?;
        Some(single.cpu.as_secs_f64() * 1e6 / single.sent.samples as f64)
    }),
    ("a write, p50, 1 connection, ms", Better::Lower, |of| {
        write_ms(of.single.as_ref().map(Single::sent), 0.5)
    }),
    ("a write, p99, 1 connection, ms", Better::Lower, |of| {
        write_ms(of.single.as_ref().map(Single::sent), 0.99)
    }),
    ("a write, p50, 4 connections, ms", Better::Lower, |of| {
        write_ms(of.parallel.as_ref().map(Parallel::sent), 0.5)
    }),
    ("a write, p99, 4 connections, ms", Better::Lower, |of| {
        write_ms(of.parallel.as_ref().map(Parallel::sent), 0.99)
    }),
    ("peak memory, 1 connection, MiB", Better::Lower, |of| {
        of.single.as_ref().map(|it| mib(it.memory_bytes_peak))
    }),
    ("peak memory, 4 connections, MiB", Better::Lower, |of| {
        of.parallel.as_ref().map(|it| mib(it.memory_bytes_peak))
    }),
    (
        "disk at the last acknowledgement, bytes/sample",
        Better::Lower,
        |of| {
            let single = of.single.as_ref()?;
            Some(single.disk_bytes_running as f64 / single.sent.samples as f64)
        },
    ),
    (
        "disk settled and stopped, bytes/sample",
        Better::Lower,
        |of| {
            let single = of.single.as_ref()?;
            Some(single.disk_bytes_settled as f64 / single.sent.samples as f64)
        },
    ),
    (
        "last acknowledgement to all visible, s",
        Better::Lower,
        |of| of.parallel.as_ref().map(|it| it.visible.as_secs_f64()),
    ),
    (
        "kill -9: start to the first data, ms",
        Better::Lower,
        |of| Some(of.crash.as_ref()?.restart?.as_secs_f64() * 1e3),
    ),
    (
        "kill -9: acknowledged samples missing",
        Better::Lower,
        |of| of.crash.as_ref().map(|it| it.samples_missing as f64),
    ),
    ("queries beside a writer, p50, ms", Better::Lower, |of| {
        of.mix.as_ref().map(|it| ms(quantile(&it.latencies, 0.5)))
    }),
    ("queries beside a writer, p99, ms", Better::Lower, |of| {
        of.mix.as_ref().map(|it| ms(quantile(&it.latencies, 0.99)))
    }),
    ("the writer beside them, samples/s", Better::Higher, |of| {
        of.mix.as_ref().map(|it| it.samples_per_second)
    }),
];

/// What the figures of different programs mean, where they do not mean the same.
const REMARKS: &str = "\
An acknowledgement means different things: with cutover the samples are synced to the disk, with \
Prometheus they are in its log but not synced, with VictoriaMetrics they are in memory for some \
seconds. `kill -9` loses only the last kind, a loss of power would lose the last two. Prometheus \
compacts its head after 3 h of samples, so its disk here is its log.";

/// The whole answer.
pub(crate) fn render(all: &[Figures]) -> String {
    let mut lines = header("", all);
    for (name, better, read) in ROWS {
        let values: Vec<_> = all.iter().map(read).collect();
        lines.push(line(name, better, all, &values));
    }
    lines.push(String::new());
    lines.extend(header("median of each query, ms", all));
    for name in query_names(all) {
        let values: Vec<_> = all.iter().map(|of| query_ms(of, name)).collect();
        lines.push(line(name, Better::Lower, all, &values));
    }
    lines.push(String::new());
    lines.push(REMARKS.to_owned());
    for note in all.iter().flat_map(|of| &of.notes) {
        lines.push(String::new());
        lines.push(note.clone());
    }
    lines.join("\n")
}

impl Single {
    fn sent(&self) -> &Sent {
        &self.sent
    }
}

impl Parallel {
    fn sent(&self) -> &Sent {
        &self.sent
    }
}

fn write_ms(sent: Option<&Sent>, part: f64) -> Option<f64> {
    sent.map(|sent| ms(quantile(&sent.latencies, part)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn query_names(all: &[Figures]) -> Vec<&'static str> {
    let mix = all.iter().find_map(|of| of.mix.as_ref());
    mix.map_or_else(Vec::new, |mix| {
        mix.by_query.iter().map(|(name, _)| *name).collect()
    })
}

fn query_ms(of: &Figures, name: &str) -> Option<f64> {
    let mut queries = of.mix.as_ref()?.by_query.iter();
    let (_, median) = queries.find(|(other, _)| *other == name)?;
    Some(ms(*median))
}

fn header(title: &str, all: &[Figures]) -> Vec<String> {
    let mut names = vec![title.to_owned()];
    names.extend(
        all.iter()
            .map(|of| format!("{} {}", of.program.name(), of.program.version())),
    );
    let mut rule = vec!["---"];
    rule.extend(all.iter().map(|_| "---:"));
    if is_compared(all) {
        names.push("cutover against the best peer".to_owned());
        rule.push("---");
    }
    vec![row(&names), row(&rule)]
}

fn line(name: &str, better: Better, all: &[Figures], values: &[Option<f64>]) -> String {
    let mut cells = vec![name.to_owned()];
    cells.extend(
        values
            .iter()
            .map(|value| value.map_or("-".to_owned(), plain)),
    );
    if is_compared(all) {
        cells.push(comparison(better, all, values).unwrap_or("-".to_owned()));
    }
    row(&cells)
}

fn row(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

fn is_compared(all: &[Figures]) -> bool {
    let is_own = |of: &Figures| of.program == Program::Cutover;
    all.iter().any(is_own) && !all.iter().all(is_own)
}

/// What is shown as 0.00 has no ratio to anything.
const COMPARED_MIN: f64 = 0.005;

/// How many times better or worse than the best peer, which is named. `None` without both figures.
fn comparison(better: Better, all: &[Figures], values: &[Option<f64>]) -> Option<String> {
    let goodness = |value: f64| match better {
        Better::Higher => value,
        Better::Lower => 1.0 / value,
    };
    let mut own = None;
    let mut best: Option<(f64, &str)> = None;
    for (of, value) in all.iter().zip(values) {
        let Some(good) = value.filter(|value| *value >= COMPARED_MIN).map(goodness) else {
            continue;
        };
        if of.program == Program::Cutover {
            own = Some(good);
        } else if best.is_none_or(|(other, _)| good > other) {
            best = Some((good, of.program.name()));
        }
    }
    let (best, name) = best?;
    let ratio = own? / best;
    Some(if ratio >= 1.0 {
        format!("{ratio:.2} x better than {name}")
    } else {
        format!("{:.2} x worse than {name}", 1.0 / ratio)
    })
}

/// Three digits that count, thousands set apart.
pub(crate) fn plain(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => grouped(value.round() as u64),
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
