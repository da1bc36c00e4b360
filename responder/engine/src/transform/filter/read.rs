//! Filters in their JSON forms: the filters of a chain, rule sets with conditions, lists, and the legacy object of criteria.

use super::{
    Criterion, Diagnostic, Diagnostics, Filters, Node, Part, Sample, Wrong, did_you_mean, join,
    names::{ENTRIES, Entry, Kind, Place, find},
    test::Operator,
    value::TimeRange,
};

/// Members of a filter that are no criterion.
const FILTER_MEMBERS: [&str; 3] = ["include", "operator", "id"];
/// Members of a set of filters.
const SET_MEMBERS: [&str; 5] = ["filters", "conditions", "operator", "id", "name"];

/// Reads filters of any form; absent means every pair.
pub(super) fn filters(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Filters> {
    match node {
        None | Some(Node::Null) => Some(Filters::everything()),
        Some(Node::List(filters)) => list(filters, path, false, found),
        Some(node @ Node::Object(_)) => set(node, path, found),
        Some(_) => {
            wrong_type(path, "filters are an object or a list", found);
            None
        }
    }
}

/// A set with `filters`, `conditions` or both, or a bare filter.
fn set(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Filters> {
    let Node::Object(members) = node else {
        wrong_type(path, "a filter is an object", found);
        return None;
    };
    if node.get("filters").is_none() && node.get("conditions").is_none() {
        return filter(members, node, path, found);
    }
    let any = is_or(node, path, found)?;
    if matches!(node.get("include"), Some(Node::Bool(false))) {
        found.push(
            Diagnostic::error(
                "include_on_set",
                join(path, "include"),
                "a set of filters cannot be inverted as a whole",
            )
            .hint("write `\"include\": false` in its filters"),
        );
        return None;
    }
    for (name, _) in members {
        let known = |known: &&str| name.eq_ignore_ascii_case(known);
        if !SET_MEMBERS.iter().chain(&["include"]).any(known) {
            found.push(Diagnostic::warning(
                "unknown_field",
                join(path, name),
                format!("a set of filters has no `{name}`; it is ignored"),
            ));
        }
    }
    let mut parts = Vec::new();
    for member in ["filters", "conditions"] {
        let at = join(path, member);
        match node.get(member) {
            None | Some(Node::Null) => {}
            Some(Node::List(inner)) if any && inner.is_empty() => {}
            Some(Node::List(inner)) => parts.push(list(inner, &at, any, found)?),
            Some(inner @ Node::Object(_)) => parts.push(set(inner, &at, found)?),
            Some(_) => {
                wrong_type(&at, &format!("`{member}` is a list"), found);
                return None;
            }
        }
    }
    Some(joined(parts, any))
}

/// The filters of a list; all findings are reported, not only the first.
fn list(nodes: &[Node], path: &str, any: bool, found: &mut Diagnostics) -> Option<Filters> {
    let parts: Vec<Option<Filters>> = nodes
        .iter()
        .enumerate()
        .map(|(nth, node)| set(node, &format!("{path}[{nth}]"), found))
        .collect();
    let parts: Vec<Filters> = parts.into_iter().collect::<Option<_>>()?;
    Some(joined(parts, any))
}

/// Whatever its operator, a set without filters means every pair.
fn joined(parts: Vec<Filters>, any: bool) -> Filters {
    if any && !parts.is_empty() { Filters::any(parts) } else { Filters::all(parts) }
}

/// The operator that joins the members of a set: omitted means AND.
fn is_or(node: &Node, path: &str, found: &mut Diagnostics) -> Option<bool> {
    match node.get("operator").and_then(Node::as_str).unwrap_or_default() {
        "" => Some(false),
        text if text.eq_ignore_ascii_case("and") => Some(false),
        text if text.eq_ignore_ascii_case("or") => Some(true),
        other => {
            found.push(Diagnostic::error(
                "unknown_operator",
                join(path, "operator"),
                format!("`{other}` is neither AND nor OR"),
            ));
            None
        }
    }
}

/// A filter. Several criteria in one object, the legacy form, have to hold together.
fn filter(
    members: &[(String, Node)],
    node: &Node,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Filters> {
    let include = include(node, path, found)?;
    let written = node.get("operator").and_then(Node::as_str).unwrap_or_default();
    // The legacy object may say how its criteria are joined, in place of how each is compared.
    let any = written.eq_ignore_ascii_case("or");
    let compared = if any || written.eq_ignore_ascii_case("and") { "" } else { written };
    let operator = report(Operator::parse(compared), path, path, false, found)?;
    let mut parts = Vec::new();
    let mut sound = true;
    for (name, value) in members {
        let reserved = FILTER_MEMBERS.iter().any(|known| name.eq_ignore_ascii_case(known));
        if reserved || matches!(value, Node::Null) {
            continue;
        }
        match criterion(name, value, operator, path, found) {
            Some(criterion) => parts.push(Filters::one(include, criterion)),
            None => sound = false,
        }
    }
    // What is excluded together is excluded by any of its criteria failing.
    sound.then(|| {
        if parts.is_empty() {
            if include { Filters::everything() } else { Filters::nothing() }
        } else if any == include {
            Filters::any(parts)
        } else {
            Filters::all(parts)
        }
    })
}

fn include(node: &Node, path: &str, found: &mut Diagnostics) -> Option<bool> {
    match node.get("include") {
        None | Some(Node::Null) => Some(true),
        Some(Node::Bool(include)) => Some(*include),
        Some(Node::Text(text)) if text == "true" || text == "false" => Some(text == "true"),
        Some(_) => {
            wrong_type(&join(path, "include"), "`include` is true or false", found);
            None
        }
    }
}

fn criterion(
    name: &str,
    value: &Node,
    operator: Operator,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Criterion> {
    let at = join(path, name);
    let Some(entry) = find(name) else {
        let known: Vec<&str> = ENTRIES.iter().map(|entry| entry.json).collect();
        let message = format!("there is no filter criterion `{name}`");
        found.push(
            Diagnostic::error("unknown_filter", at, message).hint(did_you_mean(name, &known)),
        );
        return None;
    };
    let read = match entry.kind {
        Kind::Plain(of) => {
            let text = text(value, &at, found)?;
            Criterion::plain(of, operator, &text)
        }
        Kind::Keyed(place) => keyed(entry, place, value, operator, &at, found)?,
        Kind::RequestFilter => {
            let place = body_kind(value, &at, found)?;
            keyed(entry, place, value, operator, &at, found)?
        }
        Kind::TimeRange => only_equal(operator, entry).and_then(|()| {
            let end = |names: [&str; 3]| {
                names.iter().find_map(|name| value.get(name)).and_then(Node::to_text)
            };
            let start = end(["startTime", "start_time", "start"]).unwrap_or_default();
            let end = end(["endTime", "end_time", "end"]).unwrap_or_default();
            TimeRange::new(&start, &end).map(Criterion::Time)
        }),
        Kind::Sample => only_equal(operator, entry).and_then(|()| sample(value)),
    };
    let has_key = matches!(value, Node::Object(_))
        && matches!(entry.kind, Kind::Keyed(_) | Kind::RequestFilter);
    let criterion = report(read, path, &at, has_key, found)?;
    super::show::remark(&criterion, &at, found);
    Some(criterion)
}

/// A sample `{keep, out_of}`, or `1/5`.
fn sample(value: &Node) -> Result<Criterion, Wrong> {
    let number = |name: &str, other: &str| {
        value.get(name).or_else(|| value.get(other)).and_then(Node::to_text)
    };
    let each = matches!(value.get("rrpair"), Some(Node::Bool(true)));
    let sample = match value {
        Node::Text(text) => Sample::parse(text, false),
        _ => {
            let keep = number("keep", "keep").unwrap_or_else(|| "0".to_owned());
            Sample::new(&keep, &number("out_of", "outOf").unwrap_or_default(), each)
        }
    };
    sample.map(Criterion::Sample)
}

/// A criterion `{key, value}`; a tag may also be `key=value`, and an XPath stand alone.
fn keyed(
    entry: &Entry,
    place: Place,
    value: &Node,
    operator: Operator,
    at: &str,
    found: &mut Diagnostics,
) -> Option<Result<Criterion, Wrong>> {
    let name = entry.json;
    match (value, place) {
        (Node::Text(text), Place::Tag) => Some(match text.split_once('=') {
            Some((key, value)) => Criterion::keyed(place, key, operator, Some(value)),
            None => Criterion::keyed(place, text, operator, None),
        }),
        (Node::Text(path), Place::XPath | Place::SoapXPath) => {
            Some(Criterion::keyed(place, path, operator, None))
        }
        (Node::Object(members), _) => {
            for (member, _) in members {
                if !["key", "value", "type"].iter().any(|known| member.eq_ignore_ascii_case(known))
                {
                    found.push(Diagnostic::warning(
                        "unknown_field",
                        join(at, member),
                        format!("`{name}` has no `{member}`; it is ignored"),
                    ));
                }
            }
            let key = text(value.get("key").unwrap_or(&Node::Null), &join(at, "key"), found)?;
            let expected = match value.get("value") {
                None | Some(Node::Null) => None,
                Some(expected) => Some(text(expected, &join(at, "value"), found)?),
            };
            Some(Criterion::keyed(place, &key, operator, expected.as_deref()))
        }
        _ => {
            wrong_type(at, &format!("`{name}` is an object with `key` and `value`"), found);
            None
        }
    }
}

/// The `type` of a `reqFilter`.
fn body_kind(value: &Node, at: &str, found: &mut Diagnostics) -> Option<Place> {
    let written = value.get("type").and_then(Node::to_text).unwrap_or_default();
    let kind = written.to_ascii_uppercase();
    match kind.strip_prefix("REQ_FILTER_TYPE_").unwrap_or(&kind) {
        "" | "JSON" => Some(Place::Json),
        "XML" => Some(Place::Xml),
        "XPATH" => Some(Place::XPath),
        "SOAPXPATH" => Some(Place::SoapXPath),
        _ => {
            found.push(
                Diagnostic::error(
                    "bad_filter_value",
                    join(at, "type"),
                    format!("there is no type `{written}` of a `reqFilter`"),
                )
                .hint("known are: REQ_FILTER_TYPE_JSON, _XML, _XPATH, _SOAPXPATH"),
            );
            None
        }
    }
}

fn only_equal(operator: Operator, entry: &Entry) -> Result<(), Wrong> {
    if operator == Operator::Equal {
        return Ok(());
    }
    Err(Wrong::new(
        "operator_not_applicable",
        Part::Operator,
        format!("`{}` takes no operator", entry.json),
    ))
}

fn text(value: &Node, at: &str, found: &mut Diagnostics) -> Option<String> {
    let text = value.to_text();
    if text.is_none() {
        wrong_type(at, "the criterion's value is a string", found);
    }
    text
}

fn wrong_type(at: &str, message: &str, found: &mut Diagnostics) {
    found.push(Diagnostic::error("wrong_type", at, message));
}

/// Reports what is wrong at the member that is meant.
fn report<T>(
    read: Result<T, Wrong>,
    filter: &str,
    at: &str,
    has_key: bool,
    found: &mut Diagnostics,
) -> Option<T> {
    read.map_err(|why| {
        let place = match why.part {
            Part::Operator => join(filter, "operator"),
            Part::Key if has_key => join(at, "key"),
            Part::Value if has_key => join(at, "value"),
            Part::Key | Part::Value => at.to_owned(),
        };
        found.push(Diagnostic::error(why.code, place, why.message).hint(why.hint));
    })
    .ok()
}
