//! What is said of steps.

use super::{Field, Input, Said};

const fn text(name: &'static str, summary: &'static str) -> Field {
    Field::new(name, Input::Text, summary)
}

const fn number(name: &'static str, summary: &'static str) -> Field {
    Field::new(name, Input::Number, summary)
}

const fn flag(name: &'static str, summary: &'static str) -> Field {
    Field::new(name, Input::Boolean, summary)
}

const fn path(name: &'static str, summary: &'static str) -> Field {
    Field::new(name, Input::Path, summary)
}

const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA",
];

/// In the order in which a form asks for them.
const JWT_RESIGN: &[Field] = &[
    Field::new("secretPath", Input::Secret, "the mounted key that signs").needed(),
    text("kid", "the kid of the JOSE header; by default the recorded one, or the key's own").filled(),
    text("iss", "the iss claim").filled(),
    text("aud", "the aud claim").filled(),
    text("sub", "the sub claim").filled(),
    Field::new("claims", Input::Claims, "more claims, as name=value, separated by commas").filled(),
    Field::new("timeClaims", Input::Choice(&["shift", "fixed", "keep"]), "what becomes of iat, exp, nbf and auth_time: moved with the clock; as the incumbent sets them; as recorded")
        .or("shift"),
    text("expiresIn", "the new lifetime in seconds or as a duration; the recorded one by default"),
    Field::new("alg", Input::Choice(ALGORITHMS), "the algorithm to sign with; the recorded one by default"),
    Field::new("matchAlg", Input::Choice(ALGORITHMS), "re-sign only tokens of this algorithm"),
    text("prefixes", "what may stand before a token, separated by commas").or("Bearer ,JWTBearer ").filled(),
    Field::new("trim", Input::Choice(&["none", "trailing_newline"]), "what is ignored at the end of an HMAC secret").or("none"),
    Field::new("key", Input::Key, "the key itself. It is stored and sent around with the template: mount a secret instead"),
];

