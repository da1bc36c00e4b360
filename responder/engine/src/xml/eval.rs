//! Evaluation of an XPath in a document.
//!
//! Sets of nodes are kept in document order and without repetition after each step, so work is bounded by document times path; what nested
//! predicates multiply is bounded by counting.

use std::cell::Cell;

use super::{
    Attribute, Document, Item, Kind, Located, Node, NotXml, local,
    path::{Axis, Expr, Step, Test, XPath},
};

/// So many nodes are looked at, and so many characters of string values are read, in one search.
const MAX_WORK: usize = 8_000_000;

/// The first node that a path leads to from a node.
pub(super) fn first(
    document: &Document<'_>,
    path: &XPath,
    any_prefix: bool,
    from: usize,
) -> Result<Option<Located>, NotXml> {
    let search = Search { document, any_prefix, left: Cell::new(MAX_WORK) };
    let found = search.path(path, Place::node(from))?;
    // The document itself is nothing that could be read or written.
    let Some(place) = found.into_iter().find(|place| *place != Place::node(0)) else {
        return Ok(None);
    };
    let text = search.text(place)?;
    if place.attribute.is_some() {
        let span = search.attribute(place).map(|attribute| attribute.span.clone());
        return Ok(span.map(|span| Located { kind: Kind::Attribute, span, text }));
    }
    Ok(document.node(place.node).map(|node| Located {
        kind: match &node.item {
            Item::Element { content, .. } => Kind::Element { content: content.clone() },
            Item::Text(_) | Item::Root => Kind::Text,
        },
        span: node.span.clone(),
        text,
    }))
}

/// A node, or one of its attributes; the order is document order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    node: usize,
    attribute: Option<usize>,
}

impl Place {
    fn node(node: usize) -> Self {
        Self { node, attribute: None }
    }
}

/// What an expression comes to.
enum Value {
    Places(Vec<Place>),
    Text(String),
    Number(f64),
    Bool(bool),
}

/// Where a predicate is evaluated.
#[derive(Clone, Copy)]
struct Context {
    place: Place,
    position: usize,
    last: usize,
}

struct Search<'s, 'd> {
    document: &'s Document<'d>,
    any_prefix: bool,
    left: Cell<usize>,
}

