//! TLS on the real binary: certificates and tokens as clients meet them, and what SIGHUP changes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cutover::client::{Access, Client};
use cutover::net::secret::Secret;
use cutover::net::tls::Trust;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::support::{Server, cutover, file, free_address, output, request, wait_for};

/// Writes a certificate for `localhost` that is its own authority, and its key.
fn write_identity(dir: &Path) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
}

/// Makes a token; its file and the lines of configuration for it.
fn new_token(dir: &Path, name: &str, scopes: &[&str]) -> (PathBuf, String) {
    let path = dir.join(name);
    let mut command = cutover();
    command
        .args(["token", "new", "--name", name, "--out"])
        .arg(&path);
    for scope in scopes {
        command.args(["--scope", scope]);
    }
    let made = output(&mut command);
    assert!(made.status.success(), "{made:?}");
    (path, String::from_utf8(made.stdout).unwrap())
}

fn config(dir: &Path, tokens: &str) -> PathBuf {
    let dir_shown = dir.display();
    let text = format!(
        "[server]\ntls_cert_file = '{dir_shown}/cert.pem'\n\
         tls_key_file = '{dir_shown}/key.pem'\n{tokens}"
    );
    file(dir, "cutover.toml", text)
}

/// `cutover query` against the server, with what more is given.
fn query(address: SocketAddr, more: &[&Path]) -> Output {
    let url = format!("https://localhost:{}", address.port());
    let mut command = cutover();
    command.args(["query", "1+1", "--server", &url]);
    for (flag, path) in ["--ca-file", "--token-file"].iter().zip(more) {
        command.arg(flag).arg(path);
    }
    output(&mut command)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the parts of the server say about themselves.
fn health(address: SocketAddr, ca: &Path, token: &Path) -> String {
    let access = Access {
        token: Some(Secret::load(token).unwrap()),
        trust: Trust::File(ca.to_owned()),
    };
    let url = format!("https://localhost:{}", address.port());
    let client = Client::connect_with(&url, &access).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let health = runtime.unwrap().block_on(client.health()).unwrap();
    format!("{:?}", health.parts)
}

fn hang_up(server: &Server) {
    let pid = server.pid().to_string();
    let told = Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(told.success());
}

#[test]
fn a_server_speaks_tls_and_takes_new_certificates_and_tokens_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_identity(dir);
    let ca = dir.join("cert.pem");
    let (reader, reader_lines) = new_token(dir, "reader", &["read"]);
    let (writer, writer_lines) = new_token(dir, "writer", &["write"]);
    let config_path = config(dir, &reader_lines);
    let address = free_address();
    let server = Server::start_at(address, &dir.join("data"), Some(&config_path), &[]);
    wait_for("the server answers", Duration::from_secs(30), || {
        query(address, &[&ca, &reader])
            .status
            .success()
            .then_some(())
    });

    // No authority, no token, an unknown token: each is told by name.
    let untrusted = query(address, &[]);
    assert_eq!(untrusted.status.code(), Some(3), "{}", said(&untrusted));
    assert!(
        said(&untrusted).contains("--ca-file"),
        "{}",
        said(&untrusted)
    );
    let nobody = query(address, &[&ca]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        said(&nobody).contains("Authorization: Bearer"),
        "{}",
        said(&nobody)
    );
    let unknown = query(address, &[&ca, &writer]);
    assert!(said(&unknown).contains("not known"), "{}", said(&unknown));

    // HTTP in clear is told what it met.
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert!(answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"));

    // A file that cannot be used changes nothing; it is told in the server's health.
    config(
        dir,
        "[[server.token]]\nname = \"x\"\nsha256 = \"1\"\nscopes = [\"read\"]\n",
    );
    hang_up(&server);
    wait_for("the refusal shows", Duration::from_secs(10), || {
        let health = health(address, &ca, &reader);
        health.contains("64 hexadecimal digits").then_some(())
    });
    assert!(query(address, &[&ca, &reader]).status.success());

    // Another certificate and another token.
    let old_ca = dir.join("old.pem");
    fs::copy(&ca, &old_ca).unwrap();
    write_identity(dir);
    config(dir, &writer_lines);
    hang_up(&server);
    wait_for(
        "the new certificate is shown",
        Duration::from_secs(10),
        || {
            said(&query(address, &[&ca, &writer]))
                .contains("lacks the scope")
                .then_some(())
        },
    );
    assert_eq!(query(address, &[&old_ca, &writer]).status.code(), Some(3));
    assert!(said(&query(address, &[&ca, &reader])).contains("not known"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn certificates_and_tokens_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let refused = |text: &str| {
        let config = file(dir, "bad.toml", text);
        let mut command = cutover();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(config);
        let output = output(command.arg("--data").arg(dir.join("data")));
        (output.status.code(), said(&output))
    };
    let absent = dir.join("absent.pem").display().to_string();
    for (text, reason) in [
        (
            "[server]\ntls_cert_file = \"a\"\n".to_owned(),
            "tls_key_file",
        ),
        (
            format!("[server]\ntls_cert_file = {absent:?}\ntls_key_file = {absent:?}\n"),
            &*absent,
        ),
        (
            "[[server.token]]\nname = \"ci\"\nsha256 = \"12\"\nscopes = [\"read\"]\n".to_owned(),
            "\"ci\": sha256 is 64",
        ),
        (
            "[[server.token]]\nname = \"ci\"\nsha256 = \"12\"\nscopes = [\"reed\"]\n".to_owned(),
            "`reed`",
        ),
    ] {
        let (code, said) = refused(&text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn a_token_is_printed_once_with_the_lines_that_let_it_in() {
    let made = output(cutover().args(["token", "new", "--scope", "read"]));
    let text = String::from_utf8(made.stdout).unwrap();
    let (token, lines) = text.split_once("\n\n").unwrap();
    assert!(
        token.starts_with("cutover_") && token.len() == 51,
        "{token}"
    );
    let lines: toml::Table = lines.parse().unwrap();
    let entry = &lines["server"]["token"][0];
    assert_eq!(entry["name"].as_str(), Some("read"));
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "token", token);
    let sum = output(Command::new("sha256sum").arg(&path));
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(entry["sha256"].as_str(), sum.split(' ').next());
    let again = output(
        cutover()
            .args(["token", "new", "--scope", "read", "--out"])
            .arg(&path),
    );
    assert_eq!(again.status.code(), Some(1), "a file is not overwritten");
}

#[test]
fn tokens_are_not_logged_at_any_level() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (reader, lines) = new_token(dir, "reader", &["read"]);
    let known = fs::read_to_string(reader).unwrap();
    let unknown = "cutover_nobody-knows-this-one";
    let log = fs::File::create(dir.join("log")).unwrap();
    let address = free_address();
    let mut server = cutover()
        .args([
            "serve",
            "--log-level",
            "trace",
            "--listen",
            &address.to_string(),
        ])
        .arg("--config")
        .arg(file(dir, "cutover.toml", &lines))
        .arg("--data")
        .arg(dir.join("data"))
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for("the server answers", Duration::from_secs(30), || {
        request(address, "GET", "/-/ready", "").filter(|(status, _)| *status == 200)
    });
    let answer = |authorization: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET /api/v1/labels HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: {authorization}\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let known = known.trim();
    for (authorization, status) in [
        (format!("Bearer {known}"), "HTTP/1.1 200 "),
        (format!("Bearer {unknown}"), "HTTP/1.1 401 "),
        (format!("Token {known}"), "HTTP/1.1 401 "),
    ] {
        let answer = answer(&authorization);
        assert!(answer.starts_with(status), "{answer}");
        assert!(
            !answer.contains(known) && !answer.contains(unknown),
            "{answer}"
        );
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("listening on http://"), "{log}");
    assert!(!log.contains(known) && !log.contains(unknown));
}
