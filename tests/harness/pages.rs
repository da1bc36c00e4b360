//! Pages of the documentation, taken apart: what a reader would type, which files are shown, and what is said to be printed.
//!
//! What a fence says behind its language tells what becomes of the block: `no-run=REASON`, `serves=PORT` (it runs until something else serves
//! there, or the page ends), `file=NAME`, `fails`, `printed` (by the last that serves), `needs=PROGRAM`, `kube`. Comments that begin with `run` or
//! `file NAME` do the same for what readers do not see. A word that is none of these is an error: a slip must not keep a command from being run.

mod expected;
mod run;

use std::path::Path;

pub use run::{Outcome, Place, can_isolate, run};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its path below the root of the repository.
    pub name: String,
    /// What there is to do, in order.
    pub steps: Vec<Step>,
}

/// A block.
#[derive(Debug)]
pub struct Step {
    /// The line of its fence, one-based.
    pub line: usize,
    /// What it is.
    pub what: What,
    /// The program without which it cannot be run.
    pub needs: Option<String>,
    /// Whether it is about a cluster.
    pub kube: bool,
}

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each kind says what it is")]
pub enum What {
    /// Commands; they end well, or all of them together do not.
    Script { text: String, fails: bool },
    /// Commands that serve at a port until they are ended.
    Server { text: String, port: u16 },
    /// Commands and what each of them prints.
    Console { entries: Vec<Entry>, fails: bool },
    /// A program in Python.
    Python { text: String },
    /// A file that the commands use.
    File { name: String, text: String },
    /// What the last server printed.
    Printed { text: String },
    /// Commands that cannot be run here, and why.
    Left { reason: String },
    /// A document in some language.
    Document { language: String, text: String },
}

/// A command and what it prints; nothing is said of a command without a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The command.
    pub command: String,
    /// What is printed.
    pub printed: String,
}

/// Takes a page apart.
///
/// # Errors
/// When a block is not closed, or a word behind its language is not known.
pub fn read(name: &str, text: &str) -> Result<Page, String> {
    let mut lines = text.lines().enumerate().map(|(nth, line)| (nth + 1, line));
    let mut steps = Vec::new();
    while let Some((line, opening)) = lines.next() {
        let trimmed = opening.trim_start();
        let fail = |why: &str| format!("{name}:{line}: {why}");
        if let Some(head) = trimmed.strip_prefix("<!-- ") {
            let hidden = head.starts_with("run") || head.starts_with("file ");
            if !hidden || head.ends_with("-->") {
                continue;
            }
            let body = until(&mut lines, 0, |line| line.trim() == "-->")
                .ok_or_else(|| fail("the comment has no end"))?;
            let what = match head.strip_prefix("file ") {
                Some(file) => What::File { name: file.trim().to_owned(), text: body },
                None => What::Script { text: body, fails: false },
            };
            steps.push(Step { line, what, needs: None, kube: head.contains("kube") });
        } else if trimmed.starts_with("```") {
            let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
            let info = trimmed.trim_start_matches('`').trim();
            let indent = opening.len() - trimmed.len();
            let fence = "`".repeat(ticks);
            let body = until(&mut lines, indent, |line| line.trim() == fence)
                .ok_or_else(|| fail("the block has no end"))?;
            steps.push(step(line, info, body).map_err(|why| fail(&why))?);
        }
    }
    Ok(Page { name: name.to_owned(), steps })
}

fn until<'t>(
    lines: &mut impl Iterator<Item = (usize, &'t str)>,
    indent: usize,
    ends: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut body = String::new();
    for (_, line) in lines {
        if ends(line) {
            return Some(body);
        }
        let blank = line.len() - line.trim_start().len();
        body.push_str(line.get(indent.min(blank)..).unwrap_or_default());
        body.push('\n');
    }
    None
}

#[derive(Default)]
struct Words {
    left: Option<String>,
    file: Option<String>,
    port: Option<u16>,
    needs: Option<String>,
    fails: bool,
    printed: bool,
    kube: bool,
}