/// By name.
pub(super) const SAID: &[Said] = &[
    ("aws_auth", "Signs a request to AWS", &[]),
    (
        "base64",
        "Works on what base64 holds",
        &[flag("pad", "write padding as it was; with false it is strict").or("true")],
    ),
    ("constant", "Puts a text in the place of the value", &[text("new", "the text").needed().filled()]),
    (
        "csv",
        "The next cell of a column of CSV text; from the start again after the last",
        &[
            number("index", "the column, from 0"),
            text("header", "the column by its name, instead of index"),
            flag("hasHeader", "the first row holds names").or("false"),
        ],
    ),
    (
        "csv_dataframe",
        "Makes a table of CSV text, whose rows are found by one column",
        &[text("primary_key", "the name of that column").needed()],
    ),
    (
        "csv_iter",
        "The first cell of the next row of a table; all chains share the turn",
        &[text("csv_name", "the name of the table").needed()],
    ),
    (
        "dataframe_lookup",
        "A cell of a table",
        &[
            text("dataframe_name", "the name of the table").needed(),
            text("key", "the row").needed().filled(),
            text("field", "the column").needed().filled(),
        ],
    ),
    (
        "date",
        "A date moves with the clock, or by an offset",
        &[
            text("layout", "how the date is written: auto, epoch, epoch_ms, or the time 2006-01-02T15:04:05Z07:00 as it is to be written").or("auto"),
            Field::new("precision", Input::Duration, "rounds the age of the date"),
            Field::new("offset", Input::Duration, "adds this to the date instead"),
        ],
    ),
    ("db_add_row", "Adds a row to the answer of a database", &[]),
    ("delete_sig", "Takes a key out of the signature", &[text("key", "the key, such as http:queryparams").needed()]),
    (
        "dlp_field",
        "Redacts the value; the same value becomes the same text",
        &[
            text("category", "what kind of value it is").or("FIELD"),
            flag("reverse", "invents a value of the category instead").or("false"),
        ],
    ),
    ("dlp_json", "Redacts what the redaction config of the snapshot names", &[]),
    (
        "grpc_field",
        "Works on a field of a gRPC message in its JSON form",
        &[
            text("field", "the number of the field, or a path of numbers").needed(),
            text("embedded", "how the field's bytes are to be read"),
        ],
    ),
    ("gzip", "Works on what gzip holds", &[]),
    (
        "http_auth",
        "Puts other credentials into Basic authentication",
        &[
            text("user", "the variable that keeps the recorded user"),
            text("password", "the variable that keeps the recorded password"),
            text("user_value", "the user to present").filled(),
            text("password_value", "the password to present").filled(),
            flag("smart_replace", "learn the replacement").or("false"),
        ],
    ),
    ("http_match_request_body", "Matches by the body", &[]),
    ("http_match_request_body_soap_operation", "Matches by the SOAP operation", &[]),
    ("http_match_request_body_xpath", "Matches by an XPath", &[]),
    (
        "json_delete",
        "Takes a member or element out of a JSON document, and ends the chain",
        &[path("path", "the member, such as user.email or items.0").needed()],
    ),
    (
        "json_path",
        "Works on a value in a JSON document",
        &[
            path("path", "the value, such as access_token, items.#.id or $.a[0]").needed().filled(),
            flag("create", "put the value in where there is none").or("true"),
        ],
    ),
    (
        "json_selector",
        "Works on the first value under one of these names, at any depth",
        &[
            text("match", "name, a.b or name=value").needed(),
            flag("recursive", "look into nested values").or("false"),
            number("levelsUp", "take the value so many levels above").or("0"),
        ],
    ),
    ("jwt_claim", "Works on one claim of a token; its JWS signature stays", &[text("claim", "the claim").needed()]),
    ("jwt_resign", "Puts a current token, signed with a mounted key, in the place of the recorded one", JWT_RESIGN),
    ("map_load", "Loads from a map", &[]),
    ("map_store", "Stores in a map", &[]),
    (
        "one_of",
        "One of several texts",
        &[
            text("options", "the texts, separated by commas").needed().filled(),
            Field::new("strategy", Input::Choice(&["sequential", "random"]), "which comes next").or("sequential"),
        ],
    ),
    ("rand_string", "A random text; not for secrets", &[Field::new("pattern", Input::Regex, "what it has to fit").needed()]),
    (
        "regex",
        "Works on what matches; the result replaces every identical occurrence",
        &[
            Field::new("pattern", Input::Regex, "the expression").needed(),
            number("captureGroup", "the group to work on").or("0"),
        ],
    ),
    (
        "replace",
        "Replaces a text by another",
        &[
            text("old", "what is replaced").needed(),
            text("new", "what is put in").needed(),
            text("count", "how often at the most; -1 for all").or("-1"),
        ],
    ),
    ("sasl_auth", "Authenticates to MongoDB", &[]),
    (
        "scrub",
        "Hides the value in every JSON string of the body once the chain is through",
        &[
            text("new", "what is put in").or("*"),
            text("ignorePaths", "members to leave, separated by commas"),
            Field::new("selector", Input::Choice(&["request", "response", "both"]), "in which message").or("request"),
        ],
    ),
    (
        "scrub_date",
        "Every date in a JSON string becomes *",
        &[text("ignorePaths", "members to leave, separated by commas")],
    ),
    ("sleep", "Holds the answer back", &[Field::new("duration", Input::Duration, "how long; a minute at the most").or("1000ms")]),
    (
        "smart_replace",
        "Learns that the value is now what the rest of the chain makes of it, and replaces it in later answers",
        &[flag("overwrite", "replace what was learned before").or("false")],
    ),
    (
        "smart_replace_csv",
        "Learns two columns of CSV text",
        &[
            flag("headers", "the first row holds names").or("true"),
            text("existing", "the column of recorded values by its name"),
            text("new", "the column of new values by its name"),
            number("existingNum", "the column of recorded values, from 0").or("0"),
            number("newNum", "the column of new values, from 0").or("1"),
        ],
    ),
    (
        "smart_replace_recorded",
        "Learns that what was recorded here is now what stands here",
        &[flag("overwrite", "replace what was learned before").or("false")],
    ),
    (
        "split",
        "Works on one of the parts between separators",
        &[text("separator", "a literal text").or(","), number("index", "which part, from 0").or("0")],
    ),
    ("store_sig", "Adds the value to the signature", &[text("key", "under this key; the lowest free number by default")]),
    ("tag_session", "The value names the session", &[]),
    (
        "trim",
        "Takes white space from both ends, or a text from one",
        &[
            Field::new("type", Input::Choice(&["spaces", "left", "right"]), "where").or("spaces"),
            text("value", "what is taken from one end"),
        ],
    ),
    ("url_decode", "Resolves the escapes of a path segment", &[]),
    ("url_encode", "Writes the escapes of a path segment", &[]),
    ("var_load", "Puts a variable in the place of the value", &[text("name", "its name").needed()]),
    ("var_store", "Remembers the value in a variable", &[text("name", "its name").needed()]),
    ("xml_path", "Works on the first node of an XPath", &[path("path", "the XPath").needed()]),
];
