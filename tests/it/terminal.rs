//! The dashboard in a real terminal, driven by tmux: it draws, answers keys, and leaves the terminal as
//! it found it.

use std::process::Command;
use std::time::Duration;

use crate::support::{Server, skip, wait_for};

/// A tmux server of its own, ended when it is dropped.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn start(name: &str, columns: u16, rows: u16, command: &str) -> Self {
        let tmux = Self {
            socket: format!("cutover-{name}-{}", std::process::id()),
        };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // A shell around it, so that what the terminal looks like afterwards can be seen.
        let command = format!("{command}; echo \"left with $?\"; cat");
        let size = ["new-session", "-d", "-x", &columns, "-y", &rows];
        assert!(
            tmux.run(&[&size[..], &["env", "TZ=UTC", "sh", "-c", &command]].concat())
                .is_some()
        );
        tmux
    }

    fn run(&self, args: &[&str]) -> Option<String> {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket, "-f", "/dev/null"])
            .args(args);
        let output = tmux.env("TERM", "xterm-256color").output().unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"]).unwrap_or_default()
    }

    fn press(&self, key: &str) {
        assert!(self.run(&["send-keys", key]).is_some());
    }

    fn wait_for(&self, text: &str) -> String {
        let shown = || Some(self.screen()).filter(|screen| screen.contains(text));
        wait_for(
            &format!("{text:?} is on the screen"),
            Duration::from_secs(20),
            || {
                shown().or_else(|| {
                    std::thread::sleep(Duration::from_millis(100));
                    None
                })
            },
        )
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

/// Clock ticks that a process has used, and how many there are in a second.
fn cpu_ticks(pid: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let hertz = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    (
        ticks,
        String::from_utf8_lossy(&hertz.stdout)
            .trim()
            .parse()
            .unwrap(),
    )
}

fn child_of(pid: u32) -> u32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(children).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_dashboard_lives_in_a_terminal_of_80x24_and_200x60() {
    let test = "the_dashboard_lives_in_a_terminal_of_80x24_and_200x60";
    if Command::new("tmux").arg("-V").output().is_err() {
        return skip(test, "tmux is needed");
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), None, &[]);
    let command = format!(
        "{} watch --server http://{}",
        env!("CARGO_BIN_EXE_cutover"),
        server.address
    );
    for (columns, rows) in [(80, 24), (200, 60)] {
        let tmux = Tmux::start(&format!("{columns}x{rows}"), columns, rows, &command);
        let screen = tmux.wait_for("No migrations");
        assert!(
            screen
                .lines()
                .all(|line| line.chars().count() <= usize::from(columns))
        );
        for key in ["2", "3", "4", "Escape", "1"] {
            tmux.press(key);
        }
        tmux.wait_for("No migrations");
        tmux.press("?");
        tmux.wait_for("─ Keys");
        tmux.press("Escape");
        tmux.press("q");
        tmux.wait_for("left with 0");
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_dashboard_recovers_when_the_server_comes_back() {
    let test = "the_dashboard_recovers_when_the_server_comes_back";
    if Command::new("tmux").arg("-V").output().is_err() {
        return skip(test, "tmux is needed");
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), None, &[]);
    let address = server.address;
    let command = format!(
        "{} watch --server http://{address}",
        env!("CARGO_BIN_EXE_cutover")
    );
    let tmux = Tmux::start("recovers", 100, 30, &command);
    tmux.wait_for("No migrations");
    server.kill();
    tmux.wait_for("isconnected");
    let server = Server::start_at(address, dir.path(), None, &[]);
    wait_for(
        "the dashboard is connected again",
        Duration::from_secs(30),
        || (!tmux.screen().contains("isconnected")).then_some(()),
    );
    tmux.press("q");
    tmux.wait_for("left with 0");
    drop(server);
}

#[test]
fn an_idle_dashboard_uses_under_two_percent_of_a_core() {
    let test = "an_idle_dashboard_uses_under_two_percent_of_a_core";
    if Command::new("tmux").arg("-V").output().is_err() {
        return skip(test, "tmux is needed");
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), None, &[]);
    let command = format!(
        "{} watch --server http://{}",
        env!("CARGO_BIN_EXE_cutover"),
        server.address
    );
    let tmux = Tmux::start("idle", 200, 60, &command);
    tmux.wait_for("No migrations");
    let shell: u32 = tmux
        .run(&["display", "-p", "#{pane_pid}"])
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let dashboard = child_of(shell);
    let (before, hertz) = cpu_ticks(dashboard);
    let watched = Duration::from_secs(10);
    std::thread::sleep(watched);
    let (after, _) = cpu_ticks(dashboard);
    let share = (after - before) as f64 / hertz as f64 / watched.as_secs_f64();
    assert!(share < 0.02, "{:.1} % of a core", share * 100.0);
}
