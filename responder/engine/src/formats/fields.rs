//! The members of a JSON object of a recording, taken out one by one.
//!
//! Values stay text until somebody wants them, so that what nobody takes is kept byte for byte. Reading follows the protobuf mapping:
//! `null` means absent, numbers may be strings, bytes are base64, and a name may be spelled in either case style.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::formats::{
    compact::compact,
    members::{self, Level, Member, Object},
    verdict::{self, Left},
};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Names that are spelled in more than one way.
const ALIASES: &[(&str, &str)] = &[
    ("bodyBase64", "body_base64"),
    ("statusCode", "status_code"),
    ("statusMessage", "status_message"),
    ("queryParams", "query_params"),
    ("network_address", "networkAddress"),
    ("mutableSignature", "mutable_signature"),
    ("msgType", "msg_type"),
    ("isTls", "is_tls"),
];

/// Names, each with its values.
pub(super) type Multimap = Vec<(String, Vec<String>)>;

/// What is left of an object.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: String,
    members: Object<'a>,
}

impl<'a> Fields<'a> {
    /// Reads the outermost object.
    pub(super) fn parse(text: &'a str) -> Result<Self, Left> {
        Self::parse_as(text, Level::Leaf)
    }

    /// Reads a pair.
    pub(super) fn parse_pair(text: &'a str) -> Result<Self, Left> {
        Self::parse_as(text, Level::Pair)
    }

    fn parse_as(text: &'a str, level: Level) -> Result<Self, Left> {
        let members = members::object(text, level).map_err(|error| {
            // Only errors of syntax are repeated: others may quote what was recorded.
            let detail = if error.is_syntax() || error.is_eof() {
                error.to_string()
            } else {
                "no JSON object".to_owned()
            };
            Left::refused("not_json", "", format!("the entry is not JSON: {detail}"))
        })?;
        Ok(Self { path: String::new(), members })
    }

    /// The path of a member.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { [&self.path, ".", name].concat() }
    }

    /// Whether a member is there, and not `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        let at = self.place(name).ok();
        let member = at.and_then(|at| self.members.get(at)).map(|(_, member)| member);
        member.is_some_and(|member| match member {
            Member::Raw(raw) => raw.get() != "null",
            Member::Null => false,
            Member::Object(_) | Member::Other => true,
        })
    }

    /// The text of a member, which stays; `None` for one whose members were read along with it.
    pub(super) fn peek(&self, name: &str) -> Option<&'a str> {
        match self.members.get(self.place(name).ok()?)? {
            (_, Member::Raw(raw)) => Some(raw.get()).filter(|raw| *raw != "null"),
            _ => None,
        }
    }

    /// Takes a member as the text that it is.
    pub(super) fn raw(&mut self, name: &str) -> Option<&'a str> {
        match self.take(name)? {
            Member::Raw(raw) => Some(raw.get()).filter(|raw| *raw != "null"),
            _ => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<Member<'a>> {
        let aliased = || {
            let (_, alias) = ALIASES.iter().find(|(known, _)| *known == name)?;
            self.place(alias).ok()
        };
        let at = self.place(name).ok().or_else(aliased)?;
        Some(self.members.remove(at).1)
    }

    /// Takes a map from names to arrays of strings.
    pub(super) fn multimap(&mut self, name: &str) -> Result<Option<Multimap>, Left> {
        let wrong = |fields: &Self| {
            verdict::invalid(fields.path(name), "a map from names to arrays of strings")
        };
        match self.object(name) {
            Ok(None) => Ok(None),
            Ok(Some(object)) => arrays(object.members).map(Some).ok_or_else(|| wrong(self)),
            Err(_) => Err(wrong(self)),
        }
    }

    /// Puts back a member that could not be understood, so that it is kept.
    pub(super) fn put_back(&mut self, name: &str, raw: &'a str) {
        if let Ok(raw) = serde_json::from_str(raw)
            && let Err(at) = self.place(name)
        {
            self.members.insert(at, (Cow::Owned(name.to_owned()), Member::Raw(raw)));
        }
    }

    /// Where a member is, or belongs.
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// Takes a string; numbers and booleans count as their text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Left> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        scalar(raw).map(Some).ok_or_else(|| verdict::invalid(self.path(name), "a string"))
    }

    /// Takes an integer, which may be a string.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, Left> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = text.strip_suffix(".0").unwrap_or(&text);
        digits.parse().map(Some).map_err(|_| verdict::invalid(self.path(name), "an integer"))
    }

    /// Takes bytes, written as base64.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Bytes>, Left> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        base64_string(raw).map(Some).ok_or_else(|| verdict::invalid(self.path(name), "base64"))
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Left> {
        let members = match self.take(name) {
            None | Some(Member::Null) => return Ok(None),
            Some(Member::Raw(raw)) if raw.get() == "null" => return Ok(None),
            Some(Member::Object(members)) => Some(members),
            Some(Member::Raw(raw)) => members::object(raw.get(), Level::Leaf).ok(),
            Some(Member::Other) => None,
        };
        let path = self.path(name);
        match members {
            Some(members) => Ok(Some(Self { path, members })),
            None => Err(verdict::invalid(path, "an object")),
        }
    }

    /// The members that are left, as text.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::Raw(raw) => Some((&**name, raw.get())),
            _ => None,
        })
    }

    /// The members that are left, by name, as JSON without whitespace.
    pub(super) fn into_rest(self) -> Vec<(String, String)> {
        let members = self.members.into_iter();
        members
            .map(|(name, member)| {
                let json = match member {
                    Member::Raw(raw) => compact(raw.get()),
                    Member::Object(members) if members.is_empty() => "{}".to_owned(),
                    Member::Object(members) => {
                        object_json(&Self { path: String::new(), members }.into_rest())
                    }
                    Member::Null | Member::Other => "null".to_owned(),
                };
                (name.into_owned(), json)
            })
            .collect()
    }
}

