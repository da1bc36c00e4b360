//! Opens files below a directory and never outside of it, whatever symbolic links say.
//!
//! The kernel resolves paths (`openat2`, beneath the directory); where it is too old to, links are followed here one by one, with the same
//! outcome. Opening never blocks, and only regular files of a bounded size are read.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, fstat, open,
        openat, openat2, readlinkat, statx,
    },
    io::Errno,
    process::{getegid, geteuid},
};
use zeroize::Zeroizing;

/// The largest file that is read.
pub(super) const MAX_SIZE: u64 = 64 * 1024;
/// How often the kernel is asked to resolve a path while files are renamed.
const ATTEMPTS: usize = 16;
/// How many links one path may lead through.
const MAX_LINKS: usize = 40;

/// Why a file or directory was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum OpenError {
    #[error("there is no such file")]
    Missing,
    #[error("{0}")]
    Permission(Denied),
    #[error(
        "everybody may read it (mode {0:04o}); take that away, for example with chmod 0400, or mount it as the kubelet does"
    )]
    Exposed(u32),
    #[error("it leads outside of the secret directory")]
    Escape,
    #[error("it is not a regular file")]
    WrongType,
    #[error("it is larger than {MAX_SIZE} bytes")]
    TooLarge,
    #[error("it cannot be read")]
    Io(#[source] Errno),
}

/// That a file may not be read, by whom, and whose it is if that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The owner, the group and the permissions of the file.
    owner: Option<(u32, u32, u32)>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        write!(f, "this process (uid {uid}, gid {gid}) may not read it")?;
        match self.owner {
            Some((uid, gid, mode)) => {
                write!(f, ", which is of uid {uid}, gid {gid}, mode {mode:04o}")
            }
            None => Ok(()),
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Content {
    /// All of it.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Who may read and write it.
    pub(super) mode: u32,
    /// It is mounted by itself, as `subPath` does it, and not with its directory.
    pub(super) is_mount: bool,
}

impl Content {
    /// Whether anybody on the machine may read it.
    pub(super) fn is_exposed(&self) -> bool {
        self.mode & 0o004 != 0
    }
}

impl OpenError {
    /// A stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Missing => "secret_missing",
            Self::Permission(_) => "secret_permission",
            Self::Exposed(_) => "secret_world_readable",
            Self::Escape => "secret_path_escape",
            Self::WrongType => "secret_wrong_type",
            Self::TooLarge => "secret_too_large",
            Self::Io(_) => "secret_unreadable",
        }
    }
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Permission(Denied { owner: None }),
            Errno::XDEV => Self::Escape,
            Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::NODEV => Self::WrongType,
            other => Self::Io(other),
        }
    }
}

/// Opens the directory that everything else has to be in.
pub(super) fn root(path: &Path) -> Result<OwnedFd, OpenError> {
    Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory beneath another.
pub(super) fn directory(parent: impl AsFd, name: &str) -> Result<OwnedFd, OpenError> {
    Ok(beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?)
}

/// Reads a file beneath a directory whole.
pub(super) fn read(parent: impl AsFd, name: &str) -> Result<Content, OpenError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match beneath(&parent, name, flags) {
        Err(Errno::ACCESS) => return Err(OpenError::Permission(denied(&parent, name))),
        opened => opened?,
    };
    let stat = fstat(&fd)?;
    let is_mount = is_mount(&fd);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(OpenError::WrongType);
    }
    if u64::try_from(stat.st_size).map_or(true, |size| size > MAX_SIZE) {
        return Err(OpenError::TooLarge);
    }
    // Reserved in one piece: a buffer that grows leaves copies of the key behind.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_SIZE).unwrap_or_default() + 64));
    let read = File::from(fd).take(MAX_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        error
            .raw_os_error()
            .map_or(OpenError::Io(Errno::IO), |raw| Errno::from_raw_os_error(raw).into())
    })?;
    if u64::try_from(bytes.len()).map_or(true, |size| size > MAX_SIZE) {
        return Err(OpenError::TooLarge);
    }
    Ok(Content { bytes, mode: stat.st_mode & 0o7777, is_mount })
}

