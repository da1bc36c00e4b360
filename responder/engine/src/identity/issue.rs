//! Whether a response may issue a token, found out quickly: hardly any does, and taking one apart takes long.

use memchr::memchr2;

use super::mark::may_hold_token;

/// Tokens longer than this are not told apart by their length.
const LONGEST: usize = 4096;

/// What presented tokens look like.
#[derive(Debug)]
pub(super) struct Looks {
    /// Whether there is one of a length.
    lengths: Box<[bool]>,
    /// Every token looks like a JWT.
    jwts: bool,
}

impl Looks {
    pub(super) fn of<'t>(tokens: impl Iterator<Item = (&'t [u8], bool)>) -> Self {
        let mut looks = Self { lengths: vec![false; LONGEST + 1].into(), jwts: true };
        for (text, jwt) in tokens {
            looks.jwts &= jwt;
            if let Some(length) = looks.lengths.get_mut(text.len().min(LONGEST)) {
                *length = true;
            }
        }
        looks
    }

    /// Whether a text may be one of them.
    pub(super) fn fit(&self, text: &[u8]) -> bool {
        self.lengths.get(text.len().min(LONGEST)).is_some_and(|known| *known)
    }

    /// Whether all of them look like a JWT.
    pub(super) fn are_jwts(&self) -> bool {
        self.jwts
    }

    /// Whether one of them may be a string of a JSON document, where `is` tells of a string. What stands between quotes is a string or the
    /// name of a member, as far as the document is JSON.
    pub(super) fn may_be_in(&self, doc: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
        if self.jwts {
            return may_hold_token(doc);
        }
        let mut rest = doc;
        while let Some(open) = memchr::memchr(b'"', rest) {
            let Some(inside) = rest.get(open + 1..) else { return false };
            let end = end_of_string(inside);
            if inside.get(..end).is_some_and(&is) {
                return true;
            }
            let Some(behind) = inside.get(end + 1..) else { return false };
            rest = behind;
        }
        false
    }
}

/// Where the string ends whose quote was opened.
fn end_of_string(inside: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = inside.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if inside.get(from + at) == Some(&b'"') {
            return from + at;
        }
        from += at + 2;
    }
    inside.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_without_reading_the_document() {
        let looks = Looks::of([(&b"opaque-1"[..], false)].into_iter());
        let holds = |doc: &str| looks.may_be_in(doc.as_bytes(), |text| text == b"opaque-1");
        for doc in [r#"{"a":"opaque-1"}"#, r#"["\\","\"","opaque-1"#, r#"{"\\\"x":["opaque-1"]"#] {
            assert!(holds(doc), "{doc}");
        }
        for doc in [r#"{"a":"opaque-2"}"#, r#"["\"opaque-1"]"#, "opaque-1", "\"", "\"\\", ""] {
            assert!(!holds(doc), "{doc}");
        }
        assert!(looks.fit(b"12345678") && !looks.fit(b"1234567"));
        let jwts = Looks::of([(&b"eyJ.a.b"[..], true)].into_iter());
        assert!(jwts.may_be_in(b"[\"eyJ\"]", |_| false) && !jwts.may_be_in(b"[\"ey\"]", |_| true));
    }
}
