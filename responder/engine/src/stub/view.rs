//! A live request as conditions look at it: each part is made when it is first asked for, and once.

use std::{borrow::Cow, cell::OnceCell};

use base64::Engine as _;

use crate::{
    body,
    request::{Request, host_key, without_port},
    snapshot::stub::Part,
};

/// A request and what was made of it so far.
pub(super) struct View<'r> {
    request: &'r Request<'r>,
    query: OnceCell<Vec<(String, String)>>,
    form: OnceCell<Vec<(String, String)>>,
    cookies: OnceCell<Vec<(String, String)>>,
    body: OnceCell<Given<'r>>,
}

/// One value of a part.
#[derive(Debug)]
pub(super) struct Given<'v> {
    bytes: Cow<'v, [u8]>,
    json: OnceCell<Option<serde_json::Value>>,
}

impl<'v> Given<'v> {
    /// A value of these bytes.
    pub(super) fn new(bytes: impl Into<Cow<'v, [u8]>>) -> Self {
        Self { bytes: bytes.into(), json: OnceCell::new() }
    }

    /// A value of this text.
    pub(super) fn text_of(text: impl Into<Cow<'v, str>>) -> Self {
        match text.into() {
            Cow::Borrowed(text) => Self::new(text.as_bytes()),
            Cow::Owned(text) => Self::new(text.into_bytes()),
        }
    }

    /// The value as it is.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value as text; what is no UTF-8 is replaced.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The value as JSON, if it is some.
    pub(super) fn json(&self) -> Option<&serde_json::Value> {
        self.json.get_or_init(|| serde_json::from_slice(&self.bytes).ok()).as_ref()
    }
}

impl<'r> View<'r> {
    /// A view of a request.
    pub(super) fn new(request: &'r Request<'r>) -> Self {
        Self {
            request,
            query: OnceCell::new(),
            form: OnceCell::new(),
            cookies: OnceCell::new(),
            body: OnceCell::new(),
        }
    }

    /// The path as it was on the wire.
    pub(super) fn path(&self) -> &'r str {
        self.request.path
    }

    /// The body; `None` when there is none.
    pub(super) fn body(&self) -> Option<&Given<'r>> {
        let body = self.body.get_or_init(|| Given::new(body::unfolded(self.request.body)));
        (!body.bytes.is_empty()).then_some(body)
    }

    /// The values of a part other than the body and path variables.
    pub(super) fn values(&self, part: &Part) -> Vec<Given<'_>> {
        let request = self.request;
        let one = |text: Cow<'r, str>| vec![Given::text_of(text)];
        match part {
            Part::Method => one(request.method.into()),
            Part::Path => one(request.path.into()),
            Part::Url if request.query.is_empty() => one(request.path.into()),
            Part::Url => one(format!("{}?{}", request.path, request.query).into()),
            Part::Host => vec![Given::new(host_key(request.host))],
            Part::Port => one(port(request.host).into()),
            Part::Query(name) => named(self.query(), name),
            Part::Header(name) => {
                request.headers.get_all(name).iter().map(|v| Given::new(v.as_bytes())).collect()
            }
            Part::Cookie(name) => named(self.cookies(), name),
            Part::Form(name) => named(self.form(), name),
            Part::BasicAuth => self.basic_auth().map(Given::new).into_iter().collect(),
            Part::Body | Part::PathVariable(_) => Vec::new(),
        }
    }

    fn query(&self) -> &[(String, String)] {
        self.query.get_or_init(|| body::pairs(self.request.query).collect())
    }

    fn form(&self) -> &[(String, String)] {
        self.form.get_or_init(|| {
            let content_type = self.request.headers.get(http::header::CONTENT_TYPE);
            let is_form = content_type.is_some_and(|value| body::is_form(value.as_bytes()));
            match self.body() {
                Some(body) if is_form => body::pairs(&body.text()).collect(),
                _ => Vec::new(),
            }
        })
    }

    fn cookies(&self) -> &[(String, String)] {
        self.cookies.get_or_init(|| {
            let fields = self.request.headers.get_all(http::header::COOKIE);
            fields
                .iter()
                .filter_map(|field| field.to_str().ok())
                .flat_map(|field| field.split(';'))
                .filter_map(|cookie| cookie.split_once('='))
                .map(|(name, value)| {
                    let value = value.trim();
                    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                    (name.trim().to_owned(), bare.unwrap_or(value).to_owned())
                })
                .collect()
        })
    }

    fn basic_auth(&self) -> Option<Vec<u8>> {
        let field = self.request.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = field.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        base64::engine::general_purpose::STANDARD.decode(credentials.trim()).ok()
    }
}

fn named<'v>(pairs: &'v [(String, String)], name: &str) -> Vec<Given<'v>> {
    pairs.iter().filter(|pair| pair.0 == name).map(|pair| Given::text_of(pair.1.as_str())).collect()
}

fn port(host: &str) -> &str {
    let bare = without_port(host);
    host.strip_prefix(bare).and_then(|port| port.strip_prefix(':')).unwrap_or("80")
}
