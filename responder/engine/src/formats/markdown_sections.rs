//! Cuts a markdown recording into its sections and their fenced blocks.
//!
//! Bodies may hold anything, lines of three backticks and headings included. A heading therefore counts only where a fence has just
//! closed, and a block ends at the last fence before the next heading, not at the first.

use crate::formats::verdict::Left;

/// The inside of a fenced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// The line of its first line, one-based.
    pub(super) line: u32,
    /// Its text, without the line break before the closing fence.
    pub(super) text: &'a str,
}

/// A message: its head and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) head: Block<'a>,
    pub(super) body: Option<Block<'a>>,
}

/// The sections of a recording.
#[derive(Debug, Default)]
pub(super) struct Sections<'a> {
    pub(super) request: Option<Message<'a>>,
    pub(super) response: Option<Message<'a>>,
    /// The response stands under the legacy title, which allows it to have no status line.
    pub(super) mock: bool,
    pub(super) signature: Option<Block<'a>>,
    pub(super) metadata: Option<Block<'a>>,
    pub(super) internal: Option<Block<'a>>,
}

/// What is wrong, and on which line.
pub(super) type Error = (u32, Left);

struct Line<'a> {
    number: u32,
    start: usize,
    text: &'a str,
}

/// Cuts the text; `None` when it has no section at all.
pub(super) fn cut(text: &str) -> Result<Option<Sections<'_>>, Error> {
    let lines = lines(text);
    let headings = headings(&lines);
    if headings.is_empty() {
        return Ok(None);
    }
    let mut sections = Sections::default();
    let ends = headings.iter().skip(1).map(|(at, _)| *at).chain([lines.len()]);
    for ((at, name), end) in headings.iter().zip(ends) {
        let content = lines.get(at + 1..end).unwrap_or_default();
        let line = lines.get(*at).map_or(1, |line| line.number);
        let twice = || {
            (
                line,
                Left::refused(
                    "section_repeated",
                    *name,
                    format!("the section {name} stands here a second time"),
                ),
            )
        };
        let place = match *name {
            "REQUEST" if sections.request.is_none() => {
                sections.request = Some(message(text, content, line, name)?);
                continue;
            }
            "RESPONSE" | "RESPONSE (MOCK)" if sections.response.is_none() => {
                sections.response = Some(message(text, content, line, name)?);
                sections.mock = *name != "RESPONSE";
                continue;
            }
            "SIGNATURE" => &mut sections.signature,
            "METADATA" => &mut sections.metadata,
            _ if name.starts_with("INTERNAL") => &mut sections.internal,
            "REQUEST" | "RESPONSE" | "RESPONSE (MOCK)" => return Err(twice()),
            // A section that a newer recorder added.
            _ => continue,
        };
        if place.is_some() {
            return Err(twice());
        }
        *place = Some(block(text, content, line, name)?);
    }
    Ok(Some(sections))
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .zip(1..)
        .map(|(line, number)| {
            let at = start;
            start += line.len();
            Line { number, start: at, text: line.trim_end_matches(['\n', '\r']) }
        })
        .collect()
}

/// The headings: the first one anywhere, further ones only behind a fence.
fn headings<'a>(lines: &[Line<'a>]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut previous = "";
    for (at, line) in lines.iter().enumerate() {
        if let Some(name) = heading(line.text)
            && (found.is_empty() || is_close(previous))
        {
            found.push((at, name));
        }
        if !line.text.trim().is_empty() {
            previous = line.text;
        }
    }
    found
}

fn heading(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_prefix("### ")?.strip_suffix(" ###")?.trim();
    let shaped = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || matches!(b, b' ' | b'-' | b'(' | b')' | b'_'));
    shaped.then_some(name)
}

fn is_open(line: &str) -> bool {
    line.starts_with("```")
}

fn is_close(line: &str) -> bool {
    line.trim_end() == "```"
}

