//! A server that reads requests and drops them: how fast the client alone is.
//!
//! When a program's rate comes near the client's, it is the client that was measured.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::send;
use crate::workload::Workload;

/// One line: the client's rate with 1 and with 4 connections.
pub(crate) fn describe(workload: &Workload) -> anyhow::Result<String> {
    let mut rates = Vec::new();
    for connections in [1, 4] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let sent = thread::scope(|scope| {
            scope.spawn(|| serve(&listener, connections));
            send::ingest(address, workload, connections)
        })?;
        rates.push(sent.samples_per_second() / 1e6);
    }
    Ok(format!(
        "The client alone, into a server that reads and drops: {:.1} M samples/s with 1 connection, \
         {:.1} M with 4.",
        rates[0], rates[1]
    ))
}

/// Answers so many connections until each is closed.
fn serve(listener: &TcpListener, connections: usize) {
    thread::scope(|scope| {
        for _ in 0..connections {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            // A connection that breaks is an error of the client's side.
            scope.spawn(move || drop(answer_all(stream)));
        }
    });
}

fn answer_all(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.strip_prefix("Content-Length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        } else if line.trim_end().is_empty() {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        }
    }
}
