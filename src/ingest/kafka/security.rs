//! TLS and SASL towards Kafka, and the secrets they need.
//!
//! A secret comes from a file, or from the environment through the key beside it, and never shows: not
//! in logs, error texts or a configuration that is printed.

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::ingest::Error;
use crate::net::secret::Secret;

/// The `[kafka.tls]` section: brokers are verified against the system's authorities unless it says
/// otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our own certificate, where brokers ask for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    pub key_password_file: Option<PathBuf>,
    /// As `key_password_file`, meant for the environment.
    pub key_password: Option<Secret>,
}

/// The `[kafka.sasl]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    /// `SCRAM-SHA-512`, `SCRAM-SHA-256`, `PLAIN` or `OAUTHBEARER`.
    pub mechanism: String,
    /// With OAUTHBEARER the principal.
    pub username: String,
    pub password_file: Option<PathBuf>,
    /// As `password_file`, meant for the environment.
    pub password: Option<Secret>,
    /// The file with the OAUTHBEARER token; read again whenever Kafka asks, so that it can be renewed.
    pub token_file: Option<PathBuf>,
}

impl Tls {
    pub(super) fn apply(&self, client: &mut ClientConfig) -> Result<(), Error> {
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.cert_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                client.set(key, path.to_string_lossy());
            }
        }
        let file = self.key_password_file.as_deref();
        let password = read(
            "kafka.tls.key_password_file",
            file,
            self.key_password.as_ref(),
        )?;
        if let Some(password) = password {
            client.set("ssl.key.password", password.expose());
        }
        Ok(())
    }
}

impl Sasl {
    pub(super) fn apply(&self, client: &mut ClientConfig) -> Result<(), Error> {
        let mechanism = self.mechanism.to_ascii_uppercase();
        let missing = |key| Error::MissingKey {
            key,
            mechanism: mechanism.clone(),
        };
        client.set("sasl.mechanisms", &mechanism);
        match &*mechanism {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => {
                if self.username.is_empty() {
                    return Err(missing("kafka.sasl.username"));
                }
                let file = self.password_file.as_deref();
                let password = read("kafka.sasl.password_file", file, self.password.as_ref())?
                    .ok_or_else(|| missing("kafka.sasl.password_file"))?;
                client
                    .set("sasl.username", &self.username)
                    .set("sasl.password", password.expose());
                Ok(())
            }
            "OAUTHBEARER" if self.token_file.is_none() => Err(missing("kafka.sasl.token_file")),
            "OAUTHBEARER" => Ok(()),
            "GSSAPI" | "KERBEROS" => Err(Error::Kerberos),
            _ => Err(Error::UnknownMechanism {
                mechanism: self.mechanism.clone(),
            }),
        }
    }
}

/// The secret of a file, else the one that was given; an end of line after it is not part of it.
fn read(
    key: &'static str,
    path: Option<&Path>,
    given: Option<&Secret>,
) -> Result<Option<Secret>, Error> {
    let Some(path) = path else {
        return Ok(given.cloned());
    };
    Secret::load(path)
        .map(Some)
        .map_err(|source| Error::SecretFile {
            key,
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sasl(mechanism: &str) -> Sasl {
        Sasl {
            mechanism: mechanism.into(),
            username: "reader".into(),
            password: Some(Secret::new("hunter2")),
            ..Sasl::default()
        }
    }

    fn error(sasl: &Sasl) -> String {
        sasl.apply(&mut ClientConfig::new())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_secret_does_not_show() {
        let sasl = sasl("PLAIN");
        let shown = format!("{sasl:?} {}", toml::to_string(&sasl).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(sasl.password.unwrap().expose(), "hunter2");
    }

    #[test]
    fn a_password_file_wins_and_loses_its_end_of_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "from the file \n").unwrap();
        let mut client = ClientConfig::new();
        let sasl = Sasl {
            password_file: Some(path),
            ..sasl("scram-sha-512")
        };
        sasl.apply(&mut client).unwrap();
        assert_eq!(client.get("sasl.password"), Some("from the file "));
        assert_eq!(client.get("sasl.mechanisms"), Some("SCRAM-SHA-512"));
    }

    #[test]
    fn what_is_missing_or_not_included_is_named() {
        assert!(error(&sasl("gssapi")).contains("Kerberos"));
        assert!(error(&sasl("MD5")).contains("\"MD5\""));
        assert!(error(&sasl("OAUTHBEARER")).contains("kafka.sasl.token_file"));
        let no_password = Sasl {
            password: None,
            ..sasl("PLAIN")
        };
        assert!(error(&no_password).contains("kafka.sasl.password_file"));
        let absent = Sasl {
            password_file: Some("/does/not/exist".into()),
            ..sasl("PLAIN")
        };
        assert!(error(&absent).contains("/does/not/exist"));
    }
}
