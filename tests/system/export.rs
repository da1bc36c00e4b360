//! What is exported can be imported again, and is the same recording.

use std::{fs, path::Path};

use harness::process::{self, Process};
use serde_json::Value;

const LINES: &str = concat!(
    r#"{"msgType":"rrpair","resource":"shop","ts":"2025-11-25T18:06:30.703560Z","isTls":true,"l7protocol":"https","duration":2,"elapsed":"0.002105s","tags":{"proxyLocation":"out"},"uuid":"AAECAwQFBgcICQoLDA0ODw==","direction":"OUT","service":"shop","network_address":"api.test:443","command":"POST","location":"/login","status":"200","http":{"req":{"url":"/login","uri":"/login?next=/a","version":"1.1","method":"POST","host":"api.test","headers":{"Content-Length":["8"],"Content-Type":["application/json"]},"bodyBase64":"eyJhIjogMX0="},"res":{"contentType":"text/plain","statusCode":200,"statusMessage":"200 OK","headers":{"Content-Type":["text/plain"],"Set-Cookie":["a=1, 2","b=3"]},"bodyBase64":"H4sI/w=="}},"signature":{"http:url":"L2xvZ2lu"},"mutableSignature":{"http:url":"/login"},"netinfo":{"id":"1"}}"#,
    "\n",
    r#"{"msgType":"rrpair","ts":"2025-11-25T18:06:31Z","l7protocol":"http","direction":"OUT","http":{"req":{"url":"/b","uri":"/b","version":"1.1","method":"GET","host":"api.test"},"res":{"statusCode":204}}}"#,
    "\n",
    r#"{"msgType":"rrpair","l7protocol":"http","direction":"OUT","http":{"req":{"url":"/b","uri":"/b","version":"1.1","method":"GET","host":"api.test"},"res":{"statusCode":200,"bodyBase64":"eyJuIjoyfQ=="}}}"#,
    "\n",
);

struct Plane {
    server: String,
    _process: Process,
}

impl Plane {
    fn run<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> process::Finished {
        let global = ["--server", &self.server, "--output", "json"];
        process::run("countersign", global.into_iter().chain(arguments))
    }

    /// Imports and returns the digest of the content: equal ones mean equal pairs in equal order, and so equal answers.
    fn import(&self, from: &Path, id: &str) -> Value {
        let from = from.to_string_lossy();
        let out = self.run(["snapshot", "import", &*from, "--id", id]).ok();
        let snapshot: Value = serde_json::from_str(&out.stdout()).unwrap();
        assert_eq!(snapshot["report"]["refused"], 0, "{snapshot}");
        snapshot["manifest"].clone()
    }

    fn export(&self, id: &str, format: &str, to: &Path) -> Value {
        let to = to.to_string_lossy();
        let out = self.run(["snapshot", "export", id, "--format", format, "--out", &*to]).ok();
        serde_json::from_str(&out.stdout()).unwrap()
    }
}

async fn plane(data: &Path) -> Plane {
    let mut process = process::control_plane(data, "127.0.0.1:0");
    let server = format!("http://{}", process.address("grpc").await);
    Plane { server, _process: process }
}

#[tokio::test]
async fn what_is_exported_is_the_same_when_it_is_imported_again() {
    let dir = tempfile::tempdir().unwrap();
    let plane = plane(&dir.path().join("data")).await;
    let recorded = dir.path().join("raw.jsonl");
    fs::write(&recorded, LINES).unwrap();
    let manifest = plane.import(&recorded, "recorded");

    let lines = dir.path().join("export.jsonl");
    let report = plane.export("recorded", "jsonl", &lines);
    assert_eq!((&report["pairs"], &report["findings"]), (&3.into(), &Value::Array(vec![])));
    assert_eq!(fs::read_to_string(&lines).unwrap(), LINES);
    assert_eq!(plane.import(&lines, "lines"), manifest);

    let folder = dir.path().join("export");
    let report = plane.export("recorded", "markdown", &folder);
    assert_eq!(report["findings"], Value::Array(vec![]));
    let imported = plane.import(&folder, "markdown");
    let again = plane.run(["snapshot", "export", "markdown", "--out", "-"]).ok();
    assert_eq!(again.stdout(), LINES);
    assert_eq!(imported, manifest);
}

#[tokio::test]
async fn what_other_formats_cannot_hold_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plane = plane(&dir.path().join("data")).await;
    let recorded = dir.path().join("raw.jsonl");
    fs::write(&recorded, LINES).unwrap();
    plane.import(&recorded, "recorded");

    let har = dir.path().join("export.har");
    let report = plane.export("recorded", "har", &har);
    assert_eq!(report["findings"][0]["code"], "not_representable", "{report}");
    plane.import(&har, "har");
    let mappings = dir.path().join("mappings.json");
    plane.export("recorded", "wiremock", &mappings);
    let mappings: Value = serde_json::from_str(&fs::read_to_string(mappings).unwrap()).unwrap();
    let mappings = mappings["mappings"].as_array().unwrap();
    let states: Vec<_> = mappings.iter().map(|m| m["newScenarioState"].as_str()).collect();
    assert_eq!(states, [None, Some("2"), Some("Started")]);
}

#[tokio::test]
async fn nothing_is_overwritten_unasked_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let plane = plane(&dir.path().join("data")).await;
    let recorded = dir.path().join("raw.jsonl");
    fs::write(&recorded, LINES).unwrap();
    plane.import(&recorded, "recorded");
    let out = recorded.to_string_lossy();
    let refused = plane.run(["snapshot", "export", "recorded", "--out", &*out]);
    assert_eq!(refused.code(), 2);
    assert!(refused.text().contains("--force"), "{}", refused.text());
    let replaced = plane.run(["snapshot", "export", "recorded", "--out", &*out, "--force"]);
    assert_eq!(replaced.code(), 0, "{}", replaced.text());
    let missing = plane.run(["snapshot", "export", "nothing", "--out", &*out, "--force"]);
    assert_eq!(missing.code(), 3, "{}", missing.text());
    assert_eq!(fs::read_to_string(&recorded).unwrap(), LINES);
    assert_eq!(plane.run(["snapshot", "export", "recorded", "--out", "-"]).ok().stdout(), LINES);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data", "raw.jsonl"]);
}
