//! A place in a query, and what can be read from there.
//!
//! Everything skips white space first, so that a place that is reported is where something stands.

/// What separates the steps of a chain in shorthand.
const STEP_MARKS: [&str; 4] = ["|", "<->", "->", "→"];

pub(super) struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, rest: text.trim_start() }
    }

    /// The character here, counted from 1.
    pub(super) fn character(&self) -> usize {
        let before = self.text.len() - self.rest.len();
        self.text.get(..before).unwrap_or_default().chars().count() + 1
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn at_steps(&self) -> bool {
        STEP_MARKS.iter().any(|mark| self.rest.starts_with(mark))
    }

    pub(super) fn take(&mut self, mark: char) -> bool {
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.go(rest);
                true
            }
            None => false,
        }
    }

    /// Takes a word if it is the one that is wanted, in any case.
    pub(super) fn take_word(&mut self, wanted: &str) -> bool {
        let (word, rest) = self.split_word();
        let taken = word.eq_ignore_ascii_case(wanted);
        if taken {
            self.go(rest);
        }
        taken
    }

    /// Any word; `None` when there is none.
    pub(super) fn word(&mut self) -> Option<String> {
        let (word, rest) = self.split_word();
        if word.is_empty() {
            return None;
        }
        self.go(rest);
        Some(word.to_owned())
    }

    /// A key in brackets. It may be quoted; otherwise it ends at the bracket that closes it, and brackets within it are in pairs.
    pub(super) fn key(&mut self) -> Result<Option<String>, &'static str> {
        let Some(inner) = self.rest.strip_prefix('[') else { return Ok(None) };
        if inner.trim_start().starts_with(['"', '\'']) {
            self.go(inner);
            let key = self.string()?;
            return if self.take(']') { Ok(key) } else { Err("`]` is missing here") };
        }
        let mut open = 1_usize;
        for (at, c) in inner.char_indices() {
            match c {
                '[' => open += 1,
                ']' => open -= 1,
                _ => {}
            }
            if open == 0 {
                let (key, rest) = inner.split_at(at);
                self.go(rest.strip_prefix(']').unwrap_or_default());
                return Ok(Some(key.trim().to_owned()));
            }
        }
        Err("this key has no end; `]` is missing")
    }

    /// A quoted string; `None` when there is none. A backslash takes the special meaning from a quote or a backslash and is an ordinary
    /// character before any other, so that regular expressions can be written as they are.
    pub(super) fn string(&mut self) -> Result<Option<String>, &'static str> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Ok(None);
        };
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    let escaped = chars.next_if(|(_, c)| *c == quote || *c == '\\');
                    out.push(escaped.map_or('\\', |(_, c)| c));
                }
                c if c == quote => {
                    let rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                    self.go(rest);
                    return Ok(Some(out));
                }
                c => out.push(c),
            }
        }
        Err("this string has no end")
    }

    fn split_word(&self) -> (&'a str, &'a str) {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')));
        self.rest.split_at(end.unwrap_or(self.rest.len()))
    }

    fn go(&mut self, rest: &'a str) {
        self.rest = rest.trim_start();
    }
}
