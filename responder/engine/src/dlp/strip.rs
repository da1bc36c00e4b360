//! Taking JWS signatures out of recordings.
//!
//! A token that is re-signed when it is served needs its header and claims, not its signature; without it, what is stored is no credential.
//! The signature is replaced by as many `A`, which is base64url for zeros, so that nothing moves. Tokens are met in responses, and used in
//! requests that may stand anywhere in the recording; so an import first observes every pair and then strips every pair.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use bytes::Bytes;

use super::{message::fold, pair, token};
use crate::{
    body,
    compile::Resigned,
    grpc,
    request::{Parts, Request, keys},
    snapshot::{Header, RrPair},
    transform::Template,
};

/// Decides which tokens lose their signatures, and takes them out.
#[derive(Debug, Clone, Default)]
pub struct Stripper {
    all: bool,
    template: Option<Resigned>,
    known: HashSet<[u8; 16]>,
    hidden: u64,
}

/// What was done to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stripped {
    /// How many signatures were taken out.
    pub signatures: u64,
    /// Anything is other than before; a recorder's list of tokens is emptied without being read.
    pub changed: bool,
}

impl Stripper {
    /// Every token.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// The tokens that are observed to be re-signed by this template.
    #[must_use]
    pub fn resigned(template: &Template) -> Self {
        Self { template: Some(Resigned::by(template)), ..Self::default() }
    }

    /// Notes the tokens that are re-signed in this pair's response.
    pub fn observe(&mut self, pair: &RrPair) {
        let Some(template) = &self.template else { return };
        let mut unfolded = None;
        for value in template.of(pair) {
            let body =
                unfolded.get_or_insert_with(|| body::unfolded(&pair.response.body).into_owned());
            for span in token::find(&value) {
                let found = value.get(span).unwrap_or_default();
                let mut fields = pair.response.headers.iter().map(|field| &*field.value);
                if !contains(body, found) && !fields.any(|field| contains(field, found)) {
                    self.hidden += 1;
                }
                self.known.insert(fingerprint(found));
            }
        }
    }

    /// Takes over what another one observed.
    pub fn merge(&mut self, other: Self) {
        self.known.extend(other.known);
        self.hidden += other.hidden;
    }

    /// Whether there is nothing to strip.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.known.is_empty()
    }

    /// How many different tokens are re-signed.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.known.len()
    }

    /// How many re-signed tokens stand in encoded data, for example in base64, where their signatures stay.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// Strips a pair; returns what was done to it.
    pub fn strip(&self, pair: &mut RrPair) -> Stripped {
        if self.is_empty() {
            return Stripped::default();
        }
        let mut emptied = false;
        let mut count = 0;
        if let Some(request) = &mut pair.request {
            for text in [&mut request.path, &mut request.query] {
                count += self.text(text);
            }
            count += self.headers(&mut request.headers);
            count += self.body(&mut request.body, &mut pair.signature, true);
        }
        count += self.headers(&mut pair.response.headers);
        count += self.body(&mut pair.response.body, &mut pair.signature, false);
        for value in pair.signature.values_mut() {
            count += self.bytes(value);
        }
        for text in pair.tags.values_mut().chain([&mut pair.location, &mut pair.session]) {
            count += self.text(text);
        }
        // Recorders repeat tokens there in base64.
        for list in ["tokens", "tokenList"] {
            if pair.extra_json.contains(list)
                && let Some(new) = pair::emptied(pair.extra_json.as_bytes(), list)
                && new != pair.extra_json.as_bytes()
            {
                emptied = true;
                pair.extra_json = String::from_utf8(new).unwrap_or_default();
            }
        }
        count += self.text(&mut pair.extra_json);
        Stripped { signatures: count, changed: emptied || count > 0 }
    }

    fn headers(&self, headers: &mut [Header]) -> u64 {
        headers.iter_mut().map(|field| self.bytes(&mut field.value)).sum()
    }

    /// A body, and the hash of it that a recorded signature holds.
    fn body(
        &self,
        bytes: &mut Bytes,
        signature: &mut BTreeMap<String, Bytes>,
        signed: bool,
    ) -> u64 {
        let plain = body::unfolded(bytes);
        let Some((new, count)) = self.stripped(&plain) else { return 0 };
        if signed
            && let Some(hash) = signature.get_mut(keys::BODY_HASH)
            && *hash == body::sha256(&plain)
        {
            *hash = body::sha256(&new).into();
        }
        *bytes = match plain {
            Cow::Borrowed(_) => new.into(),
            Cow::Owned(_) => fold(&new).unwrap_or_default().into(),
        };
        count
    }

    fn text(&self, text: &mut String) -> u64 {
        let Some((new, count)) = self.stripped(text.as_bytes()) else { return 0 };
        *text = String::from_utf8(new).unwrap_or_default();
        count
    }

    fn bytes(&self, bytes: &mut Bytes) -> u64 {
        let Some((new, count)) = self.stripped(bytes) else { return 0 };
        *bytes = new.into();
        count
    }

    fn stripped(&self, text: &[u8]) -> Option<(Vec<u8>, u64)> {
        let mut new = None;
        let mut count = 0;
        for span in token::find(text) {
            let found = text.get(span.clone()).unwrap_or_default();
            if self.all || self.known.contains(&fingerprint(found)) {
                let out = new.get_or_insert_with(|| text.to_vec());
                if let Some(signature) = out.get_mut(token::signature(text, &span)) {
                    signature.fill(b'A');
                    count += 1;
                }
            }
        }
        new.map(|new| (new, count))
    }
}