/// An object of members that are JSON already; empty when there are none.
pub(super) fn object_json(members: &[(String, String)]) -> String {
    if members.is_empty() {
        return String::new();
    }
    let size = members.iter().map(|(name, json)| name.len() + json.len() + 4).sum::<usize>();
    let mut out = String::with_capacity(size + 2);
    for (nth, (name, json)) in members.iter().enumerate() {
        out.push(if nth == 0 { '{' } else { ',' });
        push_quoted(name, &mut out);
        out.push(':');
        out.push_str(json);
    }
    out.push('}');
    out
}

/// Appends a string as JSON. Most names need no escape.
fn push_quoted(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&quoted(text));
    }
}

/// A string as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of a JSON scalar.
pub(super) fn scalar(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' => None,
        _ => Some(raw.to_owned()),
    }
}

/// A map from names to arrays of strings; a lone string counts as an array of one.
pub(super) fn multimap(raw: &str) -> Option<Multimap> {
    arrays(members::object(raw, Level::Leaf).ok()?)
}

fn arrays(members: Object<'_>) -> Option<Multimap> {
    members
        .into_iter()
        .map(|(name, member)| {
            let Member::Raw(raw) = member else { return None };
            let values = match raw.get() {
                "null" => Vec::new(),
                array if array.starts_with('[') => match serde_json::from_str(array) {
                    Ok(strings) => strings,
                    Err(_) => {
                        let items: Vec<&RawValue> = serde_json::from_str(array).ok()?;
                        items.into_iter().map(|item| scalar(item.get())).collect::<Option<_>>()?
                    }
                },
                one => vec![scalar(one)?],
            };
            Some((name.into_owned(), values))
        })
        .collect()
}

/// The bytes of a base64 string in either alphabet.
pub(super) fn base64_string(raw: &str) -> Option<Bytes> {
    let plain = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let in_either = |text: &str| {
        let decoded = STANDARD.decode(text.as_bytes());
        decoded.or_else(|_| URL_SAFE.decode(text.as_bytes())).ok().map(Bytes::from)
    };
    // Base64 has no need of escapes; where there are some, they may still spell it.
    plain.and_then(in_either).or_else(|| in_either(&serde_json::from_str::<String>(raw).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_protobuf_mapping() {
        let mut fields =
            Fields::parse(r#"{"a":"7","b":7,"c":null,"d":"-_8","e":"+/8=","body_base64":"eA==","f":true,"g":[ 1 ],"s":"x"}"#).unwrap();
        assert_eq!(fields.integer("a").unwrap(), Some(7));
        assert_eq!(fields.integer("b").unwrap(), Some(7));
        assert_eq!(fields.text("c").unwrap(), None);
        assert_eq!(fields.bytes("d").unwrap().unwrap(), fields.bytes("e").unwrap().unwrap());
        assert_eq!(fields.bytes("bodyBase64").unwrap().unwrap(), "x");
        assert_eq!(fields.text("f").unwrap().unwrap(), "true");
        assert_eq!(fields.integer("s").unwrap_err().why.path, "s");
        assert_eq!(object_json(&fields.into_rest()), r#"{"g":[1]}"#);
    }

    #[test]
    fn of_a_repeated_name_the_last_counts_and_escapes_in_names_are_read() {
        let fields = Fields::parse(r#"{"b":1,"a":2,"b":3,"\u0063":4,"b":5}"#).unwrap();
        let rest: Vec<_> = fields.rest().collect();
        assert_eq!(rest, [("a", "2"), ("b", "5"), ("c", "4")]);
        assert_eq!(base64_string(r#""\u0065A==""#).unwrap(), "x");
        let map = multimap(r#"{"b":["1",2,null],"a":"3","c":null}"#).unwrap();
        let values = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(
            map,
            [
                ("a".to_owned(), values(&["3"])),
                ("b".to_owned(), values(&["1", "2", "null"])),
                ("c".to_owned(), Vec::new())
            ]
        );
    }

    #[test]
    fn findings_quote_nothing_recorded() {
        let left = Fields::parse(r#""hunter2""#).unwrap_err();
        assert!(!left.why.to_string().contains("hunter2"));
        let left = Fields::parse(r#"{"a":nul}"#).unwrap_err();
        assert!(left.why.message.contains("line 1"), "{}", left.why);
    }
}
