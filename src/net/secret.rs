//! Texts that must not be seen: passwords, tokens.
//!
//! A [`Secret`] does not print, neither in logs nor in error texts nor in a configuration that is
//! shown; [`Secret::expose`] is the one way to what it holds. A [`Source`] says where one is: it is read
//! when it is needed, so that it can be renewed without a restart.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that must not be seen; only [`Secret::expose`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What is shown in its place.
const SHOWN: &str = "<secret>";

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of a file without the line end that editors leave.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(SHOWN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(SHOWN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes text only, and never says what it was given instead: that may be a password of digits.
struct SecretVisitor;

impl SecretVisitor {
    fn refuse<E: de::Error>() -> Result<Secret, E> {
        Err(E::custom("a secret is a text: write it in quotes"))
    }
}

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Self::refuse()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Self::refuse()
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the configuration itself.
    Given(Secret),
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

/// Why a secret is not to be had. Names the place, never what is there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{key}, {key}_file and {key}_env are three ways to say one thing: set one of them")]
    Several { key: &'static str },
    #[error("{path} cannot be read", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the environment has no variable {name}")]
    NoVariable { name: String },
    #[error("{place} is empty")]
    Empty { place: String },
}

impl Source {
    /// The source that the keys `key`, `key_file` and `key_env` name; `None` if there is none.
    pub fn of(
        key: &'static str,
        given: Option<&Secret>,
        file: Option<&PathBuf>,
        variable: Option<&String>,
    ) -> Result<Option<Self>, Error> {
        match (given, file, variable) {
            (None, None, None) => Ok(None),
            (Some(secret), None, None) => Ok(Some(Self::Given(secret.clone()))),
            (None, Some(path), None) => Ok(Some(Self::File(path.clone()))),
            (None, None, Some(name)) => Ok(Some(Self::Variable(name.clone()))),
            _ => Err(Error::Several { key }),
        }
    }

    /// Reads it anew.
    pub fn load(&self) -> Result<Secret, Error> {
        let (secret, place) = match self {
            Self::Given(secret) => (secret.clone(), "the configured secret".to_owned()),
            Self::File(path) => {
                let secret = Secret::load(path).map_err(|source| Error::Unreadable {
                    path: path.clone(),
                    source,
                })?;
                (secret, path.display().to_string())
            }
            Self::Variable(name) => {
                let text = std::env::var(name)
                    .map_err(|_absent| Error::NoVariable { name: name.clone() })?;
                (Secret(text), format!("the variable {name}"))
            }
        };
        if secret.0.is_empty() {
            return Err(Error::Empty { place });
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "<secret>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<secret>\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn the_line_end_of_a_file_is_not_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "a b \r\n").unwrap();
        assert_eq!(Secret::load(&path).unwrap().expose(), "a b ");
    }

    #[test]
    fn a_secret_that_is_no_text_is_refused_without_showing_it() {
        #[derive(Debug, Deserialize)]
        struct Section {
            #[expect(dead_code, reason = "it is there to be refused")]
            password: Secret,
        }
        for value in ["48151623", "-48151623", "4815162.3", "true"] {
            let text = format!("password = {value}");
            let error = toml::from_str::<Section>(&text).unwrap_err();
            let message = error.message();
            assert_eq!(message, "a secret is a text: write it in quotes", "{value}");
        }
    }

    #[test]
    fn a_source_is_named_by_one_of_three_keys_and_read_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let given = Secret::new("hunter2");
        let source = |given, file, variable| Source::of("token", given, file, variable);
        assert_eq!(source(None, None, None).unwrap(), None);
        let error = source(Some(&given), Some(&path), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "token, token_file and token_env are three ways to say one thing: set one of them"
        );
        let file = source(None, Some(&path), None).unwrap().unwrap();
        let absent = format!("{} cannot be read", path.display());
        assert_eq!(file.load().unwrap_err().to_string(), absent);
        fs::write(&path, "\n").unwrap();
        let empty = format!("{} is empty", path.display());
        assert_eq!(file.load().unwrap_err().to_string(), empty);
        fs::write(&path, "renewed\n").unwrap();
        assert_eq!(file.load().unwrap().expose(), "renewed");
        let name = "CUTOVER_TEST_ABSENT".to_owned();
        let variable = source(None, None, Some(&name)).unwrap().unwrap();
        let absent = "the environment has no variable CUTOVER_TEST_ABSENT";
        assert_eq!(variable.load().unwrap_err().to_string(), absent);
    }
}
