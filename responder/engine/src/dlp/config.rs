//! What is redacted, as a user wrote it.
//!
//! Names are compared without regard to case, `_` and `-`. A list entry is a name, or `{"name": …, "category": …}`.

use std::collections::{HashMap, HashSet};

use super::{
    mark,
    pattern::{self, Pattern},
    standard,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Event, Kind, Path},
    transform::{Node, did_you_mean},
};

/// At most so many rules.
const MAX_RULES: usize = 5_000;

const FIELDS: [&str; 11] = [
    "id",
    "extends",
    "keys",
    "jsonPaths",
    "headers",
    "query",
    "cookies",
    "patterns",
    "ignore",
    "reverse",
    "requests",
];

/// What is redacted, and how.
#[derive(Debug, Clone, Default)]
pub struct DlpConfig {
    id: String,
    pub(super) rules: Vec<Rule>,
    /// Members of JSON objects, form fields, query parameters and XML elements.
    pub(super) keys: HashMap<String, usize>,
    pub(super) headers: HashMap<String, usize>,
    pub(super) query: HashMap<String, usize>,
    pub(super) cookies: HashMap<String, usize>,
    pub(super) paths: Vec<(Path, usize)>,
    pub(super) patterns: Vec<(Pattern, usize)>,
    /// Names whose values nobody looks into.
    pub(super) ignore: HashSet<String>,
    /// Values are replaced by invented ones of their category where there is a way to invent one.
    pub(super) reverse: bool,
    /// Requests are redacted, too.
    pub(super) requests: bool,
    /// JWS are redacted like everything else.
    pub(super) tokens: bool,
}

/// One rule, as reports call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) label: String,
    pub(super) category: String,
}

impl DlpConfig {
    /// A built-in config: `standard` or `none`.
    #[must_use]
    pub fn built_in(id: &str) -> Option<Self> {
        match id {
            "none" => Some(Self { id: id.to_owned(), requests: true, ..Self::default() }),
            "standard" => {
                let (config, found) = Self::parse(standard::JSON.as_bytes());
                debug_assert!(found.as_slice().is_empty(), "{found:?}");
                Some(config)
            }
            _ => None,
        }
    }

    /// The text of a built-in config, as it is stored and sent to whoever serves the snapshot.
    #[must_use]
    pub fn built_in_json(id: &str) -> Option<&'static str> {
        match id {
            "none" => Some(r#"{"id":"none"}"#),
            "standard" => Some(standard::JSON),
            _ => None,
        }
    }

    /// Reads a config and every finding about it. The config is usable when no finding is an error.
    #[must_use]
    pub fn parse(json: &[u8]) -> (Self, Diagnostics) {
        let mut found = Diagnostics::default();
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        let root = match serde_json::from_slice::<Node>(json) {
            Ok(root) if root.is_object() => root,
            Ok(_) => {
                found.push(Diagnostic::error("wrong_type", "", "a DLP config is a JSON object"));
                return (Self::default(), found);
            }
            Err(error) => {
                let line = u32::try_from(error.line()).unwrap_or_default();
                let message = "the DLP config is no JSON";
                found.push(Diagnostic::error("not_json", "", message).line(line));
                return (Self::default(), found);
            }
        };
        let mut reader = Reader { config: Self::base(&root, &mut found), found: &mut found };
        reader.unknown_fields(&root);
        reader.read(&root);
        let mut config = reader.config;
        config.tokens = config.patterns.iter().any(|(pattern, _)| pattern.is_built_in("jwt"));
        if config.rules.len() > MAX_RULES {
            let message = format!("there are more than {MAX_RULES} rules");
            found.push(Diagnostic::error("limit_exceeded", "", message));
        }
        (config, found)
    }

