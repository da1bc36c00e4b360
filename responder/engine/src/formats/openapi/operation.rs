//! One operation: its parameters, its responses, and the stubs that they make.

use super::{
    reference::{Document, Why},
    render,
    request::{Asked, is_named, server},
    schema,
};
use crate::{
    formats::{Sink, document::Report, exchange::Exchange, node::Node, verdict::Left},
    snapshot::{
        Header, RrPair,
        stub::{Condition, Part, Stub, Test},
    },
};

/// The priority of a stub for any request to an operation; each variable of its path lowers it, so that `/users/me` comes before
/// `/users/{id}`.
const ANY_REQUEST: i32 = 10;

/// An operation and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Context<'d, 'n> {
    pub(super) document: &'d Document<'n>,
    pub(super) path: &'n str,
    pub(super) item: &'n Node,
    pub(super) method: &'static str,
    pub(super) operation: &'n Node,
}

/// A response that may be given.
struct Response<'n> {
    key: &'n str,
    status: i64,
    /// Successes first.
    rank: u8,
    node: &'n Node,
}

/// An example of a response.
struct Example<'n> {
    name: Option<&'n str>,
    media_type: &'n str,
    value: Result<Node, Why>,
}

/// Hands over the stubs of an operation.
pub(super) fn read<S: Sink>(report: &mut Report<'_, S>, context: Context<'_, '_>) {
    let place = format!("paths.{}.{}", context.path, context.method);
    let mut responses = Vec::new();
    for (key, node) in context.operation.get("responses").members() {
        match (context.document.follow(node), status(key)) {
            (Ok(node), Some((status, rank))) => {
                responses.push(Response { key, status, rank, node });
            }
            (Err(why), _) => report.left(why.left(&format!("{place}.responses.{key}"))),
            (_, None) if key.starts_with("x-") => {}
            (_, None) => report.left(Left::skipped(
                "status_not_servable",
                format!("{place}.responses.{key}"),
                "the key is no status between 200 and 599",
            )),
        }
    }
    responses.sort_by_key(|response| (response.rank, response.status));
    let Some(best) = responses.first().map(|response| response.rank) else {
        return report.left(Left::skipped("no_response", place, "the operation has no responses"));
    };
    let mut answered = false;
    for response in &responses {
        let place = format!("{place}.responses.{}", response.key);
        let mut used = false;
        for example in examples(context, response.node) {
            let named = example.name.filter(|name| is_named(context, name));
            if named.is_none() && (answered || response.rank > best) {
                continue;
            }
            used = true;
            let made = example.value.and_then(|value| render::body(example.media_type, &value));
            match made {
                Ok(body) => {
                    let pair = pair(context, response, example.media_type, body, named, &place);
                    answered |= named.is_none() && pair.is_ok();
                    report.pair(pair);
                }
                Err(why) => report.left(why.left(&place)),
            }
        }
        if !used {
            report.left(
                Left::skipped(
                    "example_left_out",
                    place,
                    "another response of the operation answers",
                )
                .hint("give the response an example of the same name as one of a parameter"),
            );
        }
    }
}

/// The status of a key such as `200`, `2XX` or `default`, and its rank.
fn status(key: &str) -> Option<(i64, u8)> {
    if key == "default" {
        return Some((200, 1));
    }
    let class = i64::from(key.chars().next()?.to_digit(10)?);
    let status = match key.strip_prefix(|_| true)? {
        "XX" | "xx" => class.checked_mul(100)?,
        _ => key.parse().ok()?,
    };
    let rank = match class {
        2 => 0,
        3 => 2,
        _ => 3,
    };
    (200..=599).contains(&status).then_some((status, rank))
}

