//! What to do about misses that are alike: a chain that has them answered, where what differs is likely of no account, or else what to look at.

use countersign_proto::discovery::v1::{Difference, NearMissTally};
use serde_json::json;

/// A chain, as JSON, and a sentence. The chain is empty when none could be advised.
pub(super) fn advise(group: &NearMissTally) -> (String, String) {
    match &*group.differing {
        [] => (String::new(), "nothing recorded comes near: record this endpoint, or let it pass through to the real host".to_owned()),
        [one] => of_one(group, one),
        several => {
            let names: Vec<&str> = several.iter().map(|it| &*it.key).collect();
            (String::new(), format!("several parts differ ({}): compare with what was recorded; if they change with every request, take each out of the signature with `delete_sig`", names.join(", ")))
        }
    }
}

fn of_one(group: &NearMissTally, one: &Difference) -> (String, String) {
    match one.key.as_str() {
        "http:method" => (String::new(), "the endpoint was recorded with another method only".to_owned()),
        "http:host" => (String::new(), "the request names a host that was recorded with other paths: check where the client is pointed".to_owned()),
        "http:url" => (String::new(), "this path was not recorded: record it, or check the client's base path".to_owned()),
        "http:queryparams" => match changed(one) {
            // One parameter alone, so that a rule can name it.
            Some(name) => (
                chain(group, &format!("http:queryparams:{name}")),
                format!("the query parameter `{name}` differs: if it changes with every request, take it out of the signature"),
            ),
            None => (String::new(), "several query parameters differ: take those out of the signature that change with every request".to_owned()),
        },
        "http:requestBodyJSON" => (
            chain(group, "http:requestBodyJSON"),
            "the body differs: this chain leaves it out of the signature altogether; to leave out one member, extract it with `json_path` and end the chain with `delete_sig`".to_owned(),
        ),
        other => (
            chain(group, other),
            format!("`{other}` differs: if it changes with every request, take it out of the signature"),
        ),
    }
}

/// The name of the only parameter that differs between two queries.
fn changed(difference: &Difference) -> Option<String> {
    let parse = |query: &Option<String>| -> Vec<(String, String)> {
        let query = query.as_deref().unwrap_or_default();
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.to_owned(), value.to_owned())
        };
        query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
    };
    let (recorded, presented) = (parse(&difference.recorded), parse(&difference.presented));
    let only = |a: &[(String, String)], b: &[(String, String)]| {
        a.iter().filter(|it| !b.contains(it)).map(|it| it.0.clone()).collect::<Vec<_>>()
    };
    let mut names = only(&recorded, &presented);
    names.extend(only(&presented, &recorded));
    names.sort();
    names.dedup();
    let [name] = &*names else { return None };
    // What was shortened for display is no name to rely on.
    (!name.is_empty() && !name.contains('…')).then(|| name.clone())
}

/// A chain for the group's requests alone.
fn chain(group: &NearMissTally, key: &str) -> String {
    let parts: Vec<&str> = group.path.split("{id}").collect();
    let mut location = json!({ "include": true, "detectedLocation": group.path });
    if parts.len() > 1 {
        let parts: Vec<String> = parts.into_iter().map(escaped).collect();
        let pattern = format!("^{}$", parts.join("[^/]+"));
        location = json!({ "include": true, "operator": "REGEX", "detectedLocation": pattern });
    }
    let chain = json!({
        "filters": { "filters": [{ "include": true, "detectedCommand": group.method }, location] },
        "extractor": { "type": "empty" },
        "transforms": [{ "type": "delete_sig", "config": { "key": key } }],
    });
    chain.to_string()
}

/// A text as a pattern that only it fits.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && !matches!(c, '/' | '_' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use countersign_engine::{
        answer::Answer,
        compile::compile,
        jwt::key::KeyRing,
        request::Request,
        serving::Serving,
        snapshot::{HttpRequest, HttpResponse, RrPair, Serve},
        test_config::TestConfig,
        transform::Template,
    };

    use super::*;

    fn group(path: &str, key: &str, recorded: &str, presented: &str) -> NearMissTally {
        NearMissTally {
            method: "GET".into(),
            path: path.into(),
            differing: vec![Difference {
                key: key.into(),
                recorded: Some(recorded.into()),
                presented: Some(presented.into()),
            }],
            ..NearMissTally::default()
        }
    }

    /// Whether a request for a path and query is answered by a recording of `/o/17?ts=1&page=2` under a template of this chain.
    fn answers(rule: &str, path: &str, query: &str) -> bool {
        let request = HttpRequest {
            method: "GET".into(),
            host: "a.example".into(),
            path: "/o/17".into(),
            query: "ts=1&page=2".into(),
            ..HttpRequest::default()
        };
        let response = HttpResponse { status: 200, ..HttpResponse::default() };
        let pair = RrPair { request: Some(request), response, ..RrPair::default() };
        let template = format!(r#"{{"id":"t","responder":[{rule}]}}"#);
        let (template, found) = Template::parse(template.as_bytes());
        assert!(!found.has_errors(), "{found:?}");
        let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        let compiled = compile(vec![pair], &template, &config, Serve::All).0;
        let serving = Serving::new(std::sync::Arc::new(compiled), &KeyRing::default());
        let request =
            Request { method: "GET", host: "a.example", path, query, ..Request::default() };
        matches!(serving.answer_or_owe(&request, 0), Ok(Answer::Hit(_)))
    }

    #[test]
    fn the_rule_that_is_advised_answers_what_missed() {
        let group = group("/o/{id}", "http:queryparams", "page=2&ts=1", "page=2&ts=99");
        let (rule, advice) = advise(&group);
        assert!(advice.contains("`ts`"), "{advice}");
        assert!(!answers("", "/o/17", "ts=99&page=2"));
        assert!(answers(&rule, "/o/17", "ts=99&page=2"), "{rule}");
        assert!(!answers(&rule, "/o/17", "ts=99&page=3"));
        assert!(!answers(&rule, "/p/17", "ts=99&page=2"));
    }

    #[test]
    fn where_no_rule_is_safe_there_is_a_sentence_alone() {
        for (key, recorded, presented) in
            [("http:url", "/a", "/b"), ("http:queryparams", "a=1&b=2", "a=2&b=3")]
        {
            let (rule, advice) = advise(&group("/a", key, recorded, presented));
            assert!(rule.is_empty() && !advice.is_empty(), "{key}");
        }
        assert!(advise(&NearMissTally::default()).0.is_empty());
    }
}