    /// The text of a config with what it builds upon written out, so that it means the same to another version of us.
    #[must_use]
    pub fn written_out(json: &[u8]) -> Vec<u8> {
        let mut depth = 0;
        let mut named = false;
        let mut edits = Vec::new();
        let read = json::visit(json, &mut |event| match event {
            Event::Open(_) => depth += 1,
            Event::Close => depth -= 1,
            Event::Name { name, .. } => {
                named = depth == 1 && name.eq_ignore_ascii_case("extends");
            }
            Event::Scalar { kind: Kind::String, span } if named && depth == 1 => {
                let name = json.get(span.clone()).and_then(|raw| serde_json::from_slice(raw).ok());
                let base = name.and_then(|name: String| Self::built_in_json(&name));
                edits.extend(base.map(|base| (span, base.as_bytes().to_vec())));
            }
            Event::Scalar { .. } | Event::Item(_) => {}
        });
        if read.is_err() { json.to_vec() } else { json::replace(json, &edits) }
    }

    /// What the config builds upon: a built-in one by name, or one that is written out.
    fn base(root: &Node, found: &mut Diagnostics) -> Self {
        let empty = Self { requests: true, ..Self::default() };
        let Some(name) = root.get("extends") else { return empty };
        if name.is_object() {
            let mut reader = Reader { config: empty, found };
            reader.read(name);
            return reader.config;
        }
        match name.as_str().and_then(Self::built_in) {
            Some(base) => base,
            None => {
                found.push(
                    Diagnostic::error(
                        "unknown_config",
                        "extends",
                        "there is no such built-in config",
                    )
                    .hint("known are: standard, none"),
                );
                empty
            }
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it redacts anything at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether requests are redacted, too, so that live ones have to be before they are matched.
    #[must_use]
    pub fn changes_requests(&self) -> bool {
        self.requests && !self.is_empty()
    }
}

/// A name in the form in which names are compared.
pub(super) fn normal(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

struct Reader<'f> {
    config: DlpConfig,
    found: &'f mut Diagnostics,
}

impl Reader<'_> {
    fn unknown_fields(&mut self, root: &Node) {
        let Node::Object(members) = root else { return };
        for (name, _) in members {
            if !FIELDS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                self.found.push(
                    Diagnostic::warning(
                        "unknown_field",
                        mark_path(name),
                        "a DLP config has no such field; it is ignored",
                    )
                    .hint(did_you_mean(name, &FIELDS)),
                );
            }
        }
    }

    fn read(&mut self, root: &Node) {
        self.config.id = match root.get("id").map(Node::as_str) {
            None => "custom".to_owned(),
            Some(Some(id)) if !id.is_empty() && id.len() <= 128 => id.to_owned(),
            Some(_) => {
                self.wrong("id", "`id` is a short text");
                String::new()
            }
        };
        for (path, name, category) in self.names(root, "keys") {
            let at = self.rule(&path, &name, category);
            self.config.keys.insert(normal(&name), at);
        }
        for (path, name, category) in self.names(root, "headers") {
            let at = self.rule(&path, &name, category);
            self.config.headers.insert(normal(&name), at);
        }
        for (path, name, category) in self.names(root, "query") {
            let at = self.rule(&path, &name, category);
            self.config.query.insert(normal(&name), at);
        }
        for (path, name, category) in self.names(root, "cookies") {
            let at = self.rule(&path, &name, category);
            self.config.cookies.insert(normal(&name), at);
        }
        for (_, name, _) in self.names(root, "ignore") {
            self.config.ignore.insert(normal(&name));
        }
        self.paths(root);
        self.patterns(root);
        if let Some(reverse) = self.flag(root, "reverse") {
            self.config.reverse = reverse;
        }
        if let Some(requests) = self.flag(root, "requests") {
            self.config.requests = requests;
        }
    }

    fn wrong(&mut self, path: &str, message: &str) {
        self.found.push(Diagnostic::error("wrong_type", path, message));
    }

    /// A boolean; files with text for it are common.
    fn flag(&mut self, root: &Node, name: &str) -> Option<bool> {
        match root.get(name)? {
            Node::Bool(value) => Some(*value),
            Node::Text(text) if text == "true" || text == "false" => Some(text == "true"),
            Node::Null => None,
            _ => {
                self.wrong(name, "the field is true or false");
                None
            }
        }
    }

