//! Child processes: started on free ports, asked for their addresses, killed when the test ends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use crate::{binaries, wait_until};

const RESPONDER: &str = "countersign-responder";

/// A running binary of ours.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    seen: Arc<Mutex<Seen>>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    listening: BTreeMap<String, SocketAddr>,
    text: String,
}

impl Process {
    /// Starts a binary. What it prints is kept for failures.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(binary: &str, arguments: I) -> Self {
        Self::start_in(binary, arguments, &[])
    }

    /// The same with more variables.
    pub fn start_in<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        binary: &str,
        arguments: I,
        variables: &[(String, String)],
    ) -> Self {
        Self::spawn(binary, command(binary), arguments, variables)
    }

    /// Starts a program of the system, which starts one of ours.
    pub fn start_program<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        program: &str,
        arguments: I,
        variables: &[(String, String)],
    ) -> Self {
        Self::spawn(program, clean(Command::new(program)), arguments, variables)
    }

    fn spawn<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        name: &str,
        mut command: Command,
        arguments: I,
        variables: &[(String, String)],
    ) -> Self {
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its usual port is one for the whole machine.
        command.env("COUNTERSIGN_UI_LISTEN", "none");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the program starts");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let readers = vec![
            follow(child.stdout.take().expect("piped"), Arc::clone(&seen)),
            follow(child.stderr.take().expect("piped"), Arc::clone(&seen)),
        ];
        Self { name: name.to_owned(), child, seen, readers }
    }

    /// The address of one of its listeners, once it says `<listener> listening on http://…`.
    pub async fn address(&mut self, listener: &str) -> SocketAddr {
        let seen = Arc::clone(&self.seen);
        let child = &mut self.child;
        let name = &self.name;
        wait_until(&format!("{name} listens ({listener})"), || {
            let found = seen.lock().unwrap().listening.get(listener).copied();
            if found.is_none()
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("{name} ended with {status}: {}", seen.lock().unwrap().text);
            }
            async move { found }
        })
        .await
    }

    /// Its id to the system.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.seen.lock().unwrap().text.clone()
    }

    /// Kills it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it, if it is still there, and returns all that it printed.
    #[must_use]
    pub fn finish(mut self) -> String {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        self.text()
    }

    /// Asks it to end, as an orchestrator does, and waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_until("the process ends", || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} printed:\n{}", self.name, self.text());
        }
    }
}

fn follow(stream: impl std::io::Read + Send + 'static, seen: Arc<Mutex<Seen>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut seen = seen.lock().unwrap();
            if let Some((listener, rest)) = line.split_once(" listening on http")
                && let Some(rest) = rest.trim_start_matches('s').strip_prefix("://")
                && let Ok(address) = rest.split_whitespace().next().unwrap_or_default().parse()
            {
                seen.listening.insert(listener.trim().to_owned(), address);
            }
            seen.text.push_str(&line);
            seen.text.push('\n');
        }
    })
}

/// Runs a binary to its end.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(binary: &str, arguments: I) -> Finished {
    Finished(command(binary).args(arguments).output().expect("the binary starts"))
}

/// The same with more variables.
pub fn run_in<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
    binary: &str,
    arguments: I,
    variables: &[(String, String)],
) -> Finished {
    let mut command = command(binary);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Finished(command.args(arguments).output().expect("the binary starts"))
}

/// A binary that hears nothing of the settings of whoever runs the tests.
fn command(binary: &str) -> Command {
    clean(Command::new(binaries::path(binary)))
}

fn clean(mut command: Command) -> Command {
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("COUNTERSIGN_")
            || name.starts_with("AWS_")
            || name.starts_with("PG")
            || ["COLUMNS", "LINES", "RUST_LOG"].contains(&&*name)
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// How a process ended and what it printed.
#[derive(Debug)]
pub struct Finished(Output);

impl Finished {
    /// Runs a program that is not ours to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.output().expect("the program starts"))
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// What it printed on both streams.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{}{}",
            String::from_utf8_lossy(&self.0.stdout),
            String::from_utf8_lossy(&self.0.stderr)
        )
    }

    /// What it printed for programs.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// The same, asserting that it ended well.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code(), 0, "{}", self.text());
        self
    }
}

/// A control plane on a free port.
pub fn control_plane(data_dir: &Path, listen: &str) -> Process {
    Process::start(
        "countersign-control-plane",
        ["--listen", listen, "--data-dir", &data_dir.to_string_lossy()],
    )
}

/// A responder on free ports.
pub fn responder(
    name: &str,
    control_plane: SocketAddr,
    secret_dir: &Path,
    cache_dir: Option<&PathBuf>,
) -> Process {
    Process::start(RESPONDER, responder_arguments(name, control_plane, secret_dir, cache_dir))
}

/// The same with more flags and variables, started by a program of the system where one is given with its first arguments.
pub fn responder_by(
    before: &[String],
    mut arguments: Vec<String>,
    flags: &[String],
    variables: &[(String, String)],
) -> Process {
    arguments.extend_from_slice(flags);
    let Some((program, first)) = before.split_first() else {
        return Process::start_in(RESPONDER, arguments, variables);
    };
    let binary = binaries::path(RESPONDER).to_string_lossy().into_owned();
    Process::start_program(program, first.iter().chain([&binary]).chain(&arguments), variables)
}

/// What a responder on free ports is started with.
#[must_use]
pub fn responder_arguments(
    name: &str,
    control_plane: SocketAddr,
    secret_dir: &Path,
    cache_dir: Option<&PathBuf>,
) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", name]
            .map(str::to_owned)
            .into();
    arguments.extend(["--control-plane".to_owned(), format!("http://{control_plane}")]);
    arguments.extend(["--secret-dir".to_owned(), secret_dir.to_string_lossy().into_owned()]);
    if let Some(cache) = cache_dir {
        arguments.extend(["--cache-dir".to_owned(), cache.to_string_lossy().into_owned()]);
    }
    arguments
}
