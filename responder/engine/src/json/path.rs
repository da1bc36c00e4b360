//! Paths into JSON documents, in gjson's notation: `a.b`, `a.0`, `#.x`, `list.#(name=="x").id`, `a*.b?`.

use super::{Kind, locate, text};

/// A path of more steps is refused.
const MAX_STEPS: usize = 64;

/// One step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// A member of an object; all digits also mean an element of an array.
    Name(String),
    /// The first member whose name fits a pattern.
    Like(Vec<Wild>),
    /// Every element of an array.
    Each,
    /// The first element of an array that passes a test, or all of them.
    Find { test: Test, all: bool },
}

/// A path: a dot inside a name is written `\.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<Segment>,
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wild {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// What an element must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    path: Path,
    /// `None` asks only whether there is a value.
    compare: Option<(Compare, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    NotLike,
}

/// The longer ones first.
const COMPARES: [(&str, Compare); 9] = [
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("!%", Compare::NotLike),
    ("=", Compare::Equal),
    ("<", Compare::Less),
    (">", Compare::Greater),
    ("%", Compare::Like),
];

impl Path {
    /// Parses a path; the error says what is not supported.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the path is empty");
        }
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            let (segment, behind) = Segment::parse(rest)?;
            segments.push(segment);
            if segments.len() > MAX_STEPS {
                return Err("the path has too many steps");
            }
            match behind.strip_prefix('.') {
                Some(more) => rest = more,
                None if behind.is_empty() => return Ok(Self { segments }),
                None => return Err("a dot is missing behind a query"),
            }
        }
    }

    /// The path of these names and indexes, whatever characters they have.
    pub(crate) fn of_names(names: impl IntoIterator<Item = String>) -> Self {
        Self { segments: names.into_iter().map(Segment::Name).collect() }
    }

    /// The last name of the path, without array steps.
    pub(crate) fn leaf(&self) -> &str {
        self.segments
            .iter()
            .rev()
            .find_map(|s| if let Segment::Name(name) = s { Some(name.as_str()) } else { None })
            .unwrap_or_default()
    }
}

impl Segment {
    /// Reads the first segment of a text, and returns what is behind it.
    fn parse(text: &str) -> Result<(Self, &str), &'static str> {
        if let Some(query) = text.strip_prefix("#(") {
            return Self::find(query);
        }
        let mut pieces = Vec::new();
        let (mut escaped, mut end) = (false, text.len());
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    let (_, literal) = chars.next().ok_or("the path ends in a backslash")?;
                    pieces.push(Wild::Char(literal));
                    escaped = true;
                }
                '.' => {
                    end = at;
                    break;
                }
                '|' | '(' => return Err("modifiers and pipes are not supported"),
                '@' if at == 0 => return Err("modifiers and pipes are not supported"),
                '*' => pieces.push(Wild::Any),
                '?' => pieces.push(Wild::One),
                other => pieces.push(Wild::Char(other)),
            }
        }
        let behind = text.get(end..).unwrap_or_default();
        let name: Option<String> = pieces
            .iter()
            .map(|piece| if let Wild::Char(c) = piece { Some(*c) } else { None })
            .collect();
        match name {
            Some(name) if name.is_empty() => Err("the path has an empty segment"),
            Some(name) if name == "#" && !escaped => Ok((Self::Each, behind)),
            Some(name) => Ok((Self::Name(name), behind)),
            None => Ok((Self::Like(pieces), behind)),
        }
    }

    /// Reads `name=="x")` or `name=="x")#`.
    fn find(text: &str) -> Result<(Self, &str), &'static str> {
        let (mut quoted, mut escaped) = (false, false);
        let end = text.char_indices().find_map(|(at, c)| {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = !quoted,
                ')' if !quoted => return Some(at),
                _ => {}
            }
            None
        });
        let end = end.ok_or("a query has no end")?;
        let test = Test::parse(text.get(..end).unwrap_or_default())?;
        let behind = text.get(end + 1..).unwrap_or_default();
        Ok(match behind.strip_prefix('#') {
            Some(behind) => (Self::Find { test, all: true }, behind),
            None => (Self::Find { test, all: false }, behind),
        })
    }

    /// Whether a member of this name is meant.
    pub(crate) fn names(&self, member: &str) -> bool {
        match self {
            Self::Name(name) => name == member,
            Self::Like(pattern) => fits(pattern, member),
            Self::Each | Self::Find { .. } => false,
        }
    }
}

