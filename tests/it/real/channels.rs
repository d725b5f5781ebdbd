//! Channels against the receivers that there are as programs: Debian's Alertmanager, and aiosmtpd, whose
//! mails Python's own parser reads. The services of others are in `crate::channels`, by their contracts.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use cutover::alert::channel::{Channel, Config, Error};
use cutover::alert::{Alert, Notification};
use cutover::model::{Clock, SystemClock, Timestamp};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use super::say;
use crate::support::{cutover, file, free_address, output, request, wait_for};

const WITHIN: Duration = Duration::from_secs(30);

/// Whether the tests against real components are wanted; says so if not.
fn is_wanted() -> bool {
    let is_wanted = env::var_os("CUTOVER_REAL").is_some_and(|value| value == "1");
    if !is_wanted {
        say("skipped: CUTOVER_REAL is not set (tests/real/run sets it)");
    }
    is_wanted
}

/// A child that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn channel(section: &str) -> Channel {
    let config: Config = toml::from_str(section).expect("the section can be read");
    Channel::new(&config, Duration::from_secs(4 * 3_600)).expect("the section is right")
}

fn send(channel: &Channel, notification: &Notification) -> Result<String, Error> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime can be made");
    runtime.block_on(channel.send(notification))
}

/// One alert that fires, said now.
fn notification() -> Notification {
    let now = SystemClock::default().now();
    let pairs = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    Notification {
        group_key: "{migration_id=\"shop\"}".to_owned(),
        group_labels: pairs(&[("migration_id", "shop")]),
        alerts: vec![Alert {
            labels: pairs(&[
                ("alertname", "high_error_rate"),
                ("migration_id", "shop"),
                ("severity", "critical"),
                ("table", "größen"),
            ]),
            annotations: pairs(&[("summary", "2.3 % of rows in „größen“ <fail>")]),
            starts_at: Timestamp::from_ms(now.ms() / 1_000 * 1_000).before(Duration::from_secs(60)),
            ends_at: None,
            generator_url: "http://cutover:9490/graph?a=1&b=2".to_owned(),
        }],
        alerts_truncated: 0,
        at: now,
        external_url: "http://cutover:9490".to_owned(),
        id: 0xfeed,
    }
}

/// The same when it is over.
fn resolved(firing: &Notification) -> Notification {
    let mut over = firing.clone();
    over.at = SystemClock::default().now();
    over.alerts[0].ends_at = Some(over.at);
    over.id += 1;
    over
}

/// A Debian Alertmanager and its address.
fn alertmanager(dir: &Path) -> (Killed, String) {
    let address = free_address().to_string();
    let yaml = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
    let config = file(dir, "alertmanager.yml", yaml);
    let child = Command::new("prometheus-alertmanager")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.path={}",
            dir.join("alertmanager").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is an Alertmanager");
    let child = Killed(child);
    let place = address.parse().expect("it is an address");
    wait_for("Alertmanager is ready", WITHIN, || {
        request(place, "GET", "/-/ready", "").filter(|(status, _)| *status == 200)
    });
    (child, address)
}

