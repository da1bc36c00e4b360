//! `xml_path`: works on the first node that an XPath leads to; the document outside it stays byte for byte.

use std::{ops::Range, sync::Arc};

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::replace,
    transform::Step,
    xml::{Kind, Located, NotXml, XPath},
};

#[derive(Debug)]
struct XmlPath {
    path: XPath,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.path");
    let text = Step::plain(step.required("path", path, found)?, &at, found)?;
    match XPath::parse(&text) {
        Ok(path) => Some(Arc::new(XmlPath { path })),
        Err(why) => {
            let message = format!("`{text}` is no XPath at its byte {}: {}", why.at, why.why);
            found.push(Diagnostic::error("bad_xpath", at, message));
            None
        }
    }
}

impl Transform for XmlPath {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let place = self
            .path
            .locate(value)
            .map_err(|why| not_xml(&why))?
            .ok_or_else(|| StepError::new("path_not_found", "xml_path: nothing matches"))?;
        let window = Window::of(value, place);
        let before = window.before.clone();
        let after = apply(rest, &before, effects)?;
        if after == before {
            return Ok(value.to_vec());
        }
        let new = replace(value, &[(window.span.clone(), window.encode(&after)?)]);
        if window.markup {
            // Markup that was put in must leave a document.
            self.path.locate(&new).map_err(|why| not_xml(&why))?;
        }
        Ok(new)
    }
}

fn not_xml(why: &NotXml) -> StepError {
    StepError::new("not_xml", format!("xml_path: {why}"))
}

/// What is taken out of the document and how it goes back.
struct Window {
    span: Range<usize>,
    before: Vec<u8>,
    /// An element with elements in it is worked on as markup, anything else as text.
    markup: bool,
    attribute: bool,
    /// What stands around the text of an element that had none: `<a>` and `</a>` in the place of `<a/>`.
    around: Option<(Vec<u8>, Vec<u8>)>,
}

impl Window {
    fn of(doc: &[u8], place: Located) -> Self {
        let text = place.text.into_bytes();
        let plain = |span: Range<usize>, attribute: bool, text: Vec<u8>| Self {
            span,
            before: text,
            markup: false,
            attribute,
            around: None,
        };
        match place.kind {
            Kind::Attribute => plain(place.span, true, text),
            Kind::Text => plain(place.span, false, text),
            Kind::Element { content: Some(content) } => {
                let inner = doc.get(content.clone()).unwrap_or_default();
                if has_elements(inner) {
                    let before = inner.to_vec();
                    return Self { markup: true, before, ..plain(content, false, Vec::new()) };
                }
                plain(content, false, text)
            }
            Kind::Element { content: None } => {
                let tag = doc.get(place.span.clone()).unwrap_or_default();
                let open = tag.strip_suffix(b"/>").unwrap_or(tag).trim_ascii_end();
                let name: Vec<u8> = open
                    .iter()
                    .skip(1)
                    .take_while(|byte| !byte.is_ascii_whitespace())
                    .copied()
                    .collect();
                let around = ([open, b">"].concat(), [b"</".as_slice(), &name, b">"].concat());
                Self { around: Some(around), ..plain(place.span, false, text) }
            }
        }
    }

    fn encode(&self, text: &[u8]) -> Result<Vec<u8>, StepError> {
        if self.markup {
            return Ok(text.to_vec());
        }
        let mut out = Vec::with_capacity(text.len());
        for c in String::from_utf8_lossy(text).chars() {
            match c {
                '&' => out.extend_from_slice(b"&amp;"),
                '<' => out.extend_from_slice(b"&lt;"),
                '>' => out.extend_from_slice(b"&gt;"),
                '"' if self.attribute => out.extend_from_slice(b"&quot;"),
                '\'' if self.attribute => out.extend_from_slice(b"&apos;"),
                // Readers turn these into spaces unless they are written so.
                '\t' | '\n' | '\r' if self.attribute => {
                    out.extend_from_slice(format!("&#{};", u32::from(c)).as_bytes());
                }
                '\r' => out.extend_from_slice(b"&#13;"),
                '\u{0}'..='\u{8}'
                | '\u{b}'
                | '\u{c}'
                | '\u{e}'..='\u{1f}'
                | '\u{fffe}'
                | '\u{ffff}' => {
                    let message = "xml_path: the new text has characters that XML forbids";
                    return Err(StepError::new("not_xml", message));
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(match &self.around {
            Some((open, close)) => [open.as_slice(), &out, close].concat(),
            None => out,
        })
    }
}

/// Whether a content has elements: a tag that is no CDATA section, comment or instruction.
fn has_elements(mut content: &[u8]) -> bool {
    while let Some(at) = content.iter().position(|byte| *byte == b'<') {
        let tag = content.get(at..).unwrap_or_default();
        let end: &[u8] = match tag {
            [b'<', b'!', b'[', ..] => b"]]>",
            [b'<', b'!', b'-', ..] => b"-->",
            [b'<', b'?', ..] => b"?>",
            _ => return true,
        };
        let skipped = tag.windows(end.len()).position(|window| window == end);
        content =
            tag.get(skipped.unwrap_or(tag.len()).saturating_add(end.len())..).unwrap_or_default();
    }
    false
}
