//! Where a command writes its result: a file, a directory, or stdout.
//!
//! A result takes its place whole or not at all: it is made beside its place under another name and renamed. Nothing that is there is
//! replaced unasked, and of a directory nothing but recordings is ever replaced.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use countersign_engine::formats::{is_recording, write::Piece};
use tempfile::{NamedTempFile, TempDir};

use crate::failure::Failure;

/// A recording's directory is looked into this deep before it is replaced.
const DEPTH: usize = 8;

/// Where pieces of a result go.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Standard output.
    Stdout(BufWriter<io::Stdout>),
    /// A single file.
    File {
        /// Its content so far, beside its place.
        temporary: BufWriter<NamedTempFile>,
        /// Its place.
        place: PathBuf,
        /// Whether it may replace a file.
        force: bool,
    },
    /// A directory of files.
    Directory {
        /// Its content so far, beside its place.
        temporary: TempDir,
        /// Its place.
        place: PathBuf,
    },
}

impl Destination {
    /// Prepares to write to `place`, or refuses to.
    pub(crate) fn open(place: &Path, directory: bool, force: bool) -> Result<Self, Failure> {
        if place.as_os_str() == "-" {
            return if directory {
                Err(Failure::refused("this format is a directory of files; give --out a path"))
            } else {
                Ok(Self::Stdout(BufWriter::with_capacity(1 << 18, io::stdout())))
            };
        }
        check(place, directory, force)?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => {
                Failure::refused(format!("there is no directory {}", parent.display()))
            }
            _ => Failure::io(format!("write to {}", parent.display()), source),
        };
        // The process's mask makes of it what any new file of the user has.
        if directory {
            builder.permissions(fs::Permissions::from_mode(0o777));
            let temporary = builder.tempdir_in(parent).map_err(fail)?;
            return Ok(Self::Directory { temporary, place: place.to_owned() });
        }
        builder.permissions(fs::Permissions::from_mode(0o666));
        let temporary =
            BufWriter::with_capacity(1 << 18, builder.tempfile_in(parent).map_err(fail)?);
        Ok(Self::File { temporary, place: place.to_owned(), force })
    }

    /// Writes the next piece.
    pub(crate) fn write(&mut self, piece: &Piece) -> Result<(), Failure> {
        let fail = |source| Failure::io("write the export", source);
        match self {
            Self::Stdout(stdout) => stdout.write_all(&piece.bytes).map_err(fail),
            Self::File { temporary, .. } => temporary.write_all(&piece.bytes).map_err(fail),
            Self::Directory { .. } if piece.path.is_empty() => Ok(()),
            Self::Directory { temporary, .. } => {
                let path = temporary.path().join(&piece.path);
                match fs::write(&path, &piece.bytes) {
                    Err(source) if source.kind() == io::ErrorKind::NotFound => {
                        fs::create_dir_all(path.parent().unwrap_or_else(|| temporary.path()))
                            .and_then(|()| fs::write(&path, &piece.bytes))
                            .map_err(fail)
                    }
                    written => written.map_err(fail),
                }
            }
        }
    }

    /// Puts the result in its place.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(|source| Failure::io("write to stdout", source))
            }
            Self::File { temporary, place, force } => {
                let fail = |source| Failure::io(format!("write {}", place.display()), source);
                let file = temporary.into_inner().map_err(|error| fail(error.into_error()))?;
                file.as_file().sync_all().map_err(fail)?;
                let placed =
                    if force { file.persist(&place) } else { file.persist_noclobber(&place) };
                match placed {
                    Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                        Err(exists(&place))
                    }
                    placed => placed.map(drop).map_err(|error| fail(error.error)),
                }
            }
            Self::Directory { temporary, place } => swap(temporary, &place)
                .map_err(|source| Failure::io(format!("write {}", place.display()), source)),
        }
    }
}

