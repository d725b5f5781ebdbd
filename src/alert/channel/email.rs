//! Mail over SMTP: a text and an HTML part, in one thread a group.
//!
//! Nothing is sent in clear unless the section says `tls = "none"`: where STARTTLS is wanted and not offered,
//! the attempt ends before anything but greetings has crossed the network. With several recipients each
//! gets the mail once: who has taken it is remembered while others are asked to be patient with.

mod mail;
mod smtp;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::extension::ClientId;
use serde::{Deserialize, Serialize};

use self::smtp::{Outcome, Security, Server};
use super::Error;
use super::config::Connection;
use super::http;
use crate::alert::Notification;
use crate::net::secret::{self, Secret, Source};

/// `type = "email"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The server that takes our mail.
    pub host: String,
    /// 587, or what is usual for `tls`.
    pub port: Option<u16>,
    /// STARTTLS, unless the port is 465.
    pub tls: Option<Tls>,
    /// The sender, as `ops@example.com` or `Ops <ops@example.com>`.
    pub from: String,
    pub to: Vec<String>,
    /// For AUTH; without it nobody says who we are.
    pub username: String,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    /// The variable of the environment that holds it.
    pub password_env: Option<String>,
    /// What we call ourselves in EHLO; the name of this host unless set.
    pub hello: String,
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS, and no mail without it.
    Required,
    /// From the first byte on, as usual at port 465.
    Implicit,
    /// Not at all.
    None,
}

/// What of the configuration is needed to send, checked.
struct Parts {
    tls: Tls,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Source>,
}

impl Config {
    fn password(&self) -> Result<Option<Source>, secret::Error> {
        Source::of(
            "password",
            self.password.as_ref(),
            self.password_file.as_ref(),
            self.password_env.as_ref(),
        )
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.parts().map(drop)
    }

    pub(super) fn sources(&self) -> Result<Vec<Source>, String> {
        let password = self.password().map_err(|error| error.to_string())?;
        Ok(password.into_iter().collect())
    }

    fn parts(&self) -> Result<Parts, String> {
        let is_one_word = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if self.host.is_empty() || !is_one_word(&self.host) {
            return Err("host is not the name of a server".to_owned());
        }
        if !is_one_word(&self.hello) {
            return Err("hello is not the name of a host".to_owned());
        }
        let tls = self.tls.unwrap_or(match self.port {
            Some(465) => Tls::Implicit,
            _ => Tls::Required,
        });
        let port = self.port.unwrap_or(match tls {
            Tls::Required => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        });
        if self.to.is_empty() {
            return Err("to is empty: name who gets the mail".to_owned());
        }
        let to = self.to.iter().map(|text| mailbox("to", text));
        let password = self.password().map_err(|error| error.to_string())?;
        match (&password, self.username.is_empty()) {
            (None, false) => {
                return Err("username needs password, password_file or password_env".to_owned());
            }
            (Some(_), true) => return Err("a password needs a username".to_owned()),
            (Some(_), false) if tls == Tls::None && !is_loopback(&self.host) => {
                let reason = "tls = \"none\" would send the password in clear over the network";
                return Err(reason.to_owned());
            }
            _ => {}
        }
        Ok(Parts {
            tls,
            port,
            from: mailbox("from", &self.from)?,
            to: to.collect::<Result<_, _>>()?,
            password,
        })
    }

    fn client_id(&self) -> ClientId {
        if !self.hello.is_empty() {
            return ClientId::Domain(self.hello.clone());
        }
        let system = rustix::system::uname();
        let name = system.nodename().to_str().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || ['-', '.'].contains(&c);
        match name {
            "" => ClientId::default(),
            name if name.chars().all(is_name) => ClientId::Domain(name.to_owned()),
            _ => ClientId::default(),
        }
    }
}

