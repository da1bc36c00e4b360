//! `countersign convert`: manifests of the incumbent become manifests for Countersign's operator.
//!
//! A manifest is edited as text, and only where it has to change: comments, order and notation stay, and what is no TrafficReplay stays byte for
//! byte. A file with anything that cannot be converted is not written at all.

mod finding;
mod replay;
#[cfg(test)]
mod tests;
mod workload;
mod yaml;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Value, json};

use self::{
    finding::{Findings, Place},
    replay::Edit,
    yaml::Node,
};
use super::read_text;
use crate::{failure::Failure, output::Output};

/// Converts manifests.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  See what becomes of a manifest, and what has no meaning here:
    countersign convert replay.yaml
  Convert a directory of manifests where they are; what is no TrafficReplay stays as it is:
    countersign convert --in-place manifests/*.yaml
  Take replays over from a cluster:
    kubectl get trafficreplays.speedscale.com -o yaml | countersign convert - | kubectl apply -f -

A TrafficReplay of speedscale.com/v1 becomes one of countersign.dev/v1 with the same fields. A workload with the
annotation replay.speedscale.com/snapshot-id gets a TrafficReplay behind it. What has no effect here, and what is left
out because it belonged to the old resource, is told on stderr with its document and field.

Nothing is printed of a file, and nothing is written to it, if anything in it cannot be converted; the exit code
is 2 then.")]
pub(crate) struct ConvertArgs {
    /// The manifests: YAML or JSON, several documents to a file; `-` for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Write the files anew instead of printing what becomes of them
    #[arg(long)]
    in_place: bool,
}

/// What became of a file.
struct Converted {
    file: PathBuf,
    before: String,
    after: String,
    converted: usize,
    made: usize,
    errors: usize,
}

/// Runs the command.
pub(crate) fn run(args: &ConvertArgs, out: &Output) -> Result<ExitCode, Failure> {
    if args.in_place && args.files.iter().any(|file| file == Path::new("-")) {
        return Err(Failure::refused("stdin cannot be written to; leave out --in-place"));
    }
    let mut found = Findings::default();
    let files = args
        .files
        .iter()
        .map(|path| Ok(file(path, read_text(path)?, &mut found)))
        .collect::<Result<Vec<_>, Failure>>()?;
    for (is_error, line) in found.lines() {
        out.finding(is_error, if is_error { "error" } else { "warning" }, &line);
    }
    for file in files.iter().filter(|file| file.errors == 0) {
        if args.in_place && file.after != file.before {
            replace(&file.file, &file.after)?;
        }
    }
    if out.is_json() {
        out.json(&json!({
            "files": files.iter().map(|file| describe(file, args.in_place)).collect::<Value>(),
            "findings": found.json(),
        }));
    } else if args.in_place {
        for file in files.iter().filter(|file| file.errors == 0) {
            let (name, converted, made) = (file.file.display(), file.converted, file.made);
            out.text(&format!("{name}: {converted} converted, {made} made from annotations"));
        }
    } else {
        out.raw(joined(&files).as_bytes());
    }
    match files.iter().filter(|file| file.errors > 0).count() {
        0 => Ok(ExitCode::SUCCESS),
        refused => Err(Failure::refused(format!(
            "{refused} of {} files cannot be converted, for the {} reasons above",
            files.len(),
            found.errors()
        ))),
    }
}

/// What becomes of the text of a file.
fn file(path: &Path, before: String, found: &mut Findings) -> Converted {
    let name = if path == Path::new("-") { "stdin".into() } else { path.to_string_lossy() };
    let (mut after, mut converted, mut made) = (String::new(), 0, 0);
    let errors = found.errors();
    for (index, text) in yaml::documents(&before).into_iter().enumerate() {
        let mut document = Document { text, edits: Vec::new(), more: Vec::new(), converted: 0 };
        document.read(&Place::document(&name, index + 1), found);
        converted += document.converted;
        made += document.more.len();
        after.push_str(&document.finish());
    }
    let errors = found.errors() - errors;
    Converted { file: path.to_owned(), before, after, converted, made, errors }
}

/// A document and what is to become of it.
struct Document<'a> {
    text: &'a str,
    edits: Vec<Edit>,
    more: Vec<String>,
    converted: usize,
}

impl Document<'_> {
    fn read(&mut self, place: &Place<'_>, found: &mut Findings) {
        match yaml::parse(self.text) {
            Ok(Some(root)) => self.object(&root, place, found),
            Ok(None) => {}
            Err(error) if self.text.contains("speedscale.com/") => {
                found.error(place, format!("it is no YAML: {error}"));
            }
            Err(error) => found.warn(place, format!("it is no YAML, and is kept: {error}")),
        }
    }

    fn object(&mut self, object: &Node, place: &Place<'_>, found: &mut Findings) {
        if let Some(items) = object.get("items") {
            for (index, item) in items.items().iter().enumerate() {
                self.object(item, &place.field("items").item(index), found);
            }
            return;
        }
        let version = object.text_at(&["apiVersion"]).unwrap_or_default();
        let kind = object.text_at(&["kind"]).unwrap_or_default();
        if version == replay::THEIRS && kind == "TrafficReplay" {
            self.edits.extend(replay::convert(self.text, object, place, found));
            self.converted += 1;
        } else if version.starts_with("speedscale.com/") {
            found.error(place, format!("there is nothing like {kind} of {version} here"));
        } else if version != replay::OURS {
            self.more.extend(workload::convert(object, place, found));
        }
    }

    /// The document as it is to be.
    fn finish(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| range.start);
        let (mut text, mut at) = (String::new(), 0);
        for (range, new) in &self.edits {
            text.push_str(self.text.get(at..range.start).unwrap_or_default());
            text.push_str(new);
            at = range.end;
        }
        text.push_str(self.text.get(at..).unwrap_or_default());
        for more in &self.more {
            end_line(&mut text);
            text.push_str(more);
        }
        text
    }
}

fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// The files one after the other, as one stream of documents.
fn joined(files: &[Converted]) -> String {
    let mut all = String::new();
    for file in files.iter().filter(|file| file.errors == 0) {
        end_line(&mut all);
        if !all.is_empty() && !file.after.starts_with("---") {
            all.push_str("---\n");
        }
        all.push_str(&file.after);
    }
    all
}

fn describe(file: &Converted, in_place: bool) -> Value {
    let text = (!in_place && file.errors == 0).then_some(&file.after);
    json!({
        "file": file.file,
        "converted": file.converted,
        "made": file.made,
        "refused": file.errors > 0,
        "text": text,
    })
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source| Failure::io(format!("write {}", path.display()), source);
    // What a link leads to is written, not the link.
    let path = fs::canonicalize(path).map_err(failed)?;
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let permissions = fs::metadata(&path).map_err(failed)?.permissions();
    file.as_file().set_permissions(permissions).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}
