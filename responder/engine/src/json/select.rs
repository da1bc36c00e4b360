//! Search by where a value stands or what it is, wherever in a document: the first one, depth first.

use jiter::{Jiter, Peek};

use super::{Located, MAX_DEPTH, NotJson, Path, kind, locate, reader};

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The names on the way to it; elements of arrays are called by their index.
    pub(crate) names: Vec<String>,
    /// Its text.
    pub(crate) value: Option<String>,
    /// Whether the names may begin anywhere in the document.
    pub(crate) anywhere: bool,
    /// How many levels above it the value stands that is meant.
    pub(crate) levels_up: usize,
}

/// Finds the value; `None` when there is none, or not so many levels above it.
pub(crate) fn select(doc: &[u8], wanted: &Wanted) -> Result<Option<Located>, NotJson> {
    let mut reader = reader(doc)?;
    let mut search = Search { doc, wanted, names: Vec::new(), starts: Vec::new(), hit: None };
    search.value(&mut reader)?;
    reader.finish()?;
    let Some(start) = search.hit else { return Ok(None) };
    // What stands there is read once more, as a document of its own.
    let mut reader = Jiter::new(doc.get(start..).unwrap_or_default());
    let peek = reader.peek()?;
    reader.known_skip(peek)?;
    let span = start..start + reader.current_index();
    Ok(Some(Located { span, kind: kind(peek), parent: None, entry: start }))
}

struct Search<'d> {
    doc: &'d [u8],
    wanted: &'d Wanted,
    /// The names that lead to the current value.
    names: Vec<String>,
    /// Where the values begin that the current one is in.
    starts: Vec<usize>,
    /// Where the value begins that is meant.
    hit: Option<usize>,
}

impl Search<'_> {
    fn value(&mut self, reader: &mut Jiter<'_>) -> Result<(), NotJson> {
        let peek = reader.peek()?;
        let start = reader.current_index();
        if self.names.len() > MAX_DEPTH {
            return Err(NotJson { offset: start });
        }
        if self.hit.is_some() || (self.is_at_the_names() && self.take(reader, peek, start)?) {
            if reader.current_index() == start {
                reader.known_skip(peek)?;
            }
            return Ok(());
        }
        self.starts.push(start);
        match peek {
            Peek::Object => {
                let mut key = reader.known_object()?.map(str::to_owned);
                while let Some(name) = key {
                    self.names.push(name);
                    self.value(reader)?;
                    self.names.pop();
                    key = reader.next_key()?.map(str::to_owned);
                }
            }
            Peek::Array => {
                let mut next = reader.known_array()?;
                let mut index = 0_usize;
                while next.is_some() {
                    self.names.push(index.to_string());
                    self.value(reader)?;
                    self.names.pop();
                    index += 1;
                    next = reader.array_step()?;
                }
            }
            // It was read already when its text was compared.
            _ if reader.current_index() > start => {}
            other => reader.known_skip(other)?,
        }
        self.starts.pop();
        Ok(())
    }

    fn is_at_the_names(&self) -> bool {
        let wanted = &self.wanted.names;
        if self.wanted.anywhere { self.names.ends_with(wanted) } else { self.names == *wanted }
    }

    /// Takes the value that the names lead to, if it has the wanted text.
    fn take(&mut self, reader: &mut Jiter<'_>, peek: Peek, start: usize) -> Result<bool, NotJson> {
        if let Some(wanted) = &self.wanted.value {
            if matches!(peek, Peek::Object | Peek::Array) {
                return Ok(false);
            }
            reader.known_skip(peek)?;
            let raw = self.doc.get(start..reader.current_index()).unwrap_or_default();
            let place = locate(raw, &Path { segments: Vec::new() })?;
            let text = place.first().map(|place| super::text(raw, place)).unwrap_or_default();
            if text != wanted.as_bytes() {
                return Ok(false);
            }
        }
        let up = self.wanted.levels_up;
        self.hit = match up {
            0 => Some(start),
            _ => self.starts.len().checked_sub(up).and_then(|nth| self.starts.get(nth)).copied(),
        };
        Ok(self.hit.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &str, value: Option<&str>, anywhere: bool, levels_up: usize) -> Option<String> {
        let doc = r#"{"people":{"a":{"first":"jo","address":{"zip":90210}},"b":{"id":1,"nick":"x","address":{"zip":30303,"nick":"y"}}},"list":[{"k":"1"},{"k":"2"}]}"#;
        let names = names.split('.').map(str::to_owned).collect();
        let wanted = Wanted { names, value: value.map(str::to_owned), anywhere, levels_up };
        let found = select(doc.as_bytes(), &wanted).unwrap()?;
        doc.get(found.span).map(str::to_owned)
    }

    #[test]
    fn finds_the_first_value_depth_first() {
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(find("nick", None, true, 0), found("\"x\""));
        assert_eq!(find("nick", Some("y"), true, 0), found("\"y\""));
        assert_eq!(
            find("address.zip", Some("30303"), true, 1),
            found(r#"{"zip":30303,"nick":"y"}"#)
        );
        assert_eq!(
            find("address.zip", Some("90210"), true, 2),
            found(r#"{"first":"jo","address":{"zip":90210}}"#)
        );
        assert_eq!(find("list.1.k", None, false, 0), found("\"2\""));
        assert_eq!(find("k", Some("2"), true, 1), found(r#"{"k":"2"}"#));
        assert_eq!(find("people", None, false, 1).map(|whole| whole.len() > 100), Some(true));
        assert_eq!(find("nick", None, false, 0), None);
        assert_eq!(find("nick", None, true, 9), None);
        assert_eq!(find("people", Some("x"), true, 0), None);
    }
}
