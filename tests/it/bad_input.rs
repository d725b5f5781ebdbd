//! Bad input to the real binary: one clear error each, an exit code that is not 0 where it can't go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Server, cutover, file, free_address, output, request, skip, wait_for};

/// Runs `serve` where it has to refuse; answers its exit code and what it said.
fn refused(config: Option<&Path>, data: &Path) -> (Option<i32>, String) {
    let mut command = cutover();
    command
        .arg("serve")
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let output = output(&mut command);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn refused_config(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "cutover.toml", text);
    let (code, said) = refused(Some(&config), &dir.path().join("data"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        !dir.path().join("data/wal.redb").exists(),
        "nothing is made before the check"
    );
    said
}

#[test]
fn an_unknown_key_is_named_with_line_column_and_the_nearest() {
    let said = refused_config("[kafka]\nbrokers = \"a:1\"\ntopic = [\"x\"]\n");
    assert!(
        said.contains("cutover.toml:3:1: unknown key `topic`, did you mean `topics`?"),
        "{said}"
    );
}

#[test]
fn a_wrong_type_is_named_with_line_and_column() {
    let said = refused_config("[server]\nlisten = 9490\n");
    assert!(said.contains("cutover.toml:2:10: "), "{said}");
}

#[test]
fn an_empty_topic_pattern_is_refused() {
    let said = refused_config("[kafka]\nbrokers = \"a:1\"\ntopics = [\"\"]\n");
    assert!(said.contains("topic") && said.contains("empty"), "{said}");
    let said = refused_config("[kafka]\nbrokers = \"a:1\"\ntopics = []\n");
    assert!(said.contains("topics"), "{said}");
}

#[test]
fn a_configuration_file_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = refused(Some(&dir.path().join("no.toml")), dir.path());
    assert_eq!(code, Some(2));
    assert!(said.contains("no.toml"), "{said}");
}

#[test]
fn a_data_directory_in_use_names_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), None, &[]);
    let (code, said) = refused(None, dir.path());
    assert_eq!(code, Some(1));
    assert!(said.contains(&server.pid().to_string()), "{said}");
    assert!(said.contains(&server.address.to_string()), "{said}");
}

#[test]
fn an_address_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("a"), None, &[]);
    let listen = server.address.to_string();
    let second = output(
        cutover()
            .args(["serve", "--listen", &listen, "--data"])
            .arg(dir.path().join("b")),
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&listen));
}

#[test]
fn a_data_directory_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = file(dir.path(), "data", "not a directory");
    let (code, said) = refused(None, &data);
    assert_eq!(code, Some(1));
    assert!(said.contains(&data.display().to_string()), "{said}");
}

/// Whether this process may make mounts of its own.
fn can_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_read_only_data_directory_is_named() {
    let test = "a_read_only_data_directory_is_named";
    if !can_mount() {
        return skip(test, "mounts cannot be made (needs root)");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs none {dir} && mount -o remount,ro {dir} && exec {program} serve --listen 127.0.0.1:0 --data {dir}",
        dir = dir.path().display(),
        program = env!("CARGO_BIN_EXE_cutover"),
    );
    let output = output(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
    assert!(said.to_lowercase().contains("read-only"), "{said}");
}

/// Sends samples as text; the whole answer.
fn import(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = text.len();
    write!(
        stream,
        "POST /api/v1/import/prometheus HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let test = "a_full_disk_refuses_writes_serves_reads_and_recovers";
    if !can_mount() {
        return skip(test, "mounts cannot be made (needs root)");
    }
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let script = format!(
        "mount -t tmpfs -o size=64m none {dir} && exec {program} serve --listen {address} --data {dir}",
        dir = dir.path().display(),
        program = env!("CARGO_BIN_EXE_cutover"),
    );
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the server is ready", Duration::from_secs(30), || {
        request(address, "GET", "/-/ready", "").filter(|(status, _)| *status == 200)
    });
    let create = |id: &str| {
        request(
            address,
            "POST",
            "/api/v1/migrations",
            &format!("{{\"id\":\"{id}\"}}"),
        )
        .unwrap()
    };
    assert!(create("before").0 < 300, "{:?}", create("before"));

    // The mount is another namespace's: the process' own root shows it.
    let filler = format!("/proc/{}/root{}/filler", child.id(), dir.path().display());
    let space = vec![0_u8; 1 << 20];
    let mut filling = std::fs::File::create(&filler).unwrap();
    while filling.write_all(&space).is_ok() {}
    drop(filling);
    let (status, body) = create("during");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains(&dir.path().display().to_string()), "{body}");
    let import = || import(address, "written 1\n");
    let answer = import();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nretry-after: "),
        "{answer}"
    );
    let (status, body) = request(address, "GET", "/api/v1/migrations/before", "").unwrap();
    assert_eq!(status, 200, "{body}");

    std::fs::remove_file(&filler).unwrap();
    wait_for("writes are accepted again", Duration::from_secs(20), || {
        (create("after").0 < 300).then_some(())
    });
    let answer = import();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn clients_say_when_no_server_answers() {
    let address = free_address();
    for command in [vec!["query", "up"], vec!["dead-letters"]] {
        let server = format!("http://{address}");
        let output = output(cutover().args(&command).args(["--server", &server]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&server), "{said}");
    }
}
