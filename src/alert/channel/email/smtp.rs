//! The dialogue with a mail server, up to the end of one mail.
//!
//! Each step has the time-out to itself: servers take their time over a greeting or a recipient. Recipients
//! are told apart, which lettre's own transport does not do: it gives up at the first that is refused.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use crate::alert::channel::config::Connection;
use crate::alert::channel::{Error, http, text};
use crate::net::secret::Secret;
use crate::net::tls::{self, Trust};

/// Of what a server answers.
const SHOWN_CHARS_MAX: usize = 300;
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// Where mail is handed in.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) client_id: ClientId,
    /// Of each step.
    pub(super) timeout: Duration,
}

pub(super) enum Security {
    None,
    StartTls(TlsParameters),
    Implicit(TlsParameters),
}

impl fmt::Debug for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::StartTls(_) => "StartTls",
            Self::Implicit(_) => "Implicit",
        })
    }
}

/// What came of a mail, recipient by recipient.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The server's word for the mail; empty if nobody took it.
    pub(super) reply: String,
    pub(super) taken: Vec<Address>,
    /// Why some will never take it.
    pub(super) refused: Vec<String>,
    /// Why some may take it later.
    pub(super) later: Vec<String>,
}

/// The TLS side of a client of `host`.
pub(super) fn tls(host: &str, connection: &Connection) -> Result<TlsParameters, String> {
    let trust = connection.trust();
    // Ours says what is wrong with a file, lettre's does not.
    tls::client_config(&trust).map_err(|error| format!("ca_file: {error}"))?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let mut builder = TlsParameters::builder(name.to_owned());
    match &trust {
        Trust::System => {}
        Trust::File(path) => {
            builder = builder.certificate_store(CertificateStore::None);
            let pem = std::fs::read(path)
                .map_err(|error| format!("ca_file: {}: {error}", path.display()))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|error| format!("ca_file: {}: {error}", path.display()))?;
            builder = builder.add_root_certificate(certificate);
        }
        Trust::Anyone => builder = builder.dangerous_accept_invalid_certs(true),
    }
    builder.build_rustls().map_err(|error| error.to_string())
}

impl Server {
    /// Hands a mail in for some recipients; `credentials` are a name and a password.
    pub(super) async fn deliver(
        &self,
        credentials: Option<&(&str, Secret)>,
        from: &Address,
        to: &[&Address],
        mail: &[u8],
    ) -> Result<Outcome, Error> {
        let mut connection = self.connect().await?;
        if let Some((username, password)) = credentials {
            self.log_in(&mut connection, username, password).await?;
        }
        let outcome = self.hand_in(&mut connection, from, to, mail).await?;
        // The mail is in; whether the server says goodbye too is nobody's concern.
        drop(tokio::time::timeout(self.timeout, connection.quit()).await);
        Ok(outcome)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let implicit = match &self.security {
            Security::Implicit(tls) => Some(tls.clone()),
            Security::None | Security::StartTls(_) => None,
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let place = (host, self.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(place, None, &self.client_id, implicit, None);
        let mut connection = self.step("greeting", connecting).await?;
        if let Security::StartTls(tls) = &self.security {
            if !connection.can_starttls() {
                connection.abort().await;
                // Later, since somebody on the way may have cut the offer out.
                return Err(Error::later(format!(
                    "{self} does not offer STARTTLS, and nothing is sent in clear: tls = \"implicit\" \
                     or \"none\" is for servers that have it otherwise or not at all"
                )));
            }
            let upgrading = connection.starttls(tls.clone(), &self.client_id);
            self.step("STARTTLS", upgrading).await?;
        }
        Ok(connection)
    }

    async fn log_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        username: &str,
        password: &Secret,
    ) -> Result<(), Error> {
        if connection
            .server_info()
            .get_auth_mechanism(&MECHANISMS)
            .is_none()
        {
            return Err(Error::never(format!(
                "{self} offers neither AUTH PLAIN nor AUTH LOGIN"
            )));
        }
        let password = password.expose();
        let credentials = Credentials::new(username.to_owned(), password.to_owned());
        let logging_in = connection.auth(&MECHANISMS, &credentials);
        let Err(error) = self.step("AUTH", logging_in).await else {
            return Ok(());
        };
        // In whatever form the server may have repeated it.
        let forms = [
            STANDARD.encode(password),
            STANDARD.encode(format!("\0{username}\0{password}")),
        ];
        let forms = forms.iter().map(String::as_str).chain([password]);
        let reason = http::clear(&error.to_string(), forms);
        Err(match error {
            Error::Never { .. } => {
                Error::never(format!("the user name or the password is wrong: {reason}"))
            }
            Error::Later { .. } => Error::later(reason),
        })
    }

    async fn hand_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[&Address],
        mail: &[u8],
    ) -> Result<Outcome, Error> {
        let opening = Mail::new(Some(from.clone()), Vec::new());
        self.step("MAIL FROM", connection.command(opening)).await?;
        let mut outcome = Outcome::default();
        for address in to {
            let naming = connection.command(Rcpt::new((*address).clone(), Vec::new()));
            let named = tokio::time::timeout(self.timeout, naming).await;
            match named {
                Ok(Ok(_)) => outcome.taken.push((*address).clone()),
                Ok(Err(error)) if error.is_permanent() => {
                    outcome
                        .refused
                        .push(format!("{address}: {}", self.explain(&error)));
                }
                Ok(Err(error)) if error.is_transient() => {
                    outcome
                        .later
                        .push(format!("{address}: {}", self.explain(&error)));
                }
                Ok(Err(error)) => return Err(self.error("RCPT TO", &error)),
                Err(_elapsed) => return Err(self.elapsed("RCPT TO")),
            }
        }
        if outcome.taken.is_empty() {
            return Ok(outcome);
        }
        self.step("DATA", connection.command(Data)).await?;
        let reply = self.step("the mail", connection.message(mail)).await?;
        outcome.reply = text::line(&said(&reply), SHOWN_CHARS_MAX);
        Ok(outcome)
    }

    async fn step<T>(
        &self,
        what: &str,
        step: impl Future<Output = Result<T, smtp::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(result) => result.map_err(|error| self.error(what, &error)),
            Err(_elapsed) => Err(self.elapsed(what)),
        }
    }

    fn elapsed(&self, what: &str) -> Error {
        Error::later(format!(
            "{self}: {what}: no answer within {:?}",
            self.timeout
        ))
    }

    fn error(&self, what: &str, error: &smtp::Error) -> Error {
        let reason = format!("{what}: {}", self.explain(error));
        if error.is_permanent() {
            Error::never(reason)
        } else {
            Error::later(reason)
        }
    }

    /// The server with what it answered, or with what is wrong with the connection.
    fn explain(&self, error: &smtp::Error) -> String {
        let reason = match error.status() {
            Some(code) => {
                let text = error.source().map(ToString::to_string).unwrap_or_default();
                format!("{code} {text}")
            }
            None => match error.source() {
                Some(cause) => http::innermost(cause),
                None => error.to_string(),
            },
        };
        format!("{self}: {}", text::line(&reason, SHOWN_CHARS_MAX))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

fn said(reply: &Response) -> String {
    let lines: Vec<&str> = reply.message().collect();
    format!("{} {}", reply.code(), lines.join(" "))
}
