//! What a world serves beside its cases, and how its processes are started.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use harness::recording;
use serde_json::{Value, json};

use super::{Case, PROBE, of_alg};

/// What is served beside the cases, and how the responder is started.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    /// Lines of a recording.
    pub(super) lines: Vec<String>,
    pub(super) flags: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    /// The program that starts it, with its arguments.
    pub(super) before: Vec<String>,
    /// The error that the probe may be answered with, too. Idle connections may be closed then, also under a request that is just being sent.
    pub(super) tolerated: &'static str,
    /// More flags of the control plane.
    pub(super) of_plane: Vec<String>,
    /// Whose process the responder is, and whose the keys are.
    pub(super) uid: Option<u32>,
}

impl Setup {
    /// With these flags, separated by spaces.
    pub(super) fn flags(text: &str) -> Self {
        Self { flags: text.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    /// With these flags of the control plane.
    pub(super) fn of_plane(text: &str) -> Self {
        Self { of_plane: Self::flags(text).flags, ..Self::default() }
    }

    /// Writes the recording, the template and the keys of these cases and the probe.
    pub(super) fn write(&self, dir: &Path, cases: &[Case], secrets: &Path) {
        fs::create_dir_all(secrets.join("keys")).unwrap();
        let probe = Case::new("probe", of_alg("HS256"), PROBE);
        let all: Vec<&Case> = cases.iter().chain([&probe]).collect();
        for case in &all {
            if let Some(key) = &case.key {
                let file = secrets.join("keys").join(&case.name);
                fs::write(&file, key).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                chown(&file, self.uid, None).unwrap();
            }
        }
        let lines = all.iter().map(|case| case.line()).chain(self.lines.iter().cloned());
        fs::write(dir.join("all.jsonl"), lines.collect::<Vec<_>>().join("\n")).unwrap();
        let chains: Vec<Value> = all.iter().map(|case| case.chain()).collect();
        let template = json!({"id": "t", "responder": chains}).to_string();
        fs::write(dir.join("t.json"), template).unwrap();
    }

    /// The program that starts the responder: what was given, or one that changes whose process it is.
    pub(super) fn before(&self, dir: &Path) -> Vec<String> {
        let Some(uid) = self.uid else { return self.before.clone() };
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        let who = [format!("--reuid={uid}"), format!("--regid={uid}")];
        let words = ["setpriv".to_owned()].into_iter().chain(who);
        words.chain(["--clear-groups".to_owned()]).collect()
    }

    /// Serving one more answer to a GET.
    pub(super) fn line(mut self, path: &str, body: &Value) -> Self {
        self.lines.push(recording::line("GET", path, body));
        self
    }
}
