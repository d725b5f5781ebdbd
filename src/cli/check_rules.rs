//! `cutover check-rules`: whether rule files are right, with the line of everything that is not.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::output::print;
use crate::alert::rule::{self, Spec};

/// What a rule file is called that comes on standard input.
const STDIN: &str = "-";

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The files to check; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut text = String::new();
        let mut refused = 0;
        for file in &self.files {
            let (outcome, is_right) = outcome(file);
            text.push_str(&outcome);
            refused += usize::from(!is_right);
        }
        print(&text)?;
        match (refused, self.files.len()) {
            (0, _) => Ok(()),
            (1, 1) => bail!("the file is not a rule file that can be used"),
            (refused, files) => bail!("{refused} of {files} files cannot be used"),
        }
    }
}

/// What is said of one file, and whether it is right.
fn outcome(file: &Path) -> (String, bool) {
    let name = file.display().to_string();
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => return (format!("{name}: cannot be read: {error}\n"), false),
    };
    match rule::check(&name, &text) {
        Ok(groups) => {
            let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
            let notes = notes(&name, &groups);
            (
                format!("Checking {name}\n{notes}  SUCCESS: {rules} rules found\n"),
                true,
            )
        }
        Err(problems) => {
            let problems: String = problems
                .iter()
                .map(|problem| format!("{name}:{problem}\n"))
                .collect();
            (format!("Checking {name}\n{problems}  FAILED\n"), false)
        }
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new(STDIN) {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// What is allowed and mostly a mistake.
fn notes(name: &str, groups: &[Spec]) -> String {
    groups
        .iter()
        .flat_map(Spec::twins)
        .map(|problem| format!("{name}:{}: note: {}\n", problem.line, problem.reason))
        .collect()
}
