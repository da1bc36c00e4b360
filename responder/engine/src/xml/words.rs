//! An XPath as a list of words, each with the byte where it begins.

use super::path::BadXPath;

/// One word of an XPath.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A punctuation mark or operator.
    Mark(&'static str),
    /// A name without colon.
    Name(String),
    /// A string literal, without its quotes.
    Literal(String),
    Number(f64),
}

/// The marks, the longer of two that begin alike first.
const MARKS: [&str; 21] = [
    "//", "/", "..", "::", ":", "!=", "<=", ">=", "<", ">", "=", "[", "]", "(", ")", "@", ",", "*",
    "|", "+", "$",
];

pub(super) fn words(text: &str) -> Result<Vec<(usize, Word)>, BadXPath> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(words) };
        let (word, after) = if let '"' | '\'' = first {
            let (literal, after) = rest
                .strip_prefix(first)
                .and_then(|inner| inner.split_once(first))
                .ok_or(BadXPath { at, why: "the string has no end" })?;
            (Word::Literal(literal.to_owned()), after)
        } else if begins_number(rest) {
            let (number, after) = rest.split_at(end_of(rest, |c| c.is_ascii_digit() || c == '.'));
            let number = number.parse().map_err(|_| BadXPath { at, why: "this is no number" })?;
            (Word::Number(number), after)
        } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            (Word::Mark(mark), rest.strip_prefix(mark).unwrap_or_default())
        } else if first == '.' {
            (Word::Mark("."), rest.strip_prefix('.').unwrap_or_default())
        } else if first.is_alphabetic() || first == '_' {
            let (name, after) = rest
                .split_at(end_of(rest, |c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
            (Word::Name(name.to_owned()), after)
        } else {
            return Err(BadXPath { at, why: "this character has no meaning in an XPath" });
        };
        words.push((at, word));
        rest = after;
    }
}

fn begins_number(rest: &str) -> bool {
    let digits = rest.strip_prefix('.').unwrap_or(rest);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}
