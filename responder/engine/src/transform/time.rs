//! Times as templates write them: durations as `1h30m`, layouts by the reference time `Mon Jan 2 15:04:05 MST 2006`.

mod duration;
mod known;
mod layout;

pub(crate) use duration::format_duration;
pub use duration::parse_duration;
pub(crate) use known::{epoch_unit, is_date, of_epoch, recognise};
pub(crate) use layout::{Layout, Moment};
