//! Channels against strict local receivers: what they send is checked against what each service
//! publishes, and every answer or lack of one has the outcome that it should have.

mod contract;
mod email;
mod receiver;
mod secrets;

use std::time::Duration;

use cutover::alert::channel::{Channel, Config, Error};
use cutover::alert::{Alert, Notification, Pairs};
use cutover::model::Timestamp;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::channels::receiver::{Receiver, Reply};
use crate::support::{cutover, file, free_address, output};

/// 2026-11-26 03:00:00 UTC.
const START_MS: i64 = 1_795_662_000_000;

/// A kind of channel, and how it and its receiver are set up.
struct Kind {
    name: &'static str,
    /// The keys of the section, with `URL` for the receiver's address.
    keys: &'static str,
    check: contract::Check,
    /// How the receiver says that it took something.
    yes: (u16, &'static str),
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "slack",
        keys: "url = 'URL/services/T000/B000/secret-of-slack'",
        check: contract::slack,
        yes: (200, "ok"),
    },
    Kind {
        name: "pagerduty",
        keys: "url = 'URL/v2/enqueue'\nrouting_key = '0123456789abcdef0123456789abcdef'",
        check: contract::pagerduty,
        yes: (
            202,
            "{\"status\":\"success\",\"message\":\"Event processed\"}",
        ),
    },
    Kind {
        name: "webhook",
        keys: "url = 'URL/hook'\nbearer_token = 'secret-token'",
        check: contract::webhook,
        yes: (200, ""),
    },
    Kind {
        name: "alertmanager",
        keys: "urls = ['URL/am/']",
        check: contract::alertmanager,
        yes: (200, ""),
    },
    Kind {
        name: "teams",
        keys: "url = 'URL/workflows/secret-of-teams?sig=secret-signature'",
        check: contract::teams,
        yes: (202, ""),
    },
];

impl Kind {
    fn section(&self, url: &str, more: &str) -> String {
        let keys = self.keys.replace("URL", url);
        format!("name = 'ops'\ntype = '{}'\n{keys}\n{more}", self.name)
    }

    /// A channel to an address.
    fn channel(&self, url: &str, more: &str) -> Channel {
        channel(&self.section(url, more))
    }

    /// What comes of one notification when the receiver has this to say to it.
    fn outcome(&self, reply: Reply) -> Result<String, Error> {
        let receiver = Receiver::start(self.check, vec![reply]);
        send(
            &self.channel(&receiver.url(), "timeout = '500ms'"),
            &notification(),
        )
    }
}

fn channel(section: &str) -> Channel {
    let config: Config = toml::from_str(section).unwrap();
    cutover::alert::channel::check(std::slice::from_ref(&config)).unwrap();
    Channel::new(&config, Duration::from_secs(4 * 3_600)).unwrap()
}

