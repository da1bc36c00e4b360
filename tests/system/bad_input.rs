//! Bad input: a clear message with its place, an exit code, and nothing lost.

use std::{fs, net::TcpListener, path::Path};

use harness::process::{self, Process};
use serde_json::json;

struct Plane {
    dir: tempfile::TempDir,
    server: String,
    _plane: Process,
}

async fn plane() -> Plane {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let server = format!("http://{}", plane.address("grpc").await);
    Plane { dir, server, _plane: plane }
}

impl Plane {
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn run(&self, arguments: &[&str]) -> process::Finished {
        process::run("countersign", ["--server", &self.server].iter().chain(arguments))
    }

    /// Runs a command that must fail with this code and say all of this.
    fn fails(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let out = self.run(arguments);
        assert_eq!(out.code(), code, "{arguments:?}: {}", out.text());
        for part in says {
            assert!(
                out.text().contains(part),
                "{arguments:?} does not say `{part}`: {}",
                out.text()
            );
        }
    }
}

const WHOLE: &str = r#"{"msgType":"rrpair","ts":"2024-01-02T03:04:05Z","l7protocol":"http","direction":"OUT","http":{"req":{"url":"/a","uri":"/a","method":"GET","host":"h"},"res":{"statusCode":200}}}"#;

#[tokio::test]
async fn recordings_with_damage() {
    let plane = plane().await;
    let cut = plane.file("cut.jsonl", &format!("{WHOLE}\n{WHOLE}\n{}", WHOLE.split_at(80).0));
    plane.fails(&["snapshot", "import", &cut, "--id", "strict", "--strict"], 2, &["cut.jsonl:3"]);
    let out = plane.run(&["snapshot", "import", &cut, "--id", "lenient"]).ok();
    assert!(out.text().contains("cut.jsonl:3"), "{}", out.text());
    let shown = plane.run(&["snapshot", "show", "lenient", "--output", "json"]).ok();
    assert!(shown.stdout().contains('2'), "the two whole pairs are kept: {}", shown.text());

    let bare = plane.file("bare.md", "GET / HTTP/1.1\n\nno sections at all\n");
    plane.fails(&["snapshot", "import", &bare, "--id", "bare"], 2, &["bare.md"]);
}

#[tokio::test]
async fn templates_with_mistakes() {
    let plane = plane().await;
    let template = |name: &str, step: serde_json::Value| {
        let chain = json!({"extractor": {"type": "res_body"}, "transforms": [{"type": "json_path", "config": {"path": "a"}}, step]});
        plane.file(name, &json!({"id": "t", "responder": [chain]}).to_string())
    };
    let resign = |config: serde_json::Value| json!({"type": "jwt_resign", "config": config});
    let table = [
        (
            "regex.json",
            json!({"type": "regex", "config": {"pattern": "("}}),
            ["responder[0].transforms[1].config.pattern", "("],
        ),
        (
            "claims.json",
            resign(json!({"secretPath": "a/b", "claims": "a"})),
            ["responder[0].transforms[1].config.claims", "key=value"],
        ),
        (
            "dots.json",
            resign(json!({"secretPath": "/home/speedscale/secret/../../etc/passwd"})),
            ["responder[0].transforms[1].config.secretPath", "secret directory"],
        ),
    ];
    for (name, step, says) in table {
        let file = template(name, step);
        plane.fails(&["transform", "validate", &file], 2, &says);
        plane.fails(&["transform", "put", &file], 2, &says);
    }
    let listed = plane.run(&["transform", "list", "--output", "json"]).ok();
    assert!(!listed.stdout().contains("transforms/t"), "nothing was stored: {}", listed.text());

    // A chain of an unknown kind is left out, and told; the others run.
    let unknown = template("unknown.json", json!({"type": "xslt"}));
    let stored = plane.run(&["transform", "put", &unknown]).ok();
    for part in ["responder[0].transforms[1].type", "known are: aws_auth"] {
        assert!(stored.text().contains(part), "{}", stored.text());
    }
}

#[tokio::test]
async fn names_that_do_not_exist_and_servers_that_do_not_answer() {
    let plane = plane().await;
    plane.fails(&["snapshot", "show", "nope"], 3, &["nope"]);
    plane.fails(&["replay", "start", "--snapshot", "nope"], 3, &["nope"]);
    plane.fails(&["testconfig", "delete", "standard"], 2, &["clone"]);
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out =
        process::run("countersign", ["--server", &format!("http://{dead}"), "snapshot", "list"]);
    assert_eq!(out.code(), 4, "{}", out.text());
}

#[tokio::test]
async fn ports_and_directories_that_cannot_be_used() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let out = process::run("countersign-control-plane", ["--listen", &taken, "--data-dir", &data]);
    assert_ne!(out.code(), 0);
    assert!(out.text().contains(&taken) && out.text().contains("in use"), "{}", out.text());
    let out = process::run(
        "countersign-responder",
        [
            "--listen",
            &taken,
            "--admin-listen",
            "127.0.0.1:0",
            "--control-plane",
            "http://127.0.0.1:9",
        ],
    );
    assert_ne!(out.code(), 0);
    assert!(out.text().contains(&taken) && out.text().contains("in use"), "{}", out.text());

    // A file where a directory is needed cannot be read as one, not even by root.
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let out = process::run(
        "countersign-control-plane",
        ["--listen", "127.0.0.1:0", "--data-dir", &file.to_string_lossy()],
    );
    assert_eq!(out.code(), 78, "{}", out.text());
    assert!(out.text().contains(&*file.to_string_lossy()), "{}", out.text());
    assert!(Path::new(&file).is_file(), "nothing is lost");
}
