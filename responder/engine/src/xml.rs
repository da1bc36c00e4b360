//! XML by byte span: a document as nodes that know where they stand, and the first node that an [`XPath`] leads to.
//!
//! Nothing is expanded: a document type declaration is refused, and only the five predefined entities and character references exist.
//! Names are compared as they are written, prefix and all; namespaces are not resolved. Size, depth and number of nodes are bounded, and
//! so is the work of one search. This is the only module that knows quick-xml.

mod eval;
mod path;
mod words;

use std::ops::Range;

use quick_xml::{Reader, escape::unescape, events::Event};

pub(crate) use path::XPath;

/// A larger document is not searched.
const MAX_SIZE: usize = 16 * 1024 * 1024;
/// Elements nested deeper than this are not read.
const MAX_DEPTH: usize = 256;
/// Elements, text nodes and attributes together.
const MAX_NODES: usize = 500_000;

/// What an XPath led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it stands: an element with its tags, an attribute's value without its quotes, a text as it is written.
    pub(crate) span: Range<usize>,
    /// Its string value: for an element, all text in it; references resolved.
    pub(crate) text: String,
}

/// Which kind of node stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An element, and where its content stands; `<a/>` has none.
    Element { content: Option<Range<usize>> },
    /// A run of text, references and CDATA sections.
    Text,
    /// The value of an attribute.
    Attribute,
}

/// The document cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotXml {
    /// It is not well-formed.
    #[error("no XML at byte {0}")]
    Malformed(usize),
    /// It declares a document type.
    #[error("a document type declaration is not read")]
    Doctype,
    /// It exceeds a limit.
    #[error("the document has {0}")]
    TooLarge(&'static str),
    /// The search takes too many steps.
    #[error("the search takes too long in this document")]
    TooMuchWork,
}

impl XPath {
    /// The first node, in document order, that the path leads to.
    pub(crate) fn locate(&self, doc: &[u8]) -> Result<Option<Located>, NotXml> {
        let document = Document::read(doc)?;
        eval::first(&document, self, false, 0)
    }

    /// As [`locate`](Self::locate), for a SOAP message: a name without prefix matches under any prefix, because each client chooses its
    /// own, and a relative path that leads nowhere from the document starts at the body of the envelope.
    pub(crate) fn locate_soap(&self, doc: &[u8]) -> Result<Option<Located>, NotXml> {
        let document = Document::read(doc)?;
        if let Some(found) = eval::first(&document, self, true, 0)? {
            return Ok(Some(found));
        }
        match document.soap_body() {
            Some(body) if !self.is_absolute() => eval::first(&document, self, true, body),
            _ => Ok(None),
        }
    }
}

/// A document; node 0 is its root, which is no element.
#[derive(Debug)]
struct Document<'d> {
    nodes: Vec<Node<'d>>,
    attributes: usize,
}

#[derive(Debug)]
struct Node<'d> {
    parent: usize,
    /// One past the last node inside it.
    end: usize,
    span: Range<usize>,
    item: Item<'d>,
}

#[derive(Debug)]
enum Item<'d> {
    Root,
    Element { name: &'d str, content: Option<Range<usize>>, attributes: Vec<Attribute<'d>> },
    Text(String),
}

#[derive(Debug)]
struct Attribute<'d> {
    name: &'d str,
    value: String,
    span: Range<usize>,
}