impl Test {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let sign = text.char_indices().find(|(_, c)| "=!<>%".contains(*c)).map(|found| found.0);
        let (path, rest) = text.split_at_checked(sign.unwrap_or(text.len())).unwrap_or((text, ""));
        let path = match path.trim() {
            "" => Path { segments: Vec::new() },
            path => Path::parse(path)?,
        };
        if path.segments.iter().any(|segment| matches!(segment, Segment::Find { .. })) {
            return Err("queries do not nest");
        }
        if rest.is_empty() {
            return Ok(Self { path, compare: None });
        }
        let compare = COMPARES
            .iter()
            .find_map(|(sign, compare)| Some((*compare, rest.strip_prefix(sign)?.trim())));
        let (compare, value) = compare.ok_or("a query compares with == != < <= > >= % or !%")?;
        let value = match serde_json::from_str::<String>(value) {
            Ok(text) => text,
            Err(_) if value.starts_with('"') => return Err("a query has a broken string"),
            Err(_) => value.to_owned(),
        };
        Ok(Self { path, compare: Some((compare, value)) })
    }

    /// Whether an element passes.
    pub(super) fn holds(&self, element: &[u8]) -> bool {
        let Ok(found) = locate(element, &self.path) else { return false };
        let Some(place) = found.first() else { return false };
        let Some((compare, wanted)) = &self.compare else { return true };
        if matches!(place.kind, Kind::Array | Kind::Object) {
            return false;
        }
        let value = String::from_utf8_lossy(&text(element, place)).into_owned();
        let order = match (value.parse::<f64>(), wanted.parse::<f64>()) {
            (Ok(a), Ok(b)) if place.kind == Kind::Number => a.partial_cmp(&b),
            _ => Some(value.as_str().cmp(wanted)),
        };
        let pattern = || -> Vec<Wild> { wanted.chars().map(Wild::of).collect() };
        match compare {
            Compare::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Compare::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
            Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
            Compare::Like => fits(&pattern(), &value),
            Compare::NotLike => !fits(&pattern(), &value),
        }
    }
}

impl Wild {
    fn of(c: char) -> Self {
        match c {
            '*' => Self::Any,
            '?' => Self::One,
            other => Self::Char(other),
        }
    }
}

/// Whether a text fits a pattern; its cost is the product of the two lengths at the most.
fn fits(pattern: &[Wild], text: &str) -> bool {
    // Which beginnings of the pattern fit the text read so far.
    let mut states = vec![false; pattern.len() + 1];
    let spread = |states: &mut [bool]| {
        for (nth, piece) in pattern.iter().enumerate() {
            if *piece == Wild::Any
                && states.get(nth) == Some(&true)
                && let Some(next) = states.get_mut(nth + 1)
            {
                *next = true;
            }
        }
    };
    if let Some(first) = states.first_mut() {
        *first = true;
    }
    spread(&mut states);
    for c in text.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (nth, piece) in pattern.iter().enumerate() {
            let to = match piece {
                Wild::Any => nth,
                Wild::One => nth + 1,
                Wild::Char(wanted) if *wanted == c => nth + 1,
                Wild::Char(_) => continue,
            };
            if states.get(nth) == Some(&true)
                && let Some(state) = next.get_mut(to)
            {
                *state = true;
            }
        }
        spread(&mut next);
        states = next;
    }
    states.last() == Some(&true)
}