    fn rule(&mut self, path: &str, name: &str, category: Option<String>) -> usize {
        let list = path.split('[').next().unwrap_or_default();
        let category = category.map_or_else(|| mark::category(name), |name| mark::category(&name));
        self.config.rules.push(Rule { label: format!("{list} {name}"), category });
        self.config.rules.len() - 1
    }

    /// A list's entries: path, name, category.
    fn names(&mut self, root: &Node, list: &str) -> Vec<(String, String, Option<String>)> {
        let mut names = Vec::new();
        for (nth, node) in self.list(root, list).into_iter().enumerate() {
            let path = format!("{list}[{nth}]");
            let name = node.as_str().or_else(|| node.get("name").and_then(Node::as_str));
            match name {
                Some(name) if !name.is_empty() => {
                    let category = node.get("category").and_then(Node::as_str).map(str::to_owned);
                    names.push((path, name.to_owned(), category));
                }
                _ => {
                    self.wrong(
                        &path,
                        "an entry is a name, or an object with `name` and `category`",
                    );
                }
            }
        }
        names
    }

    fn list(&mut self, root: &Node, name: &str) -> Vec<Node> {
        match root.get(name) {
            None | Some(Node::Null) => Vec::new(),
            Some(Node::List(entries)) => entries.clone(),
            Some(_) => {
                self.wrong(name, "the field is a list");
                Vec::new()
            }
        }
    }

    fn paths(&mut self, root: &Node) {
        for (path, name, category) in self.names(root, "jsonPaths") {
            match Path::parse(&name) {
                Ok(parsed) => {
                    let category = category.or_else(|| Some(parsed.leaf().to_owned()));
                    let at = self.rule(&path, &name, category);
                    self.config.paths.push((parsed, at));
                }
                Err(why) => self.found.push(Diagnostic::error("path_invalid", path, why)),
            }
        }
    }

    fn patterns(&mut self, root: &Node) {
        for (nth, node) in self.list(root, "patterns").into_iter().enumerate() {
            let path = format!("patterns[{nth}]");
            let text = |name: &str| node.get(name).and_then(Node::as_str);
            let category = text("category").map(mark::category);
            // A text alone is the name of a built-in one.
            let mut pattern = match (node.as_str().or_else(|| text("builtin")), text("regex")) {
                (Some(name), None) => match pattern::built_in(name) {
                    Some(pattern) => pattern,
                    None => {
                        let known: Vec<&str> =
                            pattern::BUILT_IN.iter().map(|known| known.name).collect();
                        self.found.push(
                            Diagnostic::error(
                                "unknown_pattern",
                                path,
                                "there is no such built-in pattern",
                            )
                            .hint(did_you_mean(name, &known)),
                        );
                        continue;
                    }
                },
                (None, Some(regex)) => {
                    let name = text("name").unwrap_or("pattern").to_owned();
                    match Pattern::regex(name.clone(), mark::category(&name), regex) {
                        Ok(pattern) => pattern,
                        Err(why) => {
                            let message = match why {
                                regex::Error::CompiledTooBig(_) => "the expression is too large",
                                _ => {
                                    "the expression is not understood; there are no look-arounds and back references"
                                }
                            };
                            let at = format!("{path}.regex");
                            self.found.push(Diagnostic::error("regex_invalid", at, message));
                            continue;
                        }
                    }
                }
                _ => {
                    self.wrong(&path, "a pattern has either `builtin` or `name` and `regex`");
                    continue;
                }
            };
            if let Some(category) = category {
                pattern.category = category;
            }
            let label = pattern.name.clone();
            let at = self.rule("patterns", &label, Some(pattern.category.clone()));
            self.config.patterns.push((pattern, at));
        }
    }
}