impl<'d> Document<'d> {
    fn read(doc: &'d [u8]) -> Result<Self, NotXml> {
        if doc.len() > MAX_SIZE {
            return Err(NotXml::TooLarge("more than 16 MiB"));
        }
        let text =
            std::str::from_utf8(doc).map_err(|error| NotXml::Malformed(error.valid_up_to()))?;
        let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
        let base = text.len() - bare.len();
        let root = Node { parent: 0, end: 1, span: 0..text.len(), item: Item::Root };
        let mut document = Self { nodes: vec![root], attributes: 0 };
        let mut open: Vec<usize> = vec![0];
        let mut reader = Reader::from_str(bare);
        let mut from = base;
        loop {
            let event = reader.read_event().map_err(|_| NotXml::Malformed(from))?;
            let to = usize::try_from(reader.buffer_position()).unwrap_or(bare.len()) + base;
            let parent = open.last().copied().unwrap_or_default();
            match event {
                Event::Start(_) => {
                    if open.len() > MAX_DEPTH {
                        return Err(NotXml::TooLarge("elements nested deeper than 256"));
                    }
                    open.push(document.element(text, from..to, parent, true)?);
                }
                Event::Empty(_) => drop(document.element(text, from..to, parent, false)?),
                Event::End(_) => document.close(&mut open, from..to)?,
                Event::Text(raw) => document.text(&raw, from..to, parent)?,
                Event::CData(raw) => document.text(&raw, from..to, parent)?,
                Event::GeneralRef(_) => {
                    let raw = text.get(from..to).unwrap_or_default();
                    let value = unescape(raw).map_err(|_| NotXml::Malformed(from))?;
                    document.text(&value, from..to, parent)?;
                }
                Event::DocType(_) => return Err(NotXml::Doctype),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
            from = to;
        }
        if open.len() > 1 || document.nodes.len() == 1 {
            return Err(NotXml::Malformed(text.len()));
        }
        if let Some(root) = document.nodes.first_mut() {
            root.end = usize::MAX;
        }
        Ok(document)
    }

    /// Adds an element; returns its number.
    fn element(
        &mut self,
        text: &'d str,
        span: Range<usize>,
        parent: usize,
        open: bool,
    ) -> Result<usize, NotXml> {
        if parent == 0 && self.nodes.len() > 1 {
            return Err(NotXml::Malformed(span.start));
        }
        let tag = text.get(span.start + 1..span.end.saturating_sub(1)).unwrap_or_default();
        let tag = if open { tag } else { tag.strip_suffix('/').unwrap_or(tag) };
        let (name, attributes) =
            read_tag(tag, span.start + 1).ok_or(NotXml::Malformed(span.start))?;
        self.attributes += attributes.len();
        let content = open.then_some(span.end..span.end);
        self.push(parent, span, Item::Element { name, content, attributes })
    }

    fn close(&mut self, open: &mut Vec<usize>, tag: Range<usize>) -> Result<(), NotXml> {
        let end = self.nodes.len();
        let element = open.pop().filter(|_| !open.is_empty());
        let node = element.and_then(|nth| self.nodes.get_mut(nth));
        let node = node.ok_or(NotXml::Malformed(tag.start))?;
        node.end = end;
        node.span.end = tag.end;
        if let Item::Element { content: Some(content), .. } = &mut node.item {
            content.end = tag.start;
        }
        Ok(())
    }

    /// Adds text; what follows other text without anything between belongs to the same node.
    fn text(&mut self, value: &str, span: Range<usize>, parent: usize) -> Result<(), NotXml> {
        if parent == 0 {
            let blank = value.trim_ascii().is_empty();
            return if blank { Ok(()) } else { Err(NotXml::Malformed(span.start)) };
        }
        if let Some(Node { parent: before, span: written, item: Item::Text(text), .. }) =
            self.nodes.last_mut()
            && *before == parent
            && written.end == span.start
        {
            written.end = span.end;
            text.push_str(value);
            return Ok(());
        }
        self.push(parent, span, Item::Text(value.to_owned())).map(drop)
    }

    fn push(&mut self, parent: usize, span: Range<usize>, item: Item<'d>) -> Result<usize, NotXml> {
        let nth = self.nodes.len();
        if nth + self.attributes >= MAX_NODES {
            return Err(NotXml::TooLarge("more than 500,000 nodes"));
        }
        self.nodes.push(Node { parent, end: nth + 1, span, item });
        Ok(nth)
    }

    fn node(&self, nth: usize) -> Option<&Node<'d>> {
        self.nodes.get(nth)
    }

    /// The nodes directly inside a node.
    fn children(&self, nth: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.node(nth).map_or(0, |node| node.end).min(self.nodes.len());
        let step = move |child: usize| (child < end).then_some(child);
        std::iter::successors(step(nth + 1), move |child| step(self.node(*child)?.end))
    }

    /// The body of a SOAP envelope, 1.1 or 1.2.
    fn soap_body(&self) -> Option<usize> {
        let named = |nth: &usize, wanted: &str| match self.node(*nth).map(|node| &node.item) {
            Some(Item::Element { name, .. }) => local(name) == wanted,
            _ => false,
        };
        let envelope = self.children(0).find(|nth| named(nth, "Envelope"))?;
        self.children(envelope).find(|nth| named(nth, "Body"))
    }
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

/// The name and the attributes of a tag whose text, without brackets, begins at byte `base`.
fn read_tag(tag: &str, base: usize) -> Option<(&str, Vec<Attribute<'_>>)> {
    let (name, mut rest) =
        tag.split_at(tag.find(|c: char| c.is_ascii_whitespace()).unwrap_or(tag.len()));
    let mut attributes = Vec::new();
    while !rest.trim_ascii_start().is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_ascii();
        if name.is_empty() || name.contains(|c: char| c.is_ascii_whitespace() || "\"'<".contains(c))
        {
            return None;
        }
        let after = after.trim_ascii_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (raw, remaining) = after.strip_prefix(quote)?.split_once(quote)?;
        if raw.contains('<') {
            return None;
        }
        let end = base + tag.len() - remaining.len() - 1;
        let value = unescape(raw).ok()?.into_owned();
        attributes.push(Attribute { name, value, span: end - raw.len()..end });
        rest = remaining;
    }
    (!name.is_empty()).then_some((name, attributes))
}

#[cfg(test)]
mod tests;
