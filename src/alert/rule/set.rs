//! All groups that are in force together: those of the files, and the shipped ones.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Config, Error, Spec, built_in, check};
use crate::model::Timestamp;

/// Who tells of low throughput and of a high error rate.
///
/// The built-in watches of those names open anomalies, which are alerts by themselves; the shipped rules
/// of the same meaning are only for those who do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    ByAnomalies,
    ByRules,
}

/// The groups that are to be evaluated, in the order of files and then of groups, each checked.
#[derive(Clone, Debug)]
pub struct Set {
    pub groups: Vec<Spec>,
    /// What the files looked like when they were read.
    pub(super) stamps: Vec<Stamp>,
    pub(super) origin: Origin,
}

/// Where a set is read from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) config: Config,
    /// What relative paths begin at.
    pub(super) dir: PathBuf,
    pub(super) told: Told,
}

/// How a file is seen to have changed, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    /// `None`: it is not there.
    is: Option<(Timestamp, u64)>,
}

impl Set {
    /// Reads all files; the first one that is not right is the error.
    pub fn load(config: &Config, dir: &Path, told: Told) -> Result<Self, Error> {
        Origin {
            config: config.clone(),
            dir: dir.to_owned(),
            told,
        }
        .load()
    }
}

impl Origin {
    pub(super) fn load(&self) -> Result<Set, Error> {
        if self.config.every.as_millis() < 1_000 {
            return Err(Error::Interval(self.config.every));
        }
        // Looked at before they are read: a change in between is seen the next time.
        let stamps = self.stamps()?;
        let mut groups = Vec::new();
        for stamp in &stamps {
            groups.extend(read(&stamp.path)?);
        }
        if self.config.built_in {
            groups.extend(built_in(self.told));
        }
        groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        Ok(Set {
            groups,
            stamps,
            origin: self.clone(),
        })
    }

    /// The files that the configuration names, each once.
    pub(super) fn stamps(&self) -> Result<Vec<Stamp>, Error> {
        let mut paths = Vec::new();
        for file in &self.config.files {
            paths.extend(expand(&self.dir.join(file))?);
        }
        paths.sort();
        paths.dedup();
        Ok(paths.into_iter().map(Stamp::of).collect())
    }
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let seen = std::fs::metadata(&path).ok();
        let is = seen.map(|seen| {
            let changed_at = seen.modified().map_or(Timestamp::EPOCH, Timestamp::from);
            (changed_at, seen.len())
        });
        Self { path, is }
    }
}

fn read(path: &Path) -> Result<Vec<Spec>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    check(&path.display().to_string(), &text).map_err(|problems| {
        let others = problems.len().saturating_sub(1);
        let mut problems = problems.into_iter();
        Error::Invalid {
            path: path.to_owned(),
            first: problems.next().expect("a refusal has a problem"),
            others,
        }
    })
}

/// The files of a path whose last part may hold `*`; a path without one is answered as it is.
fn expand(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(pattern) = path
        .file_name()
        .and_then(OsStr::to_str)
        .filter(|name| name.contains('*'))
    else {
        return Ok(vec![path.to_owned()]);
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let unreadable = |source| Error::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| fits(pattern, name)) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a name is what a pattern stands for, `*` being any text. Hidden files are asked for by name.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".a.yml", false),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*", "anything", true),
            ("a.yml", "a.yml", true),
            ("a.yml", "a.yml2", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_read_once_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let rules = |group: &str| format!("groups: [{{name: {group}, rules: []}}]\n");
        for (file, group) in [("b.yml", "second"), ("a.yml", "first"), ("c.txt", "no")] {
            std::fs::write(dir.path().join(file), rules(group)).unwrap();
        }
        let config = Config {
            files: vec!["*.yml".into(), "a.yml".into()],
            built_in: false,
            ..Config::default()
        };
        let set = Set::load(&config, dir.path(), Told::ByAnomalies).unwrap();
        let names: Vec<_> = set.groups.iter().map(|group| &*group.name).collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let load = |file: &str| {
            let config = Config {
                files: vec![file.into()],
                ..Config::default()
            };
            let error = Set::load(&config, dir.path(), Told::ByAnomalies).unwrap_err();
            error
                .to_string()
                .replace(&*dir.path().to_string_lossy(), "DIR")
        };
        assert_eq!(load("none.yml"), "rule file DIR/none.yml cannot be read");
        let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up >\n    for: 5\n";
        std::fs::write(dir.path().join("bad.yml"), text).unwrap();
        let error = load("bad.yml");
        assert!(error.starts_with("DIR/bad.yml:5: expr: "), "{error}");
        assert!(error.ends_with(" (and 1 more)"), "{error}");
    }
}
