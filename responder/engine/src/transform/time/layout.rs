//! Layouts in Go's notation: how a date is written is shown by writing the reference time `Mon Jan 2 15:04:05 MST 2006`.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

/// How a date is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pieces: Vec<Piece>,
}

/// A point in time and how exactly it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    offset: Offset,
    /// How many digits of a second were written.
    digits: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Year,
    ShortYear,
    /// Month, day, hour, minute or second as a number with this padding.
    Number(Field, Pad),
    Month {
        long: bool,
    },
    Weekday {
        long: bool,
    },
    DayOfYear,
    Noon {
        upper: bool,
    },
    /// `.000` or `,000`: that many digits.
    Fraction {
        separator: char,
        digits: usize,
    },
    /// `.999`: as many digits as there are.
    Digits {
        separator: char,
    },
    /// `MST`, read as UTC and GMT only.
    ZoneName,
    Zone {
        colon: bool,
        zulu: bool,
        short: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Month,
    Day,
    Hour,
    Hour12,
    Minute,
    Second,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pad {
    None,
    Zero,
    Space,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The words of a layout; one that begins like another stands before it.
const WORDS: [(&str, Piece); 33] = [
    ("January", Piece::Month { long: true }),
    ("Jan", Piece::Month { long: false }),
    ("Monday", Piece::Weekday { long: true }),
    ("Mon", Piece::Weekday { long: false }),
    ("MST", Piece::ZoneName),
    ("2006", Piece::Year),
    ("002", Piece::DayOfYear),
    ("01", Piece::Number(Field::Month, Pad::Zero)),
    ("02", Piece::Number(Field::Day, Pad::Zero)),
    ("03", Piece::Number(Field::Hour12, Pad::Zero)),
    ("04", Piece::Number(Field::Minute, Pad::Zero)),
    ("05", Piece::Number(Field::Second, Pad::Zero)),
    ("06", Piece::ShortYear),
    ("15", Piece::Number(Field::Hour, Pad::Zero)),
    ("_2006", Piece::Year),
    ("_2", Piece::Number(Field::Day, Pad::Space)),
    ("1", Piece::Number(Field::Month, Pad::None)),
    ("2", Piece::Number(Field::Day, Pad::None)),
    ("3", Piece::Number(Field::Hour12, Pad::None)),
    ("4", Piece::Number(Field::Minute, Pad::None)),
    ("5", Piece::Number(Field::Second, Pad::None)),
    ("PM", Piece::Noon { upper: true }),
    ("pm", Piece::Noon { upper: false }),
    ("-07:00:00", Piece::Zone { colon: true, zulu: false, short: false }),
    ("-070000", Piece::Zone { colon: false, zulu: false, short: false }),
    ("-07:00", Piece::Zone { colon: true, zulu: false, short: false }),
    ("-0700", Piece::Zone { colon: false, zulu: false, short: false }),
    ("-07", Piece::Zone { colon: false, zulu: false, short: true }),
    ("Z07:00:00", Piece::Zone { colon: true, zulu: true, short: false }),
    ("Z070000", Piece::Zone { colon: false, zulu: true, short: false }),
    ("Z07:00", Piece::Zone { colon: true, zulu: true, short: false }),
    ("Z0700", Piece::Zone { colon: false, zulu: true, short: false }),
    ("Z07", Piece::Zone { colon: false, zulu: true, short: true }),
];

impl Layout {
    /// Reads a layout. A text without any word of the reference time is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after_seconds =
                matches!(pieces.last(), Some(Piece::Number(Field::Second, _))) && ".,".contains(c);
            if after_seconds && let Some((piece, behind)) = fraction(rest, c) {
                pieces.push(piece);
                rest = behind;
                continue;
            }
            let word =
                WORDS.iter().find_map(|(word, piece)| Some((piece, rest.strip_prefix(word)?)));
            // `Jan` in `Janet` is no month, as in Go.
            let word = word.filter(|(piece, behind)| {
                !matches!(piece, Piece::Month { long: false } | Piece::Weekday { long: false })
                    || !behind.starts_with(|c: char| c.is_ascii_lowercase())
            });
            match (word, pieces.last_mut()) {
                (Some((piece, behind)), _) => {
                    pieces.push(piece.clone());
                    rest = behind;
                    continue;
                }
                (None, Some(Piece::Literal(text))) => text.push(c),
                (None, _) => pieces.push(Piece::Literal(c.to_string())),
            }
            rest = rest.get(c.len_utf8()..)?;
        }
        let has_word = pieces.iter().any(|piece| !matches!(piece, Piece::Literal(_)));
        has_word.then_some(Self { pieces })
    }

    /// Reads a date that is written this way; `None` when it is not.
    pub(crate) fn read(&self, text: &str) -> Option<Moment> {
        let mut seen = Seen::default();
        let mut rest = text;
        for (nth, piece) in self.pieces.iter().enumerate() {
            rest = seen.take(piece, rest)?;
            // Go reads digits behind the seconds even where the layout has none.
            let own_fraction = matches!(
                self.pieces.get(nth + 1),
                Some(Piece::Fraction { .. } | Piece::Digits { .. })
            );
            if matches!(piece, Piece::Number(Field::Second, _)) && !own_fraction {
                rest = seen.take(&Piece::Digits { separator: '.' }, rest)?;
            }
        }
        if rest.is_empty() { seen.moment() } else { None }
    }

    /// Writes a point in time this way, in the offset and as exactly as `like` was written.
    pub(crate) fn write(&self, at: Timestamp, like: &Moment) -> String {
        let zoned = at.to_zoned(TimeZone::fixed(like.offset));
        let (time, offset) = (zoned.datetime(), like.offset);
        let mut out = String::new();
        for (nth, piece) in self.pieces.iter().enumerate() {
            write_piece(piece, time, offset, like.digits, &mut out);
            let own_fraction = matches!(
                self.pieces.get(nth + 1),
                Some(Piece::Fraction { .. } | Piece::Digits { .. })
            );
            if matches!(piece, Piece::Number(Field::Second, _)) && !own_fraction && like.digits > 0
            {
                out.push('.');
                out.push_str(&fraction_digits(time, like.digits));
            }
        }
        out
    }
}

