//! The pipelines of `docs/ci.md` do what they are for: their commands are run, but for those that fetch something from elsewhere.

use std::fmt::Write as _;

use harness::pages::{self, What};
use serde_json::Value;

use super::{commands::place, root};

/// Lines of a pipeline that need what is not here: the binaries and packages are.
const ELSEWHERE: [&str; 4] = ["curl -sSfL", "pip install", "GITHUB_PATH", "cp \"$SHOP_KEY\""];

/// The commands of a pipeline, each with the line of the page that it is in.
fn commands(document: &Value) -> Vec<String> {
    let mut commands = Vec::new();
    let steps = document["jobs"]["replay"]["steps"].as_array();
    commands.extend(
        steps.into_iter().flatten().filter_map(|step| step["run"].as_str()).map(str::to_owned),
    );
    for part in ["before_script", "script"] {
        let lines = document["replay"][part].as_array();
        commands.extend(lines.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }
    commands
}

/// A page that does the same.
fn page(document: &Value) -> String {
    let mut page = String::from(
        "<!-- run\ncp -r \"$REPO\"/deploy/examples/* .\nmkdir -p secrets/shop\nopenssl genrsa -out key.pem 2048\n\
         export UPSTREAM=http://127.0.0.1:4140 JWKS_URL=http://127.0.0.1:4140/.well-known/jwks.json\n\
         export SHOP_KEY=\"$(cat key.pem)\" && cp key.pem secrets/shop/tls.key\n-->\n",
    );
    for command in commands(document) {
        let lines: Vec<&str> = command
            .lines()
            .filter(|line| !ELSEWHERE.iter().any(|part| line.contains(part)))
            .collect();
        if !lines.is_empty() {
            // How fast it is depends on the machine.
            let lines = lines.join("\n").replace(" --goal 'p99<250ms'", "");
            writeln!(page, "```sh\n{lines}\n```").unwrap();
        }
    }
    page.push_str("```sh\ngrep -q . report/report.json report/junit.xml\n```\n");
    page
}

#[test]
fn pipelines_do_what_the_page_says() {
    let text = std::fs::read_to_string(root().join("docs/ci.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), None);
    let mut run = 0;
    for step in pages::read("docs/ci.md", &text).unwrap().steps {
        let What::Document { language, text } = step.what else { continue };
        if language == "yaml" {
            let document: Value = serde_saphyr::from_str(&text).unwrap();
            let name = format!("docs/ci.md:{}", step.line);
            let outcome = pages::run(&pages::read(&name, &page(&document)).unwrap(), &place);
            assert!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
            assert!(outcome.run > 4, "{name}: {} commands were run", outcome.run);
            run += 1;
        }
    }
    assert_eq!(run, 2, "there are two pipelines");
}
