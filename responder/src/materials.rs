//! Files, tables and environment variables that templates name, read when a bundle is compiled.
//!
//! A template comes over the network and says what it wants; the operator of the node says what it may have: files of one directory, and
//! environment variables by name. Whatever else a template names is a finding.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use countersign_engine::{
    diagnostic::Diagnostic,
    transform::{Materials, Required},
};

/// The largest file that is read.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// What templates may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// The directory of files and of `dataframes/<id>/<file>`.
    pub(crate) files_dir: Option<PathBuf>,
    /// The environment variables, by name; `*` stands for all.
    pub(crate) environment: Vec<String>,
}

impl Allowed {
    /// Reads what a template requires.
    pub(crate) fn read(&self, required: &Required) -> (Materials, Vec<Diagnostic>) {
        let mut found = Vec::new();
        let mut files = BTreeMap::new();
        for name in required.all_files() {
            match self.file(&name) {
                Ok(bytes) => drop(files.insert(name, bytes.into())),
                Err(why) => found.push(
                    Diagnostic::warning("file_missing", "", format!("a file that the template names is not at hand: {why}"))
                        .hint("put it into the directory that --files-dir names; tables are dataframes/<id>/payload.csv there")
                        .subject(name),
                ),
            }
        }
        let mut environment = BTreeMap::new();
        for name in &required.environment {
            if self.environment.iter().any(|allowed| allowed == "*" || allowed == name) {
                environment.extend(std::env::var(name).ok().map(|value| (name.clone(), value)));
            } else {
                found.push(
                    Diagnostic::warning("environment_not_allowed", "", "the template names an environment variable that it may not read; it is empty")
                        .hint("allow it with --template-env")
                        .subject(name.clone()),
                );
            }
        }
        (Materials { files, environment, seed: seed() }, found)
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        let root = self.files_dir.as_ref().ok_or("no directory is given")?;
        let root = root.canonicalize().map_err(|error| error.to_string())?;
        let path = place(&root, name).ok_or("the name leads out of the directory")?;
        // Links inside may lead anywhere inside.
        let path = path.canonicalize().map_err(|error| error.to_string())?;
        if !path.starts_with(&root) {
            return Err("the name leads out of the directory".to_owned());
        }
        read(&path).map_err(|error| error.to_string())
    }
}

/// Where a file lies: `dataframe:<id>__<file>` is `dataframes/<id>/<file>`, and a path has to stay inside.
fn place(root: &Path, name: &str) -> Option<PathBuf> {
    let relative = match name.strip_prefix("dataframe:") {
        Some(table) => Path::new("dataframes").join(table.replace("__", "/")),
        None => {
            let path = Path::new(name);
            path.strip_prefix(root).unwrap_or(path).to_owned()
        }
    };
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    relative.components().all(plain).then(|| root.join(relative))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Each node and start makes other random values.
fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_allowed_and_tells_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("dataframes/users")).unwrap();
        std::fs::write(dir.path().join("dataframes/users/payload.csv"), "id\n1\n").unwrap();
        std::fs::write(dir.path().join("note.txt"), "hello").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let absolute = dir.path().canonicalize().unwrap().join("note.txt");
        let mut required = Required::default();
        required.dataframes.insert("users".to_owned());
        for name in ["note.txt", "../x", "/etc/hostname", "link", "dataframe:..__x"] {
            required.files.insert(name.to_owned());
        }
        required.files.insert(absolute.to_string_lossy().into_owned());
        required.environment.extend(["PATH".to_owned(), "HOME".to_owned()]);
        let allowed = Allowed {
            files_dir: Some(dir.path().to_owned()),
            environment: vec!["PATH".to_owned()],
        };
        let (materials, found) = allowed.read(&required);
        let mut read: Vec<_> = materials.files.keys().cloned().collect();
        read.sort();
        let mut expected = vec!["dataframe:users__payload.csv".to_owned(), "note.txt".to_owned()];
        expected.insert(0, absolute.to_string_lossy().into_owned());
        assert_eq!(read, expected);
        assert_eq!(materials.environment.keys().collect::<Vec<_>>(), ["PATH"]);
        let codes: Vec<_> = found.iter().map(|d| (d.code, d.subject.as_str())).collect();
        assert_eq!(
            codes,
            [
                ("file_missing", "../x"),
                ("file_missing", "/etc/hostname"),
                ("file_missing", "dataframe:..__x"),
                ("file_missing", "link"),
                ("environment_not_allowed", "HOME"),
            ]
        );
    }
}