/// Whose a file is that may not be read; where even that may not be looked at, nobody's.
fn denied(parent: impl AsFd, name: &str) -> Denied {
    let found = beneath(parent, name, OFlags::PATH | OFlags::CLOEXEC).and_then(fstat);
    Denied { owner: found.ok().map(|stat| (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)) }
}

/// Whether a file is the root of a mount; kernels before 5.8 do not tell.
fn is_mount(file: impl AsFd) -> bool {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn beneath(parent: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let kernel = |parent: BorrowedFd<'_>| openat2(parent, name, flags, Mode::empty(), resolve);
    resolved_by(kernel, parent, name, flags)
}

/// Has the kernel resolve the path, or resolves it here where it does not.
fn resolved_by(
    kernel: impl Fn(BorrowedFd<'_>) -> Result<OwnedFd, Errno>,
    parent: impl AsFd,
    name: &str,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..ATTEMPTS {
        match kernel(parent.as_fd()) {
            // Somebody renamed something, anywhere, while `..` was followed, so that the kernel cannot tell where it led.
            Err(Errno::AGAIN) => {}
            // Seccomp profiles of before the call was there forbid what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => break,
            opened => return opened,
        }
    }
    walk(parent, name, flags)
}

/// What `openat2` does, on kernels without it and where it cannot tell: one component at a time, each opened without following links.
fn walk(parent: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let here = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut stack = vec![openat(&parent, ".", here | OFlags::DIRECTORY, Mode::empty())?];
    let mut rest: Vec<String> = components(path);
    let mut links = 0;
    while let Some(component) = rest.pop() {
        if component == ".." {
            stack.pop();
            if stack.is_empty() {
                return Err(Errno::XDEV);
            }
            continue;
        }
        let top = stack.last().ok_or(Errno::XDEV)?;
        let found = openat(top, component.as_str(), here, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(top, component.as_str(), Vec::new())?
                .into_string()
                .map_err(|_| Errno::INVAL)?;
            if target.starts_with('/') {
                return Err(Errno::XDEV);
            }
            rest.extend(components(&target));
        } else if rest.is_empty() {
            return openat(top, component.as_str(), flags | OFlags::NOFOLLOW, Mode::empty());
        } else {
            stack.push(found);
        }
    }
    openat(stack.last().ok_or(Errno::XDEV)?, ".", flags, Mode::empty())
}

/// The components of a path, the last one first.
fn components(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|component| !component.is_empty() && *component != ".")
        .rev()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    type Opener = fn(&OwnedFd, &str, OFlags) -> Result<OwnedFd, Errno>;

    /// The kernel and our walk have to agree on every path, also where the kernel may not be asked.
    fn both(check: impl Fn(&OwnedFd, Opener)) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        fs::create_dir_all(inside.join("s/..2026")).unwrap();
        fs::write(inside.join("s/..2026/key"), "new").unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        symlink("..2026", inside.join("s/..data")).unwrap();
        symlink("..data/key", inside.join("s/key")).unwrap();
        symlink("../../outside", inside.join("s/up")).unwrap();
        symlink("../s/key", inside.join("s/around")).unwrap();
        symlink(dir.path().join("outside"), inside.join("s/absolute")).unwrap();
        symlink("loop", inside.join("s/loop")).unwrap();
        symlink("/proc/self/root", inside.join("s/magic")).unwrap();
        let root = root(&inside).unwrap();
        check(&root, |root, path, flags| beneath(root, path, flags));
        check(&root, |root, path, flags| walk(root, path, flags));
        check(&root, |root, path, flags| resolved_by(|_| Err(Errno::PERM), root, path, flags));
    }

    #[test]
    fn follows_links_that_stay_inside_and_refuses_all_others() {
        both(|root, open| {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let outcome = |path: &str| open(root, path, flags).map(|_| ());
            assert_eq!(outcome("s/key"), Ok(()));
            assert_eq!(outcome("s/around"), Ok(()));
            assert_eq!(outcome("s/..data/key"), Ok(()));
            assert_eq!(outcome("s/nothing"), Err(Errno::NOENT));
            assert_eq!(outcome("s/loop"), Err(Errno::LOOP));
            for escape in ["s/up", "s/absolute", "s/magic", "..", "s/../../outside"] {
                assert_eq!(outcome(escape), Err(Errno::XDEV), "{escape}");
            }
        });
    }
}
