//! Stubs between the domain's types and the wire's. What is decoded keeps within the limits of [`Stub`].

use countersign_proto::snapshot::v1::{self as proto, StubPart, stub_test::Kind};

use super::WireError;
use crate::snapshot::stub::{Condition, DateOrder, Part, Scenario, Stub, Test};

/// Encodes a stub.
pub(super) fn encode(stub: Stub) -> proto::Stub {
    proto::Stub {
        conditions: stub.conditions.into_iter().map(encode_condition).collect(),
        priority: stub.priority,
        scenarios: stub
            .scenarios
            .into_iter()
            .map(|scenario| proto::StubScenario {
                name: scenario.name,
                required: scenario.required,
                next: scenario.next,
            })
            .collect(),
    }
}

/// Decodes a stub.
pub(super) fn decode(stub: proto::Stub) -> Result<Stub, WireError> {
    let conditions =
        stub.conditions.into_iter().map(decode_condition).collect::<Result<Vec<_>, _>>()?;
    let scenarios = stub
        .scenarios
        .into_iter()
        .map(|scenario| Scenario {
            name: scenario.name,
            required: scenario.required,
            next: scenario.next,
        })
        .collect();
    let stub = Stub { conditions, priority: stub.priority, scenarios };
    if stub.is_within_limits() { Ok(stub) } else { Err(WireError::Range { what: "stub" }) }
}

fn encode_condition(condition: Condition) -> proto::StubCondition {
    let (part, name) = match condition.part {
        Part::Method => (StubPart::Method, String::new()),
        Part::Url => (StubPart::Url, String::new()),
        Part::Path => (StubPart::Path, String::new()),
        Part::PathVariable(name) => (StubPart::PathVariable, name),
        Part::Host => (StubPart::Host, String::new()),
        Part::Port => (StubPart::Port, String::new()),
        Part::Query(name) => (StubPart::Query, name),
        Part::Header(name) => (StubPart::Header, name),
        Part::Cookie(name) => (StubPart::Cookie, name),
        Part::Form(name) => (StubPart::Form, name),
        Part::Body => (StubPart::Body, String::new()),
        Part::BasicAuth => (StubPart::BasicAuth, String::new()),
    };
    proto::StubCondition { part: part.into(), name, test: Some(encode_test(condition.test)) }
}

fn decode_condition(condition: proto::StubCondition) -> Result<Condition, WireError> {
    let part = match condition.part() {
        StubPart::Unspecified => return Err(WireError::Range { what: "stub.condition.part" }),
        StubPart::Method => Part::Method,
        StubPart::Url => Part::Url,
        StubPart::Path => Part::Path,
        StubPart::PathVariable => Part::PathVariable(condition.name),
        StubPart::Host => Part::Host,
        StubPart::Port => Part::Port,
        StubPart::Query => Part::Query(condition.name),
        StubPart::Header => Part::Header(condition.name),
        StubPart::Cookie => Part::Cookie(condition.name),
        StubPart::Form => Part::Form(condition.name),
        StubPart::Body => Part::Body,
        StubPart::BasicAuth => Part::BasicAuth,
    };
    Ok(Condition { part, test: decode_test(condition.test.unwrap_or_default())? })
}

fn encode_test(test: Test) -> proto::StubTest {
    let tests =
        |tests: Vec<Test>| proto::StubTests { tests: tests.into_iter().map(encode_test).collect() };
    let kind = match test {
        Test::Equals { value, ignore_case } => {
            Kind::Equals(proto::StubEquals { value, ignore_case })
        }
        Test::EqualsBytes(bytes) => Kind::EqualsBytes(bytes),
        Test::Contains(text) => Kind::Contains(text),
        Test::Matches(pattern) => Kind::Matches(pattern),
        Test::Template(template) => Kind::Template(template),
        Test::Absent => Kind::Absent(proto::StubAbsent {}),
        Test::EqualsJson { expected, ignore_array_order, ignore_extra } => {
            Kind::EqualsJson(proto::StubEqualsJson { expected, ignore_array_order, ignore_extra })
        }
        Test::MatchesJsonPath { expression, found } => {
            let found = found.map(|found| Box::new(encode_test(*found)));
            Kind::MatchesJsonPath(Box::new(proto::StubMatchesJsonPath { expression, found }))
        }
        Test::Date { order, at } => {
            let order = match order {
                DateOrder::Before => proto::StubDateOrder::Before,
                DateOrder::After => proto::StubDateOrder::After,
                DateOrder::Same => proto::StubDateOrder::Same,
            };
            Kind::Date(proto::StubDate { order: order.into(), at })
        }
        Test::All(all) => Kind::All(tests(all)),
        Test::Any(any) => Kind::Any(tests(any)),
        Test::Not(test) => Kind::Not(Box::new(encode_test(*test))),
        Test::Exactly(exactly) => Kind::Exactly(tests(exactly)),
    };
    proto::StubTest { kind: Some(kind) }
}

