//! Servers under measurement as child processes: on one core or on all, with the addresses that they print, and what they used so far.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Context as _;

/// The core of the server under measurement.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load, and of whatever else is needed.
pub(crate) const LOAD_CORE: usize = 1;
/// Linux counts a process's time in hundredths of a second.
const TICKS: f64 = 100.0;
/// Connections are many, so that a child may have as many files open as it is allowed to have.
const RAISED: &str = r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#;

/// Where a server runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// On the core of servers under measurement.
    Measured,
    /// On the core of the load.
    Beside,
    /// On every core.
    Anywhere,
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Server {
    addresses: BTreeMap<String, SocketAddr>,
    child: Child,
    /// Kept, so that the child does not write into a closed pipe.
    #[expect(dead_code, reason = "it is kept")]
    out: Option<BufReader<ChildStdout>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// This program. Asked for first of all: the binaries are built later, which may put another file in its place.
pub(crate) fn own() -> anyhow::Result<&'static Path> {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    if OWN.get().is_none() {
        let own = std::env::current_exe()?;
        return Ok(OWN.get_or_init(|| own));
    }
    OWN.get().map(PathBuf::as_path).context("this program has a path")
}

/// A command that runs on one core and may have many connections.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "sh", "-c", RAISED]);
    command.arg(program);
    command
}

impl Server {
    /// A server in this place, once it has told where these listeners are.
    pub(crate) fn start<S: AsRef<OsStr>>(
        place: Place,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        listeners: &[&str],
    ) -> anyhow::Result<Self> {
        let command = match place {
            Place::Measured => pinned(SERVER_CORE, program),
            Place::Beside => pinned(LOAD_CORE, program),
            Place::Anywhere => Command::new(program),
        };
        Self::spawn(command, arguments, listeners)
    }

    /// The same, of a command that is made already.
    pub(crate) fn spawn<S: AsRef<OsStr>>(
        mut command: Command,
        arguments: impl IntoIterator<Item = S>,
        listeners: &[&str],
    ) -> anyhow::Result<Self> {
        let arguments: Vec<_> =
            arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COUNTERSIGN_") {
                command.env_remove(name);
            }
        }
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("taskset is needed (util-linux)")?;
        let mut out = BufReader::new(child.stdout.take().context("piped")?);
        let mut addresses = BTreeMap::new();
        let mut line = String::new();
        while !listeners.iter().all(|wanted| addresses.contains_key(*wanted)) {
            line.clear();
            if out.read_line(&mut line)? == 0 {
                drop(child.kill());
                drop(child.wait());
                anyhow::bail!("it ended before it listened: {arguments:?}");
            }
            if let Some((name, rest)) = line.split_once(" listening on http") {
                let address = rest.trim_start_matches('s').trim_start_matches("://").trim();
                addresses.insert(name.to_owned(), address.parse()?);
            }
        }
        Ok(Self { addresses, child, out: Some(out) })
    }

    /// A server that says nothing of where it listens: it was told.
    pub(crate) fn silent(
        mut command: Command,
        arguments: &[&str],
        (listener, address): (&str, SocketAddr),
    ) -> anyhow::Result<Self> {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let addresses = BTreeMap::from([(listener.to_owned(), address)]);
        Ok(Self { addresses, child: command.spawn()?, out: None })
    }

    /// The address of a listener that was waited for.
    pub(crate) fn address(&self, listener: &str) -> anyhow::Result<SocketAddr> {
        self.addresses.get(listener).copied().with_context(|| format!("no listener {listener}"))
    }

    /// Kills it at once, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

/// The time that a process has computed so far, in the system and outside of it.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let mut ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let mut next = || anyhow::Ok(ticks.next().context("utime and stime")??);
    Ok(Duration::from_secs_f64(f64::from(next()? + next()?) / TICKS))
}

/// The memory that a process has now, in KiB.
pub(crate) fn rss(pid: u32) -> anyhow::Result<u32> {
    status(pid, "VmRSS:")
}

/// How many files a process has open, and how many threads it has.
pub(crate) fn held(pid: u32) -> anyhow::Result<(usize, usize)> {
    let count =
        |what: &str| Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
    Ok((count("fd")?, count("task")?))
}

/// The most memory that a process ever had, in KiB.
pub(crate) fn peak(pid: u32) -> anyhow::Result<u32> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("memory is in kB")?;
    Ok(kib.trim().parse()?)
}
