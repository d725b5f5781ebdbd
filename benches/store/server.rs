//! The three programs: how each is started, stopped and accounted for.
//!
//! All of them listen on a free port of loopback and write to a directory of the caller's. Settings
//! are those that a program comes with, apart from what the comparison cannot do without; each such
//! setting has its reason here.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Connection;
use crate::machine::first_number;

/// How often a starting server is asked.
pub(crate) const POLL: Duration = Duration::from_millis(2);
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Linux counts the time of processes in these for every program that reads `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Cutover,
    Prometheus,
    VictoriaMetrics,
}

impl Program {
    pub(crate) const ALL: [Self; 3] = [Self::Cutover, Self::Prometheus, Self::VictoriaMetrics];

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "cutover" => Ok(Self::Cutover),
            "prometheus" => Ok(Self::Prometheus),
            "victoria-metrics" | "victoriametrics" => Ok(Self::VictoriaMetrics),
            _ => Err("cutover, prometheus or victoria-metrics".to_owned()),
        }
    }

    /// The programs to measure: those asked for, all when there are none, that are installed.
    pub(crate) fn installed(only: &[Self]) -> Vec<Self> {
        let asked = |program: &Self| only.is_empty() || only.contains(program);
        let (installed, missing): (Vec<_>, Vec<_>) = Self::ALL
            .into_iter()
            .filter(asked)
            .partition(|program| program.is_installed());
        for program in missing {
            let (name, binary) = (program.name(), program.binary());
            println!("{name} is left out: {binary} is not installed.\n");
        }
        installed
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cutover => "cutover",
            Self::Prometheus => "Prometheus",
            Self::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Cutover => env!("CARGO_BIN_EXE_cutover"),
            Self::Prometheus => "/usr/bin/prometheus",
            Self::VictoriaMetrics => "/usr/bin/victoria-metrics",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        Path::new(self.binary()).is_file()
    }

    /// Of the peers as Debian's package has it: not every build of theirs tells.
    pub(crate) fn version(self) -> String {
        let package = match self {
            Self::Cutover => return env!("CARGO_PKG_VERSION").to_owned(),
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        };
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", package])
            .output();
        let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
        let text = String::from_utf8_lossy(&text);
        let version = text.split(['+', '-']).next().unwrap_or_default();
        version.to_owned()
    }

    fn ready_path(self) -> &'static str {
        match self {
            Self::Cutover | Self::Prometheus => "/-/ready",
            Self::VictoriaMetrics => "/health",
        }
    }

    fn command(self, dir: &Path, address: SocketAddr) -> io::Result<Command> {
        let mut command = Command::new(self.binary());
        let data = data_dir(dir);
        match self {
            Self::Cutover => {
                for (name, _) in std::env::vars() {
                    if name.starts_with("CUTOVER_") || name.starts_with("XDG_") {
                        command.env_remove(name);
                    }
                }
                command.env("HOME", "/nonexistent");
                command.args(["--log-level", "error", "serve", "--data"]);
                command.arg(data).arg("--listen").arg(address.to_string());
            }
            Self::Prometheus => {
                let config = dir.join("prometheus.yml");
                fs::write(&config, "global: {}\n")?;
                command
                    .arg(format!("--config.file={}", config.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()))
                    .arg(format!("--web.listen-address={address}"))
                    .arg("--web.enable-remote-write-receiver")
                    .arg("--log.level=error");
            }
            Self::VictoriaMetrics => {
                command
                    .arg(format!("-storageDataPath={}", data.display()))
                    .arg(format!("-httpListenAddr={address}"))
                    // By default the newest 30 s are not shown, which would be measured as a delay.
                    .arg("-search.latencyOffset=0s")
                    .arg("-loggerLevel=ERROR");
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }
}

/// Where a program's data lies in the directory of a measurement.
pub(crate) fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// A running program, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program and waits until it says that it is ready.
    pub(crate) fn start(program: Program, dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(program, dir, &[])
    }

    /// The same, with more of an environment.
    pub(crate) fn start_with(
        program: Program,
        dir: &Path,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::spawn_with(program, dir, environment)?.until_ready(program)
    }

    /// The same, with more arguments.
    pub(crate) fn start_with_arguments(
        program: Program,
        dir: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let adapt = |command: &mut Command| {
            command.args(arguments);
        };
        Self::spawn_adapted(program, dir, adapt)?.until_ready(program)
    }

    fn until_ready(self, program: Program) -> anyhow::Result<Self> {
        let begun = crate::now();
        while begun.elapsed() < START_TIMEOUT {
            let answer =
                Connection::open(self.address).and_then(|mut it| it.get(program.ready_path()));
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(self);
            }
            thread::sleep(POLL);
        }
        bail!("{} is not ready after {START_TIMEOUT:?}", program.name())
    }

    /// Starts a program without waiting for it.
    pub(crate) fn spawn(program: Program, dir: &Path) -> anyhow::Result<Self> {
        Self::spawn_with(program, dir, &[])
    }

    /// The same, with more of an environment.
    pub(crate) fn spawn_with(
        program: Program,
        dir: &Path,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::spawn_adapted(program, dir, |command| {
            command.envs(environment.iter().copied());
        })
    }

    fn spawn_adapted(
        program: Program,
        dir: &Path,
        adapt: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = program.command(dir, address)?;
        adapt(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("{} does not start", program.binary()))?;
        Ok(Self { child, address })
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address).context("the server does not listen")
    }

    /// Processor time used so far, in user and kernel mode.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is a name in parentheses that may hold spaces; utime and stime are the
        // fields 14 and 15.
        let (_, after_name) = stat.rsplit_once(')').context("a line of /proc/PID/stat")?;
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
    }

    /// The most memory that was resident at any time.
    pub(crate) fn memory_bytes_peak(&self) -> anyhow::Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// The memory that is resident now.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, name: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = first_number(&status, name).with_context(|| name.to_owned())?;
        Ok(kib << 10)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits until it has; answers how long that took.
    pub(crate) fn stop(mut self) -> anyhow::Result<Duration> {
        let begun = crate::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while begun.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "it stopped with {status}");
                return Ok(begun.elapsed());
            }
            thread::sleep(POLL);
        }
        bail!("it has not stopped {STOP_TIMEOUT:?} after SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The blocks that the files below a directory take on the disk.
pub(crate) fn allocated_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let size = entry.metadata().and_then(|metadata| {
            let own = metadata.blocks() * 512;
            let below = metadata.is_dir().then(|| allocated_bytes(&entry.path()));
            Ok(own + below.transpose()?.unwrap_or(0))
        });
        match size {
            Ok(size) => bytes += size,
            // A file may go while its directory is read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
