//! The medians as Markdown: one row a request, one column a program, and how cutover compares.

use std::fmt::Write as _;
use std::time::Duration;

use crate::server::Program;

/// By how much a query may be slower than the faster peer: so much of its time, or so many ms.
const SLACK: f64 = 0.1;
const SLACK_MS: f64 = 0.2;

/// What a request took.
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) name: &'static str,
    /// How many series, or entries, it answers.
    pub(crate) series: usize,
    /// By program, in order.
    pub(crate) medians: Vec<Duration>,
    pub(crate) differences: Vec<String>,
}

impl Row {
    fn ms(&self, at: usize) -> f64 {
        self.medians[at].as_secs_f64() * 1e3
    }

    /// The faster of the peers in ms, when there is one.
    fn peer_ms(&self) -> Option<f64> {
        (1..self.medians.len())
            .map(|at| self.ms(at))
            .min_by(f64::total_cmp)
    }
}

pub(crate) fn render(programs: &[Program], rows: &[Row]) -> String {
    let mut text = String::from("| | request | series |");
    for program in programs {
        put(&mut text, format_args!(" {}, ms |", program.name()));
    }
    let is_compared = programs.first() == Some(&Program::Cutover) && programs.len() > 1;
    if is_compared {
        text.push_str(" of the faster peer | goal |");
    }
    let columns = 3 + programs.len() + if is_compared { 2 } else { 0 };
    put(&mut text, format_args!("\n|{}\n", " --- |".repeat(columns)));
    for row in rows {
        put(
            &mut text,
            format_args!("| {} | {} | {} |", row.number, row.name, row.series),
        );
        for at in 0..programs.len() {
            put(&mut text, format_args!(" {:.2} |", row.ms(at)));
        }
        if let Some(peer_ms) = row.peer_ms().filter(|_| is_compared) {
            let ms = row.ms(0);
            let is_met = ms <= (peer_ms * (1.0 + SLACK)).max(peer_ms + SLACK_MS);
            let verdict = if is_met { "met" } else { "**missed**" };
            put(
                &mut text,
                format_args!(" {:.0} % | {verdict} |", ms / peer_ms * 1e2),
            );
        }
        text.push('\n');
    }
    let means: Vec<f64> = (0..programs.len()).map(|at| mean(rows, at)).collect();
    text.push_str("\nGeometric mean:");
    for (program, mean) in programs.iter().zip(&means) {
        put(&mut text, format_args!(" {} {mean:.2} ms.", program.name()));
    }
    let victoria = programs
        .iter()
        .position(|program| *program == Program::VictoriaMetrics);
    if let Some(at) = victoria.filter(|_| is_compared) {
        let share = means[0] / means[at];
        let verdict = if share <= 0.5 { "met" } else { "missed" };
        put(
            &mut text,
            format_args!(
                " That is {:.0} % of VictoriaMetrics', the goal of half is {verdict}.",
                share * 1e2
            ),
        );
    }
    text.push('\n');
    for row in rows {
        for difference in &row.differences {
            put(
                &mut text,
                format_args!(
                    "\nAnswers to request {} differ from {difference}\n",
                    row.number
                ),
            );
        }
    }
    text
}

/// The geometric mean of a program's medians in ms.
fn mean(rows: &[Row], at: usize) -> f64 {
    let logarithms: f64 = rows.iter().map(|row| row.ms(at).ln()).sum();
    (logarithms / rows.len() as f64).exp()
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("memory takes every write");
}
