//! How a responder is from outside: what it counts, and what it takes of the machine.

use super::*;

/// Kibibytes of a megabyte.
pub(super) const MIB: u64 = 1024;

impl World {
    /// A number that the responder exposes, by its name and labels; 0 where it exposes none.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        let text = self.admin.get("/metrics").await.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map_or(0, |number| number.parse().unwrap())
    }

    /// Waits until such a number is so.
    pub(super) async fn metric_is(&self, name: &str, is: impl Fn(u64) -> bool) {
        wait_until(&format!("{name} is as it should be"), || async {
            is(self.metric(name).await).then_some(())
        })
        .await;
    }

    /// A number of `/proc/PID/status`.
    pub(super) fn kernel(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.responder.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The memory that the responder has now, in KiB.
    pub(super) fn memory(&self) -> u64 {
        self.kernel("VmRSS")
    }

    /// Forgets the most that the responder has had of memory, and tells what it has now.
    pub(super) fn forget_peak(&self) -> u64 {
        fs::write(format!("/proc/{}/clear_refs", self.responder.id()), "5").unwrap();
        self.memory()
    }

    /// The most memory that it has had since, in KiB.
    pub(super) fn peak(&self) -> u64 {
        self.kernel("VmHWM")
    }

    /// Files that the responder has open.
    pub(super) fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.responder.id())).unwrap().count()
    }

    /// Waits until there are no connections but those of the probe.
    pub(super) async fn quiet(&self) {
        // Both of our own clients of the data port keep theirs.
        self.metric_is("countersign_connections", |open| open <= 4).await;
    }

    /// The requests for a path that the journal has.
    pub(super) async fn noted(&self, path: &str) -> Vec<Value> {
        let told = self.admin.get(&format!("/journal?path={path}")).await.json();
        told["requests"].as_array().unwrap().clone()
    }
}
