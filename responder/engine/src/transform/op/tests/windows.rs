//! Steps that take a part out and put it back: what nobody changes stays, byte for byte.

use proptest::prelude::*;

use super::*;

/// Random configs of every step that takes a part out and puts it back.
fn window() -> impl Strategy<Value = String> {
    let path = "[a-c](\\.[a-c0]){0,2}|#|#\\.a|a\\.#\\(b==1\\)|\\$\\.[a-c]|\\$\\.\\.[a-c]|[a-c]\\*";
    prop_oneof![
        path.prop_map(|path| step("json_path", &format!(r#""path":"{path}""#))),
        ("[a-c]", any::<bool>(), 0..3_usize).prop_map(|(name, anywhere, up)| step(
            "json_selector",
            &format!(r#""match":"{name}","recursive":"{anywhere}","levelsUp":"{up}""#)
        )),
        "//[a-c]|/a/b|//@a|//text\\(\\)"
            .prop_map(|path| step("xml_path", &format!(r#""path":"{path}""#))),
        ("[a-c.]{1,3}", 0..2_usize).prop_map(|(pattern, group)| step(
            "regex",
            &format!(r#""pattern":"{pattern}","captureGroup":"{group}""#)
        )),
        ("[a-c,.]", 0..3_usize).prop_map(|(separator, index)| step(
            "split",
            &format!(r#""separator":"{separator}","index":"{index}""#)
        )),
        any::<bool>().prop_map(|pad| step("base64", &format!(r#""pad":"{pad}""#))),
        Just(step("gzip", "")),
        "[a-c]".prop_map(|claim| step("jwt_claim", &format!(r#""claim":"{claim}""#))),
        "[1-3]".prop_map(|field| step("grpc_field", &format!(r#""field":"{field}""#))),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let json = r#"(\{"a":|\{ "b" : |\[|1\.50|"x\\u0041"|"[a-c,.=]{0,6}"|null|\}|\]|,| ){1,12}"#;
    let sound = prop::sample::select(vec![
        r#" {"a":{"b":"x\u00e9\/","a":1.50e3},"b":[1,{"a":"YWJj"}],"a":"twice","1:LEN":"f"} "#
            .to_owned(),
        r#"[{"a":"e30"},{"a":"1,2,3"}]"#.to_owned(),
        "<a><b a='x&#65;'>t &amp; u</b><c/></a>".to_owned(),
        format!("Bearer {}", token(r#"{"a":1.0, "b":"c,\u0064"}"#)),
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        json.prop_map(String::into_bytes),
        sound.clone().prop_map(String::into_bytes),
        sound.prop_map(|text| body::fold(text.as_bytes()).unwrap()),
    ]
}

proptest! {
    #[test]
    fn forward_and_back_changes_nothing(windows in prop::collection::vec(window(), 1..4), value in value()) {
        let Chain { ops, .. } = chain(BODY, &windows.join(","));
        if let Ok(out) = apply(&ops, &value, &mut Marks::default()) {
            prop_assert_eq!(out, value, "{}", windows.join(","));
        }
    }

    #[test]
    fn bytes_outside_the_window_stay(name in "[a-c]", new in "[a-z\"\\\\é]{0,6}", space in " {0,3}") {
        let (head, tail) = (format!("{{{space}\"{name}\"{space}:"), format!("{space},\"n\":1.50,\"n\":[ ],\"u\":\"\\u0041\\/\"}}"));
        let doc = format!("{head}\"old\"{tail}");
        let new_text = serde_json::to_string(&new).unwrap();
        let steps = [step("json_path", &format!(r#""path":"{name}""#)), step("constant", &format!(r#""new":{new_text}"#))];
        let out = made(&steps, &doc).unwrap();
        prop_assert_eq!(out, format!("{head}{new_text}{tail}"));
    }
}
