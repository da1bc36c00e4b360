//! Keeps the keys of a process out of core files, of the sight of other processes of the same user, and out of swap.

use rustix::{
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// Why memory is not locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The limit would end the process sooner or later.
    #[error(
        "this process may lock {0} bytes of memory only; raise the limit (LimitMEMLOCK=infinity), or give it the capability IPC_LOCK"
    )]
    Limited(u64),
    /// The system refuses.
    #[error("the system does not lock memory")]
    Refused(#[source] Errno),
}

/// From now on there is no core file of this process, and no other process of its user may look into its memory.
///
/// Both, because a pattern of core files that is a pipe is not bound by the limit.
///
/// # Errors
/// When the system refuses.
pub fn forbid_core_dumps() -> Result<(), Errno> {
    let limit = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, limit);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limited
}

/// From now on no memory of this process is written to swap, whatever it holds. What it has not touched yet takes no memory because of that.
///
/// # Errors
/// When the process may lock some of its memory only: it would run out of it later, in the middle of something.
pub fn lock_memory() -> Result<(), LockError> {
    let mine = capabilities(None).map_err(LockError::Refused)?;
    if !mine.effective.contains(CapabilitySet::IPC_LOCK)
        && let Some(limit) = getrlimit(Resource::Memlock).current
    {
        return Err(LockError::Limited(limit));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(LockError::Refused)
}
