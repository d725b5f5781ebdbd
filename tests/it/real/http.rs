//! The few requests that the tests make, without a client library of their own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// For each step of a request, not for the whole.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_str(&self.body).map_err(|error| {
            format!(
                "status {}, {error} in the reply {:?}",
                self.status, self.body
            )
        })
    }
}

/// Sends a JSON body, or none when it is empty.
pub(super) fn request(
    method: &str,
    address: SocketAddr,
    target: &str,
    body: &str,
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // In HTTP/1.0 a reply ends with its connection and never comes in chunks.
    let request = format!(
        "{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let reply = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = body.to_owned();
        Some(Reply { status, body })
    });
    reply.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no reply: {text:?}")))
}

/// A value for the query part of a target.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