fn send(channel: &Channel, notification: &Notification) -> Result<String, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(channel.send(notification))
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Pairs {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn alert(name: &str, severity: &str, ends_at: Option<i64>) -> Alert {
    let labels = [
        ("alertname", name),
        ("migration_id", "shop"),
        ("severity", severity),
        ("table", "orders"),
    ];
    Alert {
        labels: pairs(labels),
        annotations: pairs([
            ("summary", "Löst <etwas> & \"mehr\" aus"),
            ("description", "A sentence of its own."),
        ]),
        starts_at: Timestamp::from_ms(START_MS),
        ends_at: ends_at.map(Timestamp::from_ms),
        generator_url: "http://cutover:9490/graph?a=1".to_owned(),
    }
}

fn notification() -> Notification {
    Notification {
        group_key: "{migration_id=\"shop\"}".to_owned(),
        group_labels: pairs([("migration_id", "shop")]),
        alerts: vec![
            alert("high_error_rate", "critical", None),
            alert("low_throughput", "warning", None),
            alert("lag", "warning", Some(START_MS + 60_000)),
        ],
        alerts_truncated: 0,
        at: Timestamp::from_ms(START_MS + 120_000),
        external_url: "http://cutover:9490".to_owned(),
        id: 0xfeed,
    }
}

/// The same when all is over.
fn resolved() -> Notification {
    let mut over = notification();
    for alert in &mut over.alerts {
        alert.ends_at = Some(Timestamp::from_ms(START_MS + 90_000));
    }
    over.id += 1;
    over
}

/// Many alerts with much to say.
fn large() -> Notification {
    let mut large = notification();
    let mut alert = alert("large", "critical", None);
    for name in ["summary", "description"] {
        let text = "\"ä<\u{7}".repeat(4_000);
        alert.annotations.insert(name.to_owned(), text);
    }
    large.alerts = vec![alert; 300];
    large
}

#[track_caller]
fn later(outcome: Result<String, Error>) -> (String, Option<Duration>) {
    match outcome {
        Err(Error::Later {
            reason,
            retry_after,
        }) => (reason, retry_after),
        other => panic!("{other:?} is not to be tried later"),
    }
}

#[track_caller]
fn never(outcome: Result<String, Error>) -> String {
    match outcome {
        Err(Error::Never { reason }) => reason,
        other => panic!("{other:?} is worth another try"),
    }
}

#[test]
fn what_is_sent_keeps_to_the_contract_of_each_service() {
    for kind in &KINDS {
        for notification in [notification(), resolved(), large()] {
            let (status, body) = kind.yes;
            let receiver =
                Receiver::start(kind.check, vec![Reply::Answer(status, "", body.into())]);
            let answer = send(&kind.channel(&receiver.url(), ""), &notification);
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            assert!(
                answer.contains(&status.to_string()),
                "{}: {answer}",
                kind.name
            );
            assert_eq!(receiver.requests().len(), 1, "{}", kind.name);
        }
    }
}

#[test]
fn a_receiver_that_is_busy_or_broken_is_tried_later() {
    for kind in &KINDS {
        let busy = Reply::Answer(429, "Retry-After: 7\r\n", "slow down".into());
        let (reason, retry_after) = later(kind.outcome(busy));
        assert_eq!(retry_after, Some(Duration::from_secs(7)), "{}", kind.name);
        let shown = reason.ends_with("answers 429 Too Many Requests: slow down");
        assert!(shown && reason.starts_with("http://127.0.0.1:"), "{reason}");
        let date =
            "Date: Thu, 26 Nov 2026 03:00:00 GMT\r\nRetry-After: Thu, 26 Nov 2026 03:02:00 GMT\r\n";
        let (_, retry_after) = later(kind.outcome(Reply::Answer(503, date, String::new())));
        assert_eq!(retry_after, Some(Duration::from_secs(120)), "{}", kind.name);
        let (reason, retry_after) = later(kind.outcome(Reply::Answer(500, "", String::new())));
        assert_eq!(retry_after, None);
        assert!(
            reason.ends_with("answers 500 Internal Server Error"),
            "{reason}"
        );
    }
}

#[test]
fn a_receiver_that_refuses_is_not_tried_again() {
    for kind in &KINDS {
        let reason = never(kind.outcome(Reply::Answer(400, "", "invalid\n payload".into())));
        assert!(
            reason.ends_with("refuses it: 400 Bad Request: invalid payload"),
            "{reason}"
        );
        let reason = never(kind.outcome(Reply::Answer(401, "", String::new())));
        assert!(
            reason.ends_with("does not accept the secret: 401 Unauthorized"),
            "{reason}"
        );
    }
}

#[test]
fn a_redirect_is_not_followed() {
    for kind in &KINDS {
        let elsewhere = Receiver::start(kind.check, vec![]);
        let location: &'static str =
            Box::leak(format!("Location: {}/\r\n", elsewhere.url()).into_boxed_str());
        for status in [301, 302, 307, 308] {
            let reason = never(kind.outcome(Reply::Answer(status, location, String::new())));
            assert!(reason.contains("redirects are not followed"), "{reason}");
        }
        assert!(elsewhere.requests().is_empty(), "{}", kind.name);
    }
}

#[test]
fn a_receiver_that_does_not_answer_is_given_up_in_time() {
    for kind in &KINDS {
        for reply in [Reply::Silence, Reply::Trickle] {
            let (reason, _) = later(kind.outcome(reply));
            assert!(
                reason.ends_with("no answer within 500ms"),
                "{}: {reason}",
                kind.name
            );
        }
    }
}

#[test]
fn what_is_no_http_is_tried_later() {
    for kind in &KINDS {
        for reply in [Reply::Garbage, Reply::Close] {
            let (reason, retry_after) = later(kind.outcome(reply));
            assert!(reason.starts_with("http://127.0.0.1:"), "{reason}");
            assert_eq!(retry_after, None);
        }
        let nobody = format!("http://{}", free_address());
        let (reason, _) = later(send(&kind.channel(&nobody, ""), &notification()));
        assert!(reason.contains("Connection refused"), "{reason}");
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_it() {
    for kind in KINDS.iter().filter(|kind| kind.name != "slack") {
        let answer = kind.outcome(Reply::Endless);
        assert_eq!(
            answer.unwrap().replace("http://", "").split(' ').count(),
            kind_words(kind)
        );
    }
}

/// Words of a success: the status, and with several receivers which of them it was.
fn kind_words(kind: &Kind) -> usize {
    if kind.name == "alertmanager" { 3 } else { 2 }
}

#[test]
fn slack_says_ok_and_anything_else_is_an_error() {
    let reason = never(KINDS[0].outcome(Reply::Answer(200, "", "invalid_token".into())));
    assert!(
        reason.ends_with("answers \"invalid_token\" instead of \"ok\""),
        "{reason}"
    );
}

#[test]
fn a_group_has_one_key_from_trigger_to_resolve_and_a_notification_one_each_time() {
    let [_, duty, hook, ..] = &KINDS;
    let yes = || Reply::Answer(202, "", String::new());
    let receiver = Receiver::start(duty.check, vec![yes(), yes()]);
    let channel = duty.channel(&receiver.url(), "");
    for notification in [notification(), resolved()] {
        send(&channel, &notification).unwrap();
    }
    let events: Vec<_> = receiver.requests().iter().map(contract::json).collect();
    assert_eq!(events[0]["event_action"], "trigger");
    assert_eq!(events[1]["event_action"], "resolve");
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);

    let receiver = Receiver::start(hook.check, vec![Reply::Close, yes()]);
    let channel = hook.channel(&receiver.url(), "");
    later(send(&channel, &notification()));
    send(&channel, &notification()).unwrap();
    let keys = receiver.requests();
    let keys: Vec<_> = keys
        .iter()
        .map(|request| request.header("idempotency-key"))
        .collect();
    assert_eq!(keys, [Some("000000000000feed"); 2]);
}

#[test]
fn one_alertmanager_of_several_is_enough_and_all_are_told() {
    let check = contract::alertmanager;
    let yes = || Reply::Answer(200, "", String::new());
    let first = Receiver::start(check, vec![Reply::Answer(500, "", String::new())]);
    let second = Receiver::start(check, vec![yes()]);
    let third = Receiver::start(check, vec![yes()]);
    let urls = [&first, &second, &third].map(|receiver| format!("{}/am", receiver.url()));
    let section = format!("name = 'am'\ntype = 'alertmanager'\nurls = {urls:?}");
    let answer = send(&channel(&section), &notification()).unwrap();
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    assert_eq!(first.requests().len(), 1);
}

#[test]
fn a_receiver_is_reached_over_tls_if_its_authority_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = cutover::net::tls::IdentityFiles {
        cert: file(dir.path(), "cert.pem", cert.pem()),
        key: file(dir.path(), "key.pem", signing_key.serialize_pem()),
    };
    let url = receiver::start_tls(&files);
    let ca_file = format!("ca_file = '{}'", files.cert.display());
    let hook = &KINDS[2];
    let answer = send(&hook.channel(&url, &ca_file), &notification());
    assert_eq!(answer.unwrap(), "200 OK");
    let answer = send(
        &hook.channel(&url, "insecure_skip_verify = true"),
        &notification(),
    );
    assert_eq!(answer.unwrap(), "200 OK");
    let other = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = file(dir.path(), "other.pem", other.cert.pem());
    let ca_file = format!("ca_file = '{}'", other.display());
    let (reason, _) = later(send(&hook.channel(&url, &ca_file), &notification()));
    assert!(reason.contains("invalid peer certificate"), "{reason}");
}

#[test]
fn a_secret_that_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(contract::slack, vec![Reply::Answer(200, "", "ok".into())]);
    let path = dir.path().join("url");
    let section = format!(
        "name = 'ops'\ntype = 'slack'\nurl_file = '{}'",
        path.display()
    );
    let channel = channel(&section);
    let (reason, _) = later(send(&channel, &notification()));
    let absent = format!("{} cannot be read: No such file", path.display());
    assert!(reason.starts_with(&absent), "{reason}");
    file(
        dir.path(),
        "url",
        format!("{}/services/x\n", receiver.url()),
    );
    assert_eq!(send(&channel, &notification()).unwrap(), "200 OK: ok");
}

