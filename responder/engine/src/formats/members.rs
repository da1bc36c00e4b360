//! The members of a JSON object of a recording, read in one pass.
//!
//! A value is kept as the text that it is. Only where the shape of a pair says that an object is to come, its members are read along with it, so
//! that the bulk of a recording is not gone through once for each level that it stands on.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object, sorted by name; of a name that stands there twice the last counts.
pub(super) type Object<'a> = Vec<(Cow<'a, str>, Member<'a>)>;

/// A member's value.
#[derive(Debug)]
pub(super) enum Member<'a> {
    /// Its text.
    Raw(&'a RawValue),
    /// What was to be an object, and is one.
    Object(Object<'a>),
    /// What was to be an object, and is `null`.
    Null,
    /// What was to be an object, and is something else.
    Other,
}

/// Where in a pair an object stands, which tells which of its members are objects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// Anywhere: every value is kept as text.
    Leaf,
    /// The pair itself.
    Pair,
    /// Its HTTP part.
    Http,
    /// A request or a response.
    Message,
}

impl Level {
    fn inside(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Pair, "http") => Some(Self::Http),
            (Self::Http, "req" | "res") => Some(Self::Message),
            (Self::Pair, "signature") | (Self::Message, "headers") => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// Reads an object.
pub(super) fn object(text: &str, level: Level) -> serde_json::Result<Object<'_>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let Member::Object(read) = Value(level, PhantomData).deserialize(&mut json)? else {
        return Err(serde::de::Error::custom("no JSON object"));
    };
    json.end()?;
    Ok(read)
}

/// Reads a value that is to be an object.
struct Value<'a>(Level, PhantomData<&'a ()>);

impl<'de: 'a, 'a> DeserializeSeed<'de> for Value<'a> {
    type Value = Member<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Value<'a> {
    type Value = Member<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            let member = match self.0.inside(&name) {
                None => Member::Raw(map.next_value()?),
                Some(level) => map.next_value_seed(Value(level, PhantomData))?,
            };
            members.push((name, member));
        }
        members.reverse();
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        members.dedup_by(|(later, _), (kept, _)| later == kept);
        Ok(Member::Object(members))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }
}

/// A name, copied only where it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
