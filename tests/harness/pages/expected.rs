//! Whether something printed is what a page says. `…` stands for anything within a line; a line of nothing else for any lines.

/// Compares line by line. Blanks at the ends of lines do not matter.
pub(super) fn is(expected: &str, printed: &str) -> bool {
    let lines = |text: &str| {
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    all(&lines(expected), &lines(printed))
}

/// Whether the lines of a text are printed in this order, whatever is printed in between.
pub(super) fn are_among(expected: &str, printed: &str) -> bool {
    let mut printed = printed.lines();
    expected
        .lines()
        .filter(|line| !line.trim().is_empty() && line.trim() != "…")
        .all(|line| printed.any(|there| fits(line.trim_end(), there.trim_end())))
}

fn all(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=printed.len()).any(|skip| printed.get(skip..).is_some_and(|left| all(rest, left)))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(there, left)| fits(first, there) && all(rest, left))
        }
    }
}

fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything() {
        assert!(is("a\n…\nd", "a \nb\nc\nd\n"));
        assert!(is("x…z", "xyz") && is("…", "") && is("", ""));
        assert!(is("{\"a\":\"…\",\"b\":1}", "{\"a\":\"q\",\"b\":1}"));
        for (expected, printed) in
            [("a", "a\nb"), ("a\nb", "a"), ("x…z", "xyzw"), ("", "a"), ("a…b…c", "abab")]
        {
            assert!(!is(expected, printed), "{expected} {printed}");
        }
        assert!(are_among("a\nc…", "0\na\nb\ncd\n") && !are_among("c\na", "a\nc\n"));
    }
}
