//! What one user's session has learned while it is driven, and the requests that are made of it.

use std::borrow::Cow;

use bytes::Bytes;
use countersign_engine::{
    request::Request as Told,
    sending::{Changed, Generator},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{COOKIE, HOST, SET_COOKIE},
    uri::PathAndQuery,
};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    connect::{Protocol, SendError, Target},
    recording::{Give, Piece, Place, Session, Step, Use, Written, cookie},
};

/// What stands in paths and queries as it is: the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// So many cookies are kept.
const MAX_COOKIES: usize = 256;

/// How requests are made.
#[derive(Debug)]
pub(crate) struct Writing<'w> {
    pub(crate) target: &'w Target,
    pub(crate) protocol: Protocol,
    /// The recorded host is sent, not the target's.
    pub(crate) keep_host: bool,
    pub(crate) carry: bool,
    /// Fields that are added, or take the place of recorded ones.
    pub(crate) headers: &'w [(HeaderName, HeaderValue)],
    pub(crate) generator: Option<&'w Generator>,
    /// The host as a field.
    pub(crate) host: &'w HeaderValue,
    /// Nanoseconds since the epoch.
    pub(crate) now: i64,
}

/// A session under way.
#[derive(Debug)]
pub(crate) struct State<'s> {
    session: &'s Session,
    /// What live answers gave, by slot.
    live: Vec<Option<Box<str>>>,
    /// Cookies that were set, newest value each; `None` for one that was taken away.
    jar: Vec<(Box<str>, Option<Box<str>>)>,
}

impl<'s> State<'s> {
    pub(crate) fn new(session: &'s Session) -> Self {
        Self { session, live: vec![None; session.slots.len()], jar: Vec::new() }
    }

    /// What takes the place of a recorded value, once an answer gave it.
    pub(crate) fn live(&self, recorded: &str) -> Option<&str> {
        let mut slots = self.session.slots.iter().zip(&self.live);
        slots.find(|(slot, _)| ***slot == *recorded).and_then(|(_, live)| live.as_deref())
    }

    /// Makes a step's request. `failed` counts chains that failed.
    pub(crate) fn request(
        &self,
        step: &Step,
        how: &Writing<'_>,
        failed: &mut u64,
    ) -> Result<Request<Full<Bytes>>, SendError> {
        let mut target = self.spliced(step, Piece::Target, step.target.as_str());
        let mut headers = HeaderMap::with_capacity(step.headers.len() + step.own.len() + 2);
        for (name, value) in &*step.headers {
            headers.append(name, value.clone());
        }
        for (nth, (name, value)) in step.own.iter().enumerate() {
            if let Some(value) = self.field(step, nth, name, value, how.carry) {
                headers.append(name, value);
            }
        }
        if how.carry && !self.jar.is_empty() && !headers.contains_key(COOKIE) {
            self.new_cookies(&mut headers);
        }
        for (name, value) in how.headers {
            headers.insert(name, value.clone());
        }
        let mut body = match std::str::from_utf8(&step.body) {
            Ok(text) if uses(step, Piece::Body) => match self.spliced(step, Piece::Body, text) {
                Cow::Owned(text) => Bytes::from(text),
                Cow::Borrowed(_) => step.body.clone(),
            },
            _ => step.body.clone(),
        };
        if let Some(generator) = how.generator.filter(|_| !step.admitted.is_empty()) {
            let changed = transform(generator, step, &target, &headers, &body, how.now);
            *failed += u64::try_from(changed.failed.len()).unwrap_or_default();
            take(changed, &mut target, &mut headers, &mut body);
        }
        self.finish(step, how, &target, headers, body)
    }

