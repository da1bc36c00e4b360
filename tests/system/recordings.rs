//! Every recording at hand is imported, or refused with file, line and reason.

use harness::{
    process::{self},
    shared_data,
};
use serde_json::Value;

#[tokio::test]
async fn nothing_is_dropped_in_silence() {
    let table = [
        ("node-auth", 18, 0),
        ("wiremock-export-demo", 8, 0),
        ("go-drift-demo", 80, 0),
        ("dlp-demo", 5, 0),
        ("transform-recommendations", 8, 0),
        ("xml", 1, 0),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut plane = process::control_plane(dir.path(), "127.0.0.1:0");
    let server = format!("http://{}", plane.address("grpc").await);
    for (name, imported, refused) in table {
        let Some(folder) = shared_data(name) else { return };
        let folder = folder.to_string_lossy();
        let out = process::run(
            "countersign",
            ["--server", &server, "--output", "json", "snapshot", "import", &*folder, "--id", name],
        )
        .ok();
        let report: Value = serde_json::from_str(&out.stdout()).unwrap();
        let report = &report["report"];
        assert_eq!(number(&report["imported"]), imported, "{name}: {report}");
        assert_eq!(number(&report["refused"]), refused, "{name}: {report}");
        for finding in report["findings"].as_array().into_iter().flatten() {
            // What is said of the import as a whole names no file.
            let whole = finding["code"] == "signatures_kept";
            let named = finding["subject"].as_str().is_some_and(|file| !file.is_empty());
            assert!(named || whole, "{finding}");
            assert!(finding["message"].as_str().is_some_and(|why| !why.is_empty()), "{finding}");
        }
    }
}

/// Numbers of 64 bits may be written as text.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}
