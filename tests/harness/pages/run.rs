//! Runs a page as a reader would, in one shell and a directory of its own, and tells what is not as the page says.
//!
//! Where the system allows it each page has a network of its own, so that all of them may take the usual ports at the same time.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use super::{Page, Step, What, expected};

/// Held by a page that shares the network with the others, so that they do not meet at a port.
static ALONE: Mutex<()> = Mutex::new(());
/// How long a page may take, in seconds.
const PATIENCE: &str = "400";

/// What pages are run with.
#[derive(Debug, Clone)]
pub struct Place {
    /// The root of the repository, `$REPO` to hidden commands.
    pub root: PathBuf,
    /// The directories of programs that come before those of the system.
    pub programs: Vec<PathBuf>,
    /// More variables.
    pub variables: Vec<(String, String)>,
    /// Whether there is a cluster.
    pub cluster: bool,
    /// Whether pages have a network of their own.
    pub isolated: bool,
}

/// What came of a page.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many blocks were run.
    pub run: usize,
    /// Which are marked as not to be run, and why.
    pub marked: Vec<String>,
    /// Which were not run for want of a program or of a cluster.
    pub wanting: Vec<String>,
    /// What is not as the page says.
    pub wrong: Vec<String>,
}

/// Whether processes may have a network of their own.
#[must_use]
pub fn can_isolate() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-rn", "ip", "link", "set", "lo", "up"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a page.
#[must_use]
pub fn run(page: &Page, place: &Place) -> Outcome {
    let mut outcome = Outcome::default();
    let dir = tempfile::tempdir().expect("a directory");
    let script = write(page, place, dir.path(), &mut outcome).expect("files are written");
    if outcome.run == 0 {
        return outcome;
    }
    let alone = (!place.isolated).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    let output = command(place, dir.path(), &script).output().expect("a shell starts");
    drop(alone);
    let at = fs::read_to_string(dir.path().join("at")).unwrap_or_default();
    let at: usize = at.trim().parse().unwrap_or_default();
    if !output.status.success() {
        let mut told = String::new();
        if let Some(step) = page.steps.get(at) {
            writeln!(told, "{}:{}: {:?}", page.name, step.line, step.what).unwrap();
        }
        writeln!(told, "ended with {}", output.status).unwrap();
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        told.push_str(&String::from_utf8_lossy(&output.stderr));
        told.push_str(&last_words(dir.path(), at));
        outcome.wrong.push(told);
    }
    let reached = if output.status.success() { page.steps.len() } else { at };
    for (nth, step) in page.steps.iter().enumerate().take(reached) {
        compare(page, step, nth, dir.path(), place, &mut outcome);
    }
    outcome
}

/// What the step printed that did not end well, and the servers beside it.
fn last_words(dir: &Path, at: usize) -> String {
    let mut words = String::new();
    let Ok(entries) = fs::read_dir(dir.join("out")) else { return words };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == at.to_string()
            || name.starts_with(&format!("{at}."))
            || name.ends_with(".served")
        {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            writeln!(words, "--- {name}:\n{}", tail.join("\n")).unwrap();
        }
    }
    words
}

/// Why a step cannot be run here.
fn wanting(step: &Step, place: &Place) -> Option<String> {
    if step.kube && !place.cluster {
        return Some("a cluster".to_owned());
    }
    let program = step.needs.as_ref()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = place
        .programs
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .any(|dir| dir.join(program).exists());
    (!here).then(|| program.clone())
}

