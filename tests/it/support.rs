//! What the tests of the real binary share: starting it, asking it, waiting for it, skipping aloud.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Says on standard error, past libtest's capture, that a test did not run, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    let notice = format!("skipped: {test}: {reason}\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
}

/// The `cutover` command with an environment that reads nothing of the machine's.
pub(crate) fn cutover() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    for (name, _) in std::env::vars() {
        if name.starts_with("CUTOVER_") || name.starts_with("XDG_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Runs a command that is expected to end by itself.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// Polls until `probe` answers, or panics with `what` after the time is up.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of a real process waits in real time"
)]
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running `cutover serve`, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port and waits until it is ready.
    pub(crate) fn start(data: &Path, config: Option<&Path>, more: &[&str]) -> Self {
        let server = Self::start_unready(data, config, more);
        wait_for("the server is ready", Duration::from_secs(30), || {
            server.get("/-/ready").filter(|(status, _)| *status == 200)
        });
        server
    }

    pub(crate) fn start_unready(data: &Path, config: Option<&Path>, more: &[&str]) -> Self {
        Self::start_at(free_address(), data, config, more)
    }

    /// Starts a server without waiting for it.
    pub(crate) fn start_at(
        address: SocketAddr,
        data: &Path,
        config: Option<&Path>,
        more: &[&str],
    ) -> Self {
        let mut command = cutover();
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .arg("--listen")
            .arg(address.to_string());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let child = command
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET`: the status and the body; `None` while the server does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        request(self.address, "GET", path, "")
    }

    /// The value of each series of an instant query, by its labels in the order asked for.
    pub(crate) fn query(&self, expr: &str, labels: &[&str]) -> Option<Vec<(Vec<String>, f64)>> {
        let path = format!("/api/v1/query?query={}", percent_encode(expr));
        let (status, body) = self.get(&path)?;
        assert_eq!(status, 200, "{expr}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let series = answer["data"]["result"].as_array()?.iter();
        Some(
            series
                .map(|series| {
                    let label = |name: &&str| {
                        series["metric"][*name]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned()
                    };
                    let value = series["value"][1].as_str().unwrap().parse().unwrap();
                    (labels.iter().map(label).collect(), value)
                })
                .collect(),
        )
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits until it has; answers its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One HTTP request on a connection of its own; `None` when the other side does not answer.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Some((
        status,
        if chunked {
            dechunk(body)
        } else {
            body.to_owned()
        },
    ))
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Writes a file into a directory and answers its path.
pub(crate) fn file(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
