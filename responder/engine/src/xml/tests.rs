//! Paths, documents, and what is refused of both.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const DOC: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- orders -->
<shop xmlns="urn:shop" xmlns:p="urn:p" name='A &amp; B'>
  <order id="1"><item sku="x"> tea </item><item sku="y">milk &lt;2&#37;&gt;</item><total>10.50</total></order>
  <order id="2" p:kind="gift"><item sku="z"><![CDATA[<b>]]> &amp; more<!-- split -->after</item><p:note/><total>7</total></order>
  <empty></empty>
</shop>
"#;

fn find(doc: &str, path: &str) -> Option<(String, String)> {
    let found = XPath::parse(path).unwrap().locate(doc.as_bytes()).unwrap()?;
    Some((doc.get(found.span).unwrap().to_owned(), found.text))
}

fn text(path: &str) -> Option<String> {
    find(DOC, path).map(|found| found.1)
}

#[test]
fn paths_lead_to_the_first_node() {
    for (path, expected) in [
        ("/shop/order/item", " tea "),
        ("shop/order/item", " tea "),
        ("//item", " tea "),
        ("/shop//total", "10.50"),
        ("/shop/order[2]/item/@sku", "z"),
        ("//order[2]/item", "<b> & moreafter"),
        ("//order[2]/item/text()", "<b> & more"),
        ("//order[2]/item/text()[2]", "after"),
        ("//order[last()]/total", "7"),
        ("//order[position()=1]/@id", "1"),
        ("//item[2]", "milk <2%>"),
        ("//item[@sku='y']", "milk <2%>"),
        ("//item[@sku = \"z\"]/@sku", "z"),
        ("//item[@sku!='x']", "milk <2%>"),
        ("//order[total='7']/@id", "2"),
        ("//order[total=10.5]/@id", "1"),
        ("//order[item/@sku='y']/@id", "1"),
        ("//order[@p:kind]/@id", "2"),
        ("//order[not(@p:kind)]/@id", "1"),
        ("//item[contains(., 'milk')]/@sku", "y"),
        ("//item[starts-with(@sku, 'z') or text()='no']/@sku", "z"),
        ("//order[@id='2' and total='7']/total", "7"),
        ("//order[(@id='9' or @id='2') and total]/total", "7"),
        ("//item[normalize-space()='tea']/@sku", "x"),
        ("//*[local-name()='note']/../@id", "2"),
        ("//*[name()='p:note']/../@id", "2"),
        ("//p:*/../@id", "2"),
        ("//@*", "A & B"),
        ("/*/@name", "A & B"),
        ("/child::shop/descendant::item[3]/attribute::sku", "z"),
        ("//total/self::total", "10.50"),
        ("//item/parent::order/total", "10.50"),
        ("/shop/order/item[. = ' tea ']/@sku", "x"),
        ("//item[@sku='x' or @sku='y'][2]", "milk <2%>"),
        ("/shop/empty", ""),
    ] {
        assert_eq!(text(path).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn paths_that_lead_nowhere_find_nothing() {
    for path in [
        "/order",
        "//Item",
        "//note",
        "//q:note",
        "//item[4]",
        "//item[0]",
        "//item/@id",
        "//total/..//nothing",
        "/..",
        "//order['']",
        "//@sku/item",
    ] {
        assert_eq!(text(path), None, "{path}");
    }
}

#[test]
fn spans_are_the_bytes_in_the_document() {
    let span = |path: &str| find(DOC, path).unwrap().0;
    assert_eq!(span("/shop/@name"), "A &amp; B");
    assert_eq!(span("//item"), r#"<item sku="x"> tea </item>"#);
    assert_eq!(span("//item/text()"), " tea ");
    assert_eq!(span("//order[2]/item/text()"), "<![CDATA[<b>]]> &amp; more");
    assert_eq!(span("//p:note"), "<p:note/>");
    let content = |path: &str| match XPath::parse(path).unwrap().locate(DOC.as_bytes()).unwrap() {
        Some(Located { kind: Kind::Element { content }, .. }) => {
            content.map(|span| DOC.get(span).unwrap())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(content("//item[2]"), Some("milk &lt;2&#37;&gt;"));
    assert_eq!(content("/shop/empty"), Some(""));
    assert_eq!(content("//p:note"), None);
    let marked = format!("\u{feff}{DOC}");
    assert_eq!(find(&marked, "//total").unwrap().0, "<total>10.50</total>");
}

#[test]
fn soap_paths_are_blind_to_prefixes_and_start_at_the_body() {
    let doc = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header/><s:Body><m:Login><m:user k="v">ann</m:user></m:Login></s:Body></s:Envelope>"#;
    let soap = |path: &str| {
        XPath::parse(path).unwrap().locate_soap(doc.as_bytes()).unwrap().map(|found| found.text)
    };
    for path in [
        "Login/user",
        "//user",
        "m:Login/m:user",
        "/Envelope/Body/Login/user",
        "/s:Envelope/s:Body//m:user",
        "Envelope/Body/*/user",
    ] {
        assert_eq!(soap(path).as_deref(), Some("ann"), "{path}");
    }
    assert_eq!(soap("Login/user/@k").as_deref(), Some("v"));
    assert_eq!(soap("/Login/user"), None);
    assert_eq!(soap("x:Login/user"), None);
    assert_eq!(find(doc, "//user"), None);
    let plain = XPath::parse("a/b").unwrap().locate_soap(b"<a><b>1</b></a>").unwrap();
    assert_eq!(plain.unwrap().text, "1");
}

#[test]
fn what_is_not_supported_is_refused_where_it_stands() {
    for (path, at, why) in [
        ("", 0, "a name is missing here"),
        ("/", 1, "the document itself"),
        ("a/", 2, "a name is missing"),
        ("a//", 3, "a name is missing"),
        ("a[", 2, "a name is missing"),
        ("a[1", 3, "`]` is missing"),
        ("a['x]", 2, "no end"),
        ("a|b", 1, "unions"),
        ("a b", 2, "should end here"),
        ("count(//a)", 0, "only text() and node()"),
        ("a[count(b)=1]", 2, "supported are last()"),
        ("a[contains(b)]", 2, "supported are last()"),
        ("a[@x>1]", 4, "only =, !="),
        ("a[$v]", 2, "variables"),
        ("following-sibling::a", 0, "of the axes"),
        ("a:", 2, "after the prefix"),
        ("a/text(", 7, "`)` is missing"),
        ("a[1.2.3]", 2, "no number"),
        ("a#b", 1, "no meaning"),
    ] {
        let bad = XPath::parse(path).unwrap_err();
        assert!(bad.why.contains(why) && bad.at == at, "{path}: {bad}");
    }
    assert!(XPath::parse(&"a[".repeat(50)).unwrap_err().why.contains("nested"));
    assert!(XPath::parse(&format!("a[{}", "(".repeat(50))).unwrap_err().why.contains("nested"));
    assert!(XPath::parse(&format!("a[{}", "not(".repeat(50))).unwrap_err().why.contains("nested"));
    assert!(XPath::parse(&"a/".repeat(5000)).unwrap_err().why.contains("longer"));
}

#[test]
fn documents_that_are_no_xml_are_refused() {
    let read = |doc: &[u8]| XPath::parse("//a").unwrap().locate(doc).unwrap_err();
    for doc in [
        "",
        " ",
        "text",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/>text",
        "<a b></a>",
        "<a b=c/>",
        "<a b='<'/>",
        "<a>&unknown;</a>",
        "<a>&#xFFFFFFFF;</a>",
        "<a b='&x;'/>",
        "<a b='1/>",
        "{}",
        "<a><!--</a>",
        "< a/>",
    ] {
        assert!(matches!(read(doc.as_bytes()), NotXml::Malformed(_)), "{doc}");
    }
    assert!(matches!(read(b"<a>\xff</a>"), NotXml::Malformed(3)));
}

#[test]
fn bombs_are_bounded() {
    let read = |path: &str, doc: &str| XPath::parse(path).unwrap().locate(doc.as_bytes());
    let laughs = r#"<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>"#;
    assert_eq!(read("//a", laughs), Err(NotXml::Doctype));
    let external = r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>"#;
    assert_eq!(read("//a", external), Err(NotXml::Doctype));
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert!(matches!(read("//a", &deep), Err(NotXml::TooLarge(_))));
    let wide = format!("<a {}/>", "b='' ".repeat(600_000));
    assert!(matches!(read("//a", &wide), Err(NotXml::TooLarge(_))));
    let large = format!("<a>{}</a>", " ".repeat(MAX_SIZE));
    assert!(matches!(read("//a", &large), Err(NotXml::TooLarge(_))));
    let nested = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
    assert!(read("//a//a//a", &nested).unwrap().is_some());
    let many = format!("<a>{}</a>", "<b>1</b>".repeat(20_000));
    assert_eq!(read("//b[../b[../b='2']]", &many), Err(NotXml::TooMuchWork));
}

#[test]
#[expect(clippy::print_stderr, reason = "says that nothing was tested")]
fn finds_values_in_a_recorded_request() {
    let given = std::env::var_os("COUNTERSIGN_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let Some(data) = given.into_iter().chain([beside]).find(|dir| dir.is_dir()) else {
        eprintln!(
            "NOTICE: not run, there is no recorded data: set COUNTERSIGN_SHARED_DATA to its folder"
        );
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(data.join("xml")).unwrap() {
        let folder = entry.unwrap().path().join("localhost");
        for file in std::fs::read_dir(folder).unwrap() {
            let markdown = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let (_, from) = markdown.split_once("<?xml").unwrap();
            let request = format!("<?xml{}", from.split_once("```").unwrap().0);
            let find = |path: &str| find(&request, path).map(|found| found.1);
            assert_eq!(find("/query/id").as_deref(), Some("12345"));
            assert_eq!(find("//filter[../type='user_data']").as_deref(), Some("active_users"));
            assert_eq!(find("/query/none"), None);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

proptest! {
    #[test]
    fn nothing_panics(path in ".{0,30}", doc in ".{0,60}") {
        if let Ok(path) = XPath::parse(&path) {
            drop(path.locate(doc.as_bytes()));
            drop(path.locate_soap(doc.as_bytes()));
        }
    }

    #[test]
    fn nothing_panics_near_the_grammar(
        path in r"[ab/@\[\]()'=.:* 1]{0,24}",
        doc in r#"(<[ab]( a="(&amp;|x)")?/?>|</[ab]>|x|&lt;|<!\[CDATA\[x\]\]>|<!--x-->){0,24}"#,
    ) {
        for path in [XPath::parse(&path), XPath::parse("//node()"), XPath::parse("//@a")] {
            if let Ok(path) = path
                && let Ok(Some(found)) = path.locate(doc.as_bytes())
            {
                prop_assert!(doc.get(found.span).is_some());
            }
        }
    }

    #[test]
    fn a_written_value_is_found_again(value in "[ -~é]{0,20}", name in "[a-z]{1,5}") {
        let escaped = quick_xml::escape::escape(&value);
        let doc = format!("<{name} k=\"{escaped}\"><x/>{escaped}</{name}>");
        let (span, text) = find(&doc, &format!("/{name}/@k")).unwrap();
        prop_assert_eq!((span.as_str(), text.as_str()), (&*escaped, value.as_str()));
        prop_assert_eq!(find(&doc, &format!("/{name}")).unwrap(), (doc, value));
    }
}