    fn finish(
        &self,
        step: &Step,
        how: &Writing<'_>,
        target: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, SendError> {
        let target = if how.target.base.is_empty() && target == step.target.as_str() {
            step.target.clone()
        } else {
            PathAndQuery::try_from(format!("{}{target}", how.target.base))
                .map_err(|_| SendError::Request)?
        };
        let recorded = how.keep_host && !step.host.is_empty();
        let uri = if how.protocol == Protocol::Http2 {
            let scheme = if how.target.tls { "https" } else { "http" };
            let builder = Uri::builder().scheme(scheme).path_and_query(target);
            let builder = if recorded {
                builder.authority(&*step.host)
            } else {
                builder.authority(how.target.authority.clone())
            };
            builder.build().map_err(|_| SendError::Request)?
        } else {
            let host = if recorded {
                HeaderValue::from_str(&step.host).map_err(|_| SendError::Request)?
            } else {
                how.host.clone()
            };
            headers.insert(HOST, host);
            Uri::from(target)
        };
        let mut request = Request::new(Full::new(body));
        request.method_mut().clone_from(&step.method);
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// One of a step's own fields, as it is sent now.
    fn field(
        &self,
        step: &Step,
        nth: usize,
        name: &HeaderName,
        value: &HeaderValue,
        carry: bool,
    ) -> Option<HeaderValue> {
        let cookies = carry && name == COOKIE && !self.jar.is_empty();
        if !cookies && !uses(step, Piece::Header(nth)) {
            return Some(value.clone());
        }
        let Ok(text) = value.to_str() else { return Some(value.clone()) };
        let text = self.spliced(step, Piece::Header(nth), text);
        let text = if cookies { self.cookies(&text)? } else { text.into_owned() };
        HeaderValue::try_from(text).ok()
    }

    /// A piece of a step with live values in the place of recorded ones.
    fn spliced<'t>(&self, step: &Step, piece: Piece, text: &'t str) -> Cow<'t, str> {
        let mut made = Cow::Borrowed(text);
        for Use { slot, span, written, .. } in step.uses.iter().filter(|one| one.piece == piece) {
            let Some(Some(live)) = self.live.get(*slot) else { continue };
            if made.get(span.clone()).is_some() {
                made.to_mut().replace_range(span.clone(), &written_as(live, *written));
            }
        }
        made
    }

