//! Printing: tables on standard output, one error on standard error.

use std::io::{ErrorKind, Write};

/// Writes to standard output; a closed pipe is an error that `main` takes for success.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The one place where an error is shown: the message, then its causes, each on a line.
#[expect(clippy::print_stderr, reason = "the command line prints its errors")]
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("cutover: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// Lines up columns; those in `right` are aligned to the right.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let gap = if column == 0 { "" } else { "  " };
            let (before, after) = if right.contains(&column) {
                (&*pad, "")
            } else {
                ("", &*pad)
            };
            text.push_str(&format!("{gap}{before}{cell}{after}"));
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["orders".to_owned(), "7".to_owned()]];
        assert_eq!(
            table(&["table", "rows"], &rows, &[1]),
            "table   rows\norders     7\n"
        );
    }
}