/// The alerts that an Alertmanager has.
fn alerts(address: &str) -> Vec<Value> {
    let address = address.parse().expect("it is an address");
    let (status, body) = request(address, "GET", "/api/v2/alerts", "").expect("it answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("a list")
}

#[test]
fn an_alertmanager_takes_alerts_and_their_end() {
    if !is_wanted() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let (_running, address) = alertmanager(dir.path());
    let nobody = free_address();
    let channel = channel(&format!(
        "name = 'am'\ntype = 'alertmanager'\nurls = ['http://{nobody}', 'http://{address}']"
    ));
    let firing = notification();
    let answer = send(&channel, &firing).expect("one takes it");
    assert_eq!(answer, format!("http://{address}/<redacted> 200 OK"));
    let shown = alerts(&address);
    assert_eq!(shown.len(), 1, "{shown:?}");
    let alert = &shown[0];
    assert_eq!(alert["labels"], json!(firing.alerts[0].labels));
    assert_eq!(alert["annotations"], json!(firing.alerts[0].annotations));
    assert_eq!(alert["generatorURL"], firing.alerts[0].generator_url);
    assert_eq!(alert["status"]["state"], "active");
    let time = |name: &str| -> jiff::Timestamp {
        let text = alert[name].as_str().expect("a text");
        text.parse().expect("a moment")
    };
    assert_eq!(
        time("startsAt").as_millisecond(),
        firing.alerts[0].starts_at.ms()
    );
    let good_for = time("endsAt").as_millisecond() - firing.at.ms();
    assert_eq!(good_for, 12 * 3_600_000);

    // The same again is the same alert.
    send(&channel, &firing).expect("one takes it");
    assert_eq!(alerts(&address).len(), 1);
    send(&channel, &resolved(&firing)).expect("one takes it");
    wait_for("Alertmanager has it resolved", WITHIN, || {
        alerts(&address).is_empty().then_some(())
    });
}

#[test]
fn an_alertmanager_refuses_what_is_no_alert() {
    if !is_wanted() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let (_running, address) = alertmanager(dir.path());
    let channel = channel(&format!(
        "name = 'am'\ntype = 'alertmanager'\nurls = ['http://{address}']"
    ));
    let mut wrong = notification();
    wrong.alerts[0]
        .labels
        .insert("not-a-name".to_owned(), "x".to_owned());
    let Err(Error::Never { reason }) = send(&channel, &wrong) else {
        panic!("it is taken");
    };
    assert!(
        reason.contains("400 Bad Request") && reason.contains("not-a-name"),
        "{reason}"
    );
}

/// An aiosmtpd, and what it prints.
struct MailServer {
    lines: BufReader<ChildStdout>,
    port: u16,
    /// Ends with the rest.
    _child: Killed,
}

impl MailServer {
    /// `None`, after one line on standard error, when nobody has made the folder with aiosmtpd.
    fn start(arguments: &[&str]) -> Option<Self> {
        let Some(clients) = env::var_os("CUTOVER_REAL_CLIENTS").map(PathBuf::from) else {
            say("skipped: CUTOVER_REAL_CLIENTS is not set (tests/real/run sets it)");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/clients/mail.py");
        let mut child = Command::new(clients.join("venv/bin/python"))
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is Python");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let child = Killed(child);
        let mut line = String::new();
        lines.read_line(&mut line).expect("it prints its port");
        let port = line.trim().parse().expect("it prints its port");
        Some(Self {
            lines,
            port,
            _child: child,
        })
    }

    fn section(&self, more: &str) -> String {
        format!(
            "name = 'mail'\ntype = 'email'\nhost = 'localhost'\nport = {}\n\
             from = 'Cutover <ops@b.example>'\nto = ['c@d.example', 'Größe <e@f.example>']\n{more}",
            self.port
        )
    }

    /// The next mail.
    fn mail(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it prints a mail");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

/// Certificate and key for `localhost`.
fn identity(dir: &Path) -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it can be made");
    let cert = file(dir, "cert.pem", cert.pem());
    let key = file(dir, "key.pem", signing_key.serialize_pem());
    (cert.display().to_string(), key.display().to_string())
}

/// What every mail of [`notification`] looks like to a mail reader.
fn assert_reads_well(mail: &Value) {
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(mail["mail_from"], "ops@b.example");
    assert_eq!(mail["rcpt_tos"], json!(["c@d.example", "e@f.example"]));
    assert_eq!(mail["content_type"], "multipart/alternative");
    assert_eq!(mail["parts"], json!(["text/plain", "text/html"]));
    let headers = &mail["headers"];
    assert_eq!(
        headers["subject"],
        "[FIRING 1] shop: high_error_rate (critical)"
    );
    assert_eq!(headers["from"], "Cutover <ops@b.example>");
    assert_eq!(headers["to"], "c@d.example, Größe <e@f.example>");
    assert_eq!(headers["auto-submitted"], "auto-generated");
    assert_eq!(
        headers["message-id"],
        "<notification.000000000000feed@b.example>"
    );
    let plain = mail["plain"].as_str().expect("a text");
    assert!(
        plain.contains("\n  2.3 % of rows in „größen“ <fail>\n"),
        "{plain}"
    );
    let html = mail["html"].as_str().expect("a text");
    assert!(
        html.contains("2.3 % of rows in „größen“ &lt;fail&gt;"),
        "{html}"
    );
    let link = "<a href=\"http://cutover:9490/graph?a=1&amp;b=2\">";
    assert!(html.contains(link), "{html}");
}

#[test]
fn a_mail_server_without_tls_takes_mail_that_a_parser_reads_back() {
    if !is_wanted() {
        return;
    }
    let Some(mut server) = MailServer::start(&[]) else {
        return;
    };
    let channel = channel(&server.section("tls = 'none'"));
    let firing = notification();
    let answer = send(&channel, &firing).expect("it is taken");
    assert_eq!(answer, "250 2.0.0 taken");
    let first = server.mail();
    assert_reads_well(&first);
    assert_eq!(first["encrypted"], false);
    send(&channel, &resolved(&firing)).expect("it is taken");
    let second = server.mail();
    let (first, second) = (&first["headers"], &second["headers"]);
    assert_eq!(second["subject"], "[RESOLVED 1] shop: high_error_rate");
    assert_ne!(first["message-id"], second["message-id"]);
    assert_eq!(first["references"], second["references"]);
    assert_eq!(first["in-reply-to"], second["in-reply-to"]);
    assert_eq!(first["references"], first["in-reply-to"]);
}

#[test]
fn a_mail_server_with_starttls_and_auth_takes_mail() {
    if !is_wanted() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let (cert, key) = identity(dir.path());
    let arguments = ["--starttls", &cert, &key, "--login", "u", "right"];
    let Some(mut server) = MailServer::start(&arguments) else {
        return;
    };
    let login = |password: &str| {
        let password = file(dir.path(), "password", password);
        let password = password.display();
        format!("ca_file = '{cert}'\nusername = 'u'\npassword_file = '{password}'")
    };
    let section = server.section(&login("wrong"));
    let Err(Error::Never { reason }) = send(&channel(&section), &notification()) else {
        panic!("it is taken");
    };
    let start = format!(
        "the user name or the password is wrong: AUTH: localhost:{}: 535 5.7.8 ",
        server.port
    );
    assert!(reason.starts_with(&start), "{reason}");

    let section = server.section(&login("right"));
    send(&channel(&section), &notification()).expect("it is taken");
    let mail = server.mail();
    assert_reads_well(&mail);
    assert_eq!(
        (&mail["encrypted"], &mail["authenticated"]),
        (&json!(true), &json!(true))
    );

    let config = file(
        dir.path(),
        "cutover.toml",
        format!("[[channel]]\n{section}\n"),
    );
    let mut command = cutover();
    command
        .args(["alert", "test", "mail", "--resolve", "--config"])
        .arg(config);
    let tried = output(&mut command);
    let shown = String::from_utf8_lossy(&tried.stdout);
    assert_eq!(
        shown,
        "mail: firing: 250 2.0.0 taken\nmail: resolved: 250 2.0.0 taken\n"
    );
    let subjects = [server.mail(), server.mail()].map(|mail| mail["headers"]["subject"].clone());
    assert_eq!(
        subjects,
        [
            "[FIRING 1] trial: cutover_trial (info)",
            "[RESOLVED 1] trial: cutover_trial"
        ]
    );
}

#[test]
fn a_mail_server_with_tls_from_the_first_byte_takes_mail() {
    if !is_wanted() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let (cert, key) = identity(dir.path());
    let arguments = ["--tls", &cert, &key, "--login", "u", "right"];
    let Some(mut server) = MailServer::start(&arguments) else {
        return;
    };
    let login = "tls = 'implicit'\nusername = 'u'\npassword = 'right'";
    let section = server.section(&format!("{login}\nca_file = '{cert}'"));
    send(&channel(&section), &notification()).expect("it is taken");
    assert_reads_well(&server.mail());
}

#[test]
fn a_mail_server_whose_authority_is_not_trusted_gets_nothing() {
    if !is_wanted() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder can be made");
    let other = tempfile::tempdir().expect("a folder can be made");
    let (cert, key) = identity(dir.path());
    let (stranger, _) = identity(other.path());
    let arguments = ["--starttls", &cert, &key, "--login", "u", "right"];
    let Some(server) = MailServer::start(&arguments) else {
        return;
    };
    let login = "username = 'u'\npassword = 'right'";
    let section = server.section(&format!("{login}\nca_file = '{stranger}'"));
    let Err(Error::Later { reason, .. }) = send(&channel(&section), &notification()) else {
        panic!("it is taken");
    };
    assert!(reason.contains("invalid peer certificate"), "{reason}");
}

#[test]
fn a_mail_server_without_starttls_gets_nothing() {
    if !is_wanted() {
        return;
    }
    let Some(server) = MailServer::start(&["--login", "u", "right"]) else {
        return;
    };
    let section = server.section("username = 'u'\npassword = 'right'");
    let Err(Error::Later { reason, .. }) = send(&channel(&section), &notification()) else {
        panic!("it is taken");
    };
    assert!(reason.contains("does not offer STARTTLS"), "{reason}");
}
