//! The request of an operation: where it goes, its parameters and its body.

use super::{
    operation::{Context, any_value, value_of},
    render,
};
use crate::{
    formats::{
        exchange::Exchange,
        node::Node,
        target::{escape_target, form_escape},
    },
    snapshot::stub::{Condition, Part, Test},
};

/// The example of a request, and what of it a response of the same name asks for.
pub(super) struct Asked<'d, 'n, 'a> {
    context: Context<'d, 'n>,
    named: Option<&'a str>,
    pub(super) conditions: Vec<Condition>,
}

impl<'d, 'n, 'a> Asked<'d, 'n, 'a> {
    pub(super) fn new(context: Context<'d, 'n>, named: Option<&'a str>) -> Self {
        Self { context, named, conditions: Vec::new() }
    }

    /// The value of a parameter or body, and whether its example has the name that is asked for.
    fn value(&self, node: &'n Node) -> (Option<Node>, bool) {
        let example =
            self.named.map(|name| node.get("examples").get(name)).filter(|e| !e.is_null());
        match example {
            Some(example) => (value_of(self.context.document, example).ok(), true),
            None => (any_value(self.context.document, node).ok(), false),
        }
    }

    pub(super) fn parameters(&mut self, template: &str, exchange: &mut Exchange) {
        let mut path = template.to_owned();
        let mut query = Vec::new();
        for parameter in parameters(self.context) {
            let name = parameter.get("name").word();
            let (value, named) = self.value(parameter);
            let needed = named || parameter.get("required").is_true();
            let text = value.as_ref().map(render::plain).unwrap_or_default();
            let part = match parameter.get("in").word().as_ref() {
                "path" => {
                    let segment = form_escape(&text).replace('+', "%20");
                    path = path.replace(&format!("{{{name}}}"), &segment);
                    continue;
                }
                "query" if needed => {
                    query.push(format!("{}={}", form_escape(&name), form_escape(&text)));
                    Part::Query(name.clone().into_owned())
                }
                "header" if needed => {
                    exchange.default_header(&name, text.clone());
                    Part::Header(name.clone().into_owned())
                }
                _ => continue,
            };
            if named {
                self.conditions.push(Condition { part, test: Test::equals(text) });
            }
        }
        exchange.path = escape_target(&path);
        exchange.query = query.join("&");
    }

    pub(super) fn body(&mut self, exchange: &mut Exchange) {
        let Some((media_type, media)) = request_media(self.context) else { return };
        let (Some(value), named) = self.value(media) else { return };
        let Ok(body) = render::body(media_type, &value) else { return };
        if named {
            let test = if render::is_json(media_type) {
                Test::EqualsJson {
                    expected: body.clone(),
                    ignore_array_order: false,
                    ignore_extra: false,
                }
            } else {
                Test::equals(body.clone())
            };
            self.conditions.push(Condition { part: Part::Body, test });
        }
        exchange.request_body = body.into();
        exchange.default_header("Content-Type", media_type.to_owned());
    }
}

/// Host, base path and scheme of the first server. A server without host is reached under a local name.
pub(super) fn server(context: Context<'_, '_>) -> (String, String, String) {
    let lists =
        [context.operation, context.item, context.document.root].map(|node| node.get("servers"));
    let first = lists.into_iter().find_map(|list| list.items().first());
    let mut url = first.map(|server| server.get("url").word().into_owned()).unwrap_or_default();
    for (name, variable) in first.map_or(&[][..], |server| server.get("variables").members()) {
        url = url.replace(&format!("{{{name}}}"), &variable.get("default").word());
    }
    let mut exchange = Exchange::default();
    exchange.set_url(&url);
    if exchange.authority.is_empty() || exchange.authority.contains('{') {
        "localhost".clone_into(&mut exchange.authority);
    }
    (exchange.authority, exchange.path.trim_end_matches('/').to_owned(), exchange.scheme)
}

/// The parameters of an operation; its own ones replace those of its path.
fn parameters<'n>(context: Context<'_, 'n>) -> Vec<&'n Node> {
    let mut all: Vec<&'n Node> = Vec::new();
    let lists = [context.operation.get("parameters"), context.item.get("parameters")];
    for parameter in lists.into_iter().flat_map(Node::items) {
        let Ok(parameter) = context.document.follow(parameter) else { continue };
        let same = |known: &&Node| {
            known.get("name") == parameter.get("name") && known.get("in") == parameter.get("in")
        };
        if !all.iter().any(same) {
            all.push(parameter);
        }
    }
    all
}

/// The media type and schema of the request's body.
fn request_media<'n>(context: Context<'_, 'n>) -> Option<(&'n str, &'n Node)> {
    let body = context.document.follow(context.operation.get("requestBody")).ok()?;
    let content = body.get("content").members();
    let json = content.iter().find(|(media_type, _)| render::is_json(media_type));
    json.or_else(|| content.first()).map(|(media_type, media)| (media_type.as_str(), media))
}

/// Whether the request has an example of this name.
pub(super) fn is_named(context: Context<'_, '_>, name: &str) -> bool {
    let has = |node: &Node| !node.get("examples").get(name).is_null();
    parameters(context).into_iter().any(has)
        || request_media(context).is_some_and(|(_, media)| has(media))
}
