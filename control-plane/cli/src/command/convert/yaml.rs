//! YAML as text: documents of a stream and the places of their values, so that a manifest can be edited where it has to change and stays as it
//! was written everywhere else.

use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScanError, Span, StructureStyle};

/// No manifest nests deeper than this.
const MAX_DEPTH: usize = 64;

/// A value and where it stands in its text.
#[derive(Debug)]
pub(super) struct Node {
    /// Its bytes: of a scalar with its quotes, of a collection from its first byte to the end of its last value.
    pub(super) range: Range<usize>,
    /// Whether other places of the document may repeat it.
    pub(super) anchored: bool,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Content {
    /// The text of a scalar, whatever it stands for, without quotes and escapes.
    Scalar(String),
    Sequence(Vec<Node>),
    /// In the order of the text; `block` says that each key has lines of its own.
    Mapping {
        entries: Vec<(Node, Node)>,
        block: bool,
    },
    /// The value of another place.
    Alias,
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[(Self, Self)] {
        match &self.content {
            Content::Mapping { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.content {
            Content::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The text at the end of a path of keys.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(self, |node, key| node.get(key))?.text()
    }

    /// The lines of an entry of this mapping, or `None` where it shares a line with something else.
    pub(super) fn lines(&self, text: &str, (key, value): &(Self, Self)) -> Option<Range<usize>> {
        if !matches!(self.content, Content::Mapping { block: true, .. }) || value.anchored {
            return None;
        }
        let start = text.get(..key.range.start)?.rfind('\n').map_or(0, |at| at + 1);
        let before = text.get(start..key.range.start)?;
        let end = if value.range.is_empty() { key.range.end } else { value.range.end };
        // A block scalar may be said to end behind the spaces of the next line.
        let whole = text.get(..end)?.trim_end_matches(' ');
        let end = if whole.ends_with('\n') {
            whole.len()
        } else {
            text.get(end..)?.find('\n').map_or(text.len(), |at| end + at + 1)
        };
        before.chars().all(|c| c == ' ').then_some(start..end)
    }
}

/// The documents of a stream: consecutive pieces that make up all of it. What stands before the first one belongs to it.
pub(super) fn documents(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let (mut at, mut begun, mut ended) = (0, false, false);
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let marker = |mark: &str| {
            bare.strip_prefix(mark)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        let empty = bare.is_empty() || bare.starts_with(['#', '%']);
        if at > 0 && (ended || (begun && marker("---"))) {
            starts.push(at);
            begun = false;
        }
        begun |= !empty;
        ended = marker("...");
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).filter_map(|pair| text.get(*pair.first()?..*pair.last()?)).collect()
}

/// The value of a document; `None` of one that holds nothing.
pub(super) fn parse(document: &str) -> Result<Option<Node>, ScanError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut parser = Parser::new_from_str_with_options(document, options);
    while let Some(event) = parser.next_event() {
        let (event, span) = event?;
        if event.is_node() {
            return node(&event, span, &mut parser).map(Some);
        }
    }
    Ok(None)
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

/// The value that an event begins, with all that belongs to it.
fn node(event: &Event<'_>, span: Span, events: &mut Events<'_>) -> Result<Node, ScanError> {
    let mut range = span.byte_range().unwrap_or_default();
    let anchored = event.anchor_id().is_some();
    let content = match event {
        Event::Scalar(text, ..) => Content::Scalar(text.clone().into_owned()),
        Event::SequenceStart(style, ..) => {
            let (items, end) = children(*style, events)?;
            range.end = end.max(range.end);
            Content::Sequence(items)
        }
        Event::MappingStart(style, ..) => {
            let (children, end) = children(*style, events)?;
            range.end = end.max(range.end);
            let mut entries = Vec::new();
            let mut children = children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                entries.push((key, value));
            }
            Content::Mapping { entries, block: *style == StructureStyle::Block }
        }
        _ => Content::Alias,
    };
    Ok(Node { range, anchored, content })
}

/// What a collection holds, and where it ends: in block style with the last value, since the event comes where the next thing begins,
/// comments later.
fn children(
    style: StructureStyle,
    events: &mut Events<'_>,
) -> Result<(Vec<Node>, usize), ScanError> {
    let mut children = Vec::new();
    let mut end = 0;
    while let Some(event) = events.next_event() {
        let (event, span) = event?;
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            let closed = span.byte_range().unwrap_or_default().end;
            end = if style == StructureStyle::Flow { closed } else { end };
            break;
        }
        if event.is_node() {
            let child = node(&event, span, events)?;
            // A value that is left out may be said to stand further down.
            let said = child.text().is_none_or(|text| !text.is_empty()) || !child.range.is_empty();
            end = if said { end.max(child.range.end) } else { end };
            children.push(child);
        }
    }
    Ok((children, end))
}

/// Text as a YAML scalar that is a string for every reader.
pub(super) fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&&*text.to_ascii_lowercase());
    // JSON strings are YAML.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_make_up_the_text() {
        for (text, wanted) in [
            ("", vec![""]),
            ("a: 1\n", vec!["a: 1\n"]),
            (
                "# head\n%YAML 1.2\n---\na: 1\n---\nb: |\n  --- x\n",
                vec!["# head\n%YAML 1.2\n---\na: 1\n", "---\nb: |\n  --- x\n"],
            ),
            (
                "--- # first\na: 1\n...\n# then\n---\nb: 2",
                vec!["--- # first\na: 1\n...\n", "# then\n---\nb: 2"],
            ),
            ("---\n---\n---x\n", vec!["---\n", "---\n---x\n"]),
            ("a: 1\r\n---\r\nb: 2\r\n", vec!["a: 1\r\n", "---\r\nb: 2\r\n"]),
        ] {
            assert_eq!(documents(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn values_know_where_they_stand() {
        let text =
            "# é\na: 'x y'\nb:\n  c: [1,\n   2 ] # end\n  d: |\n    text\n\n  e:\nf: &g z\nh: *g\n";
        let root = parse(text).unwrap().unwrap();
        let at = |key: &str| text.get(root.get(key).unwrap().range.clone()).unwrap();
        assert_eq!((at("a"), at("f"), at("h")), ("'x y'", "z", "*g"));
        assert_eq!(root.text_at(&["a"]), Some("x y"));
        let inner = root.get("b").unwrap();
        let lines: Vec<_> = inner
            .entries()
            .iter()
            .map(|entry| text.get(inner.lines(text, entry).unwrap()).unwrap())
            .collect();
        assert_eq!(lines, ["  c: [1,\n   2 ] # end\n", "  d: |\n    text\n\n", "  e:\n"]);
        let whole = root.lines(text, &root.entries()[1]).unwrap();
        assert_eq!(
            text.get(whole).unwrap(),
            "b:\n  c: [1,\n   2 ] # end\n  d: |\n    text\n\n  e:\n"
        );
        // What shares a line, or is repeated elsewhere, cannot be taken out.
        assert!(root.lines(text, &root.entries()[2]).is_none());
        let flow = parse("{a: 1, b: 2}").unwrap().unwrap();
        assert!(flow.lines("{a: 1, b: 2}", &flow.entries()[0]).is_none());
        let list = parse("- a: 1\n  b: 2\n").unwrap().unwrap();
        let item = &list.items()[0];
        assert!(item.lines("- a: 1\n  b: 2\n", &item.entries()[0]).is_none());
        assert!(item.lines("- a: 1\n  b: 2\n", &item.entries()[1]).is_some());
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        assert!(parse("a: {{ .Values.x }}\nb: [").is_err());
        assert!(parse(&"[".repeat(MAX_DEPTH + 1)).is_err());
        assert!(parse("# nothing\n").unwrap().is_none());
    }

    #[test]
    fn strings_stay_strings() {
        let id = "3bde4a60-580e-451d-90d1-0effc2f83c92";
        assert_eq!(quoted("standard"), "standard");
        assert_eq!(quoted("a.b/c-d_e"), "a.b/c-d_e");
        for text in [id, "", "No", "a: b", "1e3", "é", "a\nb"] {
            let written = quoted(text);
            assert!(written.starts_with('"'), "{written}");
            let node = parse(&written).unwrap().unwrap();
            assert_eq!(node.text(), Some(text));
        }
    }
}
