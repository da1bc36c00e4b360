//! References within a document, and how much may be made of it.

use std::{borrow::Cow, cell::Cell};

use crate::formats::{node::Node, verdict::Left};

/// So many references may lead to one another.
const MAX_HOPS: usize = 16;
/// So many values may be made from the schemas of one document.
const MAX_MADE: usize = 2_000_000;

/// Why there is no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The reference leads out of the document.
    External,
    /// The reference leads to nothing, or in a circle.
    Broken,
    /// The schema contains itself.
    Cycle,
    /// The schema says too little.
    Untyped,
    /// The schema wants a pattern to be met.
    Pattern,
    /// The example would be too large.
    TooLarge,
    /// The example is in a file of its own.
    Elsewhere,
    /// An example of this media type has to be text.
    NotText,
}

impl Why {
    /// The finding at a place.
    pub(super) fn left(self, place: &str) -> Left {
        let (code, what) = match self {
            Self::External => ("reference_external", "a reference leads out of the document"),
            Self::Broken => ("reference_broken", "a reference leads to nothing, or in a circle"),
            Self::Cycle => {
                ("example_missing", "there is no example, and the schema contains itself")
            }
            Self::Untyped => (
                "example_missing",
                "there is no example, and no schema that says enough to make one",
            ),
            Self::Pattern => {
                ("example_missing", "there is no example, and the schema wants a pattern to be met")
            }
            Self::TooLarge => {
                ("limit_exceeded", "the example that the schema makes would be too large")
            }
            Self::Elsewhere => ("example_missing", "the example is in a file of its own"),
            Self::NotText => {
                ("example_missing", "an example of this media type has to be written as text")
            }
        };
        let hint = match self {
            Self::External => "bundle the document into one file",
            Self::Broken => "mend the reference",
            _ => "add an `example`",
        };
        Left::skipped(code, place, what).hint(hint)
    }
}

/// A document.
#[derive(Debug)]
pub(super) struct Document<'n> {
    pub(super) root: &'n Node,
    /// So many values may still be made.
    pub(super) left: Cell<usize>,
}

impl<'n> Document<'n> {
    pub(super) fn new(root: &'n Node) -> Self {
        Self { root, left: Cell::new(MAX_MADE) }
    }

    /// The node itself, or what it refers to.
    pub(super) fn follow(&self, mut node: &'n Node) -> Result<&'n Node, Why> {
        for _ in 0..MAX_HOPS {
            let Some(reference) = node.get("$ref").text() else { return Ok(node) };
            node = self.find(reference)?;
        }
        Err(Why::Broken)
    }

    /// What a reference leads to.
    pub(super) fn find(&self, reference: &str) -> Result<&'n Node, Why> {
        let pointer = reference.strip_prefix('#').ok_or(Why::External)?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(Why::External);
        }
        let mut node = self.root;
        for token in pointer.split('/').skip(1) {
            let token = percent_encoding::percent_decode_str(token).decode_utf8_lossy();
            let token = if token.contains('~') {
                Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
            } else {
                token
            };
            node = match node {
                Node::List(items) => {
                    token.parse::<usize>().ok().and_then(|at| items.get(at)).ok_or(Why::Broken)?
                }
                _ => node.get(&token),
            };
        }
        if node.is_null() { Err(Why::Broken) } else { Ok(node) }
    }
}
