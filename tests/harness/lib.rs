//! What system tests share: the real binaries as child processes, clients as users have them, recordings, and an independent verifier.
//!
//! Nothing here sleeps for a guess: [`wait_until`] asks again until what is waited for is so, or a deadline has passed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a test harness fails by panicking"
)]

pub mod balancer;
pub mod binaries;
pub mod client;
pub mod disks;
mod fallback;
pub mod faults;
pub mod fleet;
pub mod floods;
pub mod frames;
pub mod kubernetes;
pub mod link;
pub mod memory;
pub mod pages;
pub mod process;
pub mod python;
pub mod real;
pub mod recording;
pub mod redis;
pub mod register;
pub mod rotation;
pub mod scripts;
#[path = "../../control-plane/src/store/servers.rs"]
pub mod servers;
pub mod shared;
pub mod turns;
pub mod versions;

use std::{
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// How long anything may take that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until the answer is there.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < DEADLINE, "waited in vain until {what}");
    }
}

/// A folder of recorded third-party traffic; `None`, with a notice, where it is absent. CI has it.
#[must_use]
pub fn shared_data(folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var_os("COUNTERSIGN_SHARED_DATA").map_or(beside, PathBuf::from);
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    notice(&format!("{} is absent, a test with it is not run", path.display()));
    None
}

/// Tells whoever runs the tests, who does not see what a test that passes prints.
pub fn notice(text: &str) {
    drop(writeln!(std::io::stderr(), "NOTICE: {text}"));
}

/// Whether there is an openssl, whose keys are made by an implementation that is not ours. CI has one.
#[must_use]
pub fn has_openssl() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        assert!(std::env::var_os("CI").is_none(), "CI needs openssl");
        notice("there is no openssl, its keys are not tried");
    }
    here
}

/// Seconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}
