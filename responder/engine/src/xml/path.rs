//! The part of XPath 1.0 that is supported: location paths on the axes child, attribute, descendant, self and parent, with predicates.
//!
//! A predicate may be a position, a path, a comparison with `=` or `!=`, and be combined with `and`, `or`, `not()`, `contains()` and
//! `starts-with()`. Everything else is refused when it is parsed, with the byte where it stands, so that no path means something else here.

use super::words::{Word, words};

/// Predicates inside predicates are read to this depth.
const MAX_NESTING: usize = 8;
/// A longer path is refused.
const MAX_LENGTH: usize = 4096;

/// A location path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct XPath {
    pub(super) absolute: bool,
    pub(super) steps: Vec<Step>,
}

/// The path is no XPath, or one of a kind that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} (at byte {at})")]
pub(crate) struct BadXPath {
    /// Where the trouble begins.
    pub(crate) at: usize,
    /// What it is.
    pub(crate) why: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Child,
    Attribute,
    Descendant,
    DescendantOrSelf,
    Itself,
    Parent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// `node()`
    Node,
    /// `text()`
    Text,
    /// `*`
    Any,
    /// `p:*`
    AnyOf(String),
    /// `name` or `p:name`
    Name(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Path(XPath),
    Literal(String),
    Number(f64),
    Last,
    Position,
    LocalName,
    QualifiedName,
    Equal(Box<Self>, Box<Self>),
    Unequal(Box<Self>, Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Contains(Box<Self>, Box<Self>),
    StartsWith(Box<Self>, Box<Self>),
    NormalizeSpace(Box<Self>),
}

impl XPath {
    /// Parses a path.
    pub(crate) fn parse(text: &str) -> Result<Self, BadXPath> {
        if text.len() > MAX_LENGTH {
            return Err(BadXPath { at: MAX_LENGTH, why: "the path is longer than 4096 bytes" });
        }
        let mut parser = Parser { words: words(text)?, next: 0, end: text.len(), nesting: 0 };
        let path = parser.path()?;
        match parser.peek() {
            None => Ok(path),
            Some(Word::Mark("|")) => Err(parser.bad("unions are not supported")),
            Some(Word::Mark("(")) => {
                Err(parser.bad("a path that is computed by a function is not supported"))
            }
            Some(_) => Err(parser.bad("the path should end here")),
        }
    }

    /// Whether the path begins at the document, wherever it is evaluated.
    pub(super) fn is_absolute(&self) -> bool {
        self.absolute
    }
}

struct Parser {
    words: Vec<(usize, Word)>,
    next: usize,
    end: usize,
    nesting: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next).map(|(_, word)| word)
    }

    fn after(&self, ahead: usize) -> Option<&Word> {
        self.words.get(self.next + ahead).map(|(_, word)| word)
    }

