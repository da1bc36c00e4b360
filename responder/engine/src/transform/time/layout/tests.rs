//! Layouts against what Go prints for them.

use proptest::prelude::*;

use super::*;

/// 2021-05-09 07:08:09.012345678 UTC, a Sunday.
const SECOND: i64 = 1_620_544_089;

fn shown(layout: &str, offset: i32) -> String {
    let at = Timestamp::new(SECOND, 12_345_678).unwrap();
    let like = Moment { at, offset: Offset::from_seconds(offset).unwrap(), digits: 0 };
    Layout::parse(layout).unwrap().write(at, &like)
}

#[test]
fn writes_as_go_does() {
    for (layout, offset, text) in [
        ("2006-01-02T15:04:05Z07:00", 0, "2021-05-09T07:08:09Z"),
        ("2006-01-02T15:04:05Z07:00", 5400, "2021-05-09T08:38:09+01:30"),
        ("2006-01-02T15:04:05.000-0700", -3600, "2021-05-09T06:08:09.012-0100"),
        ("Mon, 2 Jan 2006 3:04PM", 0, "Sun, 9 May 2021 7:08AM"),
        ("Monday, January _2 06 03:4:5 pm", 43200, "Sunday, May  9 21 07:8:9 pm"),
        ("2006 002", 0, "2021 129"),
        ("1/2/06 at 15h", 0, "5/9/21 at 07h"),
        ("15:04:05,000000 -07", 0, "07:08:09,012345 +00"),
    ] {
        assert_eq!(shown(layout, offset), text, "{layout}");
    }
}

#[test]
fn reads_what_go_reads() {
    let read = |layout: &str, text: &str| {
        Layout::parse(layout).unwrap().read(text).map(|moment| moment.at.to_string())
    };
    for (layout, text, at) in [
        ("2006-01-02", "2021-04-19", "2021-04-19T00:00:00Z"),
        ("2006-01-02 15:04:05", "2021-04-19 01:02:03.5", "2021-04-19T01:02:03.5Z"),
        ("2006-01-02 3:04 PM", "2021-04-19 12:30 AM", "2021-04-19T00:30:00Z"),
        ("2006-01-02 3:04 PM", "2021-04-19 1:30 PM", "2021-04-19T13:30:00Z"),
        ("02 Jan 06 15:04 -0700", "19 apr 21 10:00 +0200", "2021-04-19T08:00:00Z"),
        ("2006-002", "2024-366", "2024-12-31T00:00:00Z"),
        ("Monday _2 January 2006", "Monday  5 April 2021", "2021-04-05T00:00:00Z"),
        ("2006-01-02T15:04:05.999Z07:00", "2021-04-19T00:00:00.12Z", "2021-04-19T00:00:00.12Z"),
    ] {
        assert_eq!(read(layout, text).as_deref(), Some(at), "{layout} {text}");
    }
    for (layout, text) in [
        ("2006-01-02", "2021-4-19"),
        ("2006-01-02", "2021-04-19x"),
        ("2006-01-02", "2021-02-29"),
        ("2006-002", "2023-366"),
        ("15:04", "10:30"),
        ("2006 3 PM", "2021 13 PM"),
        ("2006 MST", "2021 CEST"),
        ("2006-01-02T15:04:05.000", "2021-04-19T00:00:00.12"),
    ] {
        assert_eq!(read(layout, text), None, "{layout} {text}");
    }
}

#[test]
fn a_text_without_words_is_no_layout() {
    for text in ["", "auto?", "YYYY-MM-DD", "%Y"] {
        assert_eq!(Layout::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(second in -2_000_000_000_i64..4_000_000_000, offset in -50_000_i32..50_000, nanos in 0_i32..1_000_000_000) {
        let layout = Layout::parse("Mon Jan _2 2006 03:04:05.000000000 PM -07:00").unwrap();
        let at = Timestamp::new(second, 0).unwrap() + jiff::SignedDuration::from_nanos(nanos.into());
        let like = Moment { at, offset: Offset::from_seconds(offset / 60 * 60).unwrap(), digits: 0 };
        prop_assert_eq!(layout.read(&layout.write(at, &like)).map(|moment| moment.at), Some(at));
    }

    #[test]
    fn no_text_panics(layout in ".{0,30}", text in ".{0,30}") {
        if let Some(layout) = Layout::parse(&layout) {
            let _ = layout.read(&text);
        }
    }
}