fn mailbox(key: &str, text: &str) -> Result<Mailbox, String> {
    let mailbox: Mailbox = text
        .parse()
        .map_err(|error| format!("{key}: {text:?} is not a mail address: {error}"))?;
    let address: &str = mailbox.email.as_ref();
    // Others need an extension of SMTP that few servers have.
    if !address.is_ascii() {
        return Err(format!(
            "{key}: {text:?}: write the domain in its xn-- form, and the rest in ASCII"
        ));
    }
    Ok(mailbox)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[derive(Debug)]
pub(super) struct Email {
    server: Server,
    from: Mailbox,
    to: Vec<Mailbox>,
    username: String,
    password: Option<Source>,
    taken: Mutex<Taken>,
}

/// Who has taken a mail that others are still to take.
///
/// Of one notification only, since they are sent one by one; after a restart all get it again.
#[derive(Debug, Default)]
struct Taken {
    id: u64,
    by: Vec<Address>,
}

impl Email {
    pub(super) fn new(config: &Config, connection: &Connection) -> Result<Self, String> {
        let parts = config.parts()?;
        let security = match parts.tls {
            Tls::None => Security::None,
            Tls::Required => Security::StartTls(smtp::tls(&config.host, connection)?),
            Tls::Implicit => Security::Implicit(smtp::tls(&config.host, connection)?),
        };
        Ok(Self {
            server: Server {
                host: config.host.clone(),
                port: parts.port,
                security,
                client_id: config.client_id(),
                timeout: connection.timeout,
            },
            from: parts.from,
            to: parts.to,
            username: config.username.clone(),
            password: parts.password,
            taken: Mutex::default(),
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let mail = mail::compose(notification, &self.from, &self.to)?;
        let password = self.password.as_ref().map(http::load).transpose()?;
        let credentials = password.map(|password| (self.username.as_str(), password));
        let before = self.taken(notification.id);
        let everyone = self.to.iter().map(|mailbox| &mailbox.email);
        let waiting: Vec<&Address> = everyone.filter(|to| !before.contains(to)).collect();
        let delivering =
            self.server
                .deliver(credentials.as_ref(), &self.from.email, &waiting, &mail);
        let outcome = delivering.await?;
        if outcome.later.is_empty() {
            return finished(&outcome, before.is_empty());
        }
        self.remember(notification.id, &outcome.taken);
        Err(Error::later(outcome.later.join("; ")))
    }

    fn taken(&self, id: u64) -> Vec<Address> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.id == id {
            taken.by.clone()
        } else {
            Vec::new()
        }
    }

    fn remember(&self, id: u64, by: &[Address]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.id != id {
            *taken = Taken { id, by: Vec::new() };
        }
        taken.by.extend_from_slice(by);
    }
}

/// What is said when nobody is left to wait for. That some will never take it is for the log, not a
/// reason to tell the others nothing.
fn finished(outcome: &Outcome, nobody_before: bool) -> Result<String, Error> {
    let refused = outcome.refused.join("; ");
    if outcome.taken.is_empty() && nobody_before {
        return Err(Error::never(refused));
    }
    if refused.is_empty() {
        return Ok(outcome.reply.clone());
    }
    tracing::warn!("a mail was not taken for all: {refused}");
    Ok(format!("{}; but {refused}", outcome.reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(toml: &str) -> Result<Parts, String> {
        let toml = format!("host = 'mail'\nfrom = 'a@b.example'\nto = ['c@d.example']\n{toml}");
        toml::from_str::<Config>(&toml).unwrap().parts()
    }

    #[test]
    fn port_465_is_implicit_tls_and_any_other_starttls() {
        let tls = |toml| parts(toml).map(|parts| (parts.port, parts.tls)).unwrap();
        assert_eq!(tls(""), (587, Tls::Required));
        assert_eq!(tls("port = 465"), (465, Tls::Implicit));
        assert_eq!(tls("port = 2525"), (2525, Tls::Required));
        assert_eq!(tls("tls = 'implicit'"), (465, Tls::Implicit));
        assert_eq!(tls("tls = 'none'"), (25, Tls::None));
        assert_eq!(tls("port = 465\ntls = 'required'"), (465, Tls::Required));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_its_key() {
        let error = |toml: &str| toml::from_str::<Config>(toml).unwrap().check().unwrap_err();
        assert_eq!(error(""), "host is not the name of a server");
        assert_eq!(error("host = 'a b'"), "host is not the name of a server");
        let no_one = "to is empty: name who gets the mail";
        assert_eq!(error("host = 'a'\nfrom = 'a@b.example'"), no_one);
        let bad = error("host = 'a'\nfrom = 'a@b.example'\nto = ['c@d.example', 'nobody']");
        assert!(
            bad.starts_with("to: \"nobody\" is not a mail address: "),
            "{bad}"
        );
        let bad = error("host = 'a'\nto = ['c@d.example']\nfrom = \"a@b.example\\nBcc: x@y\"");
        assert!(
            bad.starts_with("from: \"a@b.example\\nBcc: x@y\" is not"),
            "{bad}"
        );
        let error = |toml: &str| parts(toml).map(drop).unwrap_err();
        let alone = "username needs password, password_file or password_env";
        assert_eq!(error("username = 'u'"), alone);
        assert_eq!(error("password = 'p'"), "a password needs a username");
        let clear = "tls = \"none\" would send the password in clear over the network";
        let login = "username = 'u'\npassword = 'p'\ntls = 'none'";
        assert_eq!(error(login), clear);
        for near in ["localhost", "127.0.0.1", "[::1]"] {
            let config =
                format!("host = '{near}'\nfrom = 'a@b.example'\nto = ['c@d.example']\n{login}");
            assert_eq!(
                toml::from_str::<Config>(&config).unwrap().check(),
                Ok(()),
                "{near}"
            );
        }
    }
}
