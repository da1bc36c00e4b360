//! Small disks in memory, which get full. Only root can have them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::notice;

/// Disks of 8 MiB each.
#[derive(Debug)]
pub struct Disks(Vec<PathBuf>);

impl Disks {
    /// Mounts some below a directory; `None`, with a notice, where that may not be.
    #[must_use]
    pub fn mount(dir: &Path, names: &[&str]) -> Option<Self> {
        let mut disks = Self(Vec::new());
        for name in names {
            let disk = dir.join(name);
            fs::create_dir_all(&disk).ok()?;
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&disk);
            if !mount.output().is_ok_and(|out| out.status.success()) {
                notice("only root can mount small disks, no disk gets full");
                return None;
            }
            disks.0.push(disk);
        }
        Some(disks)
    }

    /// Fills a disk; how many bytes that took.
    ///
    /// # Errors
    /// When it cannot be written at all.
    pub fn fill(&self, nth: usize) -> anyhow::Result<u64> {
        let mut filler = fs::File::create(self.filler(nth)?)?;
        let zeros = vec![0; 4096];
        // Whatever the error is, there is no room any more.
        while std::io::Write::write_all(&mut filler, &zeros).is_ok() {}
        Ok(filler.metadata()?.len())
    }

    /// Fills a disk but for so many bytes.
    ///
    /// # Errors
    /// When it cannot be written at all.
    pub fn leave(&self, nth: usize, room: u64) -> anyhow::Result<()> {
        let filled = self.fill(nth)?;
        let filler = fs::File::options().write(true).open(self.filler(nth)?)?;
        Ok(filler.set_len(filled.saturating_sub(room))?)
    }

    /// Gives it back what filled it.
    ///
    /// # Errors
    /// When nothing did.
    pub fn empty(&self, nth: usize) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler(nth)?)?)
    }

    /// Nothing can be written to a disk any more.
    ///
    /// # Errors
    /// When somebody is writing to it.
    pub fn protect(&self, nth: usize) -> anyhow::Result<()> {
        let disk = self.0.get(nth).context("a disk")?;
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(disk).output()?;
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn filler(&self, nth: usize) -> anyhow::Result<PathBuf> {
        Ok(self.0.get(nth).context("a disk")?.join("filler"))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.0 {
            // Lazily, for whoever uses it ends a moment later.
            drop(Command::new("umount").arg("-l").arg(disk).output());
        }
    }
}
