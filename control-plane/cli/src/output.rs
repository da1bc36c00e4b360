//! Everything that the command says. Results go to stdout, everything else to stderr; with `--output json` stdout holds JSON only.
//!
//! Colours appear on a terminal only, and never when `NO_COLOR` is set. A reader that goes away is no failure.

use std::{
    collections::HashMap,
    env,
    io::{self, IsTerminal as _, Write},
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use countersign_proto::r#type::v1::Diagnostic;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{
    failure::Failure,
    view::{self, View},
};

/// So many errors of one code are written out.
const ERRORS_ALIKE: usize = 20;
/// So many findings of one code that refuse nothing are written out.
const OTHERS_ALIKE: usize = 3;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Bold.
    Strong,
    /// Less important than the rest.
    Faint,
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// Needs attention.
    Odd,
}

/// Where the command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    stdout_colours: bool,
    stderr_colours: bool,
}

impl Output {
    /// Looks at what stdout and stderr are.
    pub(crate) fn new(format: Format) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            format,
            stdout_colours: wanted && io::stdout().is_terminal(),
            stderr_colours: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether stdout is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether somebody looks at stdout right now.
    pub(crate) fn is_watched(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether stderr may hold colours.
    pub(crate) fn colours_on_stderr(&self) -> bool {
        self.stderr_colours
    }

    /// Shows one resource.
    pub(crate) fn one<T: View>(&self, item: &T) {
        match self.format {
            Format::Json => self.json(&item.json()),
            Format::Table => write(&mut io::stdout(), &table(std::slice::from_ref(item))),
        }
    }

    /// Shows a list of resources.
    pub(crate) fn many<T: View>(&self, items: &[T], none: &str) {
        match self.format {
            Format::Json => self.json(&items.iter().map(View::json).collect()),
            Format::Table if items.is_empty() => self.note(none),
            Format::Table => write(&mut io::stdout(), &table(items)),
        }
    }

    /// Writes JSON to stdout, whatever the format is.
    pub(crate) fn json(&self, value: &Value) {
        // `{:#}` of a `Value` is pretty and cannot fail.
        write(&mut io::stdout(), &format!("{value:#}"));
    }

    /// Writes a result for people: to stdout, or to stderr when stdout is for programs.
    pub(crate) fn text(&self, text: &str) {
        match self.format {
            Format::Table => write(&mut io::stdout(), text),
            Format::Json => write(&mut io::stderr(), text),
        }
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        // A reader that goes away has read enough.
        drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
    }

    /// Writes something beside the result.
    pub(crate) fn note(&self, text: &str) {
        write(&mut io::stderr(), text);
    }

    /// Writes findings, each on its own line, to stderr. Of many that are alike only the first are written.
    pub(crate) fn findings(&self, found: &[Diagnostic]) {
        for (finding, more) in few(found) {
            let line = view::finding(finding);
            let (severity, rest) = line.split_once(": ").unwrap_or((&line, ""));
            self.finding(view::is_error(finding), severity, rest);
            if more > 0 {
                self.note(&format!("  and {more} more [{}]", finding.code));
            }
        }
    }

    /// Writes one finding to stderr.
    pub(crate) fn finding(&self, is_error: bool, severity: &str, what: &str) {
        let style = if is_error { Style::Bad } else { Style::Odd };
        self.note(&format!("{}: {what}", paint(self.stderr_colours, style, severity)));
    }

    /// Tells why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let label = paint(self.stderr_colours, Style::Bad, "error");
        self.note(&format!("{label}: {}", failure.render()));
    }

    /// Text that stands out where results for people go.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let colours = if self.is_json() { self.stderr_colours } else { self.stdout_colours };
        paint(colours, style, text)
    }

    /// A bar of bytes on stderr; invisible when stderr is no terminal.
    pub(crate) fn bar(&self, what: &'static str, total: u64) -> ProgressBar {
        let template = "{msg:>10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Self::progress(what, total, template)
    }

    /// A bar of things on stderr; invisible when stderr is no terminal.
    pub(crate) fn counter(&self, what: &'static str, total: u64) -> ProgressBar {
        Self::progress(what, total, "{msg:>10} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta}")
    }

    /// A bar in thousandths on stderr, with a line of text behind it; invisible when stderr is no terminal.
    pub(crate) fn gauge(&self, what: &'static str) -> ProgressBar {
        Self::progress(what, 1000, "[{bar:20}] {msg}")
    }

    fn progress(what: &'static str, total: u64, template: &str) -> ProgressBar {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    }
}

fn write(to: &mut impl Write, text: &str) {
    // A reader that goes away has read enough.
    drop(writeln!(to, "{text}").and_then(|()| to.flush()));
}

fn paint(colours: bool, style: Style, text: &str) -> String {
    if !colours {
        return text.to_owned();
    }
    let code = match style {
        Style::Strong => "1",
        Style::Faint => "2",
        Style::Good => "32",
        Style::Bad => "31",
        Style::Odd => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The findings to write, and behind the last of its kind how many are left out.
fn few(found: &[Diagnostic]) -> Vec<(&Diagnostic, u64)> {
    let mut seen: HashMap<(bool, &str), (usize, usize, u64)> = HashMap::new();
    let mut kept = Vec::new();
    for finding in found {
        let is_error = view::is_error(finding);
        let (written, last, more) = seen.entry((is_error, &finding.code)).or_default();
        if *written < if is_error { ERRORS_ALIKE } else { OTHERS_ALIKE } {
            *written += 1;
            *last = kept.len();
            kept.push((finding, 0));
        } else {
            *more += finding.count.max(1);
        }
    }
    for (_, last, more) in seen.into_values() {
        if let Some(kept) = kept.get_mut(last) {
            kept.1 = more;
        }
    }
    kept
}

/// A table for people. As wide as it is, so that a pipe or a narrow terminal does not cut names in two.
fn table<T: View>(items: &[T]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(T::HEADINGS.iter().copied());
    for item in items {
        table.add_row(item.row());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use countersign_proto::r#type::v1::Severity;

    use super::*;

    struct Fruit(&'static str, u32);

    impl View for Fruit {
        const HEADINGS: &'static [&'static str] = &["NAME", "COUNT"];

        fn row(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_string()]
        }

        fn json(&self) -> Value {
            serde_json::json!({ "name": self.0, "count": self.1 })
        }
    }

    #[test]
    fn columns_are_aligned_and_have_no_borders() {
        assert_eq!(
            table(&[Fruit("apple", 3), Fruit("fig", 12)]),
            "NAME   COUNT\napple  3\nfig    12"
        );
    }

    #[test]
    fn findings_that_are_alike_are_counted() {
        let finding = |code: &str, count| Diagnostic {
            severity: Severity::Warning.into(),
            code: code.into(),
            count,
            ..Diagnostic::default()
        };
        let mut found = vec![finding("a", 0); 5];
        found.push(finding("b", 0));
        found.push(finding("a", 165));
        let few: Vec<_> =
            few(&found).into_iter().map(|(f, more)| (f.code.as_str(), more)).collect();
        assert_eq!(few, [("a", 0), ("a", 0), ("a", 167), ("b", 0)]);
    }

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        assert_eq!(paint(false, Style::Good, "ok"), "ok");
        assert_eq!(paint(true, Style::Good, "ok"), "\x1b[32mok\x1b[0m");
    }
}
