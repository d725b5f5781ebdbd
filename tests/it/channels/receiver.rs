//! A receiver of notifications that answers as it is told, whatever that is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cutover::net::tls::{Identity, IdentityFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::contract::Check;

/// One request, read whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The value of a header; `None` if it is not there once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut request = Self {
            method: words.next()?,
            path: words.next()?,
            ..Self::default()
        };
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            let name = name.to_ascii_lowercase();
            request.headers.push((name, value.to_owned()));
        }
        let length = request.header("content-length")?.parse().ok()?;
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

/// What a receiver does with a request that keeps to its contract. One that does not is answered with 400
/// and what is wrong with it.
pub(super) enum Reply {
    /// Status, further header lines, body.
    Answer(u16, &'static str, String),
    /// All that was sent, in the body.
    Echo(u16),
    Silence,
    /// One byte of an answer after the other, too slowly.
    Trickle,
    /// Success, with a body that does not end.
    Endless,
    /// What is no HTTP.
    Garbage,
    Close,
}

/// Listens until the test ends.
pub(super) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// A receiver that gives these replies, one a request, and 500 afterwards.
    pub(super) fn start(check: Check, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            let mut replies = replies.into_iter();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(request) = Request::read(&stream) else {
                    continue;
                };
                seen.lock().unwrap().push(request.clone());
                let none = || Reply::Answer(500, "", "no reply is left".to_owned());
                let reply = match check(&request) {
                    Ok(()) => replies.next().unwrap_or_else(none),
                    Err(reason) => Reply::Answer(400, "", format!("contract: {reason}")),
                };
                // A client that has gone is no concern of the receiver's.
                thread::spawn(move || drop(answer(stream, &request, reply)));
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let (status, headers, body) = match reply {
        Reply::Answer(status, headers, body) => (status, headers, body),
        Reply::Echo(status) => {
            let headers = request.headers.iter();
            let headers: Vec<_> = headers
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            let body = String::from_utf8_lossy(&request.body);
            let text = format!("{} {} {body}", request.path, headers.join(" "));
            (status, "", text)
        }
        Reply::Silence => {
            // Until the client gives up.
            return stream.read(&mut [0]).map(drop);
        }
        Reply::Trickle => {
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
                .iter()
                .cycle()
            {
                stream.write_all(&[*byte])?;
                thread::sleep(Duration::from_millis(100));
            }
            return Ok(());
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        Reply::Garbage => {
            return stream.write_all(b"\0\xff220 smtp.example ESMTP\r\n\r\n");
        }
        Reply::Close => return Ok(()),
    };
    write!(
        stream,
        "HTTP/1.1 {status} Reason\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// A receiver over TLS that says yes to everything; its URL.
pub(super) fn start_tls(files: &IdentityFiles) -> String {
    let acceptor = Identity::load(files).unwrap().acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut seen = Vec::new();
                // The message ends with a brace, and so does none of its reads before.
                while !seen.ends_with(b"]}") {
                    let read = stream.read_buf(&mut seen).await;
                    if !read.is_ok_and(|bytes| bytes > 0) {
                        break;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                if stream.write_all(answer).await.is_ok() {
                    // The client may have closed it already.
                    drop(stream.shutdown().await);
                }
            }
        });
    });
    format!("https://localhost:{port}")
}