impl Moment {
    /// A point in time in UTC, to the second.
    pub(crate) fn new(at: Timestamp) -> Self {
        Self { at, offset: Offset::UTC, digits: 0 }
    }
}

/// `.000` or `.999` at the beginning of a text.
fn fraction(text: &str, separator: char) -> Option<(Piece, &str)> {
    let tail = text.strip_prefix(separator)?;
    let digit = tail.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let behind = tail.trim_start_matches(digit);
    if behind.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = (tail.len() - behind.len()).min(9);
    let piece = match digit {
        '0' => Piece::Fraction { separator, digits },
        _ => Piece::Digits { separator },
    };
    Some((piece, behind))
}

/// What was read of a date.
#[derive(Debug, Default)]
struct Seen {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    day_of_year: Option<i16>,
    hour: i8,
    noon: Option<bool>,
    minute: i8,
    second: i8,
    nanos: i32,
    digits: usize,
    offset: Option<Offset>,
}

impl Seen {
    /// Reads a piece from the beginning of a text, and returns what is behind it.
    fn take<'t>(&mut self, piece: &Piece, text: &'t str) -> Option<&'t str> {
        match piece {
            Piece::Literal(literal) => text.strip_prefix(literal.as_str()),
            Piece::Year => {
                let (year, behind) = number(text, 4, 4)?;
                self.year = Some(i16::try_from(year).ok()?);
                Some(behind)
            }
            Piece::ShortYear => {
                let (year, behind) = number(text, 2, 2)?;
                let century = if year >= 69 { 1900 } else { 2000 };
                self.year = Some(i16::try_from(century + year).ok()?);
                Some(behind)
            }
            Piece::Number(field, pad) => self.field(*field, *pad, text),
            Piece::Month { long } => {
                let (month, behind) = name(&MONTHS, *long, text)?;
                self.month = i8::try_from(month + 1).ok();
                Some(behind)
            }
            Piece::Weekday { long } => name(&WEEKDAYS, *long, text).map(|found| found.1),
            Piece::DayOfYear => {
                let (day, behind) = number(text, 3, 3)?;
                self.day_of_year = i16::try_from(day).ok();
                Some(behind)
            }
            Piece::Noon { upper } => {
                let (am, pm) = if *upper { ("AM", "PM") } else { ("am", "pm") };
                self.noon = Some(text.starts_with(pm));
                text.strip_prefix(am).or_else(|| text.strip_prefix(pm))
            }
            Piece::Fraction { separator, digits } => {
                let tail = text.strip_prefix(*separator)?;
                let (written, behind) = digits_of(tail);
                (written.len() == *digits).then_some(())?;
                self.fraction(written)?;
                Some(behind)
            }
            Piece::Digits { separator } => match text.strip_prefix(*separator) {
                Some(tail) if tail.starts_with(|c: char| c.is_ascii_digit()) => {
                    let (written, behind) = digits_of(tail);
                    self.fraction(written)?;
                    Some(behind)
                }
                _ => Some(text),
            },
            Piece::ZoneName => {
                self.offset = Some(Offset::UTC);
                text.strip_prefix("UTC").or_else(|| text.strip_prefix("GMT"))
            }
            Piece::Zone { colon, zulu, short } => {
                if *zulu && let Some(behind) = text.strip_prefix('Z') {
                    self.offset = Some(Offset::UTC);
                    return Some(behind);
                }
                let (offset, behind) = zone(text, *colon, *short)?;
                self.offset = Some(offset);
                Some(behind)
            }
        }
    }

    fn field<'t>(&mut self, field: Field, pad: Pad, text: &'t str) -> Option<&'t str> {
        let text = if pad == Pad::Space { text.strip_prefix(' ').unwrap_or(text) } else { text };
        let least = if pad == Pad::Zero { 2 } else { 1 };
        let (value, behind) = number(text, least, 2)?;
        let value = i8::try_from(value).ok()?;
        match field {
            Field::Month => self.month = Some(value),
            Field::Day => self.day = Some(value),
            Field::Hour | Field::Hour12 => self.hour = value,
            Field::Minute => self.minute = value,
            Field::Second => self.second = value,
        }
        if field == Field::Hour12 && !(1..=12).contains(&value) { None } else { Some(behind) }
    }

    fn fraction(&mut self, written: &str) -> Option<()> {
        if written.is_empty() || written.len() > 9 {
            return None;
        }
        self.digits = written.len();
        self.nanos = format!("{written:0<9}").parse().ok()?;
        Some(())
    }

    fn moment(&self) -> Option<Moment> {
        let hour = match self.noon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let year = self.year?;
        let (month, day) = match self.day_of_year {
            Some(nth) => {
                let first = jiff::civil::Date::new(year, 1, 1).ok()?;
                let date = first.checked_add(jiff::Span::new().days(i64::from(nth) - 1)).ok()?;
                (date.year() == year).then_some((date.month(), date.day()))?
            }
            None => (self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        let (minute, second) = (self.minute, self.second);
        let time = DateTime::new(year, month, day, hour, minute, second, self.nanos).ok()?;
        let offset = self.offset.unwrap_or(Offset::UTC);
        Some(Moment { at: offset.to_timestamp(time).ok()?, offset, digits: self.digits })
    }
}

/// A number of so many digits, and what is behind it.
fn number(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let digits = digits_of(text).0.len().min(most);
    let (number, behind) = text.split_at_checked(digits)?;
    (digits >= least).then(|| number.parse().ok()).flatten().map(|number| (number, behind))
}

fn digits_of(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A name of a list, or its first three letters.
fn name<'t>(names: &[&str], long: bool, text: &'t str) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(nth, name)| {
        let name = if long { name } else { name.get(..3)? };
        let (written, behind) = text.split_at_checked(name.len())?;
        written.eq_ignore_ascii_case(name).then_some((nth, behind))
    })
}

