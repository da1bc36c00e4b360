//! Hoverfly simulations, v5: pairs of request matchers and a response.
//!
//! A pair whose matchers all say what a request is exactly, as Hoverfly captures them, becomes a recorded pair; any other becomes a stub.
//! Hoverfly takes the strongest match and of equals the first: a stub's priority is made from its score and place. State is a map there
//! and scenarios here: a key is a scenario, and a key without value is a scenario that has just begun.

mod matcher;
mod request;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        document::Report,
        exchange::Exchange,
        node::Node,
        target::escape_target,
        verdict::{self, Left},
    },
    snapshot::{
        Header, RrPair,
        stub::{Scenario, Stub},
    },
    stub,
};

use request::Asked;

/// Priorities of equal score differ by place; so many places there are.
const PLACES: i32 = 100_000;

/// Reads a simulation.
pub(super) fn read<S: Sink>(report: &mut Report<'_, S>, document: &Node) {
    let version = document.get("meta").get("schemaVersion").word();
    if !version.is_empty() && !version.starts_with("v5") {
        return report.left(
            Left::refused(
                "format_unsupported",
                "meta.schemaVersion",
                "of Hoverfly simulations, only v5 is read",
            )
            .hint("start `hoverfly` 1.0 or newer with it and export it again"),
        );
    }
    let pairs = document.get("data").get("pairs").items();
    if pairs.is_empty() {
        return report.left(Left::skipped(
            "empty_file",
            "data.pairs",
            "the simulation holds no pairs",
        ));
    }
    let actions = document.get("data").get("globalActions");
    for list in ["delays", "delaysLogNormal"] {
        if !actions.get(list).items().is_empty() {
            report.note(delay_not_kept(format!("data.globalActions.{list}")));
        }
    }
    for (nth, pair) in pairs.iter().enumerate() {
        let place = format!("data.pairs[{nth}]");
        let mut notes = Vec::new();
        let read = self::pair(pair, nth, &place, &mut notes);
        if read.is_ok() {
            for note in notes {
                report.note(Diagnostic { path: format!("{place}.{}", note.path), ..note });
            }
        }
        report.pair(read);
    }
}

fn delay_not_kept(path: impl Into<String>) -> Diagnostic {
    Diagnostic::warning("delay_not_kept", path, "only the fixed delays of pairs are kept")
}

fn pair(pair: &Node, nth: usize, place: &str, notes: &mut Vec<Diagnostic>) -> Result<RrPair, Left> {
    let asked = request::read(pair.get("request")).map_err(|left| left.within(place))?;
    let scenarios = scenarios(pair).map_err(|left| left.within(place))?;
    let mut exchange = Exchange {
        source: "hoverfly",
        method: asked.method.clone().unwrap_or_else(|| "GET".to_owned()),
        scheme: asked.scheme.clone(),
        authority: asked.host.clone().unwrap_or_default(),
        path: escape_target(asked.path.as_deref().unwrap_or("/")),
        query: asked.query.clone(),
        request_body: Bytes::from(asked.body.clone().unwrap_or_default()),
        ..Exchange::default()
    };
    answer(pair.get("response"), &mut exchange, notes).map_err(|left| left.within(place))?;
    let plain = asked.is_plain() && scenarios.is_empty();
    let read = exchange.finish(place)?;
    if plain {
        return Ok(read);
    }
    let stub = stub(asked, scenarios, nth).map_err(|left| left.within(place))?;
    Ok(RrPair { stub: Some(Box::new(stub)), ..read })
}

fn stub(asked: Asked, scenarios: Vec<Scenario>, nth: usize) -> Result<Stub, Left> {
    let place = i32::try_from(nth).unwrap_or(i32::MAX).min(PLACES - 1);
    // A state that is asked for makes a match stronger, too.
    let required = scenarios.iter().filter(|scenario| scenario.required.is_some()).count();
    let score = i32::try_from(asked.score.saturating_add(required)).unwrap_or(PLACES).min(10_000);
    let stub = Stub {
        conditions: asked.conditions,
        priority: place.saturating_sub(score.saturating_mul(PLACES)),
        scenarios,
    };
    if !stub.is_within_limits() {
        return Err(Left::skipped("limit_exceeded", "request", "the pair has too many matchers"));
    }
    match stub::check(&stub).into_iter().next() {
        Some((nth, why)) => {
            let part = stub.conditions.get(nth).map(|condition| condition.part.to_string());
            let part = part.unwrap_or_default();
            Err(Left::skipped(
                "matcher_invalid",
                "request",
                format!("the matcher of the {part} cannot be used: {why}"),
            ))
        }
        None => Ok(stub),
    }
}

