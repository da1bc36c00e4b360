//! The template that a recording brings along: in the metadata of its snapshot, and in the active blueprints beside it.
//!
//! They are merged in the order in which they are found, and become one template of our own: a copy, so that later edits of either leave
//! the other alone. Whatever cannot be used is told and never fails the import.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use countersign_engine::transform::PairFilter;
use serde_json::{Map, Value, json};

/// Metadata and blueprints larger than this are left aside.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// What a template is made of.
const PARTS: [&str; 4] = ["generator", "responder", "generatorVariables", "responderVariables"];

/// What was found beside a recording.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Embedded {
    /// The merged template, without an id; `None` when nothing is in it.
    pub(crate) template: Option<Value>,
    /// The filter that the snapshot was made with, as JSON, and the file that it stands in.
    pub(crate) filter: Option<(PathBuf, String)>,
    /// The files that it came from, in order.
    pub(crate) sources: Vec<Source>,
    /// What could not be used.
    pub(crate) notes: Vec<String>,
}

/// A file that had a part in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Whether it is a blueprint.
    pub(crate) blueprint: bool,
    /// How many chains it brought.
    pub(crate) chains: usize,
}

impl Embedded {
    /// Looks beside recordings.
    pub(crate) fn find(recordings: &[PathBuf]) -> Self {
        let mut found = Self::default();
        let mut seen = BTreeSet::new();
        for recording in recordings {
            // A path that cannot be resolved fails when it is read.
            let Ok(full) = fs::canonicalize(recording) else { continue };
            let folder = if full.is_dir() { Some(&*full) } else { full.parent() };
            let Some(folder) = folder else { continue };
            if let Some((path, document)) = metadata(folder, &mut found.notes)
                && seen.insert(path.clone())
            {
                found.take(&path, &document, false);
            }
            for path in blueprints(folder) {
                if seen.insert(path.clone())
                    && let Some(document) = read(&path, &mut found.notes)
                    && document.get("active") == Some(&Value::Bool(true))
                {
                    found.take(&path, &document, true);
                }
            }
        }
        found
    }

    /// Whether this file is one of the sources, so that it need not be looked at for traffic.
    pub(crate) fn is_source(&self, path: &Path) -> bool {
        !self.sources.is_empty()
            && fs::canonicalize(path)
                .is_ok_and(|path| self.sources.iter().any(|source| source.path == path))
    }