/// Writes the steps as files and the script that takes them.
fn write(
    page: &Page,
    place: &Place,
    dir: &Path,
    outcome: &mut Outcome,
) -> std::io::Result<PathBuf> {
    for part in ["steps", "out", "page", "home"] {
        fs::create_dir(dir.join(part))?;
    }
    let prelude = fs::read_to_string(place.root.join("tests/harness/pages/page.sh"))?;
    let mut script = format!("{prelude}\ncd \"$BOOK/page\"\n");
    for (nth, step) in page.steps.iter().enumerate() {
        if let What::Left { reason } = &step.what {
            outcome.marked.push(format!("{}:{}: {reason}", page.name, step.line));
            continue;
        }
        if let Some(what) = wanting(step, place) {
            outcome.wanting.push(format!("{}:{}: {what}", page.name, step.line));
            continue;
        }
        let steps = dir.join("steps");
        let one = |name: &str, text: &str| fs::write(steps.join(name), text);
        let (file, out) = (format!("\"$BOOK/steps/{nth}\""), format!("\"$BOOK/out/{nth}\""));
        let begin = format!("echo {nth} >\"$BOOK/at\"");
        outcome.run += 1;
        match &step.what {
            What::Script { text, fails } => {
                one(&nth.to_string(), text)?;
                let line =
                    if *fails { failing(&file, &out) } else { format!(". {file} >{out} 2>&1") };
                writeln!(script, "{begin}; {line}").unwrap();
            }
            What::Server { text, port } => {
                one(&nth.to_string(), text)?;
                writeln!(script, "{begin}; serve {port} {file} \"$BOOK/out/{nth}.served\"")
                    .unwrap();
            }
            What::Console { entries, fails } => {
                for (part, entry) in entries.iter().enumerate() {
                    one(&format!("{nth}.{part}"), &entry.command)?;
                    let (file, out) = (
                        format!("\"$BOOK/steps/{nth}.{part}\""),
                        format!("\"$BOOK/out/{nth}.{part}\""),
                    );
                    let last = *fails && part + 1 == entries.len();
                    let line =
                        if last { failing(&file, &out) } else { format!(". {file} >{out} 2>&1") };
                    writeln!(script, "{begin}; {line}").unwrap();
                }
            }
            What::Python { text } => {
                one(&format!("{nth}.py"), text)?;
                writeln!(script, "{begin}; python \"$BOOK/steps/{nth}.py\" >{out} 2>&1").unwrap();
            }
            What::File { name, text } => {
                one(&nth.to_string(), text)?;
                writeln!(script, "{begin}; mkdir -p \"$(dirname '{name}')\"; cp {file} '{name}'")
                    .unwrap();
            }
            What::Printed { .. } | What::Document { .. } | What::Left { .. } => outcome.run -= 1,
        }
    }
    let path = dir.join("page.sh");
    fs::write(&path, script)?;
    Ok(path)
}

fn failing(file: &str, out: &str) -> String {
    format!("if (. {file}) >{out} 2>&1; then echo 'this was said to fail'; exit 1; fi")
}

fn command(place: &Place, dir: &Path, script: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "10", PATIENCE]);
    if place.isolated {
        command.args(["unshare", "-rn", "sh", "-c", "ip link set lo up && exec bash \"$0\""]);
    } else {
        command.arg("bash");
    }
    command.arg(script).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["COUNTERSIGN_", "AWS_", "PG", "CARGO_"].iter().any(|start| name.starts_with(start))
            || [
                "COLUMNS",
                "LINES",
                "RUST_LOG",
                "CI",
                "http_proxy",
                "https_proxy",
                "HTTP_PROXY",
                "HTTPS_PROXY",
            ]
            .contains(&&*name)
        {
            command.env_remove(&*name);
        }
    }
    let before = std::env::var_os("PATH").unwrap_or_default();
    let paths = place.programs.iter().cloned().chain(std::env::split_paths(&before));
    command.env("PATH", std::env::join_paths(paths).expect("paths without a colon"));
    command.env("REPO", &place.root).env("BOOK", dir).env("HOME", dir.join("home"));
    command.env("NO_COLOR", "1").env("XDG_CONFIG_HOME", dir.join("home/.config"));
    command.envs(place.variables.iter().map(|(name, value)| (name, value)));
    command
}

/// What a step has printed is what stands behind it.
fn compare(page: &Page, step: &Step, nth: usize, dir: &Path, place: &Place, outcome: &mut Outcome) {
    if wanting(step, place).is_some() {
        return;
    }
    let at = format!("{}:{}", page.name, step.line);
    let out = |name: &str| fs::read_to_string(dir.join("out").join(name)).unwrap_or_default();
    match &step.what {
        What::Console { entries, .. } => {
            for (part, entry) in entries.iter().enumerate() {
                let printed = out(&format!("{nth}.{part}"));
                let aside = entry.command.trim_end().ends_with('&');
                if !aside && !expected::is(&entry.printed, &printed) {
                    let command = entry.command.trim();
                    outcome.wrong.push(format!(
                        "{at}: `{command}` is said to print\n{}\nand prints\n{printed}",
                        entry.printed
                    ));
                }
            }
        }
        What::Printed { text } => {
            let last = (0..nth).rev().find(|nth| {
                matches!(page.steps.get(*nth).map(|step| &step.what), Some(What::Server { .. }))
            });
            let printed = last.map(|last| out(&format!("{last}.served"))).unwrap_or_default();
            if !expected::are_among(text, &printed) {
                outcome.wrong.push(format!(
                    "{at}: the server is said to print\n{text}\nand prints\n{printed}"
                ));
            }
        }
        _ => {}
    }
}
