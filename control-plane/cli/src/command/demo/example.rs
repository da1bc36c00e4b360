//! The recording of `deploy/example`, which is part of the program, so that the demo works anywhere.

use std::{fs, path::Path, path::PathBuf};

use crate::{
    command::dev::{adjust::Adjust, session::Inputs},
    failure::Failure,
};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../../deploy/example/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "recording/auth.example.com/2024-03-05_09-00-00.012500Z.md",
    "recording/auth.example.com/2024-03-05_09-00-00.118250Z.md",
    "recording/api.example.com/2024-03-05_09-00-00.402750Z.md",
    "recording/api.example.com/2024-03-05_09-00-00.655500Z.md",
    "recording/auth.example.com/2024-03-05_09-00-04.092000Z.md",
    "recording/api.example.com/2024-03-05_09-00-04.371250Z.md",
    "transform.json",
];
const ALICE: &str = "client_id=shop-web&grant_type=password&password=looking-glass&username=alice";
const BOB: &str = "client_id=shop-web&grant_type=password&password=can-we-fix-it&username=bob";

/// The example as files.
#[derive(Debug)]
pub(super) struct Example {
    root: PathBuf,
}

/// Writes the example below a directory.
pub(super) fn unpack(root: &Path) -> Result<Example, Failure> {
    let root = root.join("example");
    for (name, text) in FILES {
        let path = root.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(&root))
            .and_then(|()| fs::write(&path, text));
        written.map_err(|source| Failure::io(format!("write {}", path.display()), source))?;
    }
    Ok(Example { root })
}

impl Example {
    /// What to serve.
    pub(super) fn inputs(&self) -> Inputs {
        Inputs {
            recordings: vec![self.root.join("recording")],
            transform: Some(self.root.join("transform.json")),
            test_config: None,
            adjust: Adjust::default(),
            serve: None,
        }
    }

    /// Where users log in.
    pub(super) fn login_path(&self) -> &'static str {
        "/oauth/token"
    }

    /// What alice sends.
    pub(super) fn login_form(&self) -> &'static str {
        ALICE
    }

    /// What each user sends.
    pub(super) fn forms(&self) -> [(&'static str, &'static str); 2] {
        [("alice", ALICE), ("bob", BOB)]
    }

    /// What else is recorded.
    pub(super) fn other_paths(&self) -> [&'static str; 2] {
        ["/api/me", "/api/orders"]
    }

    /// The token that alice was given when it was recorded.
    pub(super) fn recorded_token(&self) -> Result<&'static str, Failure> {
        let login = FILES
            .iter()
            .map(|(_, text)| *text)
            .find(|text| text.contains("\"username\": \"alice\""));
        let after =
            login.and_then(|text| text.split_once("\"access_token\": \"")).map(|(_, after)| after);
        let token = after.and_then(|after| after.split_once('"')).map(|(token, _)| token);
        token.ok_or_else(|| Failure::failed("the example holds no recorded token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_example_is_part_of_the_program() {
        let mut found = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/example");
        for file in crate::recording::walk(std::slice::from_ref(&root)).unwrap() {
            found.push(file.path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
        let mut embedded: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        found.retain(|name| name != "README.md");
        found.sort();
        embedded.sort();
        assert_eq!(found, embedded);
    }

    #[test]
    fn the_forms_are_those_that_were_recorded() {
        let root = tempfile::tempdir().unwrap();
        let example = unpack(root.path()).unwrap();
        for (user, form) in example.forms() {
            let recorded = FILES
                .iter()
                .map(|(_, text)| *text)
                .find(|text| text.contains(&format!("\"username\": \"{user}\"")))
                .unwrap();
            for field in form.split('&') {
                let (name, value) = field.split_once('=').unwrap();
                assert!(recorded.contains(&format!("\"{name}\": \"{value}\"")), "{user} {field}");
            }
        }
        assert_eq!(example.recorded_token().unwrap().split('.').count(), 3);
    }
}
