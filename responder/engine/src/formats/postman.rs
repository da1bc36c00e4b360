//! Postman collections, v2.0 and v2.1: every response saved as an example becomes a mock.
//!
//! Folders hand down variables and authorisation. A variable that nothing defines makes a host unknown, which is no harm (a mock answers
//! under any name), but a path, query or body that no request would have: such an example is skipped. Of several examples for one request the successful one answers.

mod request;
mod variables;

use std::collections::HashMap;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        document::Report,
        exchange::Exchange,
        node::Node,
        postman::variables::Variables,
        verdict::{self, Left},
    },
    snapshot::Header,
};

/// The most examples of one collection.
const MAX_EXAMPLES: usize = 100_000;

/// An example on its way to a pair.
struct Example {
    place: String,
    exchange: Exchange,
}

/// What folders hand down.
#[derive(Clone, Copy)]
struct Scope<'n> {
    variables: &'n Variables<'n>,
    auth: &'n Node,
}

/// Reads a collection.
pub(super) fn read<S: Sink>(report: &mut Report<'_, S>, document: &Node) {
    let wrapped = document.get("collection");
    let collection = if wrapped.is_map() { wrapped } else { document };
    let variables = Variables::of(collection.get("variable"), None);
    let scope = Scope { variables: &variables, auth: collection.get("auth") };
    let mut examples = Vec::new();
    if items(report, collection.get("item"), "item", scope, &mut examples) == 0 {
        report.left(Left::skipped("empty_file", "item", "the collection holds no requests"));
    }
    deliver(report, examples);
}

/// Reads items and folders; comes back with the number of requests.
fn items<S: Sink>(
    report: &mut Report<'_, S>,
    list: &Node,
    place: &str,
    scope: Scope<'_>,
    examples: &mut Vec<Example>,
) -> usize {
    let mut seen = 0_usize;
    for (nth, item) in list.items().iter().enumerate() {
        let place = format!("{place}[{nth}]");
        let variables = Variables::of(item.get("variable"), Some(scope.variables));
        let inherited = if item.get("auth").is_map() { item.get("auth") } else { scope.auth };
        let scope = Scope { variables: &variables, auth: inherited };
        if item.get("item").items().is_empty() && !item.get("request").is_null() {
            self::item(report, item, &place, scope, examples);
            seen = seen.saturating_add(1);
        } else {
            let place = format!("{place}.item");
            let below = items(report, item.get("item"), &place, scope, examples);
            seen = seen.saturating_add(below);
        }
    }
    seen
}

fn item<S: Sink>(
    report: &mut Report<'_, S>,
    item: &Node,
    place: &str,
    scope: Scope<'_>,
    examples: &mut Vec<Example>,
) {
    let responses = item.get("response").items();
    if responses.is_empty() {
        report.left(
            Left::skipped("no_response", place, "the request has no saved response")
                .hint("send it in Postman and save the response as an example"),
        );
    }
    for (nth, response) in responses.iter().enumerate() {
        let place = format!("{place}.response[{nth}]");
        if examples.len() >= MAX_EXAMPLES {
            return report.left(verdict::limit(format!(
                "the collection has more than {MAX_EXAMPLES} examples"
            )));
        }
        match example(item.get("request"), response, scope) {
            Ok((exchange, notes)) => {
                for note in notes {
                    report.note(Diagnostic { path: place.clone(), ..note });
                }
                examples.push(Example { place, exchange });
            }
            Err(left) => report.left(left.within(&place)),
        }
    }
}

fn example(
    own: &Node,
    response: &Node,
    scope: Scope<'_>,
) -> Result<(Exchange, Vec<Diagnostic>), Left> {
    let original = response.get("originalRequest");
    let asked = if original.is_null() { own } else { original };
    // Examples are saved without authorisation, which their request still has.
    let auth =
        [asked.get("auth"), own.get("auth"), scope.auth].into_iter().find(|auth| auth.is_map());
    let mut notes = Vec::new();
    let mut exchange = request::read(asked, auth, scope.variables, &mut notes)?;
    exchange.status = match response.get("code") {
        Node::Null => Some(200),
        code => code.integer(),
    };
    exchange.reason = response.get("status").word().into_owned();
    exchange.response_headers = request::headers(response.get("header"), scope.variables);
    exchange.response_body = scope.variables.resolve(&response.get("body").word()).into();
    exchange.duration = u64::try_from(response.get("responseTime").integer().unwrap_or_default())
        .unwrap_or_default()
        .saturating_mul(1_000_000);
    // Postman stores what the content coding hid.
    exchange.decoded = true;
    let language = response.get("_postman_previewlanguage").word();
    if let Some(content_type) = request::content_type(&language)
        && !exchange.response_body.is_empty()
    {
        exchange.default_response_header("Content-Type", content_type);
    }
    Ok((exchange, notes))
}

/// Hands the examples over. Where one request has been answered well, its failures are left out: they would take turns.
fn deliver<S: Sink>(report: &mut Report<'_, S>, examples: Vec<Example>) {
    let succeeded = |exchange: &Exchange| matches!(exchange.status, Some(200..=299));
    let mut good: HashMap<_, bool> = HashMap::new();
    for example in &examples {
        *good.entry(example.exchange.request_key()).or_default() |= succeeded(&example.exchange);
    }
    for Example { place, exchange } in examples {
        let answered = good.get(&exchange.request_key()).copied().unwrap_or_default();
        if answered && !succeeded(&exchange) {
            report.left(
                Left::skipped(
                    "example_left_out",
                    place,
                    "the same request has an example that succeeded, which answers",
                )
                .hint("give the example a path, query or body of its own"),
            );
        } else {
            report.pair(exchange.finish(&place));
        }
    }
}

/// A header field with its variables put in.
fn field(name: &str, value: String) -> Header {
    Header { name: name.to_owned(), value: value.into() }
}

#[cfg(test)]
mod tests;
