//! The mail itself: headers, a text part and an HTML part.
//!
//! All mails of a group name the same message that never was as the one they answer, by which mail readers
//! keep them together; a mail's own id is that of the notification, so that one that is sent twice is one.
//! Texts from labels and annotations are one line each before they get here, and escaped in HTML.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use crate::alert::channel::Error;
use crate::alert::channel::text::{self, Level};
use crate::alert::{Alert, Notification, Status};

/// Alerts of a mail.
const ALERTS_MAX: usize = 100;
/// What machines write: no holiday notice is an answer to it (RFC 3834).
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// The mail as it is sent.
pub(super) fn compose(
    notification: &Notification,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<Vec<u8>, Error> {
    let domain = from.email.domain();
    let id = text::hex(notification.id);
    let group = format!("<group.{}@{domain}>", text::group_id(notification));
    let since_1970 = text::within_years(notification.at).ms().unsigned_abs();
    let automatic = HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned());
    let mut mail = Message::builder()
        .from(from.clone())
        .subject(text::title(notification))
        .date(UNIX_EPOCH + Duration::from_millis(since_1970))
        .message_id(Some(format!("<notification.{id}@{domain}>")))
        .in_reply_to(group.clone())
        .references(group)
        .raw_header(automatic);
    for mailbox in to {
        mail = mail.to(mailbox.clone());
    }
    let parts = MultiPart::alternative_plain_html(plain(notification), html(notification));
    let mail = mail
        .multipart(parts)
        .map_err(|error| Error::never(format!("the mail cannot be written: {error}")))?;
    Ok(mail.formatted())
}

/// What an alert has to say below its heading, a line each.
fn lines(alert: &Alert, notification: &Notification) -> Vec<String> {
    let facts = text::facts(alert, &notification.group_labels).join(", ");
    let link = text::line(&alert.generator_url, 2_000);
    let lines = [
        text::sentence(alert),
        text::description(alert),
        facts,
        text::times(alert),
        link,
    ];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

fn plain(notification: &Notification) -> String {
    let mut text = format!("{}\n", text::title(notification));
    for alert in notification.alerts.iter().take(ALERTS_MAX) {
        text.push_str(&format!("\n{}\n", text::heading(alert)));
        for line in lines(alert, notification) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    for line in closing(notification) {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

fn html(notification: &Notification) -> String {
    let title = escape(&text::title(notification));
    let mut html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body style=\"font-family:sans-serif\">\n<h2>{title}</h2>\n"
    );
    for alert in notification.alerts.iter().take(ALERTS_MAX) {
        let (color, heading) = (color(alert), escape(&text::heading(alert)));
        html.push_str(&format!(
            "<div style=\"border-left:4px solid {color};padding-left:8px;margin:12px 0\">\n\
             <b style=\"color:{color}\">{heading}</b>\n"
        ));
        for line in lines(alert, notification) {
            html.push_str(&format!("<br>{}\n", link_or_text(&line)));
        }
        html.push_str("</div>\n");
    }
    for line in closing(notification) {
        html.push_str(&format!("<p>{}</p>\n", link_or_text(&line)));
    }
    html.push_str("</body></html>\n");
    html
}

/// How many alerts are left out, and where all of them are.
fn closing(notification: &Notification) -> Vec<String> {
    let more = text::more(notification, ALERTS_MAX);
    let url = text::line(&notification.external_url, 2_000);
    [more, url]
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect()
}

fn link_or_text(line: &str) -> String {
    let text = escape(line);
    if line.starts_with("http://") || line.starts_with("https://") {
        format!("<a href=\"{text}\">{text}</a>")
    } else {
        text
    }
}

fn color(alert: &Alert) -> &'static str {
    match (alert.status(), Level::of(alert)) {
        (Status::Resolved, _) => "#2e7d32",
        (_, Level::Info) => "#1565c0",
        (_, Level::Warning) => "#b26a00",
        (_, Level::Error | Level::Critical) => "#c62828",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::channel::tests::notification;

    fn composed(notification: &Notification) -> String {
        let from = "Cutover <ops@b.example>".parse().unwrap();
        let to = ["c@d.example", "E <e@f.example>"].map(|text| text.parse().unwrap());
        String::from_utf8(compose(notification, &from, &to).unwrap()).unwrap()
    }

    fn header<'a>(mail: &'a str, name: &str) -> &'a str {
        let start = format!("{name}: ");
        let found: Vec<_> = mail
            .lines()
            .filter_map(|line| line.strip_prefix(&start))
            .collect();
        assert_eq!(found.len(), 1, "{name} in {mail}");
        found[0]
    }

    #[test]
    fn mails_of_a_group_are_a_thread_and_each_has_an_id_of_its_own() {
        let mut all = notification();
        let first = composed(&all);
        assert_eq!(
            header(&first, "Message-ID"),
            "<notification.000000000000feed@b.example>"
        );
        assert_eq!(header(&first, "References"), header(&first, "In-Reply-To"));
        assert_eq!(header(&first, "Date"), "Thu, 26 Nov 2026 03:05:00 +0000");
        assert_eq!(header(&first, "To"), "c@d.example, E <e@f.example>");
        assert_eq!(header(&first, "Auto-Submitted"), "auto-generated");
        all.id += 1;
        all.alerts.truncate(1);
        let second = composed(&all);
        assert_eq!(
            header(&second, "Message-ID"),
            "<notification.000000000000feee@b.example>"
        );
        assert_eq!(header(&second, "References"), header(&first, "References"));
        all.group_key.push('x');
        assert_ne!(
            header(&composed(&all), "References"),
            header(&first, "References")
        );
    }

    #[test]
    fn labels_become_neither_headers_nor_markup() {
        let mut all = notification();
        let wild = "shop\r\nBcc: everybody@d.example\r\n\r\n<script>\"&";
        all.group_labels
            .insert("migration_id".to_owned(), wild.to_owned());
        all.alerts[0]
            .annotations
            .insert("summary".to_owned(), wild.to_owned());
        all.at = crate::model::Timestamp::MAX;
        let mail = composed(&all);
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(head.contains("\r\nSubject: "), "{head}");
        assert!(!html(&all).contains("<script>"), "{}", html(&all));
        assert!(
            html(&all).contains("&lt;script&gt;&quot;&amp;"),
            "{}",
            html(&all)
        );
    }

    #[test]
    fn the_text_part_says_all_that_there_is_to_say() {
        let expected = "[FIRING 2, RESOLVED 1] shop: high_error_rate (critical), low_throughput (warning)\n\
            \nCRITICAL high_error_rate\n  2.3 % of rows fail\n  Most of them are duplicate keys.\n  \
            table=orders\n  since 2026-11-26 03:00:00 UTC\n  http://cutover:9490/graph?a=1\n\
            \nWARNING low_throughput\n  The lag is over 60 s\n  table=orders\n  \
            since 2026-11-26 02:58:00 UTC\n\
            \nRESOLVED lag\n  The lag is over 60 s\n  table=orders\n  \
            from 2026-11-26 02:58:00 UTC to 2026-11-26 03:04:00 UTC\n\
            \nhttp://cutover:9490\n";
        assert_eq!(plain(&notification()), expected);
    }
}