/// A field's name in a finding, of bounded length.
fn mark_path(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codes(json: &str) -> Vec<String> {
        let (_, found) = DlpConfig::parse(json.as_bytes());
        found.into_vec().iter().map(|d| format!("{} {}", d.path, d.code)).collect()
    }

    #[test]
    fn built_in_configs_are_sound() {
        for id in ["standard", "none"] {
            let config = DlpConfig::built_in(id).unwrap();
            assert_eq!((config.id(), config.is_empty()), (id, id == "none"));
            let (parsed, found) =
                DlpConfig::parse(DlpConfig::built_in_json(id).unwrap().as_bytes());
            assert_eq!(found.as_slice(), []);
            assert_eq!(parsed.rules, config.rules);
        }
        assert!(DlpConfig::built_in("no such").is_none());
        assert!(!DlpConfig::built_in("standard").unwrap().tokens);
    }

    #[test]
    fn a_config_reads_what_it_documents() {
        let (config, found) = DlpConfig::parse(
            br#"{"id":"shop","extends":"standard","KEYS":["User_Id",{"name":"login","category":"User Name"}],
                "jsonPaths":["a.#.street"],"headers":["X-Tenant"],"query":["q"],"cookies":["c"],"ignore":["etag"],
                "patterns":["phone",{"builtin":"jwt"},{"name":"order no","regex":"ORD-\\d+"}],"reverse":"true","requests":false}"#,
        );
        assert_eq!(found.as_slice(), []);
        let category = |at: usize| config.rules[at].category.as_str();
        assert_eq!(category(config.keys["userid"]), "USER_ID");
        assert_eq!(category(config.keys["login"]), "USER_NAME");
        assert_eq!(category(config.keys["password"]), "PASSWORD", "from standard");
        assert_eq!(category(config.paths[0].1), "STREET");
        assert_eq!(config.rules[config.headers["xtenant"]].label, "headers X-Tenant");
        assert_eq!(category(config.patterns.last().unwrap().1), "ORDER_NO");
        assert!(
            config.tokens && config.reverse && !config.requests && config.ignore.contains("etag")
        );
        assert!(!config.changes_requests());
    }

    #[test]
    fn a_config_can_be_written_out() {
        let written = DlpConfig::written_out(
            br#"{"id":"a","keys":[{"extends":"none","name":"x"}],"Extends":"standard"}"#,
        );
        let (config, found) = DlpConfig::parse(&written);
        assert_eq!(found.as_slice(), []);
        let (short, _) = DlpConfig::parse(br#"{"id":"a","extends":"standard","keys":["x"]}"#);
        assert_eq!((config.id(), &config.rules), ("a", &short.rules));
        assert_eq!(DlpConfig::written_out(b"{"), b"{");
    }

    #[test]
    fn every_mistake_is_named() {
        for (json, expected) in [
            ("", &[" not_json"][..]),
            ("[]", &[" wrong_type"]),
            (r#"{"keyz":[]}"#, &["keyz unknown_field"]),
            (r#"{"keys":"a","id":5}"#, &["id wrong_type", "keys wrong_type"]),
            (
                r#"{"keys":[5,{"category":"x"},""]}"#,
                &["keys[0] wrong_type", "keys[1] wrong_type", "keys[2] wrong_type"],
            ),
            (r#"{"jsonPaths":["a..b"]}"#, &["jsonPaths[0] path_invalid"]),
            (
                r#"{"patterns":["emial",{"regex":"(?=x)"},{"regex":"\\w{5000}"},{}]}"#,
                &[
                    "patterns[0] unknown_pattern",
                    "patterns[1].regex regex_invalid",
                    "patterns[2].regex regex_invalid",
                    "patterns[3] wrong_type",
                ],
            ),
            (r#"{"extends":"x","reverse":1}"#, &["extends unknown_config", "reverse wrong_type"]),
        ] {
            assert_eq!(codes(json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _outcome = DlpConfig::parse(&bytes);
        }
    }
}
