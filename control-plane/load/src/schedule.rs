//! When requests are to begin and how many users act, as functions of the time since the start: nothing here looks at a clock.
//!
//! In an open loop the n-th request has its moment whatever became of those before it. Stages ramp linearly from where the stage before
//! ended to their own figure.

use std::time::Duration;

use crate::number::{float, seconds};

/// A part of a load pattern: within `duration` the figure goes from that of the stage before to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How long it takes.
    pub duration: Duration,
    /// Where it ends: requests a second, or users.
    pub to: f64,
}

impl Stage {
    /// A figure that is held from the first moment.
    #[must_use]
    pub fn hold(duration: Duration, figure: f64) -> [Self; 2] {
        [Self { duration: Duration::ZERO, to: figure }, Self { duration, to: figure }]
    }
}

/// Stages one after the other; behind the last its figure stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    stages: Vec<Stage>,
}

impl Curve {
    /// Stages, the first of which begins at 0.
    #[must_use]
    pub fn new(stages: Vec<Stage>) -> Self {
        Self { stages }
    }

    /// The same figure all the time.
    #[must_use]
    pub fn constant(figure: f64) -> Self {
        Self { stages: vec![Stage { duration: Duration::ZERO, to: figure }] }
    }

    /// How long the stages take together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.duration).sum()
    }

    /// The greatest figure.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.stages.iter().map(|stage| stage.to).fold(0.0, f64::max)
    }

    /// The figure at a time.
    #[must_use]
    pub fn at(&self, time: Duration) -> f64 {
        let (mut from, mut begin) = (0.0, Duration::ZERO);
        for stage in &self.stages {
            let end = begin.saturating_add(stage.duration);
            if time < end {
                let part = (time - begin).as_secs_f64() / stage.duration.as_secs_f64();
                return (stage.to - from).mul_add(part, from);
            }
            (from, begin) = (stage.to, end);
        }
        from
    }

    /// The moment of the n-th request, counted from 0, of a curve of requests a second; `None` when there is none.
    #[must_use]
    pub fn moment(&self, n: u64) -> Option<Duration> {
        let (mut left, mut from, mut begin) = (float(n), 0.0, 0.0);
        for stage in &self.stages {
            let length = stage.duration.as_secs_f64();
            let whole = (from + stage.to) / 2.0 * length;
            if left < whole {
                return Some(seconds(begin + within(from, stage.to, length, left)));
            }
            left -= whole;
            (from, begin) = (stage.to, begin + length);
        }
        (from > 0.0).then(|| seconds(begin + left / from))
    }

    /// The next time, from `time` on, at which more than `figure` is reached; `None` when that never is so again.
    #[must_use]
    pub fn above(&self, figure: f64, time: Duration) -> Option<Duration> {
        if self.at(time) > figure {
            return Some(time);
        }
        let (mut from, mut begin) = (0.0, Duration::ZERO);
        for stage in &self.stages {
            let end = begin.saturating_add(stage.duration);
            if stage.to > figure && end > time {
                let part = if from >= figure || stage.to <= from {
                    0.0
                } else {
                    (figure - from) / (stage.to - from)
                };
                let at = begin.saturating_add(stage.duration.mul_f64(part.clamp(0.0, 1.0)));
                // A hair later it is more, not equal.
                return Some(at.saturating_add(Duration::from_millis(1)).max(time));
            }
            (from, begin) = (stage.to, end);
        }
        None
    }
}

/// When so many requests have begun in a stage that goes from one rate to another.
fn within(from: f64, to: f64, length: f64, requests: f64) -> f64 {
    let slope = (to - from) / length;
    if slope.abs() < 1e-9 {
        return requests / from;
    }
    // from·t + slope/2·t² = requests, solved in the form that loses no digits.
    let root = 2.0f64.mul_add(slope * requests, from * from).max(0.0).sqrt();
    2.0 * requests / (from + root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn close(left: Option<Duration>, right: f64) {
        assert!((left.unwrap().as_secs_f64() - right).abs() < 1e-6, "{left:?}, not {right}");
    }

    #[test]
    fn a_constant_rate_is_even() {
        let curve = Curve::constant(100.0);
        for (n, at) in [(0, 0.0), (1, 0.01), (250, 2.5), (1_000_000, 10_000.0)] {
            close(curve.moment(n), at);
        }
        assert_eq!(curve.at(SECOND), 100.0);
        assert_eq!(Curve::constant(0.0).moment(0), None);
    }

    #[test]
    fn ramps_begin_where_the_stage_before_ended() {
        let curve = Curve::new(vec![
            Stage { duration: SECOND * 10, to: 100.0 },
            Stage { duration: SECOND * 10, to: 100.0 },
            Stage { duration: SECOND * 10, to: 0.0 },
        ]);
        assert_eq!(curve.duration(), SECOND * 30);
        assert_eq!(curve.at(SECOND * 5), 50.0);
        assert_eq!(curve.at(SECOND * 25), 50.0);
        // 500 requests on the way up, 1000 at the top, 500 on the way down.
        close(curve.moment(125), 5.0);
        close(curve.moment(500), 10.0);
        close(curve.moment(1000), 15.0);
        close(curve.moment(1500), 20.0);
        close(curve.moment(1999), 30.0 - 0.2f64.sqrt());
        assert_eq!(curve.moment(2001), None);
        let times: Vec<_> = (0..2000).map(|n| curve.moment(n).unwrap()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn users_come_when_their_turn_is() {
        let curve = Curve::new(vec![
            Stage { duration: SECOND * 10, to: 10.0 },
            Stage { duration: SECOND * 10, to: 0.0 },
            Stage { duration: Duration::ZERO, to: 5.0 },
        ]);
        close(curve.above(0.0, Duration::ZERO), 0.001);
        close(curve.above(4.0, Duration::ZERO), 4.001);
        assert_eq!(curve.above(4.0, SECOND * 12), Some(SECOND * 12));
        assert!(curve.above(20.0, Duration::ZERO).is_none());
        assert_eq!(
            Curve::new(Stage::hold(SECOND, 3.0).into()).above(2.0, Duration::ZERO),
            Some(Duration::ZERO)
        );
    }
}
