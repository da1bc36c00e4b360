//! Programs in other languages that play the SUT: they read a plan and write what became of it, both as JSON.
//!
//! What they need is installed by `.ci/run`, which names the places in the environment. Where something is missing a notice says so and they are not
//! run; CI must have Python and Node.js.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::notice;

/// A program that is ready to run.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    command: Vec<PathBuf>,
    // Holds the script as long as it may be run.
    _dir: Option<TempDir>,
}

impl Script {
    /// A Python script that imports these modules.
    #[must_use]
    pub fn python(name: &'static str, path: &Path, modules: &str) -> Option<Self> {
        let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut check = Command::new(&python);
        check.args(["-W", "ignore", "-c", &format!("import {modules}")]).stderr(Stdio::null());
        if !check.status().is_ok_and(|status| status.success()) {
            return missing(name, &format!("{python} has not all of {modules}"), true);
        }
        Some(Self { name, command: vec![python.into(), path.to_owned()], _dir: None })
    }

    /// A Node.js script whose packages are those of `COUNTERSIGN_NODE_MODULES`.
    #[must_use]
    pub fn node(name: &'static str, path: &Path) -> Option<Self> {
        let Some(modules) = std::env::var_os("COUNTERSIGN_NODE_MODULES") else {
            return missing(name, "COUNTERSIGN_NODE_MODULES names no packages", true);
        };
        // Packages are looked for beside the script.
        let dir = tempfile::tempdir().unwrap();
        symlink(modules, dir.path().join("node_modules")).unwrap();
        let script = dir.path().join(path.file_name().expect("a script has a name"));
        fs::copy(path, &script).unwrap();
        Some(Self { name, command: vec!["node".into(), script], _dir: Some(dir) })
    }

    /// A Go program that `.ci/run` has built.
    #[must_use]
    pub fn go(name: &'static str) -> Option<Self> {
        Self::built(name, "COUNTERSIGN_GO_CLIENT")
    }

    /// A program that `.ci/run` has built and named in a variable.
    #[must_use]
    pub fn built(name: &'static str, variable: &str) -> Option<Self> {
        let Some(binary) = std::env::var_os(variable) else {
            return missing(name, &format!("{variable} names no program"), false);
        };
        Some(Self { name, command: vec![binary.into()], _dir: None })
    }

    /// A Java source file that needs the archives of `COUNTERSIGN_JAVA_CLASSPATH`.
    #[must_use]
    pub fn java(name: &'static str, path: &Path) -> Option<Self> {
        let Some(archives) = std::env::var_os("COUNTERSIGN_JAVA_CLASSPATH") else {
            return missing(name, "COUNTERSIGN_JAVA_CLASSPATH names no archives", false);
        };
        let command = ["java".into(), "-cp".into(), archives, path.into()];
        Some(Self { name, command: command.map(PathBuf::from).into(), _dir: None })
    }

    /// The same, run in a directory after lines of shell, as a user types them before starting a client.
    #[must_use]
    pub fn after(self, dir: &Path, lines: &str) -> Self {
        let shell =
            ["-c".into(), format!("cd \"$0\"\n{lines}\nexec \"$@\"").into(), dir.to_owned()];
        let command = ["bash".into(), "-e".into()].into_iter().chain(shell).chain(self.command);
        Self { command: command.collect(), ..self }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Runs it with a plan; what it says became of it.
    #[must_use]
    pub fn run(&self, plan: &Value) -> Value {
        self.try_run(plan).unwrap_or_else(|why| panic!("{} failed: {why}", self.name))
    }

    /// Starts it as a server with these variables, and reads where it listens from its first line.
    #[must_use]
    pub fn serve(&self, variables: &[(&str, String)]) -> Server {
        let (program, arguments) = self.command.split_first().expect("a command");
        let mut command = Command::new::<&OsStr>(program.as_ref());
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{}: {why}", self.name));
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its output");
        let address =
            line.split_once("listening on http://").and_then(|it| it.1.trim().parse().ok());
        let address = address.unwrap_or_else(|| panic!("{} said: {line}", self.name));
        Server { child, _stdout: stdout, address }
    }

    /// The same; what it complained of when it failed.
    ///
    /// # Errors
    /// When it ends otherwise than well.
    pub fn try_run(&self, plan: &Value) -> Result<Value, String> {
        let (program, arguments) = self.command.split_first().expect("a command");
        let mut command = Command::new::<&OsStr>(program.as_ref());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{}: {why}", self.name));
        let mut stdin = child.stdin.take().expect("piped");
        let text = plan.to_string();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let out = child.wait_with_output().expect("it ends");
        let written = writer.join().expect("the writer ends");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        if !out.status.success() || written.is_err() {
            return Err(told);
        }
        serde_json::from_slice(&out.stdout)
            .map_err(|why| format!("{why}: {} {told}", String::from_utf8_lossy(&out.stdout)))
    }
}

/// A program that serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    // It may go on to write.
    _stdout: BufReader<ChildStdout>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn missing(name: &str, why: &str, needed: bool) -> Option<Script> {
    assert!(!needed || std::env::var_os("CI").is_none(), "CI needs what {name} needs: {why}");
    notice(&format!("{name} is not run: {why}"));
    None
}
