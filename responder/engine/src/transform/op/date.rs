//! `date`: moves a point in time along with the clock.
//!
//! Without `offset` the value becomes `{speedscale_date(<age>)}`, its age when it was recorded, and on the way back the time that is so old
//! now. On requests the placeholder stays, so that a recorded and a live request are equal when their ages are.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{
        Scope, Side, Step,
        time::{Layout, Moment, epoch_unit, format_duration, of_epoch, parse_duration, recognise},
    },
};

#[derive(Debug)]
struct Date {
    layout: Expected,
    /// Ages are rounded to multiples of this many nanoseconds.
    precision: Option<i64>,
    /// Added to the value instead, in nanoseconds.
    offset: Option<i64>,
}

/// How a value has to be written.
#[derive(Debug)]
enum Expected {
    Any,
    /// A number of so many nanoseconds since the epoch.
    Epoch(i64),
    Layout(Layout),
}

/// How a value is written.
enum Written<'l> {
    Epoch(i64),
    Layout(&'l Layout, Moment),
}

const SECOND: i64 = 1_000_000_000;
const OPEN: &str = "{speedscale_date(";
const CLOSE: &str = ")}";

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let text = step.optional("layout").unwrap_or_default();
    let layout = match text.as_str() {
        "" | "auto" => Expected::Any,
        "epoch" => Expected::Epoch(SECOND),
        "epoch_ms" => Expected::Epoch(SECOND / 1000),
        other => match Layout::parse(other) {
            Some(layout) => Expected::Layout(layout),
            None => {
                let message = format!("`{other}` writes no part of a date");
                found.push(
                    Diagnostic::error("bad_layout", format!("{path}.config.layout"), message)
                        .hint("use auto, epoch, epoch_ms, or the time 2006-01-02T15:04:05Z07:00 as it is to be written"),
                );
                return None;
            }
        },
    };
    let precision = duration("precision", step, path, found)?;
    let offset = duration("offset", step, path, found)?;
    let precision = precision.map(i64::abs).filter(|nanos| *nanos > 0);
    Some(Arc::new(Date { layout, precision, offset }))
}

#[expect(clippy::option_option, reason = "refused, absent, or a duration")]
fn duration(
    name: &str,
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Option<i64>> {
    let Some(text) = step.optional(name).filter(|text| !text.trim().is_empty()) else {
        return Some(None);
    };
    let nanos = parse_duration(&text);
    if nanos.is_none() {
        let message = format!("`{text}` is no duration such as 24h, -1h30m or 7d");
        found.push(Diagnostic::error("wrong_type", format!("{path}.config.{name}"), message));
    }
    nanos.map(Some)
}

impl Transform for Date {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let text = std::str::from_utf8(value).map_err(|_| no_date())?;
        if let Some(offset) = self.offset {
            let (at, written) = self.read(text).ok_or_else(no_date)?;
            let moved =
                nanos(at).and_then(|nanos| nanos.checked_add(offset)).ok_or_else(no_date)?;
            let moved = timestamp(self.rounded(moved)).ok_or_else(no_date)?;
            return apply(rest, written.write(moved).as_bytes(), effects);
        }
        let (before, written) = match age_of(text) {
            // It went through such a step already.
            Some(_) => (text.to_owned(), self.default_writing()),
            None => {
                let (at, written) = self.read(text).ok_or_else(no_date)?;
                let age = reference(effects.scope())?
                    .checked_sub(nanos(at).ok_or_else(no_date)?)
                    .ok_or_else(no_date)?;
                (format!("{OPEN}{}{CLOSE}", format_duration(self.rounded(age))), written)
            }
        };
        let after = apply(rest, before.as_bytes(), effects)?;
        let scope = effects.scope();
        let age = std::str::from_utf8(&after).ok().and_then(age_of);
        let Some(age) = age.filter(|_| scope.side == Side::Response) else { return Ok(after) };
        // While a snapshot is compiled there is no time to come to.
        let Some(now) = scope.now else { return Ok(value.to_vec()) };
        let at = now.checked_sub(age).and_then(timestamp).ok_or_else(no_date)?;
        Ok(written.write(at).into_bytes())
    }

    fn nature(&self) -> Nature {
        if self.offset.is_some() { Nature::Static } else { Nature::PerRequest }
    }
}

impl Date {
    fn read(&self, text: &str) -> Option<(Timestamp, Written<'_>)> {
        let of_unit = |unit: i64| of_epoch(text, unit).map(|at| (at, Written::Epoch(unit)));
        match &self.layout {
            Expected::Epoch(unit) => of_unit(*unit),
            Expected::Layout(layout) => {
                layout.read(text).map(|moment| (moment.at, Written::Layout(layout, moment)))
            }
            Expected::Any => match recognise(text) {
                Some((layout, moment)) => Some((moment.at, Written::Layout(layout, moment))),
                None => epoch_unit(text).and_then(of_unit),
            },
        }
    }

    /// How a time is written that came as a placeholder.
    fn default_writing(&self) -> Written<'_> {
        let in_seconds = Moment::new(Timestamp::UNIX_EPOCH);
        match &self.layout {
            Expected::Epoch(unit) => Written::Epoch(*unit),
            Expected::Layout(layout) => Written::Layout(layout, in_seconds),
            Expected::Any => match recognise("1970-01-01T00:00:00Z") {
                Some((layout, moment)) => Written::Layout(layout, moment),
                None => Written::Epoch(SECOND),
            },
        }
    }

    /// Half and more is rounded away from zero.
    fn rounded(&self, nanos: i64) -> i64 {
        let Some(unit) = self.precision else { return nanos };
        let (rest, half) = (nanos % unit, unit / 2 + unit % 2);
        let cut = nanos - rest;
        if rest.abs() < half { cut } else { cut.saturating_add(unit * nanos.signum()) }
    }
}

impl Written<'_> {
    fn write(&self, at: Timestamp) -> String {
        match self {
            Self::Epoch(unit) => at.as_nanosecond().div_euclid(i128::from(*unit)).to_string(),
            Self::Layout(layout, like) => layout.write(at, like),
        }
    }
}

/// The age that a placeholder tells.
fn age_of(text: &str) -> Option<i64> {
    parse_duration(text.strip_prefix(OPEN)?.strip_suffix(CLOSE)?)
}

/// What ages are counted from: the time of the recording, or of the live request.
fn reference(scope: &Scope) -> Result<i64, StepError> {
    scope
        .recorded_at
        .or(scope.now)
        .ok_or_else(|| StepError::new("no_recorded_time", "date: the pair has no recorded time"))
}

fn nanos(at: Timestamp) -> Option<i64> {
    i64::try_from(at.as_nanosecond()).ok()
}

fn timestamp(nanos: i64) -> Option<Timestamp> {
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_nanos(nanos)).ok()
}

fn no_date() -> StepError {
    StepError::new("not_a_date", "date: the value is no date of the layout")
}
