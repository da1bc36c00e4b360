//! Images without an engine that builds them: each step of the Dockerfile is run or looked up as far as that goes, and what starts from the
//! images is tried with the real binaries.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    binaries,
    process::{self, Process},
};
use serde_json::Value;

const OUT: &str = "/out/";
/// Stands for rustup, apt-get, rm and cargo: tells what it was asked for, and makes what cargo would have.
const TOOL: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >>"$LOG"
[ "$(basename "$0")" = cargo ] || exit 0
env | grep -E '^(CC_|CXX_|AR_|CARGO_TARGET_|JEMALLOC_)' >>"$LOG"
for one in "$@"; do [ "$before" = --target ] && triple=$one; before=$one; done
mkdir -p "target/$triple/dist"
for binary in $BINARIES; do echo "$triple" >"target/$triple/dist/$binary"; done
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A stage: its name, what it is based on, and its instructions.
#[derive(Debug)]
struct Stage {
    name: String,
    base: String,
    steps: Vec<(String, String)>,
}

impl Stage {
    fn all(&self, instruction: &str) -> impl Iterator<Item = &str> {
        let instruction = instruction.to_owned();
        self.steps
            .iter()
            .filter(move |(name, _)| *name == instruction)
            .map(|(_, rest)| rest.as_str())
    }

    /// A form with brackets.
    fn words(&self, instruction: &str) -> Option<Vec<String>> {
        let line = self.all(instruction).last()?;
        let (_, form) = line.split_once('[')?;
        Some(serde_json::from_str(&format!("[{form}")).unwrap())
    }
}

fn dockerfile() -> Vec<Stage> {
    let text = fs::read_to_string(root().join("deploy/docker/Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            let words: Vec<_> =
                rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
            let (name, base) = (words[2].to_owned(), words[0].to_owned());
            stages.push(Stage { name, base, steps: Vec::new() });
        } else {
            let step = (instruction.to_owned(), rest.trim().to_owned());
            stages.last_mut().unwrap().steps.push(step);
        }
    }
    stages
}

/// What a stage copies from elsewhere: sources and the destination, without options.
fn copies(stage: &Stage, from_build: bool) -> Vec<Vec<String>> {
    let copies = stage.all("COPY").filter(|line| line.contains("--from=build") == from_build);
    let words = copies.map(|line| line.split_whitespace().filter(|word| !word.starts_with("--")));
    words.map(|words| words.map(str::to_owned).collect()).collect()
}

