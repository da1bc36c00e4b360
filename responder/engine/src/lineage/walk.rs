//! Walks the strings of a JSON document without building a tree of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::place::Step;

/// Calls back with each string and the path to it. Nothing is known of a document that turns out to be no JSON: what was called back for it
/// has to be forgotten.
pub(super) fn strings(
    document: &[u8],
    each: &mut dyn FnMut(&[Step], &str),
) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(document);
    let mut steps = Vec::new();
    Walker { steps: &mut steps, each }.deserialize(&mut reader)?;
    reader.end()
}

struct Walker<'w> {
    steps: &'w mut Vec<Step>,
    each: &'w mut dyn FnMut(&[Step], &str),
}

impl Walker<'_> {
    fn inner(&mut self) -> Walker<'_> {
        Walker { steps: self.steps, each: self.each }
    }
}

impl<'de> DeserializeSeed<'de> for Walker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.each)(self.steps, text);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for nth in 0.. {
            self.steps.push(Step::Index(nth));
            let found = list.next_element_seed(self.inner())?;
            self.steps.pop();
            if found.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.steps.push(Step::Name(name));
            map.next_value_seed(self.inner())?;
            self.steps.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::place::json_path;

    fn walked(document: &str) -> Result<Vec<String>, serde_json::Error> {
        let mut found = Vec::new();
        strings(document.as_bytes(), &mut |steps, text| {
            found.push(format!("{}={text}", json_path(steps, false)));
        })?;
        Ok(found)
    }

    #[test]
    fn every_string_is_met_with_its_path() {
        let found = walked(r#"{"a":{"b":["x",{"c":"\u0079"}],"n":1.5},"d":null,"e":true,"":"z"}"#);
        assert_eq!(found.unwrap(), ["a.b.0=x", "a.b.1.c=y", "=z"]);
    }

    #[test]
    fn depth_and_form_are_checked() {
        assert!(walked(&"[".repeat(5000)).is_err());
        assert!(walked("{} x").is_err());
        assert!(walked(r#"{"a":"b""#).is_err());
    }
}