/// Whether the place may be taken.
fn check(place: &Path, directory: bool, force: bool) -> Result<(), Failure> {
    let meta = match fs::metadata(place) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(|source| Failure::read(place, source))?,
    };
    if meta.is_dir() != directory {
        let what = if directory { "a file, not a directory" } else { "a directory, not a file" };
        return Err(Failure::refused(format!("{} is {what}", place.display())));
    }
    if !directory {
        return if force { Ok(()) } else { Err(exists(place)) };
    }
    let stranger = stranger(place, 0).map_err(|source| Failure::read(place, source))?;
    if let Some(stranger) = stranger {
        return Err(Failure::refused(format!(
            "{} is not replaced, because it holds {}, which is no recording",
            place.display(),
            stranger.display()
        )));
    }
    let is_empty =
        fs::read_dir(place).map_err(|source| Failure::read(place, source))?.next().is_none();
    if is_empty || force { Ok(()) } else { Err(exists(place)) }
}

fn exists(place: &Path) -> Failure {
    Failure::refused(format!("{} exists; choose another --out, or give --force", place.display()))
}

/// Something in a directory that is neither a directory nor a recording.
fn stranger(directory: &Path, depth: usize) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            if !entry.file_type()?.is_file() || !is_recording(&path.to_string_lossy()) {
                return Ok(Some(path));
            }
        } else if depth >= DEPTH {
            return Ok(Some(path));
        } else if let Some(found) = stranger(&path, depth + 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Puts a new directory in the place of an old one, if there is one.
fn swap(new: TempDir, place: &Path) -> io::Result<()> {
    let Err(refused) = fs::rename(new.path(), place) else {
        drop(new.keep());
        return Ok(());
    };
    if refused.kind() != io::ErrorKind::DirectoryNotEmpty {
        return Err(refused);
    }
    let parent = new.path().parent().unwrap_or_else(|| Path::new("."));
    let aside = tempfile::Builder::new().prefix(".replaced.").tempdir_in(parent)?;
    let old = aside.path().join("old");
    fs::rename(place, &old)?;
    if let Err(source) = fs::rename(new.path(), place) {
        fs::rename(&old, place)?;
        return Err(source);
    }
    drop(new.keep());
    aside.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(path: &str, text: &str) -> Piece {
        Piece { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_and_is_not_replaced_unasked() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("raw.jsonl");
        let mut to = Destination::open(&place, false, false).unwrap();
        to.write(&piece("", "a")).unwrap();
        assert!(!place.exists());
        to.write(&piece("", "b")).unwrap();
        to.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "ab");
        let refused = Destination::open(&place, false, false).unwrap_err();
        assert!(refused.render().contains("--force"), "{}", refused.render());
        let mut to = Destination::open(&place, false, true).unwrap();
        to.write(&piece("", "c")).unwrap();
        to.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "c");
        drop(Destination::open(&root.path().join("other"), false, false).unwrap());
        assert_eq!(names(root.path()), ["raw.jsonl"]);
    }

    #[test]
    fn a_directory_is_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("recording");
        let write = |force, name: &str| {
            let mut to = Destination::open(&place, true, force)?;
            to.write(&piece(&format!("host/{name}"), "x"))?;
            to.finish()
        };
        write(false, "a.md").unwrap();
        assert_eq!(write(false, "b.md").unwrap_err().exit_code(), 2);
        write(true, "b.md").unwrap();
        assert_eq!(names(&place.join("host")), ["b.md"]);
        assert_eq!(names(root.path()), ["recording"]);
    }

    #[test]
    fn nothing_but_recordings_is_ever_replaced() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("work");
        fs::create_dir_all(place.join("src")).unwrap();
        Destination::open(&place.join("src"), true, false).unwrap();
        fs::write(place.join("src/main.rs"), "fn main() {}").unwrap();
        let refused = Destination::open(&place, true, true).unwrap_err();
        assert!(refused.render().contains("main.rs"), "{}", refused.render());
        assert!(Destination::open(&place, false, true).is_err());
        assert!(Destination::open(&place.join("src/main.rs"), true, true).is_err());
        assert!(Destination::open(Path::new("-"), true, false).is_err());
        assert_eq!(
            Destination::open(&root.path().join("no/x"), false, false).unwrap_err().exit_code(),
            2
        );
    }
}
