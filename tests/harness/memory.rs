//! The memory of another process, which is what a core file of it would hold.

use std::{fs, os::unix::fs::FileExt as _};

/// What a process has in memory that it may write to; `None` for who may not look, as only root may.
#[must_use]
pub fn of(pid: u32) -> Option<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut region = vec![0; usize::try_from(to - from).ok()?];
        // Some regions have no pages.
        if memory.read_exact_at(&mut region, from).is_ok() {
            all.append(&mut region);
        }
    }
    (!all.is_empty()).then_some(all)
}
