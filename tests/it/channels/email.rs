//! Mail to a server that answers as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{channel, later, never, notification, resolved, send};

/// What is answered to commands that begin so, the first that fits; others are answered with 250.
type Script = Vec<(&'static str, &'static str)>;

/// A mail server; each connection follows the next script, the last one for ever.
struct MailServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let script = &scripts[at.min(scripts.len() - 1)];
                // A client that has gone is no concern of the server's.
                drop(talk(&stream.unwrap(), script, &log));
            }
        });
        Self { address, seen }
    }

    /// A section with two recipients.
    fn section(&self, more: &str) -> String {
        format!(
            "name = 'mail'\ntype = 'email'\nhost = '127.0.0.1'\nport = {}\ntimeout = '500ms'\n\
             hello = 'cutover.example'\nfrom = 'Cutover <ops@b.example>'\n\
             to = ['c@d.example', 'e@f.example']\n{more}",
            self.address.port()
        )
    }

    /// The lines that clients sent.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn seen_of(&self, start: &str) -> Vec<String> {
        let mut seen = self.seen();
        seen.retain(|line| line.starts_with(start));
        seen
    }
}

fn talk(stream: &TcpStream, script: &Script, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let reply = |line: &str| {
        let found = script.iter().find(|(start, _)| line.starts_with(start));
        found.map(|(_, reply)| *reply)
    };
    let greeting = reply("greeting").unwrap_or("220 mail.example ESMTP");
    writer.write_all(format!("{greeting}\r\n").as_bytes())?;
    let mut is_mail = false;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let said = line.trim_end().to_owned();
        line.clear();
        log.lock().unwrap().push(said.clone());
        if is_mail && said != "." {
            continue;
        }
        let answer = match reply(&said) {
            Some("") => continue,
            Some(answer) => answer,
            None if said == "DATA" => "354 go on",
            None if said.starts_with("EHLO") => "250-mail.example\r\n250 8BITMIME",
            None => "250 2.0.0 fine",
        };
        is_mail = said == "DATA" && answer.starts_with("354");
        writer.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

const OPEN: &str = "tls = 'none'";
const LOGIN: &str = "tls = 'none'\nusername = 'u'\npassword = 'hunter2'";

#[test]
fn a_mail_goes_to_all_recipients_in_one_transaction() {
    let server = MailServer::start(vec![vec![(".", "250 2.0.0 queued as 4711")]]);
    let answer = send(&channel(&server.section(OPEN)), &notification());
    assert_eq!(answer.unwrap(), "250 2.0.0 queued as 4711");
    let seen = server.seen();
    let expected = [
        "EHLO cutover.example",
        "MAIL FROM:<ops@b.example>",
        "RCPT TO:<c@d.example>",
        "RCPT TO:<e@f.example>",
        "DATA",
    ];
    assert_eq!(seen[..5], expected);
    assert_eq!(server.seen_of("To: "), ["To: c@d.example, e@f.example"]);
    let id = ["Message-ID: <notification.000000000000feed@b.example>"];
    assert_eq!(server.seen_of("Message-ID: "), id);
    assert!(seen.iter().all(|line| line.is_ascii() && line.len() <= 998));
}

#[test]
fn without_starttls_nothing_is_sent_in_clear() {
    let server = MailServer::start(vec![vec![]]);
    let section = server.section("username = 'u'\npassword = 'hunter2'");
    let (reason, _) = later(send(&channel(&section), &notification()));
    let start = format!(
        "{}:{} does not offer STARTTLS",
        "127.0.0.1",
        server.address.port()
    );
    assert!(reason.starts_with(&start), "{reason}");
    for line in server.seen() {
        assert!(
            ["EHLO", "QUIT"].iter().any(|word| line.starts_with(word)),
            "{line}"
        );
    }
}

#[test]
fn starttls_that_is_refused_or_broken_ends_the_attempt() {
    let offer = ("EHLO", "250-mail.example\r\n250 STARTTLS");
    for reply in ["454 4.7.0 TLS not available", "220 go on\r\nthis is no TLS"] {
        let server = MailServer::start(vec![vec![offer, ("STARTTLS", reply)]]);
        later(send(&channel(&server.section("")), &notification()));
        assert_eq!(server.seen_of("MAIL"), [""; 0]);
    }
}

#[test]
fn a_wrong_password_is_one_clear_error() {
    let auth = ("EHLO", "250-mail.example\r\n250 AUTH LOGIN PLAIN");
    let plain = "AUTH PLAIN AHUAaHVudGVyMg==";
    let refusal = "535-5.7.8 no AHUAaHVudGVyMg==\r\n535 5.7.8 nor hunter2";
    let server = MailServer::start(vec![vec![auth, ("AUTH", refusal)]]);
    let reason = never(send(&channel(&server.section(LOGIN)), &notification()));
    let expected = format!(
        "the user name or the password is wrong: AUTH: 127.0.0.1:{}: 535 5.7.8 no <redacted> nor <redacted>",
        server.address.port()
    );
    assert_eq!(reason, expected);
    assert_eq!(server.seen_of("AUTH"), [plain]);
    assert_eq!(server.seen_of("MAIL"), [""; 0]);

    let busy = MailServer::start(vec![vec![auth, ("AUTH", "454 4.7.0 come back")]]);
    later(send(&channel(&busy.section(LOGIN)), &notification()));
    let without = MailServer::start(vec![vec![]]);
    let reason = never(send(&channel(&without.section(LOGIN)), &notification()));
    assert!(
        reason.ends_with("offers neither AUTH PLAIN nor AUTH LOGIN"),
        "{reason}"
    );
}

#[test]
fn a_recipient_that_is_refused_is_named_and_the_others_get_the_mail() {
    let refused = ("RCPT TO:<c@", "550 5.1.1 no such user");
    let server = MailServer::start(vec![vec![refused]]);
    let answer = send(&channel(&server.section(OPEN)), &notification()).unwrap();
    let port = server.address.port();
    let expected =
        format!("250 2.0.0 fine; but c@d.example: 127.0.0.1:{port}: 550 5.1.1 no such user");
    assert_eq!(answer, expected);
    let all = MailServer::start(vec![vec![("RCPT", "550 5.7.1 relaying denied")]]);
    let reason = never(send(&channel(&all.section(OPEN)), &notification()));
    assert!(
        reason.contains("c@d.example: ") && reason.contains("e@f.example: "),
        "{reason}"
    );
    assert_eq!(all.seen_of("DATA"), [""; 0]);
}

#[test]
fn a_recipient_that_is_to_wait_is_tried_later_and_the_others_get_no_second_mail() {
    let grey = vec![("RCPT TO:<e@", "451 4.7.1 greylisted")];
    let server = MailServer::start(vec![grey.clone(), grey, vec![]]);
    let channel = channel(&server.section(OPEN));
    let (reason, _) = later(send(&channel, &notification()));
    assert!(reason.ends_with("451 4.7.1 greylisted"), "{reason}");
    later(send(&channel, &notification()));
    assert_eq!(send(&channel, &notification()).unwrap(), "250 2.0.0 fine");
    let [to_c, to_e] = ["RCPT TO:<c@d.example>", "RCPT TO:<e@f.example>"];
    assert_eq!(server.seen_of("RCPT"), [to_c, to_e, to_e, to_e]);
    let ids = server.seen_of("Message-ID");
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    // The next notification is for both again.
    send(&channel, &resolved()).unwrap();
    assert_eq!(server.seen_of("RCPT").len(), 6);
}

#[test]
fn a_server_that_is_busy_is_tried_later_and_one_that_refuses_is_not() {
    for (command, reply) in [
        ("greeting", "421 4.3.2 too busy"),
        ("greeting", "this is no SMTP"),
        ("MAIL", "452 4.3.1 no room"),
        ("DATA", "451 4.3.0 try again"),
        (".", "452 4.3.1 no room"),
    ] {
        let server = MailServer::start(vec![vec![(command, reply)]]);
        let (reason, _) = later(send(&channel(&server.section(OPEN)), &notification()));
        assert!(reason.contains("127.0.0.1:"), "{reason}");
    }
    for (command, reply) in [
        ("greeting", "554 5.3.2 no service"),
        ("MAIL", "550 5.7.1 sender refused"),
        (".", "554 5.6.0 looks like spam"),
    ] {
        let server = MailServer::start(vec![vec![(command, reply)]]);
        let reason = never(send(&channel(&server.section(OPEN)), &notification()));
        assert!(reason.ends_with(reply), "{reason}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_at_the_step_where_it_stopped() {
    for (command, step) in [
        ("EHLO", "greeting"),
        ("MAIL", "MAIL FROM"),
        ("RCPT", "RCPT TO"),
        ("DATA", "DATA"),
        (".", "the mail"),
    ] {
        let server = MailServer::start(vec![vec![(command, "")]]);
        let (reason, _) = later(send(&channel(&server.section(OPEN)), &notification()));
        assert!(
            reason.ends_with(&format!("{step}: no answer within 500ms")),
            "{reason}"
        );
    }
}
