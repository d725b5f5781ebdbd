//! Secrets are seen nowhere: not in errors, logs, dumps, or what the commands print.

use cutover::alert::channel::{Channel, Config, Error};

use super::receiver::{Receiver, Reply};
use super::{channel, notification, send};
use crate::support::{Server, cutover, file, output};

/// Part of every secret below.
const MARK: &str = "hunter2";

/// A section of each kind and of each way to say who we are, full of secrets.
fn sections(url: &str) -> Vec<String> {
    let port = url.rsplit(':').next().unwrap();
    [
        format!("type = 'slack'\nurl = '{url}/services/T0/B0/slack-{MARK}'"),
        format!("type = 'teams'\nurl = '{url}/teams-{MARK}?sig=signature-{MARK}'"),
        format!(
            "type = 'pagerduty'\nurl = '{url}/v2/enqueue'\nrouting_key = '{MARK}89abcdef0123456789abcdef0'"
        ),
        format!("type = 'webhook'\nurl = '{url}/hook-{MARK}'\nbearer_token = 'token-{MARK}'"),
        format!("type = 'webhook'\nurl = '{url}/h'\nusername = 'u'\npassword = 'password-{MARK}'"),
        format!("type = 'alertmanager'\nurls = ['{url}/proxy-{MARK}']"),
        format!(
            "type = 'email'\nhost = '127.0.0.1'\nport = {port}\ntls = 'none'\nfrom = 'a@b.example'\n\
             to = ['c@d.example']\nusername = 'u'\npassword = 'password-{MARK}'"
        ),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, section)| format!("name = 'channel-{at}'\ntimeout = '500ms'\n{section}"))
    .collect()
}

/// The forms in which the secrets cross the network.
fn assert_hidden(text: &str) {
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("u:password-{MARK}"));
    for secret in [MARK, &basic] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn no_error_and_no_dump_shows_a_secret_even_if_the_receiver_repeats_it() {
    let replies = || [200, 302, 400, 403, 429, 500].map(Reply::Echo);
    let mut errors = 0;
    for at in 0..sections("").len() {
        let receiver = Receiver::start(|_| Ok(()), replies().into());
        let section = sections(&receiver.url()).swap_remove(at);
        let config: Config = toml::from_str(&section).unwrap();
        assert_hidden(&format!("{config:?}"));
        assert_hidden(&toml::to_string(&config).unwrap());
        let channel = channel(&section);
        assert_hidden(&format!("{channel:?}"));
        for _ in replies() {
            match send(&channel, &notification()) {
                Ok(answer) => assert_hidden(&answer),
                Err(error) => {
                    assert_hidden(&format!("{error:?} {error}"));
                    errors += 1;
                }
            }
        }
    }
    // Slack refuses the first too, and what speaks HTTP is no mail server.
    assert_eq!(errors, 7 * 6 - 5);
}

#[test]
fn a_section_that_is_refused_shows_no_secret() {
    for bad in [
        format!("type = 'slack'\nurl = '{MARK}'"),
        format!("type = 'slack'\nurl = 'https://user:{MARK}@host/'"),
        format!("type = 'slack'\nurl = 'https://a/{MARK}'\nurl_file = 'f'"),
        format!("type = 'pagerduty'\nrouting_key = '{MARK}'"),
        format!("type = 'alertmanager'\nurls = ['https://a/', 'ftp://{MARK}']"),
        format!("type = 'webhook'\nurl = 'https://a/'\npassword = '{MARK}'"),
        format!("type = 'slack'\nurl = ['{MARK}']"),
        format!("type = 'slack'\nurl = {{ x = '{MARK}' }}"),
    ] {
        let section = format!("name = 'ops'\n{bad}");
        let refused = match toml::from_str::<Config>(&section) {
            Err(error) => error.message().to_owned(),
            Ok(config) => {
                let checked = cutover::alert::channel::check(std::slice::from_ref(&config));
                let error = checked.unwrap_err();
                assert!(
                    Channel::new(&config, std::time::Duration::ZERO).is_err(),
                    "{section}"
                );
                error.to_string()
            }
        };
        assert_hidden(&refused);
    }
}

#[test]
fn a_secret_of_characters_that_cannot_be_sent_is_named_and_not_shown() {
    let section = format!(
        "name = 'ops'\ntype = 'webhook'\nurl = 'http://127.0.0.1:1/'\nbearer_token = \"{MARK}\\n\""
    );
    let error = send(&channel(&section), &notification()).unwrap_err();
    assert_hidden(&format!("{error:?}"));
    let Error::Later { reason, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(reason, "a secret has characters that cannot be sent");
}

#[test]
fn the_program_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| Ok(()), vec![]);
    let sections = sections(&receiver.url());
    let text: Vec<_> = sections
        .iter()
        .map(|section| format!("[[channel]]\n{section}\n"))
        .collect();
    let config = file(dir.path(), "cutover.toml", text.join("\n"));
    let shown = output(cutover().arg("check-config").arg(&config));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("channel    channel-0, slack\n"), "{shown}");
    assert_hidden(&shown);
    for at in 0..sections.len() {
        let mut command = cutover();
        command
            .args(["--log-level", "trace", "alert", "test", "--config"])
            .arg(&config);
        let tried = output(command.arg(format!("channel-{at}")));
        assert_eq!(tried.status.code(), Some(1));
        assert_hidden(&String::from_utf8_lossy(
            &[tried.stdout, tried.stderr].concat(),
        ));
    }
    let server = Server::start(&dir.path().join("data"), Some(&config), &[]);
    let (status, shown) = server.get("/api/v1/status/config").unwrap();
    assert_eq!(status, 200);
    assert!(shown.contains("channel-0"), "{shown}");
    assert!(
        shown.contains(&format!("{}/<redacted>", receiver.url())),
        "{shown}"
    );
    assert_hidden(&shown);
}