    fn take(&mut self, path: &Path, document: &Value, blueprint: bool) {
        if let Some(filter) = document.get("filter_expression").filter(|filter| filter.is_object())
        {
            self.select(path, filter);
        }
        let Some(config) = config(document) else { return };
        if let Some(old) = config.get("out").and_then(Value::as_array).filter(|o| !o.is_empty()) {
            let mut kinds: Vec<&str> =
                old.iter().filter_map(|one| one.get("type")?.as_str()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            self.notes.push(format!(
                "{}: {} old tokenizers ({}) are not applied: bodies are matched as a whole; mask with a chain what differs",
                path.display(),
                old.len(),
                kinds.join(", ")
            ));
        }
        let parts: Vec<(&str, &Vec<Value>)> = PARTS
            .into_iter()
            .filter_map(|part| Some((part, config.get(part)?.as_array()?)))
            .filter(|(_, items)| !items.is_empty())
            .collect();
        if parts.is_empty() {
            return;
        }
        let chains = parts.iter().filter(|(part, _)| !part.ends_with("Variables"));
        let chains = chains.map(|(_, items)| items.len()).sum();
        let template = self.template.get_or_insert_with(|| json!({}));
        for (part, items) in parts {
            if let Some(template) = template.as_object_mut()
                && let Value::Array(all) =
                    template.entry(part).or_insert_with(|| Value::Array(Vec::new()))
            {
                all.extend(items.iter().cloned());
            }
        }
        self.sources.push(Source { path: path.to_owned(), blueprint, chains });
    }

    /// Takes a filter up when it selects something definite.
    fn select(&mut self, path: &Path, filter: &Value) {
        let text = filter.to_string();
        let (read, findings) = PairFilter::parse_json(text.as_bytes());
        match read {
            Some(filter) if filter.is_everything() => {}
            Some(_) if self.filter.is_none() && !findings.has_errors() => {
                self.filter = Some((path.to_owned(), text));
            }
            Some(_) | None => {
                let why = findings.into_vec().first().map_or_else(
                    || "another one applies already".to_owned(),
                    |finding| finding.message.clone(),
                );
                self.notes.push(format!("{}: its filter is not applied: {why}", path.display()));
            }
        }
    }

    /// Whether there is a template.
    pub(crate) fn is_template(&self) -> bool {
        self.template.is_some()
    }

    /// The text of the template under an id.
    pub(crate) fn text(&self, id: &str) -> Option<String> {
        let mut template: Map<String, Value> = self.template.as_ref()?.as_object()?.clone();
        template.insert("id".to_owned(), Value::from(id));
        Some(format!("{:#}", Value::Object(template)))
    }
}

/// The metadata of the snapshot that a folder holds, or of the workspace that it lies in.
fn metadata(folder: &Path, notes: &mut Vec<String>) -> Option<(PathBuf, Value)> {
    let name = folder.file_name().map(|name| format!("{}.json", name.to_string_lossy()));
    let own = name.into_iter().flat_map(|name| {
        let beside = folder.parent().map(|parent| parent.join(&name));
        beside.into_iter().chain([folder.join(&name)])
    });
    let above = folder.ancestors().map(|above| above.join(".metadata/snapshot.json"));
    own.chain(above).filter(|path| path.is_file()).find_map(|path| {
        let document = read(&path, notes)?;
        is_metadata(&document).then_some((path, document))
    })
}

fn is_metadata(document: &Value) -> bool {
    let has = |name| document.get(name).is_some();
    has("tokenConfigId") || config(document).is_some() || (has("meta") && has("id"))
}

fn config(document: &Value) -> Option<&Value> {
    ["tokenizerConfig", "tokenizeConfig", "tokenizer_config", "tokenize_config"]
        .iter()
        .find_map(|name| document.get(name))
        .filter(|config| config.is_object())
}

/// The files in the places where blueprints lie, by name.
fn blueprints(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for above in folder.ancestors().take(2) {
        for place in ["blueprints", "proxymock/blueprints"] {
            let Ok(entries) = fs::read_dir(above.join(place)) else { continue };
            let mut paths: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
                .collect();
            paths.sort();
            found.extend(paths);
        }
    }
    found
}

fn read(path: &Path, notes: &mut Vec<String>) -> Option<Value> {
    let size = fs::metadata(path).ok()?.len();
    if size > MAX_SIZE {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(document) => Some(document),
        Err(error) => {
            notes.push(format!(
                "{} is not JSON (line {}), so that its template is not applied",
                path.display(),
                error.line()
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(path: &str) -> Value {
        json!({"extractor": {"type": "res_body"}, "transforms": [{"type": "json_path", "config": {"path": path}}]})
    }

    fn workspace(files: &[(&str, Value)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for (name, document) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, document.to_string()).unwrap();
        }
        (dir, root)
    }

    fn metadata_with(chains: &[Value]) -> Value {
        json!({"id": "s", "tokenConfigId": "standard", "status": "Complete",
            "tokenizerConfig": {"id": "standard", "name": "standard", "generator": [], "responder": chains}})
    }

    #[test]
    fn metadata_is_found_beside_in_and_above_the_folder() {
        for place in [
            "w/s.json",
            "w/s/s.json",
            "w/s/.metadata/snapshot.json",
            "w/.metadata/snapshot.json",
            ".metadata/snapshot.json",
        ] {
            let (_dir, root) =
                workspace(&[(place, metadata_with(&[chain("a")])), ("w/s/raw.jsonl", json!({}))]);
            for recording in ["w/s", "w/s/raw.jsonl"] {
                let found = Embedded::find(&[root.join(recording)]);
                assert_eq!(
                    found.sources,
                    [Source { path: root.join(place), blueprint: false, chains: 1 }],
                    "{place}"
                );
                assert!(
                    found.is_source(&root.join(place)) && !found.is_source(&root.join(recording))
                );
                assert_eq!(found.template.unwrap(), json!({"responder": [chain("a")]}));
            }
        }
    }

    #[test]
    fn the_nearest_metadata_is_taken_and_active_blueprints_follow_in_order() {
        let blueprint = |active: bool, path: &str| {
            json!({"id": path, "active": active, "source": "tuning", "tokenizeConfig": {
            "id": path, "responder": [chain(path)], "responderVariables": [{"name": path}]}})
        };
        let (_dir, root) = workspace(&[
            ("proxymock/.metadata/snapshot.json", metadata_with(&[chain("m")])),
            (".metadata/snapshot.json", metadata_with(&[chain("far")])),
            ("proxymock/blueprints/2.json", blueprint(true, "two")),
            ("proxymock/blueprints/1.json", blueprint(true, "one")),
            ("proxymock/blueprints/3.json", blueprint(false, "off")),
            ("proxymock/rec/blueprints/x.json", blueprint(true, "own")),
            ("blueprints/no.json", blueprint(true, "two folders up")),
            ("proxymock/rec/1.json", json!({"msgType": "rrpair"})),
        ]);
        let found = Embedded::find(&[root.join("proxymock/rec")]);
        let responder = ["m", "own", "one", "two"].map(chain);
        let variables = ["own", "one", "two"].map(|name| json!({"name": name}));
        assert_eq!(
            found.template,
            Some(json!({"responder": responder, "responderVariables": variables}))
        );
        assert_eq!(found.sources.iter().filter(|source| source.blueprint).count(), 3);
        let text: Value = serde_json::from_str(&found.text("s-embedded").unwrap()).unwrap();
        assert_eq!(text["id"], "s-embedded");
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let (_dir, root) = workspace(&[
            ("s/raw.jsonl", json!({})),
            (
                "s.json",
                json!({"id": "s", "meta": {}, "tokenizerConfig": {"out": [{"type": "http_match_request_body", "filters": {}}]}}),
            ),
        ]);
        fs::create_dir_all(root.join("blueprints")).unwrap();
        fs::write(root.join("blueprints/b.json"), "{").unwrap();
        let found = Embedded::find(&[root.join("s")]);
        assert_eq!((&found.template, found.sources.len()), (&None, 0));
        assert!(found.notes[0].contains("http_match_request_body"), "{:?}", found.notes);
        assert!(found.notes[1].contains("not JSON"), "{:?}", found.notes);
        assert_eq!(found.text("x"), None);
    }

    #[test]
    fn a_filter_counts_when_it_selects() {
        let with = |filter: Value| {
            let (_dir, root) = workspace(&[
                ("s/raw.jsonl", json!({})),
                ("s.json", json!({"id": "s", "meta": {}, "filter_expression": filter})),
            ]);
            Embedded::find(&[root.join("s")])
        };
        let rule = |value: Value| json!({"conditions": [{"filters": [value]}]});
        let found = with(rule(json!({"include": true, "detectedLocation": "/a"})));
        assert!(found.filter.unwrap().1.contains("/a"));
        assert_eq!(with(rule(json!({"include": true}))).filter, None);
    }

    #[test]
    fn a_recording_of_the_same_name_is_no_metadata() {
        let (_dir, root) = workspace(&[
            ("s/raw.jsonl", json!({})),
            ("s.json", json!({"msgType": "rrpair", "http": {}})),
        ]);
        assert_eq!(Embedded::find(&[root.join("s"), root.join("nowhere")]), Embedded::default());
    }
}
