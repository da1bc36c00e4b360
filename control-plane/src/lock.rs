//! The data directory belongs to one process at a time, which leaves its id for whoever comes second.

use std::{
    fs,
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::store::{
    StoreError,
    blob::{io_error, make_dir},
};

/// Takes the directory for this process.
pub(crate) fn lock(dir: &Path) -> Result<fs::File, StoreError> {
    make_dir(dir)?;
    let path = dir.join("lock");
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(io_error("open", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let known = file.take(32).read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
        return Err(StoreError::Locked {
            path: dir.to_owned(),
            holder: known.then(|| holder.trim().to_owned()),
        });
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(io_error("write", &path))?;
    Ok(file)
}
