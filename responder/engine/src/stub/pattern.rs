//! Regular expressions and path templates as their authors mean them.
//!
//! Authors write for Java or Go. What those two and Rust's library share is taken, with `\d`, `\w` and `\s` as ASCII only, as both have it;
//! what only backtracking can do (look-around, back-references, possessive quantifiers) is refused. A pattern matches the whole of a value.

use regex::{Regex, RegexBuilder};

/// How large one compiled expression may become, in bytes.
const MAX_SIZE: usize = 1024 * 1024;
/// The longest expression that is read.
const MAX_LEN: usize = 16 * 1024;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// It uses what the library does not have.
    #[error("the regular expression uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// It is not written as it should be.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// It is too long, or becomes too large.
    #[error("the regular expression is too large")]
    TooLarge,
}

/// Compiles an expression that must match the whole of a value; a dot matches line breaks, too.
pub(super) fn whole(pattern: &str) -> Result<Regex, PatternError> {
    build(&format!(r"\A(?:{})\z", translated(pattern)?))
}

/// A template of a path: `{name}` stands for a segment or a part of one, `**` for anything.
#[derive(Debug)]
pub(super) struct Template {
    pattern: Regex,
    variables: Vec<String>,
}

impl Template {
    /// Reads a template.
    pub(super) fn parse(template: &str) -> Result<Self, PatternError> {
        let mut pattern = String::from(r"\A");
        let mut variables = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let next = rest.find(['{', '*']).unwrap_or(rest.len());
            let (fixed, special) = rest.split_at_checked(next).unwrap_or((rest, ""));
            pattern.push_str(&regex::escape(fixed));
            let variable = special.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            rest = if let Some(tail) = special.strip_prefix("**") {
                pattern.push_str("(?:.*?)");
                tail
            } else if let Some((name, tail)) = variable.filter(|(name, _)| !name.is_empty()) {
                pattern.push_str("([^/]+)");
                variables.push(name.replace(['.', ';', '*'], ""));
                tail
            } else if let Some(c) = special.chars().next() {
                pattern.push_str(&regex::escape(&c.to_string()));
                special.get(c.len_utf8()..).unwrap_or_default()
            } else {
                ""
            };
        }
        pattern.push_str(r"\z");
        Ok(Self { pattern: build(&pattern)?, variables })
    }

    /// Whether a path fits.
    pub(super) fn is_match(&self, path: &str) -> bool {
        self.pattern.is_match(path)
    }

    /// Whether it has a variable of this name.
    pub(super) fn has(&self, variable: &str) -> bool {
        self.variables.iter().any(|known| known == variable)
    }

    /// What stands in a path for a variable.
    pub(super) fn variable<'p>(&self, path: &'p str, variable: &str) -> Option<&'p str> {
        let nth = self.variables.iter().position(|known| known == variable)?;
        self.pattern.captures(path)?.get(nth + 1).map(|found| found.as_str())
    }
}

fn build(pattern: &str) -> Result<Regex, PatternError> {
    if pattern.len() > MAX_LEN {
        return Err(PatternError::TooLarge);
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.dot_matches_new_line(true).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE);
    builder.build().map_err(|why| match why {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        // The library draws a picture of the pattern and says in the last line what is wrong with it.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            PatternError::Syntax(last.trim_start_matches("error: ").to_owned())
        }
    })
}

/// The same expression for Rust's library.
fn translated(pattern: &str) -> Result<String, PatternError> {
    if pattern.len() > MAX_LEN {
        return Err(PatternError::TooLarge);
    }
    let mut reader =
        Reader { rest: pattern, out: String::with_capacity(pattern.len() + 16), class: 0 };
    let mut quantified = false;
    while let Some(c) = reader.next() {
        let was_quantified = std::mem::take(&mut quantified);
        match c {
            '\\' => reader.escape()?,
            '[' => reader.open_class(),
            ']' if reader.class > 0 => {
                reader.class -= 1;
                reader.out.push(c);
            }
            '-' | '~' if reader.class > 0 && reader.rest.starts_with(c) => {
                return Err(PatternError::Unsupported("a doubled `-` or `~` in a class"));
            }
            '(' if reader.class == 0 => reader.open_group()?,
            '+' if was_quantified && reader.class == 0 => {
                return Err(PatternError::Unsupported("a possessive quantifier"));
            }
            '*' | '+' | '?' | '}' if reader.class == 0 => {
                // A question mark behind a quantifier makes it lazy and is none itself.
                quantified = !(c == '?' && was_quantified);
                reader.out.push(c);
            }
            other => reader.out.push(other),
        }
    }
    Ok(reader.out)
}

