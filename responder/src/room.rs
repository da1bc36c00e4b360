//! How much memory there is for one more snapshot: what is left of a given limit, or else of the control groups that the process is in and of the
//! machine.
//!
//! What cannot be told limits nothing: a snapshot is refused only when it is known not to fit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::Config;

/// Where memory is counted.
#[derive(Debug)]
pub(crate) struct Room {
    /// Above `proc` and `sys`.
    root: PathBuf,
    limit: Option<u64>,
}

/// Something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "insufficient_memory need={need} have={have}: this takes about {need} bytes of memory, and {have} are left on this node"
)]
pub(crate) struct TooLarge {
    /// About how much it takes.
    pub(crate) need: u64,
    /// How much is left.
    pub(crate) have: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Room {
    /// As this configuration allows.
    pub(crate) fn of(config: &Config) -> Self {
        Self::new(config.limits.memory.filter(|limit| *limit > 0))
    }

    /// Of a process that may take so many bytes, or whatever there is.
    fn new(limit: Option<u64>) -> Self {
        Self { root: "/".into(), limit }
    }

    /// Whether so many more bytes fit. Reads a few files of the system.
    pub(crate) fn check(&self, need: u64) -> Result<(), TooLarge> {
        match self.left() {
            Some(have) if need > have => Err(TooLarge { need, have }),
            _ => Ok(()),
        }
    }

    fn left(&self) -> Option<u64> {
        let own = self.limit.map(|limit| limit.saturating_sub(self.taken().unwrap_or_default()));
        [own, self.of_groups(), self.of_machine()].into_iter().flatten().min()
    }

    /// What this process has in memory.
    fn taken(&self) -> Option<u64> {
        field(&self.read("proc/self/status")?, "VmRSS:")
    }

    fn of_machine(&self) -> Option<u64> {
        field(&self.read("proc/meminfo")?, "MemAvailable:")
    }

    /// What the narrowest control group has left.
    fn of_groups(&self) -> Option<u64> {
        self.narrowest(|room, group, files| room.of_group(group, files))
    }

    /// What the narrowest control group allows in all, which is very much where version 1 has no limit; `None` where none is told.
    pub(crate) fn most(&self) -> Option<u64> {
        self.narrowest(|room, group, [limit, _]| room.number(&group.join(limit)))
    }

    /// The least of what is told of the control groups that the process is in: of each by its directory and its files of limit and usage.
    fn narrowest(&self, told: impl Fn(&Self, &Path, [&str; 2]) -> Option<u64>) -> Option<u64> {
        let groups = self.read("proc/self/cgroup")?;
        let least = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (kinds, path) = (parts.next()?, parts.next()?);
            let (top, files) = match kinds {
                "" => ("sys/fs/cgroup", ["memory.max", "memory.current"]),
                kinds if kinds.split(',').any(|kind| kind == "memory") => {
                    let files = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
                    ("sys/fs/cgroup/memory", files)
                }
                _ => return None,
            };
            // In a container the path is often that of the host, and the group is mounted at the top.
            let above = Path::new(path.trim_start_matches('/')).ancestors();
            above.filter_map(|group| told(self, &Path::new(top).join(group), files)).min()
        };
        groups.lines().filter_map(least).min()
    }

    fn of_group(&self, group: &Path, [limit, usage]: [&str; 2]) -> Option<u64> {
        let (limit, usage) = (self.number(&group.join(limit))?, self.number(&group.join(usage))?);
        // Its cache of files gives way. Where groups below it are counted apart, the totals have them.
        let stat = self.read(group.join("memory.stat")).unwrap_or_default();
        let cached = ["inactive_file", "active_file"].map(|kind| {
            let total = count(&stat, &format!("total_{kind}"));
            total.or_else(|| count(&stat, kind)).unwrap_or_default()
        });
        let cached: u64 = cached.iter().sum();
        Some(limit.saturating_sub(usage.saturating_sub(cached)))
    }

    fn number(&self, path: &Path) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

/// A line such as `MemAvailable:   123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A line such as `inactive_file 123`.
fn count(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(limit: Option<u64>, files: &[(&str, &str)]) -> (tempfile::TempDir, Room) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let room = Room { root: dir.path().to_owned(), limit };
        (dir, room)
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    4 kB\n");
    const SELF: (&str, &str) = ("proc/self/status", "Name: x\nVmRSS:\t   1 kB\n");

    #[test]
    fn what_cannot_be_told_limits_nothing() {
        assert_eq!(room(None, &[]).1.check(u64::MAX), Ok(()));
        assert_eq!(room(None, &[("proc/self/cgroup", "junk\n0::/a\n")]).1.left(), None);
    }

    #[test]
    fn the_machine_and_the_given_limit_count() {
        assert_eq!(room(None, &[MACHINE]).1.left(), Some(4096));
        let (_dir, limited) = room(Some(3000), &[MACHINE, SELF]);
        assert_eq!(limited.check(1976), Ok(()));
        let refused = limited.check(1977).unwrap_err();
        assert_eq!(refused, TooLarge { need: 1977, have: 1976 });
        assert!(refused.to_string().starts_with("insufficient_memory need=1977 have=1976"));
    }

    #[test]
    fn the_narrowest_control_group_counts_and_the_cache_of_files_does_not() {
        let group = [
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("sys/fs/cgroup/pods/memory.max", "1000"),
            ("sys/fs/cgroup/pods/memory.current", "900"),
            ("sys/fs/cgroup/pods/memory.stat", "anon 1\ninactive_file 400\nactive_file 100\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/one/memory.current", "9000\n"),
        ];
        let (_dir, pods) = room(None, &[&group[..], &[MACHINE]].concat());
        assert_eq!((pods.left(), pods.most()), (Some(600), Some(1000)));
        let first = [
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "800\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "300\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 100\n"),
        ];
        let (_dir, first) = room(None, &first);
        assert_eq!((first.left(), first.most()), (Some(600), Some(800)));
    }
}
