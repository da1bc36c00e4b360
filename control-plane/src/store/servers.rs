//! A PostgreSQL cluster and an S3 server of a test's own, on free ports, gone when the test ends.
//!
//! This file is read by the tests of this package and by the harness of the system tests. Where a server is not installed, the test is not
//! run and a notice says so; CI has both.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

/// Where Debian puts the binaries of PostgreSQL, newest first, unless `COUNTERSIGN_POSTGRES_BIN` says otherwise.
const POSTGRES_BIN: [&str; 4] = [
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
];

/// Where `.ci/run` puts the S3 server, from a package's directory, unless `COUNTERSIGN_S3_SERVER` says otherwise.
const S3_SERVER: &str = "../target/ci-tools/versitygw";

/// The password of the test's own cluster, which must not show up anywhere.
pub const PASSWORD: &str = "pg-passw0rd-canary";
/// The secret access key for the test's own S3 server, which must not show up anywhere.
pub const SECRET_KEY: &str = "s3-secret-canary";

/// A cluster of its own.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it; `None` where PostgreSQL is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let named = env::var_os("COUNTERSIGN_POSTGRES_BIN").map(PathBuf::from);
        let usual = POSTGRES_BIN.iter().map(PathBuf::from).find(|dir| dir.join("initdb").exists());
        let Some(bin) = named.or(usual) else {
            absent("PostgreSQL");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).expect("a file");
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(dir.path()));
        }
        let mut initdb = unprivileged(&bin.join("initdb"), dir.path());
        initdb
            .args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=tester"])
            .args(["--no-sync", "--no-instructions", "--pwfile"])
            .arg(&password)
            .arg(dir.path().join("data"));
        run(&mut initdb);
        let mut cluster = Self { bin, dir, port: free_port(), running: None };
        cluster.resume();
        Some(cluster)
    }

    /// The URL of its database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://tester:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills it as a crash does.
    pub fn crash(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        drop(Command::new("kill").args(["-QUIT", &child.id().to_string()]).status());
        drop(child.wait());
    }

    /// Starts it again, on the same port.
    pub fn resume(&mut self) {
        let mut command = unprivileged(&self.bin.join("postgres"), self.dir.path());
        command.arg("-D").arg(self.dir.path().join("data")).arg("-p").arg(self.port.to_string());
        // A crash of the server loses nothing without them, a crash of the machine would.
        for setting in ["fsync=off", "full_page_writes=off", "listen_addresses=127.0.0.1"] {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("unix_socket_directories={}", self.dir.path().display()));
        let (child, _) =
            start(&mut command, |line| line.contains("ready to accept connections").then_some(()));
        self.running = Some(child);
    }

    /// Has it speak TLS as `localhost`, and returns the file of the certificate to trust; `None` where there is no openssl.
    pub fn speak_tls(&mut self) -> Option<PathBuf> {
        let data = self.dir.path().join("data");
        let (key, certificate) = (data.join("server.key"), data.join("server.crt"));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        openssl.args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-days",
            "2",
        ]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        if Command::new("openssl").arg("version").output().is_err() {
            absent("openssl");
            return None;
        }
        run(&mut openssl);
        run(Command::new("chmod").arg("600").arg(&key));
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&key).arg(&certificate));
        }
        self.sql("ALTER SYSTEM SET ssl = on");
        self.crash();
        self.resume();
        Some(certificate)
    }

    /// Ends all connections to it but those that this asks with, as a network that breaks does.
    pub fn cut_connections(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
        );
    }

    /// Runs SQL in it, and returns what it prints.
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url()]);
        let out = psql.output().expect("psql runs");
        assert!(out.status.success(), "{statement}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// An S3 server of its own, the [Versity gateway], which keeps objects as files.
///
/// [Versity gateway]: https://github.com/versity/versitygw
#[derive(Debug)]
pub struct S3Server {
    binary: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

impl S3Server {
    /// Starts it; `None` where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let named = env::var_os("COUNTERSIGN_S3_SERVER").map(PathBuf::from);
        let binary = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(S3_SERVER));
        if !binary.exists() {
            absent("versitygw, the S3 server,");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = Self { binary, dir, port: free_port(), running: None };
        server.resume();
        Some(server)
    }

    /// Makes a bucket, and returns its URL.
    #[must_use]
    pub fn bucket(&self, name: &str) -> String {
        // It takes each directory for a bucket.
        fs::create_dir(self.dir.path().join(name)).expect("a directory");
        format!("s3://{name}")
    }

    /// Where its objects are files, each bucket in a directory.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.dir.path()
    }

    /// The variables that lead to it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "tester"),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Kills it as a crash does.
    pub fn crash(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        drop(child.kill());
        drop(child.wait());
    }

    /// Starts it again, on the same port and with what it held.
    pub fn resume(&mut self) {
        let mut command = Command::new(&self.binary);
        command
            .env("ROOT_ACCESS_KEY_ID", "tester")
            .env("ROOT_SECRET_ACCESS_KEY", SECRET_KEY)
            .args(["--port", &format!("127.0.0.1:{}", self.port), "posix"])
            .arg(self.dir.path());
        let (child, ()) =
            start(&mut command, |line| line.contains("service listening on").then_some(()));
        self.running = Some(child);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Says that something is not installed, where it may be so.
fn absent(what: &str) {
    assert!(env::var_os("CI").is_none(), "CI needs {what}");
    let notice = format!("NOTICE: {what} is not installed, a test with it is not run");
    drop(writeln!(std::io::stderr(), "{notice}"));
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

/// A command that runs without the rights of root, which PostgreSQL refuses.
fn unprivileged(program: &Path, dir: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(dir).env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) {
    let out = command.output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Starts a server and waits for the line of its log that says that it listens.
fn start<T>(command: &mut Command, ready: impl Fn(&str) -> Option<T>) -> (Child, T) {
    let (log, both) = std::io::pipe().expect("a pipe");
    command.stdin(Stdio::null()).stdout(both.try_clone().expect("its other end")).stderr(both);
    let mut child = command.spawn().expect("it starts");
    // Otherwise this process keeps the pipe open, and never reads its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut log = BufReader::new(log);
    let mut said = String::new();
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|length| length > 0) {
        if let Some(found) = ready(&line) {
            thread::spawn(move || drain(log));
            return (child, found);
        }
        said.push_str(&line);
        line.clear();
    }
    drop(child.kill());
    drop(child.wait());
    panic!("{command:?} ended: {said}");
}

/// Reads on, so that the server is never held up by what it logs.
fn drain(mut log: impl std::io::Read) {
    drop(std::io::copy(&mut log, &mut std::io::sink()));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