/// The examples of a response, of the media type that is best known; one without body where there is no content.
fn examples<'n>(context: Context<'_, 'n>, response: &'n Node) -> Vec<Example<'n>> {
    let mut content: Vec<_> = response.get("content").members().iter().collect();
    if content.is_empty() {
        return vec![Example { name: None, media_type: "", value: Ok(Node::Text(String::new())) }];
    }
    content.sort_by_key(|(media_type, media)| {
        let given = !media.get("example").is_null() || media.get("examples").is_map();
        (!given, !render::is_json(media_type))
    });
    let Some((media_type, media)) = content.first() else { return Vec::new() };
    let named: Vec<_> = media
        .get("examples")
        .members()
        .iter()
        .map(|(name, example)| Example {
            name: Some(name.as_str()),
            media_type,
            value: value_of(context.document, example),
        })
        .collect();
    if named.is_empty() {
        vec![Example { name: None, media_type, value: any_value(context.document, media) }]
    } else {
        named
    }
}

/// The value of an example object.
pub(super) fn value_of<'n>(document: &Document<'n>, example: &'n Node) -> Result<Node, Why> {
    let example = document.follow(example)?;
    if !example.get("externalValue").is_null() {
        return Err(Why::Elsewhere);
    }
    let has_value = example.members().iter().any(|member| member.0 == "value");
    Ok(if has_value { example.get("value").clone() } else { example.clone() })
}

/// The value of something with `example`, `examples` or `schema`: a parameter, header or media type.
pub(super) fn any_value<'n>(document: &Document<'n>, node: &'n Node) -> Result<Node, Why> {
    if !node.get("example").is_null() {
        return Ok(node.get("example").clone());
    }
    if let Some((_, example)) = node.get("examples").members().first() {
        return value_of(document, example);
    }
    if let Some((_, media)) = node.get("content").members().first() {
        return any_value(document, media);
    }
    if node.get("schema").is_map() {
        schema::example(document, node.get("schema"))
    } else {
        Err(Why::Untyped)
    }
}

fn pair(
    context: Context<'_, '_>,
    response: &Response<'_>,
    media_type: &str,
    body: String,
    named: Option<&str>,
    place: &str,
) -> Result<RrPair, Left> {
    let (authority, base, scheme) = server(context);
    let mut exchange = Exchange {
        source: "openapi",
        method: context.method.to_ascii_uppercase(),
        scheme,
        authority,
        status: Some(response.status),
        response_headers: headers(context.document, response.node),
        response_body: body.into(),
        ..Exchange::default()
    };
    if !media_type.is_empty() {
        let media_type =
            if media_type.starts_with("*/*") { "application/json" } else { media_type };
        exchange.default_response_header("Content-Type", media_type.to_owned());
    }
    let template = format!("{base}{}", context.path);
    let mut asked = Asked::new(context, named);
    asked.parameters(&template, &mut exchange);
    asked.body(&mut exchange);
    let variables = i32::try_from(context.path.matches('{').count()).unwrap_or(i32::MAX);
    let path = match named {
        Some(_) => Test::equals(exchange.path.clone()),
        None if variables > 0 => Test::Template(template),
        None => Test::equals(template),
    };
    let mut conditions = vec![
        Condition { part: Part::Method, test: Test::equals(exchange.method.clone()) },
        Condition { part: Part::Path, test: path },
    ];
    conditions.append(&mut asked.conditions);
    let priority = if named.is_some() {
        Stub::DEFAULT_PRIORITY
    } else {
        ANY_REQUEST.saturating_add(variables)
    };
    let stub = Stub { conditions, priority, scenarios: Vec::new() };
    if !stub.is_within_limits() {
        return Err(Left::skipped(
            "limit_exceeded",
            place,
            "the operation has too many parameters",
        ));
    }
    let pair = exchange.finish(place)?;
    Ok(RrPair { stub: Some(Box::new(stub)), ..pair })
}

/// Header fields with an example; those without are left out, as nobody can say what they would be.
fn headers<'n>(document: &Document<'n>, response: &'n Node) -> Vec<Header> {
    let mut headers = Vec::new();
    for (name, header) in response.get("headers").members() {
        let Ok(header) = document.follow(header) else { continue };
        let Ok(schema) = document.follow(header.get("schema")) else { continue };
        let given = !header.get("example").is_null()
            || header.get("examples").is_map()
            || header.get("required").is_true()
            || schema::given(schema).is_some();
        if given && let Ok(value) = any_value(document, header) {
            headers.push(Header { name: name.clone(), value: render::plain(&value).into() });
        }
    }
    headers
}
