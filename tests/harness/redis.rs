//! A Redis of a test's own, on a free port, gone when the test ends.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use tokio::net::TcpStream;

use crate::{notice, wait_until};

/// A server that keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    running: Option<Child>,
}

impl Redis {
    /// Starts one; `None`, with a notice, where Redis is not installed. CI has it.
    pub async fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI needs redis-server");
            notice("redis-server is not installed, a test with it is not run");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("it is bound");
        drop(free);
        let dir = tempfile::tempdir().expect("a directory");
        let mut redis = Self { dir, addr, running: None };
        redis.resume().await;
        Some(redis)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.addr)
    }

    /// Kills it, and with it all that it knew.
    pub fn crash(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        child.kill().expect("it runs");
        child.wait().expect("it runs");
    }

    /// Starts it again, on the same port.
    pub async fn resume(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.addr.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.running = Some(child.expect("redis-server starts"));
        wait_until("redis answers", || async { TcpStream::connect(self.addr).await.ok() }).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
