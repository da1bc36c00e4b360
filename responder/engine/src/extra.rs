//! What formats keep of a recording beside the model, as far as the engine works on it: trailers.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value;

use crate::snapshot::{Header, RrPair};

/// The trailers of the request (`req`) or the response (`res`): a map from names to arrays of strings.
pub(crate) fn trailers(pair: &RrPair, message: &str) -> Vec<Header> {
    // Hardly any recording has some, so hardly any is parsed.
    if !may_have_trailers(pair) {
        return Vec::new();
    }
    let Ok(extra) = serde_json::from_str::<Value>(&pair.extra_json) else { return Vec::new() };
    let Some(Value::Object(fields)) = extra.pointer(&format!("/http/{message}/trailers")) else {
        return Vec::new();
    };
    let field = |name: &String, value: &Value| {
        value.as_str().map(|text| Header { name: name.clone(), value: text.to_owned().into() })
    };
    fields
        .iter()
        .flat_map(|(name, values)| match values {
            Value::Array(values) => values.iter().filter_map(|value| field(name, value)).collect(),
            one => Vec::from_iter(field(name, one)),
        })
        .collect()
}

/// Whether a message of the pair may have trailers. Cheap, and wrong at times.
pub(crate) fn may_have_trailers(pair: &RrPair) -> bool {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"trailers\""));
    NAME.find(pair.extra_json.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_trailers_of_one_message() {
        let pair = RrPair {
            extra_json: r#"{"http":{"res":{"trailers":{"X-Sum":["7","8"],"Odd":"9","No":[1]}}}}"#
                .to_owned(),
            ..RrPair::default()
        };
        let found: Vec<_> = trailers(&pair, "res").into_iter().map(|f| (f.name, f.value)).collect();
        let expected = [("Odd", "9"), ("X-Sum", "7"), ("X-Sum", "8")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.into())));
        assert_eq!(trailers(&pair, "req"), []);
        assert_eq!(trailers(&RrPair::default(), "res"), []);
    }
}