fn words(info: &str) -> Result<(&str, Words), String> {
    let mut parts = info.split(',');
    let language = parts.next().unwrap_or_default().trim();
    let mut words = Words::default();
    for part in parts {
        let (word, value) = part.split_once('=').unwrap_or((part, ""));
        match (word.trim(), value.trim()) {
            ("no-run", reason) if reason.len() > 3 => words.left = Some(reason.to_owned()),
            ("file", name) if !name.is_empty() => words.file = Some(name.to_owned()),
            ("needs", program) if !program.is_empty() => words.needs = Some(program.to_owned()),
            ("serves", port) => {
                words.port = Some(port.parse().map_err(|_| format!("`{port}` is no port"))?);
            }
            ("fails", "") => words.fails = true,
            ("printed", "") => words.printed = true,
            ("kube", "") => words.kube = true,
            _ => return Err(format!("`{part}` says nothing of a block")),
        }
    }
    Ok((language, words))
}

fn step(line: usize, info: &str, text: String) -> Result<Step, String> {
    let (language, words) = words(info)?;
    let runs = matches!(language, "sh" | "bash" | "shell" | "console" | "python");
    let what = match (words.left, words.file, words.port) {
        (Some(reason), ..) if runs => What::Left { reason },
        (Some(_), ..) => return Err("nothing of this would be run anyway".to_owned()),
        (None, Some(name), _) => What::File { name, text },
        (None, None, Some(port)) if runs => What::Server { text, port },
        (None, None, Some(_)) => return Err("only commands serve".to_owned()),
        (None, None, None) if words.printed => What::Printed { text },
        (None, None, None) => match language {
            "console" => What::Console { entries: entries(&text)?, fails: words.fails },
            "python" => What::Python { text },
            _ if runs => What::Script { text, fails: words.fails },
            _ => What::Document { language: language.to_owned(), text },
        },
    };
    Ok(Step { line, what, needs: words.needs, kube: words.kube })
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            entries.push(Entry { command: format!("{command}\n"), printed: String::new() });
            goes_on = command.ends_with('\\');
        } else {
            let last = entries.last_mut().ok_or("a console begins with `$ ` and a command")?;
            let into = if goes_on { &mut last.command } else { &mut last.printed };
            into.push_str(line);
            into.push('\n');
            goes_on = goes_on && line.ends_with('\\');
        }
    }
    Ok(entries)
}

impl Page {
    /// Whether a part of it needs a cluster.
    #[must_use]
    pub fn is_about_a_cluster(&self) -> bool {
        self.steps.iter().any(|step| step.kube)
    }

    /// Whether there is anything to run.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.what, What::Document { .. }))
    }
}

/// Every page below a directory, by its path below the root.
///
/// # Errors
/// When one cannot be read.
pub fn below(root: &Path, dir: &str) -> Result<Vec<(String, String)>, String> {
    let fail = |why: std::io::Error| format!("{dir}: {why}");
    let mut pages = Vec::new();
    let mut entries = std::fs::read_dir(root.join(dir))
        .map_err(fail)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            pages.extend(below(root, &name)?);
        } else if path.extension().is_some_and(|end| end == "md") {
            pages.push((name, std::fs::read_to_string(&path).map_err(fail)?));
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_what_stands_behind_their_language() {
        let text = "a\n```sh\nls\n```\n  ```console,fails\n  $ false \\\n      x\n  no\n  ```\n```json,file=a/b.json\n{}\n```\n\
                    ```sh,no-run=needs a cluster\nx\n```\n<!-- run\ntrue\n-->\n````text\n```\n````\n";
        let page = read("p.md", text).unwrap();
        let whats: Vec<_> = page.steps.into_iter().map(|step| step.what).collect();
        let entry = Entry { command: "false \\\n    x\n".to_owned(), printed: "no\n".to_owned() };
        assert_eq!(
            whats,
            [
                What::Script { text: "ls\n".to_owned(), fails: false },
                What::Console { entries: vec![entry], fails: true },
                What::File { name: "a/b.json".to_owned(), text: "{}\n".to_owned() },
                What::Left { reason: "needs a cluster".to_owned() },
                What::Script { text: "true\n".to_owned(), fails: false },
                What::Document { language: "text".to_owned(), text: "```\n".to_owned() },
            ]
        );
    }

    #[test]
    fn a_slip_is_an_error() {
        for text in [
            "```sh,norun=x\n```\n",
            "```sh,no-run=\n```\n",
            "```sh\n",
            "```console\nls\n```\n",
            "<!-- run\n",
        ] {
            assert!(read("p.md", text).is_err(), "{text}");
        }
    }
}