/// Whether a pair holds a token in plain sight.
#[must_use]
pub fn has_token(pair: &RrPair) -> bool {
    let request = pair.request.as_ref();
    let headers = request.map_or(&[][..], |request| &request.headers);
    let fields = headers.iter().chain(&pair.response.headers).map(|field| &field.value);
    let bodies = request.map(|request| &request.body).into_iter().chain([&pair.response.body]);
    let query = request.is_some_and(|request| !token::find(request.query.as_bytes()).is_empty());
    query || fields.chain(bodies).any(|text| !token::find(&body::unfolded(text)).is_empty())
}

/// Takes the signatures of all tokens out of a request, recorded or live: those of the recording may have been taken out, and those of a
/// client are others anyway.
pub(crate) fn strip_request(parts: &mut Parts) {
    let stripper = Stripper::all();
    stripper.text(&mut parts.path);
    for (_, value) in &mut parts.query {
        stripper.text(value);
    }
    for (_, value) in &mut parts.headers {
        stripper.bytes(value);
    }
    stripper.bytes(&mut parts.body);
}

/// Whether [`strip_request`] may change what a live request is matched by. What does not show in its bytes counts as changed.
pub(crate) fn may_change(request: &Request<'_>) -> bool {
    let query = percent_encoding::percent_decode_str(request.query);
    token::may_be_in(request.path.as_bytes())
        || token::may_be_in(&Cow::from(query))
        || token::may_be_in(request.body)
        || body::is_gzip(request.body)
        || grpc::hides_text(request)
}