/// `+01:00`, `+0100` or `+01`.
fn zone(text: &str, colon: bool, short: bool) -> Option<(Offset, &str)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, mut behind) = number(text, 2, 2)?;
    let mut minutes = 0;
    if !short {
        if colon {
            behind = behind.strip_prefix(':')?;
        }
        (minutes, behind) = number(behind, 2, 2)?;
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    Some((Offset::from_seconds(sign * seconds).ok()?, behind))
}

fn fraction_digits(time: DateTime, digits: usize) -> String {
    let all = format!("{:09}", time.subsec_nanosecond());
    all.get(..digits.min(9)).unwrap_or_default().to_owned()
}

fn write_piece(piece: &Piece, time: DateTime, offset: Offset, digits: usize, out: &mut String) {
    let of_list = |names: &[&'static str], nth: i8, long: bool| {
        let nth = usize::try_from(nth - 1).unwrap_or_default();
        let name = names.get(nth).copied().unwrap_or_default();
        if long { name } else { name.get(..3).unwrap_or_default() }
    };
    match piece {
        Piece::Literal(literal) => out.push_str(literal),
        Piece::Year => out.push_str(&format!("{:04}", time.year())),
        Piece::ShortYear => out.push_str(&format!("{:02}", time.year().rem_euclid(100))),
        Piece::Number(field, pad) => {
            let value = match field {
                Field::Month => time.month(),
                Field::Day => time.day(),
                Field::Hour => time.hour(),
                Field::Hour12 => (time.hour() + 11) % 12 + 1,
                Field::Minute => time.minute(),
                Field::Second => time.second(),
            };
            out.push_str(&match pad {
                Pad::None => value.to_string(),
                Pad::Zero => format!("{value:02}"),
                Pad::Space => format!("{value:2}"),
            });
        }
        Piece::Month { long } => out.push_str(of_list(&MONTHS, time.month(), *long)),
        Piece::Weekday { long } => {
            out.push_str(of_list(&WEEKDAYS, time.weekday().to_monday_one_offset(), *long));
        }
        Piece::DayOfYear => out.push_str(&format!("{:03}", time.day_of_year())),
        Piece::Noon { upper } => out.push_str(match (time.hour() >= 12, upper) {
            (true, true) => "PM",
            (true, false) => "pm",
            (false, true) => "AM",
            (false, false) => "am",
        }),
        Piece::Fraction { separator, digits } => {
            out.push(*separator);
            out.push_str(&fraction_digits(time, *digits));
        }
        Piece::Digits { separator } if digits > 0 => {
            out.push(*separator);
            out.push_str(&fraction_digits(time, digits));
        }
        Piece::Digits { .. } => {}
        Piece::ZoneName => out.push_str(if offset == Offset::UTC { "UTC" } else { "GMT" }),
        Piece::Zone { zulu: true, .. } if offset == Offset::UTC => out.push('Z'),
        Piece::Zone { colon, short, .. } => {
            let minutes = offset.seconds() / 60;
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
            out.push_str(&match (short, colon) {
                (true, _) => format!("{sign}{hours:02}"),
                (false, true) => format!("{sign}{hours:02}:{minutes:02}"),
                (false, false) => format!("{sign}{hours:02}{minutes:02}"),
            });
        }
    }
}

#[cfg(test)]
mod tests;
