//! Recordings as files: which files a recording consists of, in which order, and what a snapshot of it is called.
//!
//! Hidden directories and directories called `secrets` are never entered: a workspace keeps its keys there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_engine::formats;

use crate::failure::Failure;

/// Directories deeper than this are a loop of links.
const DEPTH: usize = 64;

/// A file of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// How large it is.
    pub(crate) size: u64,
}

/// The files of recordings, sorted within each, each file once.
pub(crate) fn walk(recordings: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut files: Vec<File> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for recording in recordings {
        let mut found = Vec::new();
        let meta = fs::metadata(recording).map_err(|source| Failure::read(recording, source))?;
        if meta.is_dir() {
            enter(recording, 0, &mut found)?;
        } else {
            found.push(File { path: recording.clone(), size: meta.len() });
        }
        if found.is_empty() {
            return Err(Failure::refused(format!(
                "{} holds no recording (.md, .json, .jsonl, .har, .gor, .yaml, .zip, or Req1.txt and Res1.txt files)",
                recording.display()
            )));
        }
        files.extend(found.into_iter().filter(|file| seen.insert(file.path.clone())));
    }
    Ok(files)
}

fn enter(directory: &Path, depth: usize, found: &mut Vec<File>) -> Result<(), Failure> {
    if depth > DEPTH {
        return Err(Failure::refused(format!(
            "{} lies {DEPTH} directories deep; is there a loop of links?",
            directory.display()
        )));
    }
    let fail = |source| Failure::read(directory, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    for path in paths {
        let meta = fs::metadata(&path).map_err(|source| Failure::read(&path, source))?;
        if meta.is_dir() {
            if !is_private(&path) {
                enter(&path, depth + 1, found)?;
            }
        } else if formats::is_recording(&path.to_string_lossy()) && !is_private(&path) {
            found.push(File { path, size: meta.len() });
        }
    }
    Ok(())
}

fn is_private(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name == "secrets"
}

/// An id for the snapshot of a recording, made from the name of its file or directory.
pub(crate) fn derive_id(recording: &Path) -> String {
    let full = fs::canonicalize(recording).unwrap_or_else(|_| recording.to_owned());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    let mut id = String::new();
    for c in name.unwrap_or_default().to_string_lossy().chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => id.push(c),
            _ if !id.is_empty() && !id.ends_with('-') => id.push('-'),
            _ => {}
        }
        if id.len() == 63 {
            break;
        }
    }
    let id = id.trim_end_matches('-');
    if id.is_empty() { "recording".to_owned() } else { id.to_owned() }
}

/// The nearest `proxymock/secrets` or `secrets` directory at or above a recording.
pub(crate) fn find_secrets(recording: &Path) -> Option<PathBuf> {
    let full = fs::canonicalize(recording).ok()?;
    let places =
        full.ancestors().flat_map(|above| [above.join("proxymock/secrets"), above.join("secrets")]);
    places.into_iter().find(|place| place.is_dir())
}

/// The nearest `proxymock` directory at or above a recording, else the working directory: where templates' files and tables lie.
pub(crate) fn find_files(recording: &Path) -> PathBuf {
    let full = fs::canonicalize(recording).unwrap_or_default();
    let place = full.ancestors().find_map(|above| {
        let named = above.file_name().is_some_and(|name| name == "proxymock");
        if named {
            Some(above.to_owned())
        } else {
            Some(above.join("proxymock")).filter(|p| p.is_dir())
        }
    });
    place.unwrap_or_else(|| PathBuf::from("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    #[test]
    fn walks_in_order_and_leaves_aside_what_is_no_recording() {
        let root = tree(&[
            "b/2.md",
            "b/1.md",
            "a/raw.jsonl",
            "a/notes.txt",
            "z.json",
            "secrets/jwt/key.json",
            ".metadata/snapshot.json",
        ]);
        let files = walk(&[root.path().to_owned(), root.path().join("b/1.md")]).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file.path.strip_prefix(root.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a/raw.jsonl", "b/1.md", "b/2.md", "z.json"]);
        assert!(files.iter().all(|file| file.size == 1));
    }

    #[test]
    fn a_recording_that_is_not_there_or_empty_is_refused() {
        let root = tree(&["notes.txt"]);
        let empty = walk(&[root.path().to_owned()]).unwrap_err();
        assert!(empty.render().contains("holds no recording"), "{}", empty.render());
        let missing = walk(&[root.path().join("no")]).unwrap_err();
        assert_eq!((empty.exit_code(), missing.exit_code()), (2, 2));
    }

    #[test]
    fn ids_are_made_from_names() {
        let id = |name: &str| derive_id(Path::new(name));
        assert_eq!(
            id("/x/recorded-2026-06-19_20-27-24.68Z.jsonl"),
            "recorded-2026-06-19-20-27-24-68z"
        );
        assert_eq!(id("/x/Über Login!.md"), "ber-login");
        assert_eq!(id("/x/--.md"), "recording");
        assert_eq!(id(&format!("/x/{}", "a".repeat(90))).len(), 63);
    }

    #[test]
    fn the_nearest_secrets_directory_is_taken() {
        let root =
            tree(&["secrets/a/k", "proxymock/secrets/a/k", "proxymock/rec/x/1.md", "other/1.md"]);
        let root = fs::canonicalize(root.path()).map(|path| (root, path)).unwrap();
        assert_eq!(
            find_secrets(&root.1.join("proxymock/rec")),
            Some(root.1.join("proxymock/secrets"))
        );
        assert_eq!(
            find_secrets(&root.1.join("other/1.md")),
            Some(root.1.join("proxymock/secrets"))
        );
        assert_eq!(find_files(&root.1.join("proxymock/rec")), root.1.join("proxymock"));
        assert_eq!(find_files(&root.1.join("other/1.md")), root.1.join("proxymock"));
    }
}
