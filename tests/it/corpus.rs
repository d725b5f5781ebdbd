//! The corpora beside the project: recordings of real systems with their ground truth.
//!
//! `CUTOVER_CORPUS` names the folder, `../shared` unless set. A test that needs a corpus which is not
//! there says so on standard error and passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of one corpus, or `None` after saying that it is missing.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CUTOVER_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    // Not `eprintln!`: the test harness would capture it.
    let notice = format!("skipped: no corpus at {}\n", folder.display());
    std::io::Write::write_all(&mut std::io::stderr(), notice.as_bytes())
        .expect("standard error is open");
    None
}

/// The files of a folder with an extension, by name.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{}: {error}", folder.display());
    });
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder stays readable").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// What the README of the Debezium corpus says about one of its files.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) file: String,
    pub(crate) lines: u64,
    /// By table (empty for messages) and operation code; zeros left out.
    pub(crate) changes: BTreeMap<(String, char), u64>,
    pub(crate) tombstones: u64,
    /// By kind of record, such as `transaction BEGIN`.
    pub(crate) kinds: BTreeMap<String, u64>,
    pub(crate) topics: BTreeMap<String, u64>,
}

impl Truth {
    /// The connector's logical name.
    pub(crate) fn source(&self) -> &str {
        self.topics
            .keys()
            .find_map(|topic| topic.strip_prefix("__debezium-heartbeat."))
            .expect("every recording has heartbeats")
    }

    pub(crate) fn kind(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

/// Every file that the README describes, in its order.
pub(crate) fn debezium_truths(folder: &Path) -> Vec<Truth> {
    let readme =
        std::fs::read_to_string(folder.join("README.md")).expect("the corpus has a README");
    let truths: Vec<_> = readme
        .split("\n### ")
        .skip(1)
        .filter_map(|section| {
            let (title, body) = section.split_once('\n')?;
            let (file, rest) = title.split_once(": ")?;
            let lines = rest.split(' ').next()?.parse().ok()?;
            file.ends_with(".ndjson").then(|| truth(file, lines, body))
        })
        .collect();
    assert!(truths.len() >= 8, "only {} files found", truths.len());
    truths
}

fn truth(file: &str, lines: u64, body: &str) -> Truth {
    let mut truth = Truth {
        file: file.to_owned(),
        lines,
        ..Truth::default()
    };
    for table in body.split("\n\n") {
        let mut rows = table.lines().filter_map(cells);
        let Some(header) = rows.next() else { continue };
        let rows = rows.skip(1);
        match header[0].as_str() {
            "table" => rows.for_each(|row| truth.add_table(&header, &row)),
            "kind of record" => truth.kinds.extend(rows.map(pair)),
            "topic" => truth.topics.extend(rows.map(pair)),
            _ => {}
        }
    }
    truth
}

impl Truth {
    fn add_table(&mut self, header: &[String], row: &[String]) {
        let table = match row[0].as_str() {
            "**all**" => return,
            "(message)" => "",
            table => table,
        };
        for (column, cell) in header.iter().zip(row).skip(1) {
            let count: u64 = cell.parse().expect("a count");
            match column.as_str() {
                "tombstones" => self.tombstones += count,
                "all" | "null key" => {}
                code if count > 0 => {
                    let code = code.chars().next().expect("a header is not empty");
                    self.changes.insert((table.to_owned(), code), count);
                }
                _ => {}
            }
        }
    }
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect(),
    )
}

fn pair(row: impl AsRef<[String]>) -> (String, u64) {
    let row = row.as_ref();
    (row[0].clone(), row[1].parse().expect("a count"))
}
