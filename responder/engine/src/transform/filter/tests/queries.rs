//! Queries: what they mean, what is wrong with some, and that they print as they are read.

use super::*;

fn parse(text: &str) -> (Option<Filters>, Vec<Diagnostic>) {
    let mut found = Diagnostics::default();
    let filters = query::parse(text, &mut found);
    (filters, found.into_vec())
}

fn filters(text: &str) -> Filters {
    let (filters, found) = parse(text);
    assert_eq!(found, [], "{text}");
    filters.unwrap()
}

/// Terms, the same as JSON, and whether they hold.
const KEYWORDS: [(&str, &str, bool); 30] = [
    (r#"cluster IS "undefined""#, r#"{"cluster":"undefined"}"#, true),
    (r#"command NOT "GET""#, r#"{"include":false,"detectedCommand":"GET"}"#, true),
    (r#"direction IS "in""#, r#"{"direction":"IN"}"#, true),
    (
        r#"header[X-Tenant] CONTAINS "ac""#,
        r#"{"operator":"CONTAINS","header":{"key":"X-Tenant","value":"ac"}}"#,
        true,
    ),
    (r#"l7protocol IS "http""#, r#"{"l7protocol":"http"}"#, false),
    (r#"location REGEX "^/v\d/""#, r#"{"operator":"REGEX","detectedLocation":"^/v\\d/"}"#, true),
    (
        r#"namespace NOT CONTAINS "dev""#,
        r#"{"include":false,"operator":"CONTAINS","namespace":"dev"}"#,
        true,
    ),
    (r#"networkaddr CONTAINS "api""#, r#"{"operator":"CONTAINS","network_address":"api"}"#, true),
    (r#"req_json[items.0.k] IS "x""#, r#"{"reqFilter":{"key":"items.0.k","value":"x"}}"#, true),
    (r#"req_xml[user] IS "x""#, r#"{"reqFilter":{"key":"user","value":"x","type":"XML"}}"#, false),
    (
        r#"req_xpath[//a[@b='c']/d] IS "x""#,
        r#"{"httpReqXPath":{"key":"//a[@b='c']/d","value":"x"}}"#,
        false,
    ),
    (
        r#"req_soapxpath["a[b=']']"] NOT "x""#,
        r#"{"include":false,"httpReqSoapXPath":{"key":"a[b=']']","value":"x"}}"#,
        true,
    ),
    (
        r#"req_hash IS "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=""#,
        r#"{"requestBodyHash":"ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="}"#,
        false,
    ),
    (r#"sample IS "1/2""#, r#"{"sample":{"keep":1,"out_of":2}}"#, true),
    (
        r#"sample[rrpair] NOT "1/2""#,
        r#"{"include":false,"sample":{"keep":1,"out_of":2,"rrpair":true}}"#,
        true,
    ),
    (r#"sample[session] "1/2""#, r#"{"sample":"1/2"}"#, true),
    (r#"service IS 'shop'"#, r#"{"service":"shop"}"#, true),
    (r#"session REGEX "^JWT:""#, r#"{"operator":"REGEX","session":"^JWT:"}"#, true),
    (r#"source IS "RRPAIR_SOURCE_GOPROXY""#, r#"{"source":"goproxy"}"#, true),
    (
        r#"status NOT REGEX "^5""#,
        r#"{"include":false,"operator":"REGEX","detectedStatus":"^5"}"#,
        true,
    ),
    (r#"tag[source] IS "goproxy""#, r#"{"tag":"source=goproxy"}"#, true),
    (r#"tag IS "source=goproxy""#, r#"{"tag":"source=goproxy"}"#, true),
    (r#"tech IS "JSON""#, r#"{"tech":"JSON"}"#, true),
    (
        r#"timerange "2024-05-01T00:00:00Z" "2024-05-02T00:00:00Z""#,
        r#"{"timeRange":{"startTime":"2024-05-01T00:00:00Z","endTime":"2024-05-02T00:00:00Z"}}"#,
        true,
    ),
    (
        r#"timerange NOT "2024-06-01T00:00:00Z" """#,
        r#"{"include":false,"timeRange":{"startTime":"2024-06-01T00:00:00Z"}}"#,
        true,
    ),
    (r#"url CONTAINS "?b=2""#, r#"{"operator":"CONTAINS","optUrl":"?b=2"}"#, true),
    (
        r#"uuid IS "q6urq6urq6urq6urq6urqw==""#,
        r#"{"uuid":"abababab-abab-abab-abab-abababababab"}"#,
        true,
    ),
    (r#"host IS NOT "api.test""#, r#"{"include":false,"host":"api.test"}"#, false),
    (r#"detectedLocation IS "/""#, r#"{"detectedLocation":"/"}"#, false),
    (r#"LOCATION is "/v1/login""#, r#"{"detectedLocation":"/v1/login"}"#, true),
];

#[test]
fn every_keyword_is_read() {
    for (query, object, holds) in KEYWORDS {
        let read_query = filters(query);
        assert_eq!(format!("{read_query:?}"), format!("{:?}", read(object)), "{query}");
        if !query.starts_with("sample") {
            assert_eq!(selects(&read_query, &json()), holds, "{query}");
        }
    }
    let (snapshot, found) = parse(r#"snapshot IS "x""#);
    assert!(snapshot.is_some());
    assert_eq!(found[0].code, "filter_not_decidable");
}

#[test]
fn terms_are_joined_and_grouped() {
    let yes = r#"command IS "POST""#;
    let no = r#"command IS "GET""#;
    for (query, holds, printed) in [
        (String::new(), true, ""),
        (" \n".to_owned(), true, ""),
        (yes.to_owned(), true, r#"(command IS "POST")"#),
        (format!("({yes} OR {no})"), true, r#"(command IS "POST" OR command IS "GET")"#),
        (format!("(({yes}) and ({no}))"), false, r#"(command IS "POST" AND command IS "GET")"#),
        (
            format!("({no} OR {yes}) AND ({yes})"),
            true,
            r#"(command IS "GET" OR command IS "POST") AND (command IS "POST")"#,
        ),
        (
            format!("({no}) OR ({yes} AND ({yes} OR {no}))"),
            true,
            r#"(command IS "GET") OR (command IS "POST" AND (command IS "POST" OR command IS "GET"))"#,
        ),
        (format!(r#"({yes}) AND (sample IS "0/1")"#), false, r#"(sample IS "0/1")"#),
        (format!(r#"({yes}) OR (sample IS "1/1")"#), true, ""),
    ] {
        let filters = filters(&query);
        assert_eq!(selects(&filters, &json()), holds, "{query}");
        assert_eq!(filters.to_string(), printed);
    }
}

#[test]
fn mixed_operators_are_read_as_usual_and_pointed_at() {
    let (filters, found) = parse(r#"command IS "POST" OR command IS "GET" AND status IS "500""#);
    assert!(selects(&filters.unwrap(), &json()));
    assert_eq!((found.len(), found[0].code), (1, "mixed_operators"));
}

#[test]
fn the_shorthand_of_a_chain_is_read_up_to_its_steps() {
    for steps in [
        r#" | res_body() | json_path(path=access_token) | smart_replace_recorded(overwrite=true)"#,
        " <-> res_body()",
        " → res_body()",
        " -> res_body()",
    ] {
        let query = format!(
            r#"(networkaddr CONTAINS "api" AND location IS "/v1/login" AND command IS "POST"){steps}"#
        );
        let (filters, found) = parse(&query);
        assert!(selects(&filters.unwrap(), &json()), "{query}");
        assert_eq!((found.len(), found[0].code), (1, "steps_ignored"), "{query}");
        assert!(found[0].message.contains("character 80"), "{:?}", found[0].message);
    }
    assert!(parse("| res_body()").0.unwrap().is_everything());
}

#[test]
fn every_mistake_is_reported_where_it_stands() {
    for (query, code, at, message) in [
        ("(", "bad_query", 2, "a keyword is missing"),
        (")", "bad_query", 1, "a keyword is missing"),
        ("()", "bad_query", 2, "a keyword is missing"),
        (r#"(command IS "GET""#, "bad_query", 18, "`)` is missing"),
        (r#"command IS "GET")"#, "bad_query", 17, "should end here"),
        (r#"command IS "GET" status IS "2""#, "bad_query", 18, "should end here"),
        (r#"command IS "GET" AND"#, "bad_query", 21, "a keyword is missing"),
        ("é", "unknown_filter", 1, "there is no keyword `é`"),
        (r#"(comand IS "GET")"#, "unknown_filter", 2, "there is no keyword `comand`"),
        (r#"NOT (command IS "GET")"#, "unknown_filter", 1, "there is no keyword `NOT`"),
        (r#"reqFilter IS "a""#, "unknown_filter", 1, "there is no keyword"),
        ("command", "bad_query", 8, "an operator is missing"),
        (r#"command "GET""#, "bad_query", 9, "an operator is missing"),
        (r#"command = "GET""#, "bad_query", 9, "an operator is missing"),
        (r#"command LIKE "GET""#, "bad_query", 9, "an operator is missing"),
        ("command IS GET", "bad_query", 12, "a value is missing"),
        (r#"command IS CONTAINS "GET""#, "bad_query", 12, "a value is missing"),
        (r#"command IS "GET"#, "bad_query", 12, "no end"),
        (r#"  command[x] IS "GET""#, "bad_query", 10, "takes no key"),
        (r#"header IS "x""#, "bad_query", 8, "needs a key"),
        (r#"header[x IS "x""#, "bad_query", 7, "no end"),
        (r#"header["x" IS "x""#, "bad_query", 12, "`]` is missing"),
        (r#"header[] IS "x""#, "missing_field", 7, "the key is empty"),
        (r#"req_xpath[//a|b] IS "x""#, "bad_path", 10, "unions"),
        (r#"req_json[a..b] IS "x""#, "bad_path", 9, "empty segment"),
        (r#"location REGEX "(""#, "bad_regex", 16, "no regular expression"),
        (r#"req_hash CONTAINS "x""#, "operator_not_applicable", 10, "can only be equal"),
        (r#"direction IS "UP""#, "bad_filter_value", 14, "no direction"),
        (r#"timerange "a""#, "bad_query", 14, "a value is missing"),
        (r#"timerange "" """#, "bad_filter_value", 11, "neither"),
        (r#"sample IS "a""#, "bad_filter_value", 11, "no sample"),
        (r#"sample[x] IS "1/5""#, "bad_query", 7, "of sessions or of pairs"),
    ] {
        let (filters, found) = parse(query);
        assert!(filters.is_none(), "{query}");
        let [found] = found.as_slice() else { panic!("{query}: {found:?}") };
        assert_eq!(found.code, code, "{query}: {found}");
        let place = format!("at character {at}: ");
        assert!(found.message.starts_with(&place), "{query}: {found}");
        assert!(found.message.contains(message), "{query}: {found}");
    }
    let (_, found) = parse(r#"(direction IS "UP" AND uuid IS "x") OR (tehc IS "y")"#);
    let codes: Vec<_> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["bad_filter_value", "bad_filter_value", "unknown_filter"]);
    assert_eq!(found[2].hint, "did you mean `tech`?");
    assert_eq!(parse("command IS GET").1[0].hint, "put the value in double quotes");
}

#[test]
fn deep_groups_are_refused() {
    let deep = |depth: usize| {
        parse(&format!("{}{}{}", "(".repeat(depth), r#"status IS "1""#, ")".repeat(depth)))
    };
    assert!(deep(64).0.is_some());
    assert!(deep(65).1[0].message.contains("too deeply"));
}

fn criterion() -> impl Strategy<Value = Criterion> {
    let operator = prop_oneof![Just(Operator::Equal), Just(Operator::Contains)];
    let plains = prop_oneof![
        Just(Plain::Host),
        Just(Plain::Tech),
        Just(Plain::Protocol),
        Just(Plain::NetworkAddress),
        Just(Plain::Service),
        Just(Plain::Cluster),
        Just(Plain::Namespace),
        Just(Plain::Url),
        Just(Plain::Command),
        Just(Plain::Location),
        Just(Plain::Status),
        Just(Plain::SnapshotId),
        Just(Plain::Session),
        Just(Plain::Source),
    ];
    let plain = (plains, operator.clone(), ".{0,12}")
        .prop_map(|(of, operator, value)| Criterion::plain(of, operator, &value));
    let pattern = prop_oneof![Just(r#"^/v\d+["\\]"#), Just("a|b"), Just(r"\\$"), Just("")];
    let regex =
        pattern.prop_map(|pattern| Criterion::plain(Plain::Location, Operator::Matches, pattern));
    let special = prop_oneof![
        Just(Criterion::plain(Plain::Direction, Operator::Equal, "OUT")),
        Just(Criterion::plain(
            Plain::Uuid,
            Operator::Equal,
            "abababab-abab-abab-abab-abababababab"
        )),
        Just(Criterion::plain(Plain::BodyHash, Operator::Equal, &"0a".repeat(32))),
    ];
    let named = (
        prop_oneof![Just(Place::Tag), Just(Place::Header)],
        ".{1,8}",
        operator,
        proptest::option::of(".{0,8}"),
    )
        .prop_map(|(place, key, operator, value)| {
            Criterion::keyed(place, &key, operator, value.as_deref())
        });
    let path = prop_oneof![
        Just((Place::Json, r"a\.b.0.c")),
        Just((Place::Xml, "a.b.-c")),
        Just((Place::XPath, "//a[b=']']/@c")),
        Just((Place::SoapXPath, "Login[user='a']")),
    ]
    .prop_map(|(place, key)| Criterion::keyed(place, key, Operator::Equal, Some("v")));
    let sample = (1_u32..9, 10_u32..99, any::<bool>())
        .prop_map(|(keep, out_of, each)| Ok(Criterion::Sample(Sample { keep, out_of, each })));
    let time = prop_oneof![
        Just(TimeRange::new("2024-05-01T00:00:00Z", "")),
        Just(TimeRange::new("", "2024-05-01T00:00:00.5Z")),
        Just(TimeRange::new("2024-05-01T00:00:00Z", "2024-05-02T00:00:00+02:00")),
    ]
    .prop_map(|range| range.map(Criterion::Time));
    prop_oneof![plain, regex, special, named, path, sample, time]
        .prop_filter_map("a sound criterion", Result::ok)
}

fn tree() -> impl Strategy<Value = Filters> {
    let leaf = (any::<bool>(), criterion())
        .prop_map(|(include, criterion)| Filters::one(include, criterion));
    leaf.prop_recursive(4, 32, 4, |inner| {
        let parts = proptest::collection::vec(inner, 0..4);
        (any::<bool>(), parts)
            .prop_map(|(any, parts)| if any { Filters::any(parts) } else { Filters::all(parts) })
    })
}

proptest! {
    #[test]
    fn a_tree_prints_as_a_query_that_reads_as_the_tree(tree in tree()) {
        let text = tree.to_string();
        let (again, found) = parse(&text);
        prop_assert!(found.iter().all(|found| found.code == "filter_not_decidable"), "{text}: {found:?}");
        let again = again.unwrap();
        prop_assert_eq!(format!("{:?}", &again), format!("{:?}", &tree), "{}", &text);
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", near in r#"(command|header|\[|\]|\(|\)| |IS|NOT|CONTAINS|AND|OR|"x"|\\|'|\|){0,16}"#) {
        for text in [text, near] {
            drop(parse(&text));
            if let Some(filter) = PairFilter::parse(&text).0 {
                drop(filter.to_string());
                let _ = filter.selects(&json());
            }
        }
    }

    #[test]
    fn excluding_is_the_opposite_of_including(criterion in criterion()) {
        let undecided = matches!(criterion, Criterion::Plain(Plain::SnapshotId, _));
        let [with, without] = [true, false].map(|include| Filters::one(include, criterion.clone()));
        for pair in [json(), xml(), soap(), RrPair::default()] {
            let pair = RrPair { session: String::new(), ..pair };
            prop_assert!(undecided || selects(&with, &pair) != selects(&without, &pair));
        }
    }
}
