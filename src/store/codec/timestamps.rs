//! Columns of timestamps: residuals from a grid with a list of skipped steps, or plain integers.
//!
//! A scraper's timestamps lie around a grid. The residual from the grid has the jitter's own spread,
//! where a difference of two has it doubled, so it packs smaller.

use super::super::bytes::{Bytes, Malformed, put_varint, put_zigzag};
use super::integers;
use super::pack::{Plan, pack, unpack};

pub(super) const INTEGERS: u8 = 0;
pub(super) const GRID: u8 = 1;

pub(crate) fn encode(timestamps: &[i64], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(INTEGERS);
    integers::encode(timestamps, out);
    if let Some(grid) = Grid::of(timestamps) {
        let mut alternative = vec![GRID];
        grid.put(timestamps[0], &mut alternative);
        if alternative.len() < out.len() - start {
            out.truncate(start);
            out.append(&mut alternative);
        }
    }
}

/// Appends the `count` timestamps to `out`.
pub(super) fn decode(
    bytes: &mut Bytes<'_>,
    count: usize,
    residuals: &mut Vec<u64>,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    match bytes.u8()? {
        INTEGERS => integers::decode(bytes, count, residuals, out),
        GRID => {
            let first = bytes.zigzag()?;
            let step = bytes.varint()? as i64;
            let mut jumps = Jumps::read(bytes, count)?;
            let least = bytes.zigzag()?;
            unpack(bytes, count, residuals)?;
            let mut point = first.wrapping_add(least);
            for (at, &residual) in residuals.iter().enumerate() {
                if at > 0 {
                    point = point.wrapping_add(step.wrapping_mul(jumps.steps_to(at)?));
                }
                out.push(point.wrapping_add(residual as i64));
            }
            Ok(())
        }
        _ => Err(Malformed("a timestamp column is of an unknown mode")),
    }
}

struct Grid {
    step: i64,
    /// Position and number of steps, where that is not one.
    jumps: Vec<(usize, i64)>,
    least: i64,
    residuals: Vec<u64>,
}

impl Grid {
    /// `None` where there is no grid worth the name: few points, no common step, many gaps.
    fn of(timestamps: &[i64]) -> Option<Self> {
        let (first, last) = (*timestamps.first()?, *timestamps.last()?);
        if timestamps.len() < 4 {
            return None;
        }
        let span = last.checked_sub(first)?;
        let mut steps: Vec<i64> = timestamps
            .windows(2)
            .map(|pair| pair[1].checked_sub(pair[0]))
            .collect::<Option<_>>()?;
        let middle = steps.len() / 2;
        let median = *steps.clone().select_nth_unstable(middle).1;
        if median <= 0 {
            return None;
        }
        for step in &mut steps {
            *step = step.checked_add(median / 2)?.div_euclid(median);
        }
        let counts = steps;
        let total: i64 = counts
            .iter()
            .try_fold(0i64, |sum, &count| sum.checked_add(count))?;
        let step = span.checked_add(total / 2)?.checked_div(total)?;
        let jumps: Vec<(usize, i64)> = counts
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count != 1)
            .map(|(at, &count)| (at + 1, count))
            .collect();
        if step <= 0 || jumps.len() > timestamps.len() / 8 {
            return None;
        }
        let mut residuals = Vec::with_capacity(timestamps.len());
        let mut point = first;
        residuals.push(0);
        for (timestamp, count) in timestamps.iter().skip(1).zip(&counts) {
            point = point.checked_add(step.checked_mul(*count)?)?;
            residuals.push(timestamp.checked_sub(point)?);
        }
        let least = *residuals.iter().min()?;
        Some(Self {
            step,
            jumps,
            least,
            residuals: residuals
                .iter()
                .map(|residual| residual.wrapping_sub(least) as u64)
                .collect(),
        })
    }

    fn put(&self, first: i64, out: &mut Vec<u8>) {
        put_zigzag(out, first);
        put_varint(out, self.step as u64);
        put_varint(out, self.jumps.len() as u64);
        let mut next = 0;
        for &(at, count) in &self.jumps {
            put_varint(out, (at - next) as u64);
            put_zigzag(out, count);
            next = at + 1;
        }
        put_zigzag(out, self.least);
        pack(&self.residuals, Plan::of(&self.residuals), out);
    }
}

/// The list of skipped steps, read as the column goes by.
struct Jumps<'a> {
    list: Bytes<'a>,
    left: usize,
    next: Option<(usize, i64)>,
    from: usize,
}

impl<'a> Jumps<'a> {
    /// Leaves `bytes` behind the list.
    fn read(bytes: &mut Bytes<'a>, count: usize) -> Result<Self, Malformed> {
        let left = bytes.count(count)?;
        let list = *bytes;
        for _ in 0..left {
            bytes.varint()?;
            bytes.zigzag()?;
        }
        let mut jumps = Self {
            list,
            left,
            next: None,
            from: 0,
        };
        jumps.advance()?;
        Ok(jumps)
    }

    fn advance(&mut self) -> Result<(), Malformed> {
        self.next = None;
        if self.left > 0 {
            self.left -= 1;
            let at = self.from.saturating_add(self.list.varint()? as usize);
            self.next = Some((at, self.list.zigzag()?));
            self.from = at.saturating_add(1);
        }
        Ok(())
    }

    fn steps_to(&mut self, at: usize) -> Result<i64, Malformed> {
        match self.next {
            Some((jump, count)) if jump == at => {
                self.advance()?;
                Ok(count)
            }
            _ => Ok(1),
        }
    }
}