/// Runs the commands of the build stage for one architecture on another one, with tools that note what they are asked for, and returns the
/// notes and what has been put into `/out`.
fn build(stage: &Stage, machine: &str, target: &str) -> (String, BTreeSet<String>) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["tools", "src"] {
        fs::create_dir(at(name)).unwrap();
    }
    for tool in ["rustup", "apt-get", "rm", "cargo"] {
        fs::write(at("tools").join(tool), TOOL).unwrap();
        fs::set_permissions(at("tools").join(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for words in copies(stage, false) {
        let place = words.last().unwrap().trim_start_matches('/');
        if place != "." {
            fs::copy(root().join(&words[0]), at(place)).unwrap();
        }
    }
    let inside = format!("{}/", dir.path().display());
    for run in stage.all("RUN") {
        let words = run.split_whitespace().filter(|word| !word.starts_with("--mount="));
        let line: Vec<_> = words
            .map(|word| {
                if let Some(path) = word.strip_prefix('/') {
                    format!("{inside}{path}")
                } else {
                    word.to_owned()
                }
            })
            .collect();
        let path = format!("{}:{}", at("tools").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line.join(" ")]).current_dir(at("src"));
        shell.env_clear().env("PATH", path).env("LOG", at("log"));
        shell.env("BUILDARCH", machine).env("TARGETARCH", target);
        shell.env("BINARIES", bins().into_values().flatten().collect::<Vec<_>>().join(" "));
        let out = shell.output().unwrap();
        assert!(out.status.success(), "{run}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let made = fs::read_dir(at("out")).unwrap();
    let made = made.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    (fs::read_to_string(at("log")).unwrap(), made)
}

/// The binaries of our packages.
fn bins() -> BTreeMap<String, Vec<String>> {
    let metadata = ["metadata", "--format-version=1", "--no-deps", "--locked", "--offline"];
    let out = Command::new(env!("CARGO")).args(metadata).current_dir(root()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let bins = |package: &Value| {
        let targets = package["targets"].as_array().unwrap().iter();
        targets
            .filter(|target| target["kind"][0] == "bin")
            .map(|target| text(&target["name"]))
            .collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), bins(package))).collect()
}

#[test]
fn the_build_stage_builds_what_the_images_hold() {
    let stages = dockerfile();
    let stage = &stages[0];
    assert_eq!(stage.name, "build");
    // The compiler is new enough for the workspace.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
    assert!(stage.base.contains(&format!("rust:{}-", wanted.trim_end_matches('"'))), "{stage:?}");
    for (machine, target) in
        [("amd64", "amd64"), ("amd64", "arm64"), ("arm64", "amd64"), ("arm64", "arm64")]
    {
        let (log, made) = build(stage, machine, target);
        let cargo = log.lines().find(|line| line.starts_with("cargo ")).unwrap();
        let words: Vec<_> = cargo.split_whitespace().collect();
        let after = |flag: &str| {
            words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]).collect::<Vec<_>>()
        };
        // What cargo is asked for is there, and is all that the images need.
        assert_eq!(
            (words[1], words.contains(&"--locked"), words.contains(&"--bins")),
            ("build", true, true)
        );
        let profile = after("--profile")[0];
        assert!(manifest.contains(&format!("[profile.{profile}]")), "{profile}");
        let bins = bins();
        let built: BTreeSet<&String> =
            after("-p").into_iter().flat_map(|package| &bins[package]).collect();
        for stage in &stages[1..] {
            for words in copies(stage, true) {
                let name = words[0].strip_prefix(OUT).unwrap();
                assert!(made.contains(name), "{name} is not in {made:?}");
                assert!(name == "empty" || built.contains(&name.to_owned()), "{name} is not built");
            }
        }
        let triple = if target == "amd64" {
            "x86_64-unknown-linux-gnu"
        } else {
            "aarch64-unknown-linux-gnu"
        };
        assert_eq!(after("--target"), [triple]);
        assert!(log.contains(&format!("rustup target add {triple}")), "{log}");
        assert_eq!(log.contains("JEMALLOC_SYS_WITH_LG_PAGE=16"), target == "arm64", "{log}");
        for word in ["apt-get install", "_LINKER=", "CC_"] {
            assert_eq!(log.contains(word), machine != target, "{word}: {log}");
        }
    }
    let script = root().join("deploy/docker/build.sh");
    let other =
        Command::new("sh").arg(script).args(["tools", "amd64", "riscv64"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn images_start_as_nobody_from_binaries_that_understand_what_they_are_given() {
    let stages = dockerfile();
    let names: BTreeSet<&str> = stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(
        names,
        ["base", "build", "control-plane", "countersign", "operator", "responder"].into()
    );
    assert!(stages[1].base.contains("distroless") && stages[1].base.ends_with(":nonroot"));
    assert_eq!(stages[1].all("USER").last(), Some("65532:65532"));
    for stage in &stages[2..] {
        assert_eq!((stage.base.as_str(), stage.all("USER").count()), ("base", 0), "{}", stage.name);
        let entry = stage.words("ENTRYPOINT").unwrap();
        let binary = entry[0].strip_prefix("/usr/local/bin/").unwrap();
        assert!(
            copies(stage, true)
                .iter()
                .any(|words| words[0] == format!("{OUT}{binary}") && words[1] == entry[0])
        );
        let variables: Vec<_> =
            stage.all("ENV").map(|line| line.split_once('=').unwrap()).collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let help = process::run_in(binary, ["--help"], &variables).ok().text();
        for (name, value) in variables.iter().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
            assert!(help.contains(&format!("{name}={value}")), "{binary} does not know {name}");
        }
        // Volumes belong to who writes there.
        for volume in stage.all("VOLUME") {
            assert!(
                copies(stage, true)
                    .iter()
                    .any(|words| words[0] == "/out/empty" && words[1] == volume)
            );
        }
    }
}

/// What health checks run, with the port of a process of the test.
fn probe(stage: &Stage, port: u16) -> i32 {
    let words = stage.words("HEALTHCHECK").unwrap();
    assert_eq!(words[0], "/usr/local/bin/countersign-probe");
    let (before, after) = words[1].rsplit_once(':').unwrap();
    let path = after.trim_start_matches(|c: char| c.is_ascii_digit());
    process::run("countersign-probe", [format!("{before}:{port}{path}")]).code()
}

#[tokio::test]
async fn health_checks_tell_the_living_from_the_dead() {
    let stages = dockerfile();
    let stage = |name: &str| stages.iter().find(|stage| stage.name == name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut control_plane = process::control_plane(dir.path(), "127.0.0.1:0");
    let port = control_plane.address("grpc").await.port();
    assert_eq!(probe(stage("control-plane"), port), 0);
    let cache = dir.path().join("cache").to_string_lossy().into_owned();
    let any = "127.0.0.1:0";
    let mut responder = Process::start(
        "countersign-responder",
        ["--listen", any, "--admin-listen", any, "--cache-dir", &cache],
    );
    let admin = responder.address("admin").await.port();
    assert_eq!(probe(stage("responder"), admin), 0);
    // A server that says otherwise, a port where nobody is, and no place at all.
    let place = format!("http://127.0.0.1:{admin}/nothing");
    assert_eq!(process::run("countersign-probe", [place]).code(), 1);
    responder.kill();
    control_plane.kill();
    assert_eq!((probe(stage("responder"), admin), probe(stage("control-plane"), port)), (1, 1));
    assert_eq!(process::run("countersign-probe", ["127.0.0.1:1"]).code(), 2);
    assert_eq!(process::run("countersign-probe", [""; 0]).code(), 2);
}

#[test]
fn the_compose_file_starts_what_the_dockerfile_makes() {
    let text = fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let stages = dockerfile();
    let services = file["services"].as_object().unwrap();
    let mut ports = BTreeSet::new();
    for (name, service) in services {
        let context = root().join("deploy").join(service["build"]["context"].as_str().unwrap());
        assert!(context.join(service["build"]["dockerfile"].as_str().unwrap()).is_file());
        let target = service["build"]["target"].as_str().unwrap();
        let stage = stages.iter().find(|stage| stage.name == target).unwrap();
        let binary = stage.words("ENTRYPOINT").unwrap()[0].replace("/usr/local/bin/", "");
        assert_eq!(
            service["image"].as_str().unwrap(),
            format!("{binary}:{}", env!("CARGO_PKG_VERSION"))
        );
        let command = service["command"].as_array().unwrap().iter();
        let command = command.map(|word| word.as_str().unwrap()).chain(["--help"]);
        assert!(process::run(&binary, command).ok().text().contains("Usage:"), "{name}");
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()));
        for other in service["depends_on"].as_object().into_iter().flat_map(|others| others.keys())
        {
            let target = services[other]["build"]["target"].as_str().unwrap();
            let stage = stages.iter().find(|stage| stage.name == target).unwrap();
            assert!(stage.words("HEALTHCHECK").is_some(), "{other} has no health");
        }
        for port in service["ports"].as_array().unwrap() {
            let port = port.as_str().unwrap();
            assert!(port.starts_with("127.0.0.1:") && ports.insert(port.to_owned()), "{port}");
        }
        for volume in service["volumes"].as_array().unwrap() {
            let named = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(named.starts_with("${") || file["volumes"].get(named).is_some(), "{named}");
        }
    }
    assert_eq!(services.len(), 4);
    assert!(binaries::path("countersign-probe").is_file());
}
