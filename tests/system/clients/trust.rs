//! The same clients over TLS, each told to trust the CA with the very lines that docs/tls.md has for it.

use std::{fs, path::Path, process::Command};

use harness::{notice, scripts::Script};
use serde_json::json;

use super::{World, plan, script};

/// What a user types to have a client trust the CA below `ca`, from the documentation.
pub(crate) fn lines(client: &str) -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tls.md");
    let document = fs::read_to_string(document).unwrap();
    let section = document.split("\n## Trust\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = section.lines().find(|line| line.starts_with('|') && line.contains(client));
    let setting = row.unwrap().split('|').nth(2).unwrap().trim();
    match setting.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        Some(variable) => format!("export {variable}"),
        // "See below".
        None => {
            let (_, block) = section.split("```sh").nth(1).unwrap().split_once('\n').unwrap();
            block.split("```").next().unwrap().to_owned()
        }
    }
}

#[tokio::test]
async fn each_trusts_the_ca_as_documented_and_gets_the_same_over_tls() {
    let Some(world) = World::start().await else { return };
    let base = format!("https://{}", world.base);
    let mut plan = world.plan.clone();
    plan["jwks"] = json!(format!("{base}{}", plan::KEYS));
    plan["base"] = json!(base);
    let http = "jwt, cryptography, requests, authlib";
    // PyJWT fetches keys with urllib.
    let python = format!("{}\n{}", lines("`requests`"), lines("`urllib`"));
    let mut scripts = vec![
        (Script::python("Python over TLS", &script("sut.py"), http), python),
        (Script::node("Node.js over TLS", &script("sut.mjs")), lines("Node.js")),
        (Script::go("Go over TLS"), lines("Go")),
    ];
    if Command::new("keytool").arg("-help").output().is_ok() {
        scripts.push((Script::java("Java over TLS", &script("Client.java")), lines("Java")));
    } else {
        notice("Java over TLS is not run: there is no keytool");
    }
    for (script, lines) in scripts {
        let Some(script) = script else { continue };
        // Not having been told, it refuses, so that the lines are what does it.
        assert!(script.try_run(&plan).is_err(), "{} trusts anybody", script.name());
        world.run(&script.after(world.dir.path(), &lines), &plan).await;
    }
}
