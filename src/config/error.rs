//! Why a configuration is refused, said so that it can be mended.

use std::path::{Path, PathBuf};

/// The distance beyond which a name is another word, not a misspelling.
const SIMILARITY_MIN: f64 = 0.7;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be read", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}:{line}:{column}: {reason}", path = path.display())]
    Malformed {
        path: PathBuf,
        line: usize,
        column: usize,
        reason: String,
    },
    /// The reason names the key.
    #[error("{path}: {reason}", path = path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("environment: {reason}")]
    Environment { reason: String },
}

impl Error {
    pub(super) fn in_file(path: &Path, text: &str, source: &toml::de::Error) -> Self {
        let at = source.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self::Malformed {
            path: path.to_owned(),
            line,
            column,
            reason: explain(source),
        }
    }
}

/// The reason on one line, with the nearest right name for an unknown key.
pub(super) fn explain(source: &toml::de::Error) -> String {
    let message = source.message().replace('\n', "; ");
    // What comes before it is the section, where a section names itself.
    let Some((section, rest)) = message.split_once("unknown field `") else {
        return message;
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or("");
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    if let Some((_, name)) = nearest {
        return format!("{section}unknown key `{unknown}`, did you mean `{name}`?");
    }
    let known = known.join(", ");
    format!("{section}unknown key `{unknown}`, known are: {known}")
}
