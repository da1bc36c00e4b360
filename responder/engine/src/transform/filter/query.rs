//! Filters as a query: `(location IS "/a" OR location IS "/b") AND (command NOT "GET")`.
//!
//! Whatever is wrong is reported with the character where it stands. AND binds closer than OR; since that is easily misread, a query that
//! relies on it gets a warning. Negation belongs to a term, not to a group.

mod cursor;

use super::{
    Criterion, Diagnostic, Diagnostics, Filters, Part, Sample, Wrong, did_you_mean,
    names::{ENTRIES, Entry, Kind, Place, find},
    test::Operator,
    value::TimeRange,
};
use cursor::Cursor;

/// Groups are nested this deeply at the most.
const MAX_DEPTH: usize = 64;

const OPERATORS: &str = "the operators are IS, NOT, CONTAINS, NOT CONTAINS and REGEX";

/// Reads a query; `None` when something is wrong with it.
pub(super) fn parse(text: &str, found: &mut Diagnostics) -> Option<Filters> {
    let mut parser = Parser { cursor: Cursor::new(text), found, sound: true };
    let read = parser.whole();
    let sound = parser.sound;
    match read {
        Ok(filters) => sound.then_some(filters),
        Err(bad) => {
            parser.report(bad);
            None
        }
    }
}

/// Where a query cannot be read on.
struct Bad {
    at: usize,
    code: &'static str,
    message: String,
    hint: String,
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    found: &'a mut Diagnostics,
    /// Nothing that was read so far is in error.
    sound: bool,
}

/// How terms were joined so far in a group.
struct Joined {
    any: Vec<Filters>,
    all: Vec<Filters>,
}

