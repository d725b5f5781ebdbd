//! HTTP/1.1 over one kept-alive connection, no more than these measurements need.
//!
//! A request is sent as one piece of bytes that was built before, so that the client costs little
//! beside the server on a machine with few cores. Answers have a length, are chunked, or are empty.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than any query here takes; a server that hangs ends the run.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection that is kept open from request to request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

/// A status and a whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// How a body ends.
#[derive(Clone, Copy)]
enum Ending {
    Length(usize),
    Chunks,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            line: String::new(),
        })
    }

    /// Sends a whole request, head and body, and reads the answer to its end.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.get_mut().write_all(request)?;
        let status = self.read_status()?;
        let ending = self.read_headers()?;
        let body = match ending {
            Ending::Length(length) => self.read_exactly(length)?,
            Ending::Chunks => self.read_chunks()?,
        };
        Ok(Answer { status, body })
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.exchange(request.as_bytes())
    }

    /// The result of an instant query at a time in milliseconds.
    pub(crate) fn query(&mut self, expr: &str, at_ms: i64) -> anyhow::Result<Vec<Value>> {
        let path = Path::new("/api/v1/query").with("query", expr);
        let answer = self.get(&path.with("time", &seconds(at_ms)).0)?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{expr}: {} {text}", answer.status);
        let mut answer: Value = serde_json::from_str(&text).context("an answer is JSON")?;
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            _ => Ok(Vec::new()),
        }
    }

    /// The one number that an instant query answers with; 0 when there is no data.
    pub(crate) fn number(&mut self, expr: &str, at_ms: i64) -> anyhow::Result<u64> {
        let series = self.query(expr, at_ms)?;
        let text = series.first().and_then(|one| one["value"][1].as_str());
        let number: f64 = text.unwrap_or("0").parse()?;
        Ok(number as u64)
    }

    fn read_line(&mut self) -> io::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.line.trim_end())
    }

    fn read_status(&mut self) -> io::Result<u16> {
        let line = self.read_line()?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line.to_owned()))
    }

    fn read_headers(&mut self) -> io::Result<Ending> {
        let mut ending = Ending::Length(0);
        loop {
            let line = self.read_line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else {
                return Ok(ending);
            };
            match (name, value.trim()) {
                ("content-length", length) => {
                    let length = length.parse().map_err(io::Error::other)?;
                    ending = Ending::Length(length);
                }
                ("transfer-encoding", "chunked") => ending = Ending::Chunks,
                _ => {}
            }
        }
    }

    fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.read_line()?, 16).map_err(io::Error::other)?;
            body.extend(self.read_exactly(size)?);
            self.read_line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// The path of a request with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Path(pub(crate) String);

impl Path {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        let pair = form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish();
        self.0.push_str(&pair);
        self
    }
}

/// Milliseconds as the API has times.
pub(crate) fn seconds(timestamp_ms: i64) -> String {
    format!("{}.{:03}", timestamp_ms / 1_000, timestamp_ms % 1_000)
}