#[test]
fn a_channel_is_tried_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let yes = || Reply::Answer(200, "", "ok".into());
    let no = Reply::Answer(403, "", "invalid_token".into());
    let receiver = Receiver::start(contract::slack, vec![yes(), yes(), no]);
    let text = format!(
        "[[channel]]\n{}\n[[channel]]\nname = 'broken'\ntype = 'teams'\nurl_env = 'ABSENT'\n",
        KINDS[0].section(&receiver.url(), "")
    );
    let config = file(dir.path(), "cutover.toml", text);
    let try_it = |arguments: &[&str]| {
        let mut command = cutover();
        command.args(["alert", "test", "--config"]).arg(&config);
        let output = output(command.args(arguments));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, shown, errors) = try_it(&["ops", "--resolve"]);
    assert_eq!((code, &*errors), (Some(0), ""));
    assert_eq!(
        shown,
        "ops: firing: 200 OK: ok\nops: resolved: 200 OK: ok\n"
    );
    let (code, shown, errors) = try_it(&["ops"]);
    assert_eq!((code, &*shown), (Some(1), ""));
    let reason = format!(
        "cutover: ops: firing: {}/<redacted> does not accept the secret: 403 Forbidden: invalid_token \
         (a server would not try again)\n",
        receiver.url()
    );
    assert_eq!(errors, reason);
    let (code, _, errors) = try_it(&["broken"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("the environment has no variable ABSENT"),
        "{errors}"
    );
    let (code, _, errors) = try_it(&["nobody"]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("no channel is called \"nobody\"; there are ops, broken"),
        "{errors}"
    );
}