impl Parser<'_> {
    fn whole(&mut self) -> Result<Filters, Bad> {
        if self.cursor.at_end() || self.cursor.at_steps() {
            self.leave_steps();
            return Ok(Filters::everything());
        }
        let filters = self.group(0)?;
        if self.cursor.at_steps() {
            self.leave_steps();
        } else if !self.cursor.at_end() {
            return Err(self.bad("the query should end here, or go on with AND or OR", ""));
        }
        Ok(filters)
    }

    /// In the shorthand of a whole chain, extractor and steps follow the filters.
    fn leave_steps(&mut self) {
        if self.cursor.at_steps() {
            let message = format!(
                "at character {}: what follows the filter are the steps of a chain; they are left aside",
                self.cursor.character()
            );
            self.found.push(Diagnostic::info("steps_ignored", "", message));
        }
    }

    /// Terms and groups joined with AND and OR.
    fn group(&mut self, depth: usize) -> Result<Filters, Bad> {
        let start = self.cursor.character();
        let mut joined = Joined { any: Vec::new(), all: vec![self.factor(depth)?] };
        let (mut ands, mut ors) = (false, false);
        loop {
            if self.cursor.take_word("AND") {
                ands = true;
            } else if self.cursor.take_word("OR") {
                ors = true;
                joined.any.push(Filters::all(std::mem::take(&mut joined.all)));
            } else {
                break;
            }
            joined.all.push(self.factor(depth)?);
        }
        if ands && ors {
            let message = format!(
                "in the group at character {start} AND and OR are mixed; AND binds closer than OR"
            );
            self.found.push(
                Diagnostic::warning("mixed_operators", "", message)
                    .hint("put the terms that belong together in parentheses"),
            );
        }
        joined.any.push(Filters::all(joined.all));
        Ok(Filters::any(joined.any))
    }

    fn factor(&mut self, depth: usize) -> Result<Filters, Bad> {
        if !self.cursor.take('(') {
            return self.term();
        }
        if depth >= MAX_DEPTH {
            return Err(self.bad("groups are nested too deeply", ""));
        }
        let inner = self.group(depth + 1)?;
        if self.cursor.take(')') { Ok(inner) } else { Err(self.bad("`)` is missing here", "")) }
    }

    fn term(&mut self) -> Result<Filters, Bad> {
        let start = self.cursor.character();
        let Some(word) = self.cursor.word() else {
            let hint = "a term looks like `location IS \"/login\"`";
            return Err(self.bad("a keyword is missing here", hint));
        };
        let entry = find(&word).filter(|entry| !entry.query.is_empty());
        let Some(entry) = entry else {
            let known: Vec<&str> =
                ENTRIES.iter().map(|entry| entry.query).filter(|word| !word.is_empty()).collect();
            let message = format!("there is no keyword `{word}`");
            let hint = match word.to_ascii_uppercase().as_str() {
                "NOT" => {
                    "negate a term, as in `status NOT \"500\"`; groups cannot be negated".into()
                }
                _ => did_you_mean(&word, &known),
            };
            return Err(Bad { at: start, code: "unknown_filter", message, hint });
        };
        let key_at = self.cursor.character();
        let key = self.cursor.key().map_err(|why| self.bad(why, ""))?;
        match entry.kind {
            Kind::Plain(of) => {
                self.no_key(entry, key.as_deref(), key_at)?;
                let (include, operator, operator_at) = self.operator()?;
                let (value, at) = self.value()?;
                let built = Criterion::plain(of, operator, &value);
                Ok(self.made(include, built, [key_at, operator_at, at]))
            }
            Kind::Keyed(place) => self.keyed(entry, place, key, key_at),
            Kind::TimeRange => {
                self.no_key(entry, key.as_deref(), key_at)?;
                let include = self.is_or_not();
                let (start, at) = self.value()?;
                let (end, _) = self.value()?;
                let built = TimeRange::new(&start, &end).map(Criterion::Time);
                Ok(self.made(include, built, [key_at, at, at]))
            }
            Kind::Sample => {
                let each = match key.as_deref() {
                    None => false,
                    Some(unit) if unit.eq_ignore_ascii_case("session") => false,
                    Some(unit) if unit.eq_ignore_ascii_case("rrpair") => true,
                    Some(_) => {
                        return Err(Bad {
                            at: key_at,
                            code: "bad_query",
                            message: "a sample is of sessions or of pairs".to_owned(),
                            hint: "write `sample` or `sample[rrpair]`".to_owned(),
                        });
                    }
                };
                let include = self.is_or_not();
                let (text, at) = self.value()?;
                let built = Sample::parse(&text, each).map(Criterion::Sample);
                Ok(self.made(include, built, [key_at, at, at]))
            }
            // It has no keyword.
            Kind::RequestFilter => Err(self.bad("this keyword is not part of queries", "")),
        }
    }

    fn keyed(
        &mut self,
        entry: &Entry,
        place: Place,
        key: Option<String>,
        key_at: usize,
    ) -> Result<Filters, Bad> {
        let (include, operator, operator_at) = self.operator()?;
        let (value, at) = self.value()?;
        let places = [key_at, operator_at, at];
        let tag = (place == Place::Tag).then(|| value.split_once('=')).flatten();
        match (key, tag) {
            (Some(key), _) => {
                let built = Criterion::keyed(place, &key, operator, Some(&value));
                Ok(self.made(include, built, places))
            }
            (None, Some((key, value))) => {
                let built = Criterion::keyed(place, key, operator, Some(value));
                Ok(self.made(include, built, places))
            }
            (None, None) => Err(Bad {
                at: key_at,
                code: "bad_query",
                message: format!("`{}` needs a key", entry.query),
                hint: format!("write `{}[key]`", entry.query),
            }),
        }
    }

    fn no_key(&self, entry: &Entry, key: Option<&str>, at: usize) -> Result<(), Bad> {
        match key {
            None => Ok(()),
            Some(_) => Err(Bad {
                at,
                code: "bad_query",
                message: format!("`{}` takes no key", entry.query),
                hint: String::new(),
            }),
        }
    }

    fn is_or_not(&mut self) -> bool {
        let _ = self.cursor.take_word("IS");
        !self.cursor.take_word("NOT")
    }

    /// Whether the term includes, how it compares, and where that is written.
    fn operator(&mut self) -> Result<(bool, Operator, usize), Bad> {
        let at = self.cursor.character();
        let is = self.cursor.take_word("IS");
        let include = !self.cursor.take_word("NOT");
        let operator = if !is && self.cursor.take_word("CONTAINS") {
            Operator::Contains
        } else if !is && self.cursor.take_word("REGEX") {
            Operator::Matches
        } else if is || !include {
            Operator::Equal
        } else {
            return Err(self.bad("an operator is missing here", OPERATORS));
        };
        Ok((include, operator, at))
    }

    fn value(&mut self) -> Result<(String, usize), Bad> {
        let at = self.cursor.character();
        match self.cursor.string() {
            Ok(Some(text)) => Ok((text, at)),
            Ok(None) => Err(self.bad("a value is missing here", "put the value in double quotes")),
            Err(why) => Err(self.bad(why, "")),
        }
    }

    /// What is wrong with a criterion does not keep the rest from being read.
    fn made(
        &mut self,
        include: bool,
        built: Result<Criterion, Wrong>,
        [key, operator, value]: [usize; 3],
    ) -> Filters {
        match built {
            Ok(criterion) => {
                super::show::remark(&criterion, "", self.found);
                Filters::one(include, criterion)
            }
            Err(why) => {
                let at = match why.part {
                    Part::Key => key,
                    Part::Operator => operator,
                    Part::Value => value,
                };
                self.report(Bad { at, code: why.code, message: why.message, hint: why.hint });
                Filters::everything()
            }
        }
    }

    fn bad(&self, message: &str, hint: &str) -> Bad {
        Bad {
            at: self.cursor.character(),
            code: "bad_query",
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }

    fn report(&mut self, bad: Bad) {
        self.sound = false;
        let message = format!("at character {}: {}", bad.at, bad.message);
        self.found.push(Diagnostic::error(bad.code, "", message).hint(bad.hint));
    }
}