/// Goes through an expression and writes the other.
struct Reader<'p> {
    rest: &'p str,
    out: String,
    /// How many classes are open.
    class: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let Some(c) = self.next() else {
            return Err(PatternError::Syntax("it ends in a backslash".to_owned()));
        };
        match c {
            'Q' => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.out.push_str(&regex::escape(quoted));
                self.rest = rest;
            }
            // Both may stand in a class.
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[ \t\n\x0B\f\r]"),
            'S' => self.out.push_str(r"[^ \t\n\x0B\f\r]"),
            'p' | 'P' => self.property(c == 'P'),
            // To Rust these are the edges of a word.
            '<' | '>' => self.out.push(c),
            other => {
                self.out.push('\\');
                self.out.push(other);
                if matches!(other, 'x' | 'u') {
                    self.braces();
                }
            }
        }
        Ok(())
    }

    /// Java's names of ASCII classes; all other properties are left to the library.
    fn property(&mut self, negated: bool) {
        const ASCII: [(&str, &str); 13] = [
            ("{Lower}", "lower"),
            ("{Upper}", "upper"),
            ("{ASCII}", "ascii"),
            ("{Alpha}", "alpha"),
            ("{Digit}", "digit"),
            ("{Alnum}", "alnum"),
            ("{Punct}", "punct"),
            ("{Graph}", "graph"),
            ("{Print}", "print"),
            ("{Blank}", "blank"),
            ("{Cntrl}", "cntrl"),
            ("{XDigit}", "xdigit"),
            ("{Space}", "space"),
        ];
        for (java, class) in ASCII {
            if let Some(rest) = self.rest.strip_prefix(java) {
                self.rest = rest;
                let not = if negated { "^" } else { "" };
                self.out.push_str(&format!("[[:{not}{class}:]]"));
                return;
            }
        }
        self.out.push_str(if negated { "\\P" } else { "\\p" });
        self.braces();
    }

    /// What stands in braces behind an escape is a name or a number, no repetition.
    fn braces(&mut self) {
        if self.rest.starts_with('{')
            && let Some((inner, rest)) = self.rest.split_once('}')
        {
            self.out.push_str(inner);
            self.out.push('}');
            self.rest = rest;
        }
    }

    /// A closing bracket right at the beginning of a class is one of its characters.
    fn open_class(&mut self) {
        self.class += 1;
        self.out.push('[');
        for literal in ["^", "]"] {
            if let Some(rest) = self.rest.strip_prefix(literal) {
                self.rest = rest;
                self.out.push_str(if literal == "]" { r"\]" } else { literal });
            }
        }
    }

    fn open_group(&mut self) -> Result<(), PatternError> {
        self.out.push('(');
        let Some(inner) = self.rest.strip_prefix('?') else { return Ok(()) };
        if inner.starts_with(['=', '!', '>']) || inner.starts_with("<=") || inner.starts_with("<!")
        {
            return Err(PatternError::Unsupported("look-around or an atomic group"));
        }
        let flags: String =
            inner.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
        // Comments would swallow what is put around the expression.
        if flags.contains('x') {
            return Err(PatternError::Unsupported("the comments flag `x`"));
        }
        self.out.push('?');
        self.rest = inner;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions_match_the_whole_as_in_java() {
        for (pattern, value, expected) in [
            ("a+", "aaa", true),
            ("a+", "aab", false),
            ("a|ab", "ab", true),
            ("/things/[0-9]+", "/things/12", true),
            (".*", "two\nlines", true),
            (r"\d+", "123", true),
            (r"\d+", "\u{0661}", false),
            (r"[\d\-x]+", "1-x", true),
            (r"[^\s]+", "a b", false),
            (r"\w+@\w+\.com", "a@b.com", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            (r"\Qa.b", "a.b", true),
            ("(?i)ABC", "abc", true),
            ("(?<year>[0-9]{4})", "2024", true),
            ("[]a]+", "]a", true),
            ("[^]a]+", "b", true),
            (r"a\/b", "a/b", true),
            (r"\<a\>", "<a>", true),
            (r"\p{Alpha}+", "aé", false),
            (r"[\p{Alpha}0]+", "a0", true),
            (r"\P{Digit}+", "a1", false),
            (r"\p{L}+", "aé", true),
            ("a*?b??", "aab", true),
            ("a{2,}?", "aaa", true),
            ("", "", true),
        ] {
            let compiled = whole(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(compiled.is_match(value), expected, "{pattern} on {value:?}");
        }
    }

    #[test]
    fn what_needs_backtracking_is_refused() {
        for pattern in [
            "(?=a)b",
            "(?!a)b",
            "(?<=a)b",
            "(?<!a)b",
            "(?>a)b",
            r"(a)\1",
            "a*+b",
            "a++",
            "a?+",
            "a{2}+",
            "(?x)a # b",
            "[a--b]",
            "(",
            "[",
            "*",
            "a\\",
            r"\Z",
        ] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
        assert_eq!(whole(&"a".repeat(MAX_LEN + 1)).unwrap_err(), PatternError::TooLarge);
        assert_eq!(whole(r"(\p{L}{500}){500}").unwrap_err(), PatternError::TooLarge);
        assert_eq!(
            whole("a(").unwrap_err().to_string(),
            "not a regular expression: unclosed group"
        );
    }

    #[test]
    fn templates_take_segments_and_tails() {
        let template = Template::parse("/users/{user.id}/files/{name}.{kind}/**").unwrap();
        let path = "/users/7/files/a.txt/x/y";
        assert!(template.is_match(path));
        assert_eq!(template.variable(path, "userid"), Some("7"));
        assert_eq!(template.variable(path, "kind"), Some("txt"));
        assert_eq!(template.variable(path, "other"), None);
        assert_eq!(template.variable("/users", "kind"), None);
        assert!(template.has("name") && !template.has("user.id"));
        for (template, path, expected) in [
            ("/a/{b}", "/a/", false),
            ("/a/{b}", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/a.b", "/axb", false),
            ("/a/{b", "/a/{b", true),
            ("/a/{}", "/a/{}", true),
            ("/a/*", "/a/*", true),
        ] {
            assert_eq!(Template::parse(template).unwrap().is_match(path), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", pattern in r"[a\\\[\](){}?*+.dQE^<=!-]{0,16}") {
            for text in [text, pattern] {
                if let Ok(pattern) = whole(&text) {
                    pattern.is_match("aa");
                }
                if let Ok(template) = Template::parse(&text) {
                    template.variable("/a/b", "a");
                }
            }
        }

        #[test]
        fn quoted_text_matches_itself(text in "[^\\\\]{0,20}") {
            let pattern = whole(&["\\Q", &text, "\\E"].concat());
            prop_assert!(pattern.unwrap().is_match(&text));
        }
    }
}