/// The protobuf decoder limits how deep messages are nested, so recursion is bounded before the domain's own limit is checked.
fn decode_test(test: proto::StubTest) -> Result<Test, WireError> {
    let tests =
        |list: proto::StubTests| list.tests.into_iter().map(decode_test).collect::<Result<_, _>>();
    Ok(match test.kind.ok_or(WireError::Range { what: "stub.test" })? {
        Kind::Equals(equals) => {
            Test::Equals { value: equals.value, ignore_case: equals.ignore_case }
        }
        Kind::EqualsBytes(bytes) => Test::EqualsBytes(bytes),
        Kind::Contains(text) => Test::Contains(text),
        Kind::Matches(pattern) => Test::Matches(pattern),
        Kind::Template(template) => Test::Template(template),
        Kind::Absent(proto::StubAbsent {}) => Test::Absent,
        Kind::EqualsJson(json) => Test::EqualsJson {
            expected: json.expected,
            ignore_array_order: json.ignore_array_order,
            ignore_extra: json.ignore_extra,
        },
        Kind::MatchesJsonPath(path) => Test::MatchesJsonPath {
            found: path.found.map(|found| decode_test(*found)).transpose()?.map(Box::new),
            expression: path.expression,
        },
        Kind::Date(date) => Test::Date {
            order: match date.order() {
                proto::StubDateOrder::Unspecified => {
                    return Err(WireError::Range { what: "stub.test.date.order" });
                }
                proto::StubDateOrder::Before => DateOrder::Before,
                proto::StubDateOrder::After => DateOrder::After,
                proto::StubDateOrder::Same => DateOrder::Same,
            },
            at: date.at,
        },
        Kind::All(all) => Test::All(tests(all)?),
        Kind::Any(any) => Test::Any(tests(any)?),
        Kind::Not(test) => Test::Not(Box::new(decode_test(*test)?)),
        Kind::Exactly(exactly) => Test::Exactly(tests(exactly)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn test() -> impl Strategy<Value = Test> {
        let order =
            prop::sample::select(vec![DateOrder::Before, DateOrder::After, DateOrder::Same]);
        let leaf = prop_oneof![
            (".{0,5}", any::<bool>())
                .prop_map(|(value, ignore_case)| Test::Equals { value, ignore_case }),
            prop::collection::vec(any::<u8>(), 0..5).prop_map(|b| Test::EqualsBytes(b.into())),
            ".{0,5}".prop_map(Test::Contains),
            ".{0,5}".prop_map(Test::Matches),
            ".{0,5}".prop_map(Test::Template),
            Just(Test::Absent),
            (".{0,5}", any::<bool>(), any::<bool>()).prop_map(
                |(expected, ignore_array_order, ignore_extra)| Test::EqualsJson {
                    expected,
                    ignore_array_order,
                    ignore_extra
                }
            ),
            ".{0,5}".prop_map(|expression| Test::MatchesJsonPath { expression, found: None }),
            (order, ".{0,5}").prop_map(|(order, at)| Test::Date { order, at }),
        ];
        leaf.prop_recursive(4, 20, 3, |inner| {
            let several = prop::collection::vec(inner.clone(), 0..3);
            prop_oneof![
                several.clone().prop_map(Test::All),
                several.clone().prop_map(Test::Any),
                several.prop_map(Test::Exactly),
                inner.clone().prop_map(|test| Test::Not(Box::new(test))),
                (".{0,5}", inner).prop_map(|(expression, found)| Test::MatchesJsonPath {
                    expression,
                    found: Some(Box::new(found))
                }),
            ]
        })
    }

    fn part() -> impl Strategy<Value = Part> {
        (0..12_u8, ".{0,5}").prop_map(|(kind, name)| match kind {
            0 => Part::Method,
            1 => Part::Url,
            2 => Part::Path,
            3 => Part::PathVariable(name),
            4 => Part::Host,
            5 => Part::Port,
            6 => Part::Query(name),
            7 => Part::Header(name),
            8 => Part::Cookie(name),
            9 => Part::Form(name),
            10 => Part::Body,
            _ => Part::BasicAuth,
        })
    }

    prop_compose! {
        fn scenario()(name in ".{0,5}", required in prop::option::of(".{0,5}"), next in prop::option::of(".{0,5}")) -> Scenario {
            Scenario { name, required, next }
        }
    }

    proptest! {
        #[test]
        fn stubs_come_back(
            conditions in prop::collection::vec((part(), test()), 0..4),
            priority: i32,
            scenarios in prop::collection::vec(scenario(), 0..3),
        ) {
            let conditions = conditions.into_iter().map(|(part, test)| Condition { part, test }).collect();
            let stub = Stub { conditions, priority, scenarios };
            let bytes = encode(stub.clone()).encode_to_vec();
            prop_assert_eq!(decode(proto::Stub::decode(&*bytes).unwrap()).unwrap(), stub);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Ok(stub) = proto::Stub::decode(&*bytes) {
                drop(decode(stub));
            }
        }
    }

    #[test]
    fn what_is_outside_the_domain_is_refused() {
        let condition = |part: StubPart, kind: Option<Kind>| proto::Stub {
            conditions: vec![proto::StubCondition {
                part: part.into(),
                test: Some(proto::StubTest { kind }),
                ..proto::StubCondition::default()
            }],
            ..proto::Stub::default()
        };
        let absent = || Kind::Absent(proto::StubAbsent {});
        let deep = (0..Stub::MAX_DEPTH)
            .fold(absent(), |kind, _| Kind::Not(Box::new(proto::StubTest { kind: Some(kind) })));
        for (stub, what) in [
            (condition(StubPart::Unspecified, Some(absent())), "stub.condition.part"),
            (condition(StubPart::Body, None), "stub.test"),
            (
                condition(StubPart::Body, Some(Kind::Date(proto::StubDate::default()))),
                "stub.test.date.order",
            ),
            (condition(StubPart::Body, Some(deep)), "stub"),
        ] {
            let refused = decode(stub).unwrap_err();
            assert!(matches!(refused, WireError::Range { what: of } if of == what), "{refused}");
        }
    }
}