    /// A recorded `Cookie` with the values of now, and what was set besides; `None` when nothing is left of it.
    fn cookies(&self, recorded: &str) -> Option<String> {
        let mut all = Vec::new();
        let mut named = Vec::new();
        for (name, value) in recorded.split(';').filter_map(|cookie| cookie.trim().split_once('='))
        {
            named.push(name);
            match self.jar.iter().find(|(known, _)| **known == *name) {
                Some((_, Some(live))) => all.push(format!("{name}={live}")),
                Some((_, None)) => {}
                None => all.push(format!("{name}={value}")),
            }
        }
        for (name, value) in &self.jar {
            if let Some(value) = value
                && !named.contains(&&**name)
                && !self.was_recorded(name)
            {
                all.push(format!("{name}={value}"));
            }
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Cookies of a service that the recording knows nothing of, such as those of a load balancer.
    fn new_cookies(&self, headers: &mut HeaderMap) {
        let new = self.jar.iter().filter(|(name, _)| !self.was_recorded(name));
        let all: Vec<String> =
            new.filter_map(|(name, value)| Some(format!("{name}={}", value.as_deref()?))).collect();
        if let Some(value) =
            (!all.is_empty()).then(|| HeaderValue::try_from(all.join("; ")).ok()).flatten()
        {
            headers.insert(COOKIE, value);
        }
    }

    /// Whether some recorded answer of the session sets this cookie: then the recorded requests tell where it belongs.
    fn was_recorded(&self, name: &str) -> bool {
        let sets = |step: &Step| {
            let set = step.expected.headers.iter().filter(|(field, _)| field == SET_COOKIE);
            set.filter_map(|(_, value)| cookie(value.to_str().ok()?)).any(|(set, _)| set == name)
        };
        self.session.steps.iter().any(sets)
    }

    /// Whether anything of a step's answer matters to later requests.
    pub(crate) fn learns_from_body(step: &Step) -> bool {
        step.gives.iter().any(|give| matches!(give.place, Place::Json(_) | Place::Whole))
    }

    /// Takes from an answer what later requests carry.
    pub(crate) fn learn(&mut self, step: &Step, headers: &HeaderMap, body: &[u8]) {
        for value in headers.get_all(SET_COOKIE) {
            if let Some((name, value, gone)) = value.to_str().ok().and_then(set) {
                self.keep(name, if gone { None } else { Some(value.into()) });
            }
        }
        if step.gives.is_empty() {
            return;
        }
        let document =
            Self::learns_from_body(step).then(|| serde_json::from_slice::<Value>(body).ok());
        let document = document.flatten();
        for Give { slot, place } in &step.gives {
            let found: Option<Box<str>> = match place {
                Place::Cookie(name) => headers
                    .get_all(SET_COOKIE)
                    .iter()
                    .filter_map(|value| cookie(value.to_str().ok()?))
                    .find(|(set, _)| **set == **name)
                    .map(|(_, value)| value.into()),
                Place::Header(name) => headers
                    .get(&**name)
                    .and_then(|value| value.to_str().ok()?.rsplit(' ').next())
                    .map(Into::into),
                Place::Json(pointer) => {
                    document.as_ref().and_then(|document| match document.pointer(pointer)? {
                        Value::String(text) => Some(text.as_str().into()),
                        Value::Number(number) => Some(number.to_string().into()),
                        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                    })
                }
                Place::Whole => std::str::from_utf8(body).ok().map(|text| text.trim().into()),
            };
            // Where the answer does not have it, what is known stays.
            if let Some(place) = self.live.get_mut(*slot)
                && found.is_some()
            {
                *place = found;
            }
        }
    }

    fn keep(&mut self, name: &str, value: Option<Box<str>>) {
        if let Some(known) = self.jar.iter_mut().find(|(known, _)| **known == *name) {
            known.1 = value;
        } else if self.jar.len() < MAX_COOKIES {
            self.jar.push((name.into(), value));
        }
    }
}

fn uses(step: &Step, piece: Piece) -> bool {
    step.uses.iter().any(|one| one.piece == piece)
}

/// A `Set-Cookie`: name, value, and whether it takes the cookie away (RFC 6265, section 5.3).
fn set(text: &str) -> Option<(&str, &str, bool)> {
    let (name, value) = cookie(text)?;
    let gone = text.split(';').skip(1).any(|attribute| {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let (name, value) = (name.trim(), value.trim());
        name.eq_ignore_ascii_case("max-age") && value.parse::<i64>().is_ok_and(|age| age <= 0)
            || name.eq_ignore_ascii_case("expires") && value.contains(" 1970 ")
    });
    Some((name, value, gone))
}

fn written_as(value: &str, written: Written) -> String {
    match written {
        Written::Plain => value.to_owned(),
        Written::Percent => utf8_percent_encode(value, ESCAPED).to_string(),
        Written::Json => {
            let quoted = Value::from(value).to_string();
            quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
        }
    }
}

fn transform(
    generator: &Generator,
    step: &Step,
    target: &str,
    headers: &HeaderMap,
    body: &Bytes,
    now: i64,
) -> Changed {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let told = Told {
        method: step.method.as_str(),
        host: &step.host,
        path,
        query,
        headers,
        body,
        trailers: None,
    };
    generator.run(&step.admitted, &told, step.recorded_at, now)
}

fn take(changed: Changed, target: &mut Cow<'_, str>, headers: &mut HeaderMap, body: &mut Bytes) {
    if changed.path.is_some() || changed.query.is_some() {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = changed.path.unwrap_or_else(|| path.to_owned());
        let query = changed.query.unwrap_or_else(|| query.to_owned());
        let mark = if query.is_empty() { "" } else { "?" };
        *target = Cow::Owned(format!("{path}{mark}{query}"));
    }
    if let Some(fields) = changed.headers {
        headers.clear();
        for (name, value) in fields {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::from_maybe_shared(value))
            {
                headers.append(name, value);
            }
        }
    }
    if let Some(new) = changed.body {
        *body = new;
    }
}

#[cfg(test)]
mod tests;