fn fingerprint(token: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(token);
    let mut short = [0; 16];
    short.copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    short
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{HttpRequest, HttpResponse};

    const ISSUED: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    const OTHER: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiIn0.b3RoZXJzaWdu";

    fn template(path: &str) -> Template {
        let (template, found) = Template::parse(
            format!(
                r#"{{"id":"t","responder":[{{"extractor":{{"type":"res_body"}},"transforms":[{path}
                    {{"type":"jwt_resign","config":{{"secretPath":"${{{{secret:a/b}}}}"}}}}]}}]}}"#
            )
            .as_bytes(),
        );
        assert!(!found.has_errors(), "{found:?}");
        template
    }

    fn json_path() -> Template {
        template(r#"{"type":"json_path","config":{"path":"access_token"}},"#)
    }

    fn issue() -> RrPair {
        RrPair {
            response: HttpResponse {
                status: 200,
                body: format!(r#"{{"access_token":"{ISSUED}","id_token":"{OTHER}"}}"#).into(),
                ..HttpResponse::default()
            },
            ..RrPair::default()
        }
    }

    fn everywhere(token: &str) -> RrPair {
        let text = |text: String| Bytes::from(text);
        let hashed = format!("<t>{token}</t>");
        RrPair {
            request: Some(HttpRequest {
                method: "POST".into(),
                path: format!("/t/{token}"),
                query: format!("a=1&t={token}"),
                headers: vec![
                    Header { name: "Authorization".into(), value: text(format!("Bearer {token}")) },
                    Header { name: "Cookie".into(), value: text(format!("a=b; t={token}")) },
                ],
                body: hashed.clone().into(),
                ..HttpRequest::default()
            }),
            response: HttpResponse {
                status: 200,
                body: fold(format!(r#"{{"deep":[{{"t":"{token}"}}]}}"#).as_bytes()).unwrap().into(),
                ..HttpResponse::default()
            },
            signature: [
                ("http:requestBodyHash".to_owned(), body::sha256(hashed.as_bytes()).into()),
                ("http:queryparams:t".to_owned(), text(token.to_owned())),
            ]
            .into(),
            tags: [("t".to_owned(), token.to_owned())].into(),
            location: format!("/t/{token}"),
            session: format!("JWT:{token}"),
            extra_json: format!(r#"{{"tokens":{{"x":"{token}"}},"netinfo":{{"t":"{token}"}}}}"#),
            ..RrPair::default()
        }
    }

    fn shown(pair: &RrPair) -> String {
        format!("{pair:?}{}", String::from_utf8_lossy(&body::unfolded(&pair.response.body)))
    }

    #[test]
    fn a_resigned_token_loses_its_signature_wherever_it_stands() {
        let mut stripper = Stripper::resigned(&json_path());
        stripper.observe(&issue());
        assert_eq!((stripper.tokens(), stripper.hidden()), (1, 0));
        let mut used = everywhere(ISSUED);
        let before = shown(&used);
        assert_eq!(stripper.strip(&mut used), Stripped { signatures: 11, changed: true });
        assert!(
            before.contains("c2lnbmF0dXJl") && !shown(&used).contains("c2lnbmF0dXJl"),
            "{}",
            shown(&used)
        );
        let request = used.request.as_ref().unwrap();
        assert_eq!(
            request.query,
            format!("a=1&t={}", ISSUED.replace("c2lnbmF0dXJl", "AAAAAAAAAAAA"))
        );
        assert_eq!(used.signature["http:requestBodyHash"], body::sha256(&request.body));
        assert!(has_token(&used) && has_token(&issue()) && !has_token(&RrPair::default()));
        let mut answer = issue();
        assert_eq!(stripper.strip(&mut answer).signatures, 1);
        assert!(String::from_utf8_lossy(&answer.response.body).contains(OTHER), "others stay");
        assert_eq!(stripper.strip(&mut everywhere(OTHER)).signatures, 0);
        let resigned = Resigned::by(&json_path()).of(&answer);
        assert_eq!(resigned.len(), 1, "a stripped token is still re-signed");
    }

    #[test]
    fn nothing_is_stripped_without_a_template_and_everything_on_demand() {
        let mut stripper = Stripper::resigned(&Template::default());
        stripper.observe(&issue());
        assert!(stripper.is_empty());
        let mut same = issue();
        assert_eq!(stripper.strip(&mut same).signatures, 0);
        assert_eq!(same, issue());
        assert_eq!(Stripper::all().strip(&mut same).signatures, 2);
    }

    #[test]
    fn tokens_in_encoded_data_are_told() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let mut pair = issue();
        pair.response.body = format!(r#"{{"data":"{}"}}"#, STANDARD.encode(ISSUED)).into();
        let chain =
            r#"{"type":"json_path","config":{"path":"data"}},{"type":"base64","config":{}},"#;
        let mut stripper = Stripper::resigned(&template(chain));
        stripper.observe(&pair);
        assert_eq!((stripper.tokens(), stripper.hidden()), (1, 1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic_and_keep_their_length(bytes in prop::collection::vec(any::<u8>(), 0..80), token in any::<bool>()) {
            let mut body = bytes;
            if token {
                body.extend_from_slice(ISSUED.as_bytes());
            }
            let mut pair = RrPair { response: HttpResponse { body: body.clone().into(), ..HttpResponse::default() }, ..RrPair::default() };
            Stripper::all().strip(&mut pair);
            prop_assert_eq!(pair.response.body.len(), body.len());
        }
    }
}