impl<'d> Search<'_, 'd> {
    fn spend(&self, work: usize) -> Result<(), NotXml> {
        self.left.set(self.left.get().checked_sub(work).ok_or(NotXml::TooMuchWork)?);
        Ok(())
    }

    fn path(&self, path: &XPath, from: Place) -> Result<Vec<Place>, NotXml> {
        let mut places = vec![if path.absolute { Place::node(0) } else { from }];
        for step in &path.steps {
            let mut next = Vec::new();
            for place in places {
                next.extend(self.step(step, place)?);
            }
            next.sort_unstable();
            next.dedup();
            places = next;
        }
        Ok(places)
    }

    fn step(&self, step: &Step, from: Place) -> Result<Vec<Place>, NotXml> {
        let mut places = self.axis(step.axis, from)?;
        places.retain(|place| self.passes(step, *place));
        for predicate in &step.predicates {
            let last = places.len();
            let mut kept = Vec::new();
            for (nth, place) in places.into_iter().enumerate() {
                let context = Context { place, position: nth + 1, last };
                let holds = match self.value(predicate, context)? {
                    Value::Number(wanted) => wanted == number(nth + 1),
                    other => truth(&other),
                };
                if holds {
                    kept.push(place);
                }
            }
            places = kept;
        }
        Ok(places)
    }

    fn axis(&self, axis: Axis, from: Place) -> Result<Vec<Place>, NotXml> {
        self.spend(1)?;
        let of_node = from.attribute.is_none();
        let places: Vec<Place> = match axis {
            Axis::Itself => vec![from],
            Axis::Parent if !of_node => vec![Place::node(from.node)],
            Axis::Parent if from.node == 0 => Vec::new(),
            Axis::Parent => self
                .document
                .node(from.node)
                .map(|node| Place::node(node.parent))
                .into_iter()
                .collect(),
            Axis::DescendantOrSelf if !of_node => vec![from],
            Axis::Child | Axis::Attribute | Axis::Descendant if !of_node => Vec::new(),
            Axis::Child => self.document.children(from.node).map(Place::node).collect(),
            Axis::Descendant => self.below(from.node).skip(1).map(Place::node).collect(),
            Axis::DescendantOrSelf => self.below(from.node).map(Place::node).collect(),
            Axis::Attribute => (0..self.attributes(from.node).len())
                .map(|nth| Place { node: from.node, attribute: Some(nth) })
                .collect(),
        };
        self.spend(places.len())?;
        Ok(places)
    }

    /// A node and everything in it.
    fn below(&self, nth: usize) -> std::ops::Range<usize> {
        let end = self.document.node(nth).map_or(nth, |node| node.end);
        nth..end.min(self.document.nodes.len())
    }

    fn attributes(&self, nth: usize) -> &[Attribute<'d>] {
        match self.document.node(nth).map(|node| &node.item) {
            Some(Item::Element { attributes, .. }) => attributes,
            _ => &[],
        }
    }

    fn attribute(&self, place: Place) -> Option<&Attribute<'d>> {
        self.attributes(place.node).get(place.attribute?)
    }

    /// The name as it is written; text has none.
    fn name(&self, place: Place) -> Option<&str> {
        if place.attribute.is_some() {
            return self.attribute(place).map(|attribute| attribute.name);
        }
        match &self.document.node(place.node)?.item {
            Item::Element { name, .. } => Some(name),
            Item::Text(_) | Item::Root => None,
        }
    }

    fn passes(&self, step: &Step, place: Place) -> bool {
        let name = self.name(place);
        match &step.test {
            Test::Node => true,
            Test::Text => {
                place.attribute.is_none()
                    && matches!(
                        self.document.node(place.node),
                        Some(Node { item: Item::Text(_), .. })
                    )
            }
            // Declarations of namespaces look like attributes but are none.
            Test::Any => name.is_some_and(|name| place.attribute.is_none() || !declares(name)),
            Test::AnyOf(prefix) => {
                name.and_then(|name| name.split_once(':')).is_some_and(|(found, _)| found == prefix)
            }
            Test::Name(wanted) => name.is_some_and(|name| {
                name == wanted
                    || (self.any_prefix && !wanted.contains(':') && local(name) == wanted)
            }),
        }
    }

    fn text(&self, place: Place) -> Result<String, NotXml> {
        if place.attribute.is_some() {
            return Ok(self
                .attribute(place)
                .map(|attribute| attribute.value.clone())
                .unwrap_or_default());
        }
        let mut out = String::new();
        for node in self.document.nodes.get(self.below(place.node)).unwrap_or_default() {
            self.spend(1)?;
            if let Item::Text(text) = &node.item {
                self.spend(text.len())?;
                out.push_str(text);
            }
        }
        Ok(out)
    }

    fn value(&self, expr: &Expr, at: Context) -> Result<Value, NotXml> {
        self.spend(1)?;
        let text = |expr: &Expr| self.value(expr, at).and_then(|value| self.as_text(value));
        Ok(match expr {
            Expr::Path(path) => Value::Places(self.path(path, at.place)?),
            Expr::Literal(text) => Value::Text(text.clone()),
            Expr::Number(number) => Value::Number(*number),
            Expr::Last => Value::Number(number(at.last)),
            Expr::Position => Value::Number(number(at.position)),
            Expr::LocalName => {
                Value::Text(self.name(at.place).map(local).unwrap_or_default().to_owned())
            }
            Expr::QualifiedName => Value::Text(self.name(at.place).unwrap_or_default().to_owned()),
            Expr::Equal(left, right) => Value::Bool(self.compare(left, right, at, true)?),
            Expr::Unequal(left, right) => Value::Bool(self.compare(left, right, at, false)?),
            Expr::And(all) => {
                for one in all {
                    if !truth(&self.value(one, at)?) {
                        return Ok(Value::Bool(false));
                    }
                }
                Value::Bool(true)
            }
            Expr::Or(any) => {
                for one in any {
                    if truth(&self.value(one, at)?) {
                        return Ok(Value::Bool(true));
                    }
                }
                Value::Bool(false)
            }
            Expr::Not(what) => Value::Bool(!truth(&self.value(what, at)?)),
            Expr::Contains(whole, part) => Value::Bool(text(whole)?.contains(&text(part)?)),
            Expr::StartsWith(whole, part) => Value::Bool(text(whole)?.starts_with(&text(part)?)),
            Expr::NormalizeSpace(what) => {
                Value::Text(text(what)?.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
            }
        })
    }

    /// The rules of XPath 1.0: a set of nodes compares as any of its members, a truth value and a number decide how the other side is read.
    fn compare(&self, left: &Expr, right: &Expr, at: Context, equal: bool) -> Result<bool, NotXml> {
        let (left, right) = (self.value(left, at)?, self.value(right, at)?);
        let (places, other) = match (left, right) {
            (Value::Bool(one), other) | (other, Value::Bool(one)) => {
                return Ok((one == truth(&other)) == equal);
            }
            (Value::Places(places), other) | (other, Value::Places(places)) => (places, other),
            (left, right) => return Ok(same(&left, &right) == equal),
        };
        let others = match other {
            Value::Places(places) => places
                .into_iter()
                .map(|place| self.text(place).map(Value::Text))
                .collect::<Result<Vec<_>, _>>()?,
            scalar => vec![scalar],
        };
        for place in places {
            let text = Value::Text(self.text(place)?);
            self.spend(others.len())?;
            if others.iter().any(|other| same(&text, other) == equal) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn as_text(&self, value: Value) -> Result<String, NotXml> {
        Ok(match value {
            Value::Places(places) => match places.first() {
                Some(first) => self.text(*first)?,
                None => String::new(),
            },
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
        })
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Places(places) => !places.is_empty(),
        Value::Text(text) => !text.is_empty(),
        Value::Number(number) => *number != 0.0 && !number.is_nan(),
        Value::Bool(truth) => *truth,
    }
}

/// Whether two scalars are the same: as numbers when one of them is a number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b,
        (Value::Number(number), Value::Text(text)) | (Value::Text(text), Value::Number(number)) => {
            text.trim_ascii().parse::<f64>().is_ok_and(|read| read == *number)
        }
        (Value::Text(a), Value::Text(b)) => a == b,
        (left, right) => truth(left) == truth(right),
    }
}

fn declares(name: &str) -> bool {
    name == "xmlns" || name.starts_with("xmlns:")
}

/// A position as XPath counts, in floating point.
fn number(position: usize) -> f64 {
    u32::try_from(position).map_or(f64::NAN, f64::from)
}