    fn bad(&self, why: &'static str) -> BadXPath {
        BadXPath { at: self.words.get(self.next).map_or(self.end, |(at, _)| *at), why }
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Some(Word::Mark(found)) if *found == mark)
    }

    fn take(&mut self, mark: &str) -> bool {
        let taken = self.is(mark);
        self.next += usize::from(taken);
        taken
    }

    fn expect(&mut self, mark: &str, why: &'static str) -> Result<(), BadXPath> {
        if self.take(mark) { Ok(()) } else { Err(self.bad(why)) }
    }

    fn path(&mut self) -> Result<XPath, BadXPath> {
        let mut steps = Vec::new();
        let deep = Step { axis: Axis::DescendantOrSelf, test: Test::Node, predicates: Vec::new() };
        let absolute = if self.take("//") {
            steps.push(deep.clone());
            true
        } else {
            let absolute = self.take("/");
            if absolute && self.peek().is_none() {
                return Err(self.bad("the path leads to the document itself; name an element"));
            }
            absolute
        };
        loop {
            steps.push(self.step()?);
            if self.take("//") {
                steps.push(deep.clone());
            } else if !self.take("/") {
                return Ok(XPath { absolute, steps });
            }
        }
    }

    fn step(&mut self) -> Result<Step, BadXPath> {
        if self.take("..") {
            return Ok(Step { axis: Axis::Parent, test: Test::Node, predicates: Vec::new() });
        }
        if self.take(".") {
            return Ok(Step { axis: Axis::Itself, test: Test::Node, predicates: Vec::new() });
        }
        let axis = self.axis()?;
        let test = self.test()?;
        let mut predicates = Vec::new();
        while self.take("[") {
            self.nesting += 1;
            if self.nesting > MAX_NESTING {
                return Err(self.bad("predicates are nested too deeply"));
            }
            predicates.push(self.or()?);
            self.nesting -= 1;
            self.expect("]", "`]` is missing here")?;
        }
        Ok(Step { axis, test, predicates })
    }

    fn axis(&mut self) -> Result<Axis, BadXPath> {
        if self.take("@") {
            return Ok(Axis::Attribute);
        }
        let (Some(Word::Name(name)), Some(Word::Mark("::"))) = (self.peek(), self.after(1)) else {
            return Ok(Axis::Child);
        };
        let axis = match name.as_str() {
            "child" => Axis::Child,
            "attribute" => Axis::Attribute,
            "descendant" => Axis::Descendant,
            "descendant-or-self" => Axis::DescendantOrSelf,
            "self" => Axis::Itself,
            "parent" => Axis::Parent,
            _ => {
                return Err(self.bad(
                    "of the axes only child, attribute, descendant, descendant-or-self, self and parent are supported",
                ));
            }
        };
        self.next += 2;
        Ok(axis)
    }

    fn test(&mut self) -> Result<Test, BadXPath> {
        if self.take("*") {
            return Ok(Test::Any);
        }
        let Some(Word::Name(name)) = self.peek() else {
            return Err(self.bad("a name is missing here"));
        };
        let name = name.clone();
        if matches!(self.after(1), Some(Word::Mark("("))) {
            let test = match name.as_str() {
                "text" => Test::Text,
                "node" => Test::Node,
                _ => return Err(self.bad("of the functions only text() and node() can be a step")),
            };
            self.next += 2;
            self.expect(")", "`)` is missing here")?;
            return Ok(test);
        }
        self.next += 1;
        if !self.take(":") {
            return Ok(Test::Name(name));
        }
        if self.take("*") {
            return Ok(Test::AnyOf(name));
        }
        let Some(Word::Name(local)) = self.peek() else {
            return Err(self.bad("a name is missing after the prefix"));
        };
        let name = format!("{name}:{local}");
        self.next += 1;
        Ok(Test::Name(name))
    }

    fn or(&mut self) -> Result<Expr, BadXPath> {
        self.operands("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Expr, BadXPath> {
        self.operands("and", Self::comparison, Expr::And)
    }

    fn operands(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Result<Expr, BadXPath>,
        joined: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, BadXPath> {
        let first = operand(self)?;
        let mut all = vec![first];
        while matches!(self.peek(), Some(Word::Name(name)) if name == word) {
            self.next += 1;
            all.push(operand(self)?);
        }
        match (all.len(), all.pop()) {
            (1, Some(only)) => Ok(only),
            (_, last) => {
                all.extend(last);
                Ok(joined(all))
            }
        }
    }

    fn comparison(&mut self) -> Result<Expr, BadXPath> {
        let left = self.operand()?;
        if self.take("=") {
            return Ok(Expr::Equal(Box::new(left), Box::new(self.operand()?)));
        }
        if self.take("!=") {
            return Ok(Expr::Unequal(Box::new(left), Box::new(self.operand()?)));
        }
        if ["<", ">", "<=", ">=", "+", "*", "|"].iter().any(|mark| self.is(mark)) {
            return Err(self.bad("of the operators only =, !=, and, or are supported"));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, BadXPath> {
        match self.peek() {
            Some(Word::Literal(text)) => {
                let text = Expr::Literal(text.clone());
                self.next += 1;
                Ok(text)
            }
            Some(Word::Number(number)) => {
                let number = Expr::Number(*number);
                self.next += 1;
                Ok(number)
            }
            Some(Word::Mark("(")) => {
                self.next += 1;
                self.nested()
            }
            Some(Word::Mark("$")) => Err(self.bad("variables are not supported")),
            Some(Word::Name(name))
                if matches!(self.after(1), Some(Word::Mark("(")))
                    && !matches!(name.as_str(), "text" | "node") =>
            {
                self.function()
            }
            _ => self.path().map(Expr::Path),
        }
    }

    /// What stands in parentheses that are open already.
    fn nested(&mut self) -> Result<Expr, BadXPath> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.bad("parentheses are nested too deeply"));
        }
        let inner = self.or()?;
        self.nesting -= 1;
        self.expect(")", "`)` is missing here")?;
        Ok(inner)
    }

    fn function(&mut self) -> Result<Expr, BadXPath> {
        let at = self.next;
        let Some(Word::Name(name)) = self.peek().cloned() else {
            return Err(self.bad("a name is missing here"));
        };
        self.next += 2;
        let mut arguments = Vec::new();
        if !self.take(")") {
            loop {
                self.nesting += 1;
                if self.nesting > MAX_NESTING {
                    return Err(self.bad("functions are nested too deeply"));
                }
                arguments.push(self.or()?);
                self.nesting -= 1;
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")", "`)` is missing here")?;
        }
        let mut arguments = arguments.into_iter();
        let this = || Expr::Path(XPath { absolute: false, steps: vec![itself()] });
        let made = match (name.as_str(), arguments.next(), arguments.next(), arguments.next()) {
            ("last", None, ..) => Expr::Last,
            ("position", None, ..) => Expr::Position,
            ("local-name", None, ..) => Expr::LocalName,
            ("name", None, ..) => Expr::QualifiedName,
            ("not", Some(what), None, _) => Expr::Not(Box::new(what)),
            ("normalize-space", what, None, _) => {
                Expr::NormalizeSpace(Box::new(what.unwrap_or_else(this)))
            }
            ("contains", Some(text), Some(part), None) => {
                Expr::Contains(Box::new(text), Box::new(part))
            }
            ("starts-with", Some(text), Some(part), None) => {
                Expr::StartsWith(Box::new(text), Box::new(part))
            }
            _ => {
                self.next = at;
                return Err(self.bad(
                    "supported are last(), position(), local-name(), name(), not(x), normalize-space(x), contains(x,y) and starts-with(x,y)",
                ));
            }
        };
        Ok(made)
    }
}

fn itself() -> Step {
    Step { axis: Axis::Itself, test: Test::Node, predicates: Vec::new() }
}
