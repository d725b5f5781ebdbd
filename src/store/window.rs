//! The windows of time that sealed samples are kept by.

use crate::model::{TimeRange, Timestamp};

/// How wide a window is. The number is what the disk format holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Width {
    /// Where data arrives.
    TwoHours = 0,
    /// Where data is old and sparse.
    Day = 1,
}

impl Width {
    pub(crate) const fn ms(self) -> i64 {
        match self {
            Self::TwoHours => 2 * 3_600_000,
            Self::Day => 24 * 3_600_000,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::TwoHours),
            1 => Some(Self::Day),
            _ => None,
        }
    }
}

/// One window: a width and how many of them lie between 1970 and its start, negative before 1970.
///
/// A number instead of a start, because the first window's start is before the beginning of `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Window {
    pub(crate) width: Width,
    pub(crate) number: i64,
}

impl Window {
    pub(crate) const fn of(timestamp_ms: i64, width: Width) -> Self {
        Self {
            width,
            number: timestamp_ms.div_euclid(width.ms()),
        }
    }

    /// The day that it lies in.
    pub(crate) const fn day(self) -> i64 {
        match self.width {
            Width::TwoHours => self.number.div_euclid(12),
            Width::Day => self.number,
        }
    }

    /// From its first to its last millisecond, as far as there are any.
    pub(crate) fn range(self) -> TimeRange {
        let start_ms = i128::from(self.number) * i128::from(self.width.ms());
        let end_ms = start_ms + i128::from(self.width.ms()) - 1;
        let clamp = |ms: i128| ms.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        let (start_ms, end_ms) = (clamp(start_ms), clamp(end_ms));
        TimeRange::new(Timestamp::from_ms(start_ms), Timestamp::from_ms(end_ms))
            .expect("a window ends after its start")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timestamp_lies_in_its_window() {
        let around = [
            i64::MIN,
            i64::MIN + 1,
            -7_200_001,
            -7_200_000,
            -1,
            0,
            1,
            i64::MAX,
        ];
        for timestamp_ms in around {
            for width in [Width::TwoHours, Width::Day] {
                let window = Window::of(timestamp_ms, width);
                assert!(window.range().contains(Timestamp::from_ms(timestamp_ms)));
                assert_eq!(window.day(), timestamp_ms.div_euclid(Width::Day.ms()));
            }
        }
    }

    #[test]
    fn time_before_1970_has_negative_windows() {
        assert_eq!(Window::of(-1, Width::TwoHours).number, -1);
        assert_eq!(Window::of(-7_200_001, Width::TwoHours).number, -2);
    }
}