/// A head, which ends at the first fence, and a body, which ends at the last one.
fn message<'a>(
    text: &'a str,
    content: &[Line<'a>],
    line: u32,
    name: &str,
) -> Result<Message<'a>, Error> {
    let open =
        content.iter().position(|line| is_open(line.text)).ok_or_else(|| no_block(line, name))?;
    let head = content.get(open + 1..).unwrap_or_default();
    let close =
        head.iter().position(|line| is_close(line.text)).ok_or_else(|| unclosed(line, name))?;
    let rest = head.get(close + 1..).unwrap_or_default();
    let head =
        inside(text, content.get(open), head.get(..close).unwrap_or_default(), head.get(close));
    let body = match rest.iter().position(|line| is_open(line.text)) {
        Some(_) => Some(block(text, rest, line, name)?),
        None => None,
    };
    Ok(Message { head, body })
}

/// The block between the first fence and the last.
fn block<'a>(
    text: &'a str,
    content: &[Line<'a>],
    line: u32,
    name: &str,
) -> Result<Block<'a>, Error> {
    let open =
        content.iter().position(|line| is_open(line.text)).ok_or_else(|| no_block(line, name))?;
    let close = content
        .iter()
        .rposition(|line| is_close(line.text))
        .filter(|close| *close > open)
        .ok_or_else(|| unclosed(line, name))?;
    Ok(inside(
        text,
        content.get(open),
        content.get(open + 1..close).unwrap_or_default(),
        content.get(close),
    ))
}

fn inside<'a>(
    text: &'a str,
    open: Option<&Line<'a>>,
    lines: &[Line<'a>],
    close: Option<&Line<'a>>,
) -> Block<'a> {
    let line = open.map_or(1, |open| open.number.saturating_add(1));
    let (Some(first), Some(close)) = (lines.first(), close) else {
        return Block { line, text: "" };
    };
    let text = text.get(first.start..close.start).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    Block { line, text }
}

fn no_block(line: u32, name: &str) -> Error {
    let left = Left::refused(
        "section_incomplete",
        name,
        format!("the section {name} has no block between lines of three backticks"),
    );
    (line, left)
}

fn unclosed(line: u32, name: &str) -> Error {
    let left =
        Left::refused("truncated", name, format!("a block of the section {name} is not closed"))
            .hint("end it with a line of three backticks, or record the pair again");
    (line, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_may_hold_fences_and_headings() {
        let body = "Try:\n```\nls\n```\n\n## Then\n### not a heading\ntext ### REQUEST ###\n### RESPONSE ###";
        let text = format!(
            "### REQUEST ###\n```\nhead\n```\n\n```\n{body}\n```\n\n### RESPONSE ###\n```\nHTTP\n```\n\n```\n```\n"
        );
        let sections = cut(&text).unwrap().unwrap();
        let request = sections.request.unwrap();
        assert_eq!((request.head.text, request.head.line), ("head", 3));
        assert_eq!(request.body.unwrap(), Block { line: 7, text: body });
        assert_eq!(sections.response.unwrap().body.unwrap().text, "");
        assert!(!sections.mock);
    }

    #[test]
    fn sections_stand_in_any_order_and_may_be_unknown() {
        let text = "prose\n\n### RESPONSE (MOCK) ###\n```json\nA: b\n```\n\n### NOTES ###\n```\nx\n```\n### INTERNAL - DO NOT MODIFY ###\n```\njson: {}\n```\n\
                    ### REQUEST ###\n```\nGET /\n```\n";
        let sections = cut(text).unwrap().unwrap();
        assert!(sections.mock);
        assert_eq!(sections.internal.unwrap().text, "json: {}");
        assert_eq!(sections.request.unwrap().body, None);
    }

    #[test]
    fn damage_is_named_with_its_line() {
        for (text, line, code) in [
            ("### REQUEST ###\nGET /\n", 1, "section_incomplete"),
            ("\n### REQUEST ###\n```\nGET /\n", 2, "truncated"),
            ("### REQUEST ###\n```\nGET /\n```\n\n```\n{\n", 1, "truncated"),
            ("### METADATA ###\n```\n```\n### METADATA ###\n```\n```\n", 4, "section_repeated"),
        ] {
            let (at, left) = cut(text).unwrap_err();
            assert_eq!((at, left.why.code), (line, code), "{text}");
        }
        assert!(cut("# Read me\n\nWords.\n").unwrap().is_none());
    }
}
