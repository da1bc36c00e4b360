//! The conformance suite of HTTP/2, h2spec, against a responder that serves a recording: strictly, plain and over TLS.

use std::process::Command;

use harness::notice;

use crate::tls::{JWKS, authority, dev};

/// The suite has grown to this many cases; fewer means that it was not run whole.
const CASES: u32 = 146;

/// h2spec; `None`, with a notice, where it is absent, which CI must have.
fn h2spec() -> Option<Command> {
    let name = std::env::var("COUNTERSIGN_H2SPEC").unwrap_or_else(|_| "h2spec".to_owned());
    let command = Command::new(&name);
    if Command::new(&name).arg("--version").output().is_ok() {
        return Some(command);
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs h2spec");
    notice("there is no h2spec, HTTP/2 is not checked with it; `.ci/run h2spec` installs it");
    None
}

#[tokio::test]
async fn every_case_passes_plain_and_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let mut dev = dev(&["--tls-ca", &ca]);
    let port = dev.address("data").await.port().to_string();
    for over_tls in [false, true] {
        let Some(mut h2spec) = h2spec() else { return };
        h2spec.args(["--strict", "--host", "127.0.0.1", "--port", &port, "--path", JWKS]);
        if over_tls {
            // It can be told no certificate to trust.
            h2spec.args(["--tls", "--insecure"]);
        }
        let ran = h2spec.output().unwrap();
        let text = String::from_utf8_lossy(&ran.stdout);
        let failures = text.split_once("Failures:").map_or("", |(_, failures)| failures);
        assert!(ran.status.success() && failures.is_empty(), "over TLS: {over_tls}\n{failures}");
        let summary = text.lines().rev().find(|line| line.contains(" tests, ")).unwrap();
        let counts: Vec<u32> = summary
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let [all, passed, skipped, failed] = counts[..] else { panic!("{summary}") };
        assert!(all >= CASES && passed == all && skipped + failed == 0, "{summary}");
    }
}
