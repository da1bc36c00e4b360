//! The request of an example: URL, header fields, authorisation and body.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    field,
    variables::{Variables, is_open},
};
use crate::{
    diagnostic::Diagnostic,
    formats::{
        exchange::Exchange,
        node::Node,
        target::form_escape,
        verdict::{self, Left},
    },
    snapshot::Header,
};

/// What forms of several parts are divided by.
const BOUNDARY: &str = "----CountersignFormBoundary";

/// Reads a request, which may be no more than its URL.
pub(super) fn read(
    request: &Node,
    auth: Option<&Node>,
    variables: &Variables<'_>,
    notes: &mut Vec<Diagnostic>,
) -> Result<Exchange, Left> {
    let mut exchange =
        Exchange { source: "postman", method: "GET".to_owned(), ..Exchange::default() };
    if let Some(method) = request.get("method").text().filter(|method| !method.is_empty()) {
        exchange.method = variables.resolve(method).to_ascii_uppercase();
    }
    let place = if request.text().is_some() { request } else { request.get("url") };
    set_url(&mut exchange, &url(place, variables), notes)?;
    exchange.request_headers = headers(request.get("header"), variables);
    if let Some(auth) = auth {
        authorise(&mut exchange, auth, variables, notes);
    }
    body(&mut exchange, request.get("body"), variables, notes)?;
    if is_open(&String::from_utf8_lossy(&exchange.request_body)) {
        return Err(open("request.body"));
    }
    exchange.request_headers.retain(|header| !is_open(&String::from_utf8_lossy(&header.value)));
    Ok(exchange)
}

fn open(path: &str) -> Left {
    Left::skipped("variable_unknown", path, "it has a variable that the collection does not define")
        .hint("copy the variable from the environment into the collection, and export it again")
}

/// Takes the URL apart. Only its host may be unknown.
fn set_url(exchange: &mut Exchange, url: &str, notes: &mut Vec<Diagnostic>) -> Result<(), Left> {
    let url = url.trim();
    let absolute = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = absolute.find(['/', '?', '#']).unwrap_or(absolute.len());
    let (authority, target) = absolute.split_at_checked(end).unwrap_or((absolute, ""));
    if authority.is_empty() {
        return Err(verdict::missing("request.url"));
    }
    if is_open(target) {
        return Err(open("request.url"));
    }
    if is_open(authority) || (url.contains("://") && is_open(url)) {
        notes.push(
            Diagnostic::warning("variable_unknown", "", "the host is a variable that the collection does not define")
                .hint("the mock answers as `localhost`, and under every name that no other recording uses"),
        );
        exchange.set_url(&format!("http://localhost{target}"));
    } else if url.contains("://") {
        exchange.set_url(url);
    } else {
        exchange.set_url(&format!("http://{url}"));
    }
    Ok(())
}

/// An URL as text, with variables and `:name` segments put in.
fn url(place: &Node, variables: &Variables<'_>) -> String {
    let raw = place.scalar().unwrap_or_else(|| place.get("raw").word());
    let text = if raw.is_empty() { of_parts(place) } else { raw.into_owned() };
    let segments = Variables::of(place.get("variable"), Some(variables));
    let (scheme, rest) = match text.find("://").and_then(|at| text.split_at_checked(at + 3)) {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", text.as_str()),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (path, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let path: Vec<String> = path
        .split('/')
        .enumerate()
        .map(|(nth, segment)| match segment.strip_prefix(':') {
            Some(name) if nth > 0 && !name.is_empty() => format!("{{{{{name}}}}}"),
            _ => segment.to_owned(),
        })
        .collect();
    segments.resolve(&format!("{scheme}{}{tail}", path.join("/")))
}

/// The text of an URL whose `raw` form is not there.
fn of_parts(place: &Node) -> String {
    let list = |node: &Node, between: &str| match node.text() {
        Some(text) => text.to_owned(),
        None => {
            let parts: Vec<String> = node
                .items()
                .iter()
                .map(|part| part.get("value").scalar().unwrap_or_else(|| part.word()).into_owned())
                .collect();
            parts.join(between)
        }
    };
    let mut url = place.get("protocol").word().into_owned();
    if !url.is_empty() {
        url.push_str("://");
    }
    url.push_str(&list(place.get("host"), "."));
    let port = place.get("port").word();
    if !port.is_empty() {
        url.push_str(&format!(":{port}"));
    }
    let path = list(place.get("path"), "/");
    url.push('/');
    url.push_str(path.trim_start_matches('/'));
    let query: Vec<String> = enabled(place.get("query"))
        .map(|parameter| match parameter.get("value").scalar() {
            Some(value) => format!("{}={value}", parameter.get("key").word()),
            None => parameter.get("key").word().into_owned(),
        })
        .collect();
    if !query.is_empty() {
        url.push_str(&format!("?{}", query.join("&")));
    }
    url
}

fn enabled(list: &Node) -> impl Iterator<Item = &Node> {
    list.items().iter().filter(|item| !item.get("disabled").is_true())
}

/// Header fields: a list, or lines of text.
pub(super) fn headers(list: &Node, variables: &Variables<'_>) -> Vec<Header> {
    if let Some(text) = list.text() {
        return text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| field(name.trim(), variables.resolve(value.trim())))
            .collect();
    }
    enabled(list)
        .filter(|header| !header.get("key").word().is_empty())
        .map(|header| {
            field(
                &variables.resolve(&header.get("key").word()),
                variables.resolve(header.get("value").word().trim()),
            )
        })
        .collect()
}