/// A key of the state is a scenario. Keys of captured sequences begin with `1`.
fn scenarios(pair: &Node) -> Result<Vec<Scenario>, Left> {
    let state = |name: &str, value: &Node| {
        let value = value.word().into_owned();
        if name.starts_with("sequence:") && value == "1" { Stub::STARTED.to_owned() } else { value }
    };
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut of = |name: &str| -> usize {
        let known = scenarios.iter().position(|scenario| scenario.name == name);
        known.unwrap_or_else(|| {
            scenarios.push(Scenario { name: name.to_owned(), ..Scenario::default() });
            scenarios.len().saturating_sub(1)
        })
    };
    let mut changes = Vec::new();
    for (name, value) in pair.get("request").get("requiresState").members() {
        changes.push((of(name), true, state(name, value)));
    }
    for (name, value) in pair.get("response").get("transitionsState").members() {
        changes.push((of(name), false, state(name, value)));
    }
    for name in pair.get("response").get("removesState").items() {
        changes.push((of(&name.word()), false, Stub::STARTED.to_owned()));
    }
    if changes.len() > Stub::MAX_TESTS {
        return Err(Left::skipped(
            "limit_exceeded",
            "request.requiresState",
            "the pair has too many states",
        ));
    }
    for (at, required, value) in changes {
        let Some(scenario) = scenarios.get_mut(at) else { continue };
        if required {
            scenario.required = Some(value);
        } else {
            scenario.next = Some(value);
        }
    }
    Ok(scenarios)
}

fn answer(
    response: &Node,
    exchange: &mut Exchange,
    notes: &mut Vec<Diagnostic>,
) -> Result<(), Left> {
    if !response.is_map() {
        return Err(verdict::missing("response"));
    }
    exchange.status = Some(response.get("status").integer().unwrap_or(200));
    if !response.get("bodyFile").word().is_empty() {
        return Err(Left::skipped(
            "body_missing",
            "response.bodyFile",
            "the body is a file that is not in the simulation",
        )
        .hint("export the simulation from a running Hoverfly, which puts bodies in"));
    }
    let body = response.get("body").word();
    exchange.response_body = if response.get("encodedBody").is_true() {
        let plain: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        STANDARD.decode(plain).map_err(|_| verdict::invalid("response.body", "base64"))?.into()
    } else {
        Bytes::from(body.into_owned())
    };
    for (name, values) in response.get("headers").members() {
        // Hoverfly's own mark.
        if name.eq_ignore_ascii_case("hoverfly") {
            continue;
        }
        let one = std::slice::from_ref(values);
        for value in if values.items().is_empty() { one } else { values.items() } {
            let value = value.word().into_owned().into();
            exchange.response_headers.push(Header { name: name.clone(), value });
        }
    }
    if response.get("templated").is_true() && is_template(exchange) {
        return Err(Left::skipped(
            "templating_unsupported",
            "response.templated",
            "the answer is a template, which is not rendered",
        )
        .hint("use a transform template for what depends on the request"));
    }
    let delay = response.get("fixedDelay").integer().unwrap_or_default();
    exchange.duration = u64::try_from(delay).unwrap_or_default().saturating_mul(1_000_000);
    if response.get("logNormalDelay").is_map() {
        notes.push(delay_not_kept("response.logNormalDelay"));
    }
    if !response.get("postServeAction").word().is_empty() {
        notes.push(Diagnostic::warning(
            "action_not_run",
            "response.postServeAction",
            "what Hoverfly would do after the answer is not done",
        ));
    }
    Ok(())
}

fn is_template(exchange: &Exchange) -> bool {
    let open = |bytes: &[u8]| bytes.windows(2).any(|window| window == b"{{");
    open(&exchange.response_body)
        || exchange.response_headers.iter().any(|header| open(&header.value))
}

#[cfg(test)]
mod tests;