#[test]
fn a_wrong_section_is_refused_with_its_place_and_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |section: &str| {
        let text = format!("[store]\nretention = '1d'\n\n[[channel]]\n{section}\n");
        let path = file(dir.path(), "cutover.toml", text);
        let output = output(cutover().arg("check-config").arg(&path));
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        errors.replace(&*dir.path().to_string_lossy(), "")
    };
    assert_eq!(
        check("name = 'ops'\ntype = 'slack'\nurl_fil = '/run/url'"),
        "cutover: /cutover.toml:4:1: channel \"ops\": unknown key `url_fil`, did you mean `url_file`?\n"
    );
    assert_eq!(
        check("name = 'ops'\ntype = 'slack'\nurl_file = '/run/url'\ntimeuot = '1s'"),
        "cutover: /cutover.toml:4:1: channel \"ops\": unknown key `timeuot`, did you mean `timeout`?\n"
    );
    assert_eq!(
        check("name = 'ops'\ntype = 'slack'"),
        "cutover: /cutover.toml: [[channel]]: channel \"ops\": set url, url_file or url_env\n"
    );
    assert_eq!(
        check("name = 'ops'\ntype = 'webhook'\nurl = 'hunter2'"),
        "cutover: /cutover.toml: [[channel]]: channel \"ops\": url is not an address that begins with \
         http:// or https://\n"
    );
}