/// Adds what the authorisation would add. What has to be computed per request is told, and matters for no match.
fn authorise(
    exchange: &mut Exchange,
    auth: &Node,
    variables: &Variables<'_>,
    notes: &mut Vec<Diagnostic>,
) {
    let kind = auth.get("type").word();
    let of = |name: &str| {
        let block = auth.get(&kind);
        let listed = block.items().iter().find(|entry| entry.get("key").text() == Some(name));
        let value = listed.map_or_else(|| block.get(name), |entry| entry.get("value"));
        variables.resolve(&value.word())
    };
    match kind.as_ref() {
        "" | "noauth" => {}
        "basic" => {
            let credentials = STANDARD.encode(format!("{}:{}", of("username"), of("password")));
            exchange.default_header("Authorization", format!("Basic {credentials}"));
        }
        "bearer" => exchange.default_header("Authorization", format!("Bearer {}", of("token"))),
        "oauth2" if of("addTokenTo") == "queryParams" => add_query(exchange, "access_token", &of("accessToken")),
        "oauth2" => {
            let prefix = of("headerPrefix");
            let prefix = if prefix.trim().is_empty() { "Bearer" } else { prefix.trim() };
            exchange.default_header("Authorization", format!("{prefix} {}", of("accessToken")));
        }
        "apikey" if of("in") == "query" => add_query(exchange, &of("key"), &of("value")),
        "apikey" => {
            let (name, value) = (of("key"), of("value"));
            if !name.is_empty() {
                exchange.default_header(&name, value);
            }
        }
        _ => notes.push(Diagnostic::warning(
            "authorization_not_computed",
            "",
            "the authorisation is computed for each request and left out; header fields take no part in matching",
        )),
    }
}

fn add_query(exchange: &mut Exchange, name: &str, value: &str) {
    if name.is_empty() || is_open(value) {
        return;
    }
    let parameter = format!("{}={}", form_escape(name), form_escape(value));
    if !exchange.query.is_empty() {
        exchange.query.push('&');
    }
    exchange.query.push_str(&parameter);
}

/// The content type that a language of the editor stands for.
pub(super) fn content_type(language: &str) -> Option<&'static str> {
    Some(match language {
        "json" => "application/json",
        "xml" => "application/xml",
        "html" => "text/html",
        "javascript" => "application/javascript",
        "text" | "plain" => "text/plain",
        _ => return None,
    })
}

fn body(
    exchange: &mut Exchange,
    body: &Node,
    variables: &Variables<'_>,
    notes: &mut Vec<Diagnostic>,
) -> Result<(), Left> {
    if body.get("disabled").is_true() {
        return Ok(());
    }
    let mode = body.get("mode").word();
    let (text, content_type) = match mode.as_ref() {
        "raw" => {
            let language = body.get("options").get("raw").get("language").word();
            (
                variables.resolve(&body.get("raw").word()),
                content_type(&language).unwrap_or("text/plain"),
            )
        }
        "urlencoded" => {
            (urlencoded(body.get("urlencoded"), variables), "application/x-www-form-urlencoded")
        }
        "graphql" => (graphql(body.get("graphql"), variables), "application/json"),
        "formdata" => {
            notes.push(Diagnostic::warning(
                "boundary_unknown",
                "",
                "a form of several parts is matched by its bytes, and every client chooses a boundary of its own",
            ));
            (
                multipart(body.get("formdata"), variables),
                "multipart/form-data; boundary=----CountersignFormBoundary",
            )
        }
        "file" if body.get("file").get("content").text().is_none() => {
            return Err(Left::skipped(
                "body_missing",
                "request.body.file",
                "the body is a file that is not in the collection",
            ));
        }
        "file" => (body.get("file").get("content").word().into_owned(), "application/octet-stream"),
        _ => return Ok(()),
    };
    if !text.is_empty() {
        exchange.request_body = Bytes::from(text);
        exchange.default_header("Content-Type", content_type);
    }
    Ok(())
}

fn urlencoded(list: &Node, variables: &Variables<'_>) -> String {
    let fields: Vec<String> = enabled(list)
        .map(|parameter| {
            let name = variables.resolve(&parameter.get("key").word());
            let value = variables.resolve(&parameter.get("value").word());
            // A variable that is still open has to be seen.
            let escape =
                |text: &str| if is_open(text) { text.to_owned() } else { form_escape(text) };
            format!("{}={}", escape(&name), escape(&value))
        })
        .collect();
    fields.join("&")
}

fn graphql(graphql: &Node, variables: &Variables<'_>) -> String {
    let query = variables.resolve(&graphql.get("query").word());
    if query.is_empty() {
        return String::new();
    }
    let given = graphql.get("variables");
    let given = match given.text() {
        Some(text) => Node::json(variables.resolve(text).as_bytes()).unwrap_or_default(),
        None => given.clone(),
    };
    let mut members = Vec::new();
    let operation = graphql.get("operationName");
    if !operation.is_null() {
        members.push(("operationName".to_owned(), operation.clone()));
    }
    members.push(("query".to_owned(), Node::Text(query)));
    if given.is_map() {
        members.push(("variables".to_owned(), given));
    }
    Node::Map(members).to_json()
}

fn multipart(list: &Node, variables: &Variables<'_>) -> String {
    let mut body = String::new();
    for part in enabled(list) {
        let name = variables.resolve(&part.get("key").word());
        let value = variables.resolve(&part.get("value").word());
        let file = if part.get("type").text() == Some("file") { "; filename=\"file\"" } else { "" };
        body.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
        ));
    }
    if !body.is_empty() {
        body.push_str(&format!("--{BOUNDARY}--\r\n"));
    }
    body
}
