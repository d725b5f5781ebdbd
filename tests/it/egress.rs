//! Nothing leaves the host: the demo in a network namespace that has loopback alone, its system calls
//! traced.

use std::path::Path;
use std::process::Command;

use crate::support::{cutover, file, output, skip};

/// What the trace must show no trace of, beside connections that leave loopback.
/// (glibc asks nscd for the interfaces' addresses whenever an address is parsed: that is no look-up.)
const LOOK_UPS: [&str; 4] = [
    "resolv.conf",
    "/etc/hosts",
    "nsswitch.conf",
    "systemd-resolve",
];

fn available(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A call to an address other than loopback, or to a name server.
fn leaves(line: &str) -> bool {
    let inet = line.contains("AF_INET");
    let loopback = line.contains("inet_addr(\"127.") || line.contains("\"::1\"");
    let name_server = line.contains("htons(53)");
    (inet && (!loopback || name_server)) || LOOK_UPS.iter().any(|name| line.contains(name))
}

#[test]
fn the_demo_reaches_for_nothing_beyond_loopback() {
    let test = "the_demo_reaches_for_nothing_beyond_loopback";
    if !available("strace", &["-V"]) || !available("ip", &["-V"]) {
        return skip(test, "strace and ip (iproute2) are needed");
    }
    if !available("unshare", &["--net", "true"]) {
        return skip(test, "a network namespace cannot be made (needs root)");
    }
    let dir = tempfile::tempdir().unwrap();
    let event = r#"{"topic":"s.public.t","key":null,"value":{"before":null,"after":{"id":1},"source":{"connector":"postgresql","name":"s","ts_ms":1,"schema":"public","table":"t"},"op":"c","ts_ms":2},"headers":[]}"#;
    let events = file(dir.path(), "events.ndjson", format!("{event}\n"));
    let trace = dir.path().join("trace");
    let program = cutover().get_program().to_owned();
    let traced = format!(
        "ip link set lo up && exec strace -f -qq -o {} -e trace=network,openat,open {} demo --headless \
         --listen 127.0.0.1:0 --events {} --exit-when-done",
        trace.display(),
        Path::new(&program).display(),
        events.display(),
    );
    let output = output(Command::new("unshare").args(["--net", "sh", "-c", &traced]));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("public.t"), "{stdout}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert!(
        trace.contains("127.0.0.1"),
        "the trace shows the loopback traffic"
    );
    let calls = [
        "connect(",
        "sendto(",
        "sendmsg(",
        "sendmmsg(",
        "bind(",
        "open",
    ];
    let left: Vec<_> = trace
        .lines()
        .filter(|line| calls.iter().any(|call| line.contains(call)) && leaves(line))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn an_address_beyond_loopback_needs_insecure() {
    let dir = tempfile::tempdir().unwrap();
    let refused = output(
        cutover()
            .args(["serve", "--listen", "0.0.0.0:0", "--data"])
            .arg(dir.path()),
    );
    assert_eq!(refused.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(
        stderr.contains("0.0.0.0") && stderr.contains("--insecure"),
        "{stderr}"
    );
}
